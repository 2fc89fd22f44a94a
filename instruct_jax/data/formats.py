"""The shapes that public human feedback comes in -> our records.

A format is a function (rows, kind, counts) -> records of that kind. It counts
what it reads and, by reason, what it drops; what is not of the format is a
UserError that names file and place. A dialogue becomes one prompt string, its
turns after '\\n\\nHuman: ' and '\\n\\nAssistant: ', the first 'Human:' off.
"""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from instruct_jax import errors
from instruct_jax.data import readers

Record = dict[str, Any]
Counts = collections.Counter  # "read", "written", "dropped: why"
Format = Callable[[readers.Rows, str, Counts], Iterator[Record]]

_TURN = "\n\nAssistant:"
_PAIRS = list(itertools.combinations(range(4), 2))  # 12 13 14 23 24 34
_NO_RESPONSE = "dropped: an empty response"
_NO_PROMPT = "dropped: no prompt"
_SAME = "dropped: the same response twice"
_END = "<|endoftext|>"


def ranks_of(labels: Sequence[int]) -> list[int] | None:
  """Ranks of four outputs from their six pair labels, None if there are none.

  The pairs come in the order 12 13 14 23 24 34; 1: the first is better, 2: the
  second, 0: neither. The labels are ranks with ties if and only if ranking each
  output behind those that beat it gives the labels back.
  """
  ranks = [1] * 4
  for (i, j), label in zip(_PAIRS, labels):
    ranks[j] += label == 1
    ranks[i] += label == 2
  again = [
    0 if ranks[i] == ranks[j] else 1 + (ranks[i] > ranks[j]) for i, j in _PAIRS
  ]
  return ranks if again == list(labels) else None


def hh(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """HH-RLHF: the prompt is the dialogue up to the last answer."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    chosen, rejected = (key(row, k, str, where) for k in ("chosen", "rejected"))
    prompt, _, better = chosen.rpartition(_TURN)
    other, _, worse = rejected.rpartition(_TURN)
    prompt, other = map(_opened, (prompt, other))
    if prompt != other:
      counts["dropped: the two dialogues differ before the last turn"] += 1
      continue
    yield from _pair(prompt, better, worse, counts)


def finegrained(
  rows: readers.Rows, kind: str, counts: Counts, *, pairs: bool = False
) -> Iterator[Record]:
  """FineGrained-RLHF's QA feedback; questions without their long passages.

  Label sets that no ranking gives are dropped, or kept as `pairs`.
  """
  for where, row in rows:
    counts["read"] += 1
    prompt = key(row, "question", str, where).strip()
    if kind == "demonstrations":
      gold = key(row, "gold", str, where).strip()
      yield {"prompt": prompt, "response": gold}
      continue
    names = [f"prediction {n}" for n in (1, 2, 3, 4)]
    responses = [key(row, name, str, where).strip() for name in names]
    labels = key(row, "preference", list, where)
    if len(labels) != len(_PAIRS) or any(n not in (0, 1, 2) for n in labels):
      raise errors.UserError(
        f'{where}: "preference" should be six of 0, 1, 2, not {labels}'
      )
    found = {"prompt": prompt, "responses": responses}
    ranks = ranks_of(labels)
    if ranks is not None:
      yield found | {"ranks": ranks}
    elif pairs or kind == "prompts":
      counts["kept as pairs: the labels are not a weak order"] += 1
      both = zip(_PAIRS, labels)
      yield found | {
        "pairs": [[i, j] if n == 1 else [j, i] for (i, j), n in both if n]
      }
    else:
      counts["dropped: the labels are not a weak order"] += 1


def finegrained_pairs(
  rows: readers.Rows, kind: str, counts: Counts
) -> Iterator[Record]:
  """The same, with pairs for the label sets that no ranking gives."""
  return finegrained(rows, kind, counts, pairs=True)


def pandalm(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """PandaLM's test set: a record for each of three annotators."""
  for where, row in rows:
    counts["read"] += 1
    prompt = _joined(row, ("instruction", "input"), where)
    if kind == "prompts":
      yield {"prompt": prompt}
      continue
    responses = [row.get(name) for name in ("response1", "response2")]
    if not all(isinstance(text, str) for text in responses):
      counts["dropped: a response that is no text"] += 1  # true, in six places
      continue
    responses = [text.strip() for text in responses]
    if responses[0] == responses[1]:
      counts[_SAME] += 1
      continue
    for n in (1, 2, 3):
      label = key(row, f"annotator{n}", int, where)
      yield {
        "prompt": prompt,
        "responses": responses,
        "ranks": _two(label, f"annotator{n}", where),
        "labeler": f"annotator{n}",
      }


def llmbar(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """LLMBar: input, two outputs and which follows the instruction."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    outputs = [key(row, k, str, where) for k in ("output_1", "output_2")]
    label = key(row, "label", int, where)
    if label not in (1, 2):
      raise errors.UserError(f'{where}: "label" should be 1 or 2, not {label}')
    better, worse = outputs if label == 1 else outputs[::-1]
    yield from _pair(key(row, "input", str, where), better, worse, counts)


def ultrafeedback(
  rows: readers.Rows, kind: str, counts: Counts
) -> Iterator[Record]:
  """Lists of scored completions; or chosen and rejected conversations."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    if isinstance(row.get("chosen"), list):
      yield from _binarized(row, where, counts)
      continue
    asked = "instruction" if "instruction" in row else "prompt"
    prompt = key(row, asked, str, where).strip()
    completions = key(row, "completions", list, where)
    responses, scores = [], []
    for n, one in enumerate(completions):
      place = f"{where}, completion {n + 1}"
      responses.append(key(one, "response", str, place).strip())
      scores.append(_score(one, place))
    if len(responses) < 2:
      counts["dropped: fewer than two completions"] += 1
    else:
      yield {
        "prompt": prompt,
        "responses": responses,
        "ranks": _ranks_of_scores(scores),
      }


def oasst(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """OpenAssistant's trees: the ranked answers to each message of a person.

  As demonstrations the answers ranked first, or the only ones.
  """
  for where, row in rows:
    root = row.get("prompt", row)
    if not isinstance(root, dict):
      raise errors.UserError(f'{where}: "prompt" should be a message')
    yield from _tree(root, "", where, kind, counts)


def tldr(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Comparisons of summaries of posts (Stiennon et al. 2020)."""
  del kind
  splits = {"train": "train", "valid1": "validation", "valid2": "test"}
  for where, row in rows:
    counts["read"] += 1
    info = key(row, "info", dict, where)
    post = info.get("post") or info.get("article")
    summaries = key(row, "summaries", list, where)
    choice = key(row, "choice", int, where)
    if len(summaries) != 2 or choice not in (0, 1):
      raise errors.UserError(
        f'{where}: two "summaries" and a "choice" of 0 or 1 are right'
      )
    if not isinstance(post, str):
      raise errors.UserError(f'{where}: "post" should be a string')
    texts = [key(one, "text", str, where) for one in summaries]
    head = [
      f"{name}: {info[k]}"
      for name, k in (("SUBREDDIT", "subreddit"), ("TITLE", "title"))
      if info.get(k)
    ]
    prompt = "\n".join([*head, f"POST: {post}", "TL;DR:"])
    more = {"labeler": row["worker"]} if row.get("worker") else {}
    if row.get("split") in splits:
      more["split"] = splits[row["split"]]
    pair = _pair(prompt, texts[choice], texts[1 - choice], counts)
    yield from (record | more for record in pair)


def instances(
  rows: readers.Rows, kind: str, counts: Counts
) -> Iterator[Record]:
  """self-instruct: an instruction, below it the input of each instance."""
  for where, row in rows:
    instruction = key(row, "instruction", str, where)
    for instance in key(row, "instances", list, where):
      counts["read"] += 1
      given = key(instance, "input", str, where)
      prompt = "\n\n".join(x.strip() for x in (instruction, given) if x.strip())
      response = key(instance, "output", str, where)
      yield from _answer(prompt, response, kind, counts)


def alpaca(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Alpaca: instruction, input, output."""
  for where, row in rows:
    counts["read"] += 1
    prompt = _joined(row, ("instruction", "input"), where)
    yield from _answer(prompt, key(row, "output", str, where), kind, counts)


def dolly(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Dolly: instruction, context, response."""
  for where, row in rows:
    counts["read"] += 1
    prompt = _joined(row, ("instruction", "context"), where)
    yield from _answer(prompt, key(row, "response", str, where), kind, counts)


def t0(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """T0 and FLAN: prompt and completion, which may spell its end."""
  for where, row in rows:
    counts["read"] += 1
    response = key(row, "completion", str, where).strip().removesuffix(_END)
    prompt = key(row, "prompt", str, where).strip()
    yield from _answer(prompt, response, kind, counts)


def chat(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """{"messages": [{"role", "content"}]}: the last answer is the response."""
  for where, row in rows:
    counts["read"] += 1
    name = "messages" if "messages" in row else "conversations"
    prompt, response = _conversation(key(row, name, list, where), where)
    yield from _answer(prompt, response, kind, counts)


def own(rows: readers.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Lines of this project."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    key(row, "prompt", str, where)
    yield row


def key(row: Any, name: str, kind: type, where: str) -> Any:
  """The value of a key, which must be of its kind; UserError else."""
  value = row.get(name) if isinstance(row, dict) else None
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    names = {
      str: "a string",
      list: "a list",
      int: "an integer",
      dict: "an object",
    }
    raise errors.UserError(f'{where}: "{name}" should be {names[kind]}')
  return value


def _opened(dialogue: str) -> str:
  """A dialogue without the mark of its first turn."""
  return dialogue.strip().removeprefix("Human:").strip()


def _pair(prompt, better, worse, counts):
  prompt, better, worse = prompt.strip(), better.strip(), worse.strip()
  if not prompt:
    counts[_NO_PROMPT] += 1
  elif not better or not worse:
    counts[_NO_RESPONSE] += 1
  elif better == worse:
    counts[_SAME] += 1
  else:
    yield {"prompt": prompt, "responses": [better, worse], "ranks": [1, 2]}


def _answer(prompt, response, kind, counts):
  prompt, response = prompt.strip(), response.strip()
  if not prompt:
    counts[_NO_PROMPT] += 1
  elif response or kind == "prompts":
    yield {"prompt": prompt, "response": response}
  else:
    counts[_NO_RESPONSE] += 1


def _joined(row, names, where):
  """An instruction and, below it, what it is about."""
  first = key(row, names[0], str, where)
  second = row.get(names[1]) or ""
  if not isinstance(second, str):
    raise errors.UserError(f'{where}: "{names[1]}" should be a string')
  return "\n\n".join(x.strip() for x in (first, second) if x.strip())


def _two(label, name, where):
  ranks = {0: [1, 1], 1: [1, 2], 2: [2, 1]}
  if label not in ranks:
    raise errors.UserError(
      f'{where}: "{name}" should be 0 (a tie), 1 or 2, not {label}'
    )
  return ranks[label]


def _score(completion, where):
  names = ("overall_score", "fine-grained_score", "score", "rating")
  for name in names:
    value = completion.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
      return float(value)
  raise errors.UserError(
    f"{where}: no score; one of {', '.join(names)} should be a number"
  )


def _ranks_of_scores(scores):
  """1 for the highest; equal scores are ties."""
  order = sorted(set(scores), reverse=True)
  return [1 + order.index(score) for score in scores]


def _binarized(row, where, counts):
  prompt, better = _conversation(row["chosen"], where)
  other, worse = _conversation(key(row, "rejected", list, where), where)
  if prompt != other:
    counts["dropped: the two dialogues differ before the last turn"] += 1
    return
  scores = row.get("score_chosen"), row.get("score_rejected")
  is_tie = None not in scores and scores[0] == scores[1]
  for record in _pair(prompt, better, worse, counts):
    yield record | ({"ranks": [1, 1]} if is_tie else {})


_ROLES = {
  "user": "Human",
  "human": "Human",
  "prompter": "Human",
  "assistant": "Assistant",
  "gpt": "Assistant",
}


def _conversation(turns, where):
  """(prompt, last answer) of a list of messages; a system's opens it."""
  spoken, opening = [], ""
  for n, turn in enumerate(turns, 1):
    place = f"{where}, message {n}"
    named = ("role", "content") if "role" in (turn or {}) else ("from", "value")
    role, text = (key(turn, name, str, place) for name in named)
    if role == "system" and n == 1:
      opening = text.strip() + "\n\n"
    elif role in _ROLES:
      spoken.append((_ROLES[role], text.strip()))
    else:
      raise errors.UserError(
        f"{place}: the role {role!r} is none of {', '.join(_ROLES)}"
      )
  if len(spoken) < 2 or spoken[-1][0] != "Assistant":
    raise errors.UserError(
      f"{where}: a conversation should end with an answer of the assistant"
    )
  prompt = "".join(f"\n\n{role}: {text}" for role, text in spoken[:-1])
  return opening + _opened(prompt), spoken[-1][1]


def _tree(message, dialogue, where, kind, counts):
  """The records of a message of a person and of all below it."""
  counts["read"] += 1
  text = key(message, "text", str, where).strip()
  replies = message.get("replies") or []
  if not isinstance(replies, list):
    raise errors.UserError(f'{where}: "replies" should be a list')
  if message.get("deleted"):
    counts["dropped: deleted messages and all below"] += 1
    return
  prompt = _opened(f"{dialogue}\n\nHuman: {text}")
  answers = []
  for reply in replies:
    said = key(reply, "text", str, where).strip()
    if reply.get("deleted"):
      counts["dropped: deleted messages and all below"] += 1
    elif not said:
      counts[_NO_RESPONSE] += 1
    else:
      answers.append((reply, said))
  yield from _answers(prompt, answers, kind, counts)
  for reply, said in answers:
    for below in reply.get("replies") or []:
      deeper = f"{prompt}{_TURN} {said}"
      yield from _tree(below, deeper, where, kind, counts)


def _answers(prompt, answers, kind, counts):
  """The record of a prompt's answers, if they can make one."""
  if kind == "prompts":
    yield {"prompt": prompt}
    return
  ranked = [(r["rank"], s) for r, s in answers if type(r.get("rank")) is int]
  if kind == "demonstrations":
    best = min(ranked)[1] if ranked else answers[0][1] if answers else ""
    yield from _answer(prompt, best, kind, counts)
    return
  if len(answers) > len(ranked):
    counts["dropped: answers without a rank"] += len(answers) - len(ranked)
  if len(ranked) > 1:
    ranks, responses = zip(*ranked)
    order = sorted(set(ranks))
    ranks = [1 + order.index(rank) for rank in ranks]
    yield {"prompt": prompt, "responses": list(responses), "ranks": ranks}
  elif answers:
    counts["dropped: fewer than two ranked answers"] += 1
