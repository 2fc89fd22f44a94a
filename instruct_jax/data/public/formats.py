"""What a format of public human feedback is, and what formats share.

Every module beside this one that has a FORMAT holds one shape. A function of it
(rows, counts) -> records of one kind counts what it reads and, by reason, what
it drops; what is not of the format is a UserError that names file and place.
"""

import collections
import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.public import fields
from instruct_jax.data.read import files, records, tables, typed

Record = dict[str, Any]
Counts = collections.Counter  # "read", "written", "dropped: why"
Convert = Callable[..., Iterator[Record]]  # (rows, counts, **options)

NO_PROMPT = "dropped: no prompt"
NO_RESPONSE = "dropped: an empty response"
SAME = "dropped: the same response twice"
DIFFER = "dropped: the two dialogues differ before the last turn"
_EARLY = 100  # rows after which a key that none of them has is an error
_BESIDE = ("id", "user", "labeler", "source", "split")
_NAMES = {
  str: "a string",
  list: "a list",
  int: "an integer",
  float: "a number",
  dict: "an object",
}


@dataclasses.dataclass(frozen=True)
class Format:
  """One shape of public data.

  `kinds` has a function for each kind that the shape can give, the usual one
  first; those that have options take them as keywords. `open` gives what they
  read of a file or TFDS set.
  """

  about: str  # a few words for the list of formats
  kinds: dict[str, Convert]
  options: tuple[str, ...] = ()
  # Its functions are given a function that opens all inputs anew, not the rows
  # of one after the other.
  of_all: bool = False
  open: Callable[[epath.Path | str], Iterator] = files.unit_rows


def no_such_key(
  flag: str, key: str, names: Sequence[str], where: str
) -> errors.UserError:
  """The error for a key that no row has; `where` is the first of them."""
  others = [name for name in names if name != key]
  near = difflib.get_close_matches(key, others, n=1)
  hint = f"; did you mean {flag}={near[0]}?" if near else ""
  has = ", ".join(names[:20]) or "no keys at all"
  return errors.UserError(
    f"{where}: no '{key}' ({flag}) from here on; the rows have {has}{hint}"
  )


def with_keys(
  rows: files.Rows, options: Mapping[str, str], counts: Counts
) -> files.Rows:
  """The rows, which are counted; `options` are {key: the option that names it}.

  Raises UserError for a key that none of the first rows has.
  """
  lacking, number, first = set(options), 0, ("", {})
  for number, (where, row) in enumerate(rows, 1):
    counts["read"] += 1
    if number == 1:
      first = where, row
    if lacking:
      lacking -= {x for x in lacking if fields.value(row, x) is not None}
      if lacking and number == _EARLY:
        break
    yield where, row
  if lacking and number:
    key = min(lacking)
    raise no_such_key(options[key], key, fields.names(first[1]), first[0])


def with_prompts(kind: str, convert: Convert) -> dict[str, Convert]:
  """The kinds of a shape whose prompts are those of its records of a kind."""
  return {kind: convert, "prompts": convert}


def answered(
  pairs: Callable[[files.Rows, Counts], Iterator[tuple[str, str]]],
) -> dict[str, Convert]:
  """The kinds of a shape that is pairs of a prompt and its response."""

  def demonstrations(rows: files.Rows, counts: Counts) -> Iterator[Record]:
    for asked, response in pairs(rows, counts):
      yield from answer(asked, response, counts)

  def prompts(rows: files.Rows, counts: Counts) -> Iterator[Record]:
    for asked, _ in pairs(rows, counts):
      yield from prompt(asked, counts)

  return {"demonstrations": demonstrations, "prompts": prompts}


def key(row: Any, name: str, kind: type, where: str) -> Any:
  """The value of a key, which must be of its kind; UserError else.

  A field of a table is what its text says.
  """
  if isinstance(row, dict) and name in row:
    value = row[name]
    if isinstance(value, tables.Cell):
      value = str(value) if kind is str else tables.value_of(value, kind)
    kinds = (int, float) if kind is float else kind
    if isinstance(value, kinds) and not isinstance(value, bool):
      return value
    instead = f", not {typed.shown(value)}"
  else:
    is_object = isinstance(row, dict)
    instead = "; there is none" if is_object else f" in {typed.shown(row)}"
  raise errors.UserError(f'{where}: "{name}" should be {_NAMES[kind]}{instead}')


def optional(row: Record, name: str, kind: type, where: str) -> Any:
  """The value of a key, or nothing of its kind where it is missing or null."""
  value = row.get(name)
  is_empty = value is None or (isinstance(value, tables.Cell) and not value)
  return kind() if is_empty else key(row, name, kind, where)


def beside(row: Record, counts: Counts) -> Record:
  """What a row says beside its texts: who, whence, which split.

  What is no text, nor a number, is counted and left away, and so is a split
  that none is called here.
  """
  kept = {}
  for name in _BESIDE:
    value = row.get(name)
    value = str(value) if type(value) is int else value
    if value is None or value == "":
      continue
    if not isinstance(value, str) or records.is_blank(value):
      counts[f'left away: a "{name}" that is no text'] += 1
    elif name == "split" and value not in records.SPLITS:
      splits = ", ".join(records.SPLITS)
      counts[f'left away: a "split" that is none of {splits}'] += 1
    else:
      kept[name] = str(value)
  return kept


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
  if records.is_blank(prompt):
    counts[NO_PROMPT] += 1
  elif records.is_blank(better) or records.is_blank(worse):
    counts[NO_RESPONSE] += 1
  elif better == worse:
    counts[SAME] += 1
  else:
    yield {"prompt": prompt, "responses": [better, worse], "ranks": [1, 2]}


def prompt(text: str, counts: Counts) -> Iterator[Record]:
  """A prompt, unless it is empty."""
  if records.is_blank(text):
    counts[NO_PROMPT] += 1
  else:
    yield {"prompt": text.strip()}


def answer(prompt: str, response: str, counts: Counts) -> Iterator[Record]:
  """A demonstration, unless one of the two is empty."""
  prompt, response = prompt.strip(), response.strip()
  if records.is_blank(prompt):
    counts[NO_PROMPT] += 1
  elif records.is_blank(response):
    counts[NO_RESPONSE] += 1
  else:
    yield {"prompt": prompt, "response": response}


def ranking(
  prompt: str, responses: Sequence[str], ranks: Sequence[int], counts: Counts
) -> Iterator[Record]:
  """A ranking of a list, which may hold empty responses but not one alone."""
  if records.is_blank(prompt):
    counts[NO_PROMPT] += 1
  elif len(responses) > 1 and len(set(responses)) == 1:
    counts[SAME] += 1
  else:
    yield {"prompt": prompt, **listed(responses), "ranks": list(ranks)}


def of_models(names: Sequence[Any]) -> Record:
  """Who gave each response, where all of them are named; else nothing."""
  is_named = [isinstance(x, str) and not records.is_blank(x) for x in names]
  return {"models": [str(x) for x in names]} if all(is_named) else {}


def listed(responses: Sequence[str]) -> Record:
  """The responses of a ranking, said to have ended where one is empty."""
  lists: Record = {"responses": list(responses)}
  if not all(text.strip() for text in responses):
    lists["ended"] = [True] * len(responses)
  return lists


def dense(values: Sequence[float]) -> list[int]:
  """Ranks, 1 for the least value; equal values are ties."""
  order = {value: n for n, value in enumerate(sorted(set(values)), 1)}
  return [order[value] for value in values]
