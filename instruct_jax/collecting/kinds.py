"""The four kinds of tasks: what a task holds, and what is an answer to it.

Pure functions. K responses stand in a task in the order of its source; a
labeler is shown them in an order of their own, and what is stored is in the
task's order again (`unshuffle`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax import paper
from instruct_jax.data.read import records

KINDS = ("demonstration", "ranking", "comparison", "writing")
FORMS = ("plain", "few_shot", "user_based")  # of prompts, section 3.2
LIKERT = range(1, 8)
LONGEST = 100_000  # characters of a text that a labeler writes
MOST_EXAMPLES = 20  # of a few-shot prompt
_CHOICES = {"a": [1, 2], "b": [2, 1], "tie": [1, 1]}


class Wrong(Exception):
  """An answer that is none: `errors` says why, by field."""

  def __init__(self, errors: Mapping[str, str]):
    super().__init__("; ".join(f"{k}: {v}" for k, v in errors.items()))
    self.errors = dict(errors)


def check(kind: str, content: Mapping[str, Any], answer: Any) -> dict[str, Any]:
  """The answer in the form that is stored; raises Wrong.

  Line ends become newlines, ranks dense (1, 1, 3 is 1, 1, 2), flags that are
  not named are False, and a comparison's choice becomes the ranks of the two.
  The order of responses is kept, whichever it is.
  """
  if not isinstance(answer, Mapping):
    raise Wrong({"answer": "must be an object"})
  return _CHECKS[kind](content, answer)


def unshuffle(
  answer: Mapping[str, Any], display: Sequence[int]
) -> dict[str, Any]:
  """A checked answer in the task's order, given one in the order shown.

  `display[i]` is the index of the response that was shown at place i.
  """
  places = {response: place for place, response in enumerate(display)}
  return {
    field: [value[places[i]] for i in range(len(display))]
    if field in ("ratings", "metadata", "ranks")
    else value
    for field, value in answer.items()
  }


def reason(text: Any) -> str:
  """Why a task is skipped, as it is stored; raises Wrong."""
  return _text("reason", text, most=2000)


def seconds(value: Any) -> float:
  """The time of attention that a page measured; raises Wrong."""
  if not _is_number(value) or not 0 <= value <= 1e6:
    raise Wrong({"seconds": "must be a number from 0 to 1,000,000"})
  return float(value)


def submission(value: Any) -> str:
  """The name that a page gives an answer, to send it again; raises Wrong."""
  if not isinstance(value, str) or not 8 <= len(value) <= 100:
    raise Wrong({"submission": "must be text of 8 to 100 characters"})
  if not all(c.isascii() and (c.isalnum() or c in "-_") for c in value):
    raise Wrong({"submission": "may have letters, digits, - and _ only"})
  return value


def as_json(tree: Any) -> str:
  """The one way in which a tree is written: equal trees give equal texts.

  Raises ValueError for what is no JSON: NaN, or what never ends.
  """
  return json.dumps(
    tree,
    allow_nan=False,
    ensure_ascii=False,
    separators=(",", ":"),
    sort_keys=True,
  )


def _demonstration(content, answer):
  _only(answer, ("response",))
  return {"response": _text("response", answer.get("response"))}


def _ranking(content, answer):
  _only(answer, ("ratings", "metadata", "ranks"))
  k = len(content["responses"])
  found, wrong = {}, {}
  for field, read in (
    ("ratings", _ratings),
    ("metadata", _metadata),
    ("ranks", _ranks),
  ):
    try:
      found[field] = read(answer.get(field), k)
    except Wrong as error:
      wrong |= error.errors
  if wrong:
    raise Wrong(wrong)
  return found


def _comparison(content, answer):
  _only(answer, ("choice", "ranks"))
  if "ranks" in answer and "choice" not in answer:
    return {"ranks": _ranks(answer["ranks"], 2)}
  choice = answer.get("choice")
  if not isinstance(choice, str) or choice not in _CHOICES:
    raise Wrong({"choice": "choose a, b or tie"})
  if "ranks" in answer:
    raise Wrong({"ranks": "stands beside a choice, which says the same"})
  return {"ranks": list(_CHOICES[choice])}


def _writing(content, answer):
  form = content["form"]
  if form == "few_shot":
    _only(answer, ("instruction", "examples"))
    examples = answer.get("examples")
    if not isinstance(examples, list) or not examples:
      raise Wrong({"examples": "write at least one query with its response"})
    if len(examples) > MOST_EXAMPLES:
      raise Wrong({"examples": f"must be at most {MOST_EXAMPLES}"})
    return {
      "instruction": _text("instruction", answer.get("instruction")),
      "examples": [_example(x, i) for i, x in enumerate(examples, start=1)],
    }
  fields = ("prompt",) if form == "plain" else ("prompt", "use_case")
  _only(answer, fields)
  return {field: _text(field, answer.get(field)) for field in fields}


def _example(example, number):
  where = f"examples.{number}"
  if not isinstance(example, Mapping):
    raise Wrong({where: "must be an object with query and response"})
  _only(example, ("query", "response"), where=f"{where}.")
  return {
    field: _text(f"{where}.{field}", example.get(field))
    for field in ("query", "response")
  }


_CHECKS = {
  "demonstration": _demonstration,
  "ranking": _ranking,
  "comparison": _comparison,
  "writing": _writing,
}


def _only(answer, known, where=""):
  for field in answer:
    if field not in known:
      name = ascii(field)[1:-1][:60] if isinstance(field, str) else ""
      field = f"{where}{name}" if name else f"{where}answer"
      raise Wrong({field: f"is none of {', '.join(known)}"})


def _text(field, value, most=LONGEST):
  if not isinstance(value, str):
    raise Wrong({field: "must be text"})
  value = value.replace("\r\n", "\n").replace("\r", "\n")
  if records.is_blank(value):
    raise Wrong({field: "write something"})
  if len(value) > most:
    raise Wrong({field: f"has {len(value):,} characters, {most:,} at most"})
  try:
    value.encode("utf-8")
  except UnicodeEncodeError:
    raise Wrong({field: "has half a character (a lone surrogate)"}) from None
  return value


def _list(field, value, k):
  if not isinstance(value, list) or len(value) != k:
    raise Wrong({field: f"must be a list of {k}, one for each answer"})
  return value


def _ratings(value, k):
  for place, rating in enumerate(_list("ratings", value, k), start=1):
    if not _is_whole(rating) or rating not in LIKERT:
      raise Wrong({"ratings": f"answer {place}: rate it from 1 to 7"})
  return [int(rating) for rating in value]


def _metadata(value, k):
  found = []
  for place, flags in enumerate(_list("metadata", value, k), start=1):
    if not isinstance(flags, Mapping):
      raise Wrong({"metadata": f"answer {place}: must be an object of flags"})
    for flag, ticked in flags.items():
      if flag not in paper.METADATA:
        raise Wrong({"metadata": f"answer {place}: has an unknown flag"})
      if not isinstance(ticked, bool):
        raise Wrong({"metadata": f"answer {place}: {flag}: true or false"})
    found.append({flag: flags.get(flag, False) for flag in paper.METADATA})
  return found


def _ranks(value, k):
  for place, rank in enumerate(_list("ranks", value, k), start=1):
    if not _is_whole(rank) or not 1 <= rank <= k:
      raise Wrong({"ranks": f"answer {place}: give it a rank from 1 to {k}"})
  dense = {rank: i for i, rank in enumerate(sorted(set(value)), start=1)}
  return [dense[rank] for rank in value]


def _is_whole(value):
  return _is_number(value) and value == int(value)


def _is_number(value):
  """Whether it is a finite number of a size that can be meant."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return abs(value) < 1e15 if isinstance(value, int) else math.isfinite(value)
