"""What the converters of public human feedback have in common.

A format is a function (rows, kind, counts) -> records of that kind. It counts
what it reads and, by reason, what it drops; what is not of the format is a
UserError that names file and place.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files, typed

Record = dict[str, Any]
Counts = collections.Counter  # "read", "written", "dropped: why"
Format = Callable[[files.Rows, str, Counts], Iterator[Record]]

NO_PROMPT = "dropped: no prompt"
NO_RESPONSE = "dropped: an empty response"
SAME = "dropped: the same response twice"
DIFFER = "dropped: the two dialogues differ before the last turn"
_NAMES = {
  str: "a string",
  list: "a list",
  int: "an integer",
  float: "a number",
  dict: "an object",
}


def key(row: Any, name: str, kind: type, where: str) -> Any:
  """The value of a key, which must be of its kind; UserError else."""
  if isinstance(row, dict) and name in row:
    value = row[name]
    kinds = (int, float) if kind is float else kind
    if isinstance(value, kinds) and not isinstance(value, bool):
      return value
    found = f", not {typed.shown(value)}"
  else:
    is_object = isinstance(row, dict)
    found = "; there is none" if is_object else f" in {typed.shown(row)}"
  raise errors.UserError(f'{where}: "{name}" should be {_NAMES[kind]}{found}')


def optional(row: Record, name: str, kind: type, where: str) -> Any:
  """The value of a key, or nothing of its kind where it is missing or null."""
  value = row.get(name)
  return kind() if value is None else key(row, name, kind, where)


def joined(row: Record, names: Sequence[str], where: str) -> str:
  """An instruction and, below it, what it is about, if anything."""
  first = key(row, names[0], str, where)
  second = optional(row, names[1], str, where)
  return "\n\n".join(x.strip() for x in (first, second) if x.strip())


def pair(
  prompt: str, better: str, worse: str, counts: Counts
) -> Iterator[Record]:
  """The ranking of two responses, unless something is wrong with them."""
  prompt, better, worse = prompt.strip(), better.strip(), worse.strip()
  if not prompt:
    counts[NO_PROMPT] += 1
  elif not better or not worse:
    counts[NO_RESPONSE] += 1
  elif better == worse:
    counts[SAME] += 1
  else:
    yield {"prompt": prompt, "responses": [better, worse], "ranks": [1, 2]}


def answer(
  prompt: str, response: str, kind: str, counts: Counts
) -> Iterator[Record]:
  """A demonstration; for `kind` 'prompts' the response may be missing."""
  prompt, response = prompt.strip(), response.strip()
  if not prompt:
    counts[NO_PROMPT] += 1
  elif response or kind == "prompts":
    yield {"prompt": prompt, "response": response}
  else:
    counts[NO_RESPONSE] += 1


def ranking(
  prompt: str, responses: Sequence[str], ranks: Sequence[int], counts: Counts
) -> Iterator[Record]:
  """A ranking of a list, which may hold empty responses but not one alone."""
  if not prompt:
    counts[NO_PROMPT] += 1
  elif len(responses) > 1 and len(set(responses)) == 1:
    counts[SAME] += 1
  else:
    lists = {"responses": list(responses), "ranks": list(ranks)}
    yield {"prompt": prompt} | lists


def dense(values: Sequence[float]) -> list[int]:
  """Ranks, 1 for the least value; equal values are ties."""
  order = {value: n for n, value in enumerate(sorted(set(values)), 1)}
  return [order[value] for value in values]
