"""What a browser sent, read: JSON or a form, and the answer that it holds.

Answers are in the order in which the responses were shown. A form without
scripts has a field for each thing; here it becomes what a script sends as JSON,
so that behind this module there is one kind of answer.
"""

import json
import math
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from instruct_jax import paper

EXAMPLES = 8  # few-shot examples that a form has room for
_MOST_FIELDS = 1000
_MOST_DIGITS = 9
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Unreadable(Exception):
  """Bytes that are no JSON object, or no form."""


def read(kind: str, content: bytes) -> dict[str, Any]:
  """The object or the fields of a body of type JSON or FORM, or Unreadable."""
  try:
    text = content.decode("utf-8")
    found = _json(text) if kind == JSON else _fields(text)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # half surrogates
  except (ValueError, RecursionError) as error:
    reason = "it is nested too deeply"
    if not isinstance(error, RecursionError):
      reason = str(error).partition("\n")[0][:200]
    raise Unreadable(reason) from None
  if not isinstance(found, dict):
    raise Unreadable("it must be an object")
  return found


def answer_of(kind: str, fields: Mapping[str, str], count: int) -> dict:
  """The answer in a form's fields, to a task of `count` responses."""
  if kind == "ranking":
    return _ranking(fields, count)
  if kind == "comparison":
    return {"choice": fields.get("choice", "")}
  if kind == "demonstration":
    return {"response": _text(fields, "response")}
  if "instruction" in fields:
    texts = [
      (_text(fields, f"query-{n}"), _text(fields, f"response-{n}"))
      for n in range(EXAMPLES)
    ]
    pairs = [{"query": query, "response": reply} for query, reply in texts]
    return {
      "instruction": _text(fields, "instruction"),
      "examples": [pair for pair in pairs if any(pair.values())],
    }
  names = [name for name in ("prompt", "use_case") if name in fields]
  return {name: _text(fields, name) for name in names}


def _ranking(fields: Mapping[str, str], count: int) -> dict[str, Any]:
  places = range(count)
  ratings = [_whole(fields.get(f"rating-{n}", "")) for n in places]
  ranks = [_whole(fields.get(f"rank-{n}", "")) for n in places]
  if not any(fields.get(f"rank-{n}", "").strip() for n in places):
    ranks = [None if rating is None else -rating for rating in ratings]
  flags = [
    {flag: f"flag-{n}-{flag}" in fields for flag in paper.METADATA}
    for n in places
  ]
  return {"ratings": ratings, "metadata": flags, "ranks": dense(ranks)}


def dense(ranks: Iterable[int | None]) -> list[int | None]:
  """1 for the best, equal ones alike, none left out: [5, 2, 5] is [2, 1, 2]."""
  ranks = list(ranks)
  found = sorted({rank for rank in ranks if rank is not None})
  return [None if rank is None else found.index(rank) + 1 for rank in ranks]


def _whole(text: str) -> int | None:
  text = text.strip()
  is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
  return int(text) if is_number else None


def _text(fields: Mapping[str, str], name: str) -> str:
  """A text area's content; forms send its lines with CR LF."""
  return fields.get(name, "").replace("\r\n", "\n")


def _fields(text: str) -> dict[str, str]:
  """The fields of a form; of one that stands twice the last counts."""
  return dict(
    urllib.parse.parse_qsl(
      text,
      keep_blank_values=True,
      errors="strict",
      max_num_fields=_MOST_FIELDS,
    )
  )


def _json(text: str) -> Any:
  return json.loads(
    text,
    parse_constant=_no_number,
    parse_float=_finite,
    object_pairs_hook=_once,
  )


def _no_number(name: str) -> NoReturn:
  raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
  number = float(text)
  if not math.isfinite(number):
    raise ValueError(f"{text[:20]} is too large a number")
  return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError("a key stands twice in one object")
  return found
