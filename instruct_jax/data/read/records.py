"""What is wrong with a record: its keys, a ranking's lists, what they say.

What nobody can mean is an error. What says nothing, as a ranking that ties all
its responses, is left out by `data.clean` and counted.
"""

import difflib
import math
import re
import string
from collections.abc import Iterable
from typing import Any

from instruct_jax.data.read import typed

Record = dict[str, Any]

SPLITS = ("train", "validation", "test")
# Strings that any record may have.
_LABELS = ("user", "labeler", "source", "group", "use_case", "core")
_KEYS = ("text", "prompt", "response", "responses", *_LABELS)
_PEOPLE = ("user", "labeler")  # nobody's records are not one person's
_JSON_NAMES = {str: "a string", list: "a list", int: "an integer"}
_LAST_RANK = 2**31 - 1  # what fits in a batch
_RATINGS = (1, 7)
_MOST_K = 1000  # pairs grow as its square; also the most of data.k_max
_PLAIN = frozenset(string.ascii_letters + string.digits)  # what most begin with
# A character that is seen: no white space, no control, nothing of no width.
_VISIBLE = re.compile(
  r"[^\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5"
  r"\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
  r"\ufe00-\ufe0f\ufeff\uffa0]"
)


def is_blank(text: str) -> bool:
  """Whether a text has nothing in it that is seen."""
  return text[:1] not in _PLAIN and _VISIBLE.search(text) is None


def near_misses(key: str, names: Iterable[str]) -> list[str]:
  """The name that may be meant for a key; none that is a key of its own."""
  others = [name for name in names if name not in _KEYS]
  return difflib.get_close_matches(key, others, n=1)


def with_names(record: Record) -> Record:
  """A record whose people are numbered, the numbers as texts."""
  numbers = {x: record[x] for x in _PEOPLE if type(record.get(x)) is int}
  if not numbers:
    return record
  return record | {x: str(n) for x, n in numbers.items()}


def wrong_keys(record: Record, required: dict[str, type]) -> str:
  """What is wrong with the keys that are required or mean the same everywhere.

  '' where nothing is.
  """
  for key, json_type in required.items():
    if key not in record:
      has = ", ".join(map(typed.shown, record)) or "no keys at all"
      near = near_misses(key, record)
      hint = f" (did you mean {typed.shown(near[0])}?)" if near else ""
      return (
        f'no "{key}", which should be {_JSON_NAMES[json_type]}; the line has '
        f"{has[:400]}{hint}"
      )
    value = record[key]
    if not isinstance(value, json_type):
      return (
        f'"{key}" should be {_JSON_NAMES[json_type]}, not {typed.shown(value)}'
      )
    if json_type is str and is_blank(value):
      return f'"{key}" is empty; leave the line out or give it a text'
  for key in _LABELS:
    if key not in record:
      continue
    value = record[key]
    if not isinstance(value, str):
      what = typed.shown(value)
      return f'"{key}" should be a string, not {what}; or leave it out'
    if is_blank(value) and key in _PEOPLE:
      return f'"{key}" is empty; leave it out where nobody is named'
  if record.get("split", "train") not in SPLITS:
    value = typed.shown(record["split"])
    return f'"split" should be one of {", ".join(SPLITS)}, not {value}'
  return ""


def wrong_ranking(record: Record, k_max: int) -> str:
  """What is wrong with the lists of a ranking whose keys are right, or ''."""
  responses = record["responses"]
  if not 2 <= len(responses) <= (k_max or _MOST_K):
    return _wrong_count(len(responses), k_max)
  for n, response in enumerate(responses):
    if not isinstance(response, str):
      value = typed.shown(response)
      return f'"responses"[{n}] should be a string, not {value}'
  if "ranks" not in record and "pairs" not in record:
    return 'no "ranks" (a list, 1 for the best) and no "pairs"'
  return (
    _wrong_list(record, "ranks", _wrong_rank)
    or _wrong_list(record, "ended", _wrong_bool)
    or _wrong_list(record, "ratings", _wrong_rating)
    or _wrong_list(record, "models", _wrong_model)
    or _wrong_metadata(record)
    or _wrong_pairs(record)
  )


def _wrong_count(count: int, k_max: int) -> str:
  most, remedy = f" to {k_max} texts (data.k_max)", "leave the line out"
  if count > _MOST_K:
    most = f" to {_MOST_K} texts"
  elif not k_max:
    most = " texts or more"
  elif count > k_max:
    remedy = (
      f"--config.data.k_max={count} or more takes them, 0 as many as there are"
    )
  return f'"responses" should hold 2{most}, not {count}; {remedy}'


def contradiction(record: Record) -> str:
  """What a ranking whose lists are right says that cannot be meant, or ''.

  An empty response without "ended", which models that say nothing have; one
  text in two places; "ranks" against "pairs". Pairs in a circle are no error:
  people who compare two at a time do that.
  """
  responses = record["responses"]
  blank = [n for n, text in enumerate(responses) if is_blank(text)]
  for n in blank:
    if not (record.get("ended") or {n: False})[n]:
      return (
        f'"responses"[{n}] is empty; leave it out, with its rank, or where a'
        ' model said nothing write so: "ended": [true, ...]'
      )
  if len(set(responses)) < len(responses) and (wrong := _wrong_twins(record)):
    return wrong
  ranks = record.get("ranks")
  if ranks is None:
    return ""
  for n, (winner, loser) in enumerate(record.get("pairs") or ()):
    if ranks[winner] >= ranks[loser]:
      told = f"{ranks[winner]} for {winner}, {ranks[loser]} for {loser}"
      return (
        f'"pairs"[{n}] = [{winner}, {loser}] says that response {winner} is'
        f' better, "ranks" has {told}; correct one of the two, or leave one out'
      )
  return ""


def _wrong_twins(record):
  """The same text twice, ordered."""
  responses, ranks = record["responses"], record.get("ranks")
  ended = record.get("ended") or [True] * len(responses)
  first, named = {}, []
  for n, twin in enumerate(zip(responses, ended)):
    named.append(first.setdefault(twin, n))
    same = f'"responses"[{named[n]}] and [{n}] are the same text'
    if ranks is not None and ranks[n] != ranks[named[n]]:
      return (
        f'{same}, but "ranks" has {ranks[named[n]]} and {ranks[n]}; one rank'
        " for both is right, or leave the line out"
      )
  for n, (winner, loser) in enumerate(record.get("pairs") or ()):
    if named[winner] == named[loser]:
      return (
        f'"pairs"[{n}] = [{winner}, {loser}]: these two responses are the same'
        " text; leave the pair out"
      )
  return ""


def orders_nothing(record: Record) -> bool:
  """Whether a ranking ties all its responses."""
  return record.get("ranks") is not None and len(set(record["ranks"])) < 2


def _wrong_list(record, key, wrong):
  """What is wrong with a list that has an entry for each response."""
  if key not in record:
    return ""
  values, count = record[key], len(record["responses"])
  if not isinstance(values, list):
    return f'"{key}" should be a list, not {typed.shown(values)}'
  if len(values) != count:
    return (
      f'"{key}" has {len(values)} entries, but there are {count} "responses"; '
      "one for each is right"
    )
  for n, value in enumerate(values):
    if wrong(value):
      return f'"{key}"[{n}] {wrong(value)}'
  return ""


def _wrong_rank(value):
  if type(value) is int and 1 <= value <= _LAST_RANK:
    return ""
  return f"should be an integer, 1 for the best, not {typed.shown(value)}"


def _wrong_rating(value):
  low, high = _RATINGS
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if is_number and math.isfinite(value) and low <= value <= high:
    return ""
  return f"should be a number from {low} to {high}, not {typed.shown(value)}"


def _wrong_model(value):
  if isinstance(value, str) and not is_blank(value):
    return ""
  return f"should be the name of a model, not {typed.shown(value)}"


def _wrong_metadata(record):
  """Flags of each response; what is no list is somebody's own."""
  if not isinstance(record.get("metadata"), list):
    return ""
  return _wrong_list(record, "metadata", _wrong_flags)


def _wrong_flags(value):
  if isinstance(value, dict) and all(
    isinstance(x, bool) for x in value.values()
  ):
    return ""
  return (
    f'should be flags such as {{"harmful": false}}, not {typed.shown(value)}'
  )


def _wrong_bool(value):
  if isinstance(value, bool):
    return ""
  return f"should be true or false, not {typed.shown(value)}"


def _wrong_pairs(record):
  pairs, count = record.get("pairs", [[]]), len(record["responses"])
  if "pairs" not in record:
    return ""
  if not isinstance(pairs, list):
    return f'"pairs" should be a list, not {typed.shown(pairs)}'
  if not pairs:
    return '"pairs" is empty; name a [winner, loser], or leave it out'
  seen = set()
  for n, pair in enumerate(pairs):
    wrong = _wrong_pair(pair, count, seen)
    if wrong:
      return f'"pairs"[{n}] = {typed.shown(pair)}{wrong}'
    seen.add(tuple(pair))
  return ""


def _wrong_pair(pair, count, seen):
  is_pair = isinstance(pair, list) and len(pair) == 2
  if not is_pair or any(type(i) is not int for i in pair):
    return ": [winner, loser], numbers of responses from 0 on, is right"
  if not all(0 <= i < count for i in pair):
    return f": there are only responses 0 to {count - 1}"
  if pair[0] == pair[1]:
    return ": a response against itself"
  if tuple(pair) in seen:
    return " is there twice"
  if tuple(pair[::-1]) in seen:
    return " is there the other way too"
  return ""
