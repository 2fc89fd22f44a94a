"""What is wrong with a record: with its keys, and with a ranking's lists."""

import difflib
from typing import Any

from instruct_jax.data.read import typed

Record = dict[str, Any]

SPLITS = ("train", "validation", "test")
_LABELS = ("user", "labeler", "source")  # strings that any record may have
_JSON_NAMES = {str: "a string", list: "a list", int: "an integer"}
_LAST_RANK = 2**31 - 1  # what fits in a batch


def wrong_keys(record: Record, required: dict[str, type]) -> str:
  """What is wrong with the keys that are required or mean the same everywhere.

  '' where nothing is.
  """
  for key, json_type in required.items():
    if key not in record:
      has = ", ".join(map(typed.shown, record)) or "no keys at all"
      near = difflib.get_close_matches(key, record, n=1)
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
    if json_type is str and not value.strip():
      return f'"{key}" is empty; leave the line out or give it a text'
  for key in _LABELS:
    if not isinstance(record.get(key, ""), str):
      value = typed.shown(record[key])
      return f'"{key}" should be a string, not {value}; or leave it out'
  if record.get("split", "train") not in SPLITS:
    value = typed.shown(record["split"])
    return f'"split" should be one of {SPLITS}, not {value}'
  return ""


def wrong_ranking(record: Record, k_max: int) -> str:
  """What is wrong with a ranking whose keys are right, or ''."""
  responses = record["responses"]
  if not 2 <= len(responses) <= k_max:
    return (
      f'"responses" should hold 2 to {k_max} texts (data.k_max), not '
      f"{len(responses)}"
    )
  for n, response in enumerate(responses):
    if not isinstance(response, str):
      value = typed.shown(response)
      return f'"responses"[{n}] should be a string, not {value}'
  if "ranks" not in record and "pairs" not in record:
    return 'no "ranks" (a list, 1 for the best) and no "pairs"'
  return (
    _wrong_list(record, "ranks", _wrong_rank)
    or _wrong_list(record, "ended", _wrong_bool)
    or _wrong_pairs(record)
  )


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
