"""People's answers as records: rankings, demonstrations and prompts.

They are what `collecting.exporting` writes, line for line, so a folder of
labels and the files that are exported from it are the same data.
"""

import collections
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import answers, records

Row = dict[str, Any]
_log = logging.getLogger(__name__)

SCREENING, SKIPPED, TWINS = "screening", "skipped", "one_text_ranked_twice"
# What a record says of its own ranking is not what was said of it here.
_ANSWERED = {
  *("ranks", "pairs", "ratings", "metadata", "labeler", "group", "seconds"),
  *("response", "likert", "sensitive", "record"),
}


def rows(path: os.PathLike | str, kind: str) -> Iterator[tuple[str, Row]]:
  """(where, record) of one kind, by task and labeler.

  Left out are screening, what was skipped, and rankings that give one text two
  ranks, of which a warning says how many. Raises UserError for a kind that
  nobody is asked for, and where there is no answer of it yet.
  """
  _check(path, kind)
  is_none, left_out = True, collections.Counter()
  for answer in answers.read(path):
    if reason := why_left_out(answer):
      left_out[reason] += kind == "rankings"
      continue
    for record in FORMS[kind](answer):
      is_none = False
      yield f"{path}, task {answer.task}, {answer.labeler}", record
  if left_out[TWINS]:
    _log.warning(
      "%s: %d rankings left out, which give one text two ranks",
      *(path, left_out[TWINS]),
    )
  if is_none:
    raise errors.UserError(
      f"{path}: no {kind} yet: nobody has answered a task that gives any"
    )


def digest(path: os.PathLike | str, kind: str) -> str:
  """A hash of all records of one kind: of the file that an export writes."""
  found = hashlib.sha256()
  for _, record in rows(path, kind):
    found.update(line(record).encode() + b"\n")
  return found.hexdigest()


def line(record: Row) -> str:
  """A record as it stands in a file."""
  return json.dumps(record, ensure_ascii=False)


def why_left_out(answer: answers.Answer) -> str:
  """Why an answer is no data; '' where it is."""
  if answer.is_screening:
    return SCREENING
  if answer.is_skipped:
    return SKIPPED
  return TWINS if _ranks_twins(answer) else ""


def _ranks_twins(answer: answers.Answer) -> bool:
  """Whether the same text, ended alike, has two ranks."""
  if "ranks" not in answer.said:
    return False
  texts = answer.content["responses"]
  ended = answer.content.get("ended") or [True] * len(texts)
  ranks = collections.defaultdict(set)
  for text, end, rank in zip(texts, ended, answer.said["ranks"], strict=True):
    ranks[text, end].add(rank)
  return any(len(given) > 1 for given in ranks.values())


def _rankings(answer: answers.Answer) -> Iterator[Row]:
  if answer.kind not in ("ranking", "comparison"):
    return
  content, said = answer.content, answer.said
  row = {
    "prompt": content["prompt"],
    "responses": content["responses"],
    "ranks": said["ranks"],
    **_who(answer),
  }
  row |= {key: said[key] for key in ("ratings", "metadata") if key in said}
  if not content.get("ended") and any(
    map(records.is_blank, content["responses"])
  ):
    row["ended"] = [True] * len(content["responses"])
  yield row | _more(answer, row)


def _demonstrations(answer: answers.Answer) -> Iterator[Row]:
  if answer.kind == "demonstration":
    row = {
      "prompt": answer.content["prompt"],
      "response": answer.said["response"],
      **_who(answer),
    }
    yield row | _more(answer, row)
  elif answer.kind == "writing":
    for prompt, response in few_shot(answer.said):
      yield {
        "prompt": prompt,
        "response": response,
        **_who(answer),
        "form": answer.content["form"],
      }


def _prompts(answer: answers.Answer) -> Iterator[Row]:
  if answer.kind != "writing":
    return
  said = answer.said
  texts = [said["prompt"]] if "prompt" in said else []
  for text in [*texts, *(prompt for prompt, _ in few_shot(said))]:
    row = {"prompt": text, "user": answer.labeler, **_who(answer)}
    row["form"] = answer.content["form"]
    if said.get("use_case"):
      row["use_case"] = said["use_case"]
    yield row


def few_shot(said: Mapping[str, Any]) -> list[tuple[str, str]]:
  """(prompt, response) of each example of an instruction.

  The other examples stand before it (appendix A.1: labelers write "an
  instruction, and multiple query/response pairs for that instruction"; A.3:
  several demonstrations are made of one instruction). None of what has none.
  """
  found = []
  for n, example in enumerate(said.get("examples", ())):
    others = [x for k, x in enumerate(said["examples"]) if k != n]
    found.append((_shown(said["instruction"], others, example["query"]),
                  example["response"]))  # fmt: skip
  return found


def _shown(
  instruction: str, others: Sequence[Mapping[str, str]], query: str
) -> str:
  shots = [f"Input: {x['query']}\nOutput: {x['response']}" for x in others]
  return "\n\n".join([instruction, *shots, f"Input: {query}\nOutput:"])


def _who(answer: answers.Answer) -> Row:
  who = {
    "labeler": answer.labeler,
    "group": answer.group,
    "seconds": answer.seconds,
  }
  return who | ({"sensitive": True} if answer.sensitive else {})


def _more(answer: answers.Answer, row: Row) -> Row:
  """What else the task's line had, as it was."""
  content = {k: v for k, v in answer.content.items() if k not in row}
  record = content.get("record") or {}
  every = {**content, **{k: v for k, v in record.items() if k not in row}}
  return {k: v for k, v in every.items() if k not in _ANSWERED}


FORMS: dict[str, Callable[[answers.Answer], Iterator[Row]]] = {
  "rankings": _rankings,
  "demonstrations": _demonstrations,
  "prompts": _prompts,
}


def _check(path: os.PathLike | str, kind: str) -> None:
  if kind not in FORMS:
    raise errors.UserError(
      f"{path}: people write no {kind} there; it can be named for"
      f" {', '.join(f'data.{name}' for name in FORMS)}"
    )
