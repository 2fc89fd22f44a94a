"""Values by keys that go deep: `a.b`, `turns[0].content`, `x["a.b"]`, `x[-1]`.

A key that a row has just so goes before what it would mean as a way.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import tables

_STEP = re.compile(
  r"""\.?(?P<name>[^.\[\]"']+)|\[(?P<place>-?\d+)\]|\[(["'])(?P<key>.*?)\3\]"""
)


@functools.cache
def steps(key: str) -> tuple[str | int, ...]:
  """The names and places on the way of a key; UserError for no such way."""
  found, at = [], 0
  while at < len(key):
    match = _STEP.match(key, at)
    if match is None or (at == 0 and key.startswith(".")):
      raise errors.UserError(
        f'{key}: no key; name, name.name, name[0] or name["a.b"] is right'
      )
    place = match["place"]
    found.append(int(place) if place else match["name"] or match["key"])
    at = match.end()
  return tuple(found)


def value(row: Mapping[str, Any], key: str) -> Any:
  """What a row has under a key; None where it has nothing there."""
  if key in row:
    return row[key]
  found: Any = row
  for step in steps(key):
    if isinstance(found, tables.Cell):  # JSON in a field
      whole = tables.value_of(found, list)
      found = tables.value_of(found, dict) if whole is found else whole
    if isinstance(found, dict) and isinstance(step, str) and step in found:
      found = found[step]
    elif isinstance(found, list) and isinstance(step, int):
      if not -len(found) <= step < len(found):
        return None
      found = found[step]
    else:
      return None
  return found


def names(row: Mapping[str, Any]) -> list[str]:
  """The first keys of a row, and those of the objects in it."""
  found = []
  for name, inner in itertools.islice(row.items(), 30):
    found.append(name[:40])
    if isinstance(inner, dict):
      inside = itertools.islice(inner, 9)
      found += [f"{name}{_spelled(x)}"[:60] for x in inside]
  return found


def check_apart(*named: tuple[str, str]) -> None:
  """UserError for (option, key)s of which two have the same key."""
  first: dict[str, str] = {}
  for flag, key in named:
    if key in first:
      both = flag if flag == first[key] else f"{first[key]} and {flag}"
      raise errors.UserError(
        f"{both} name the same key, {key}; one key for each is right"
      )
    first[key] = flag


def _spelled(name: str) -> str:
  """A name within another, as `steps` reads it."""
  return f'["{name}"]' if set(name) & set(".[]\"'") else f".{name}"
