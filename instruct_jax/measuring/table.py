"""Rows of a set's file: what is wrong in one names the file, the row, the key.

A set is read in the format that it is published in, or as rows of anything
that `data.read.files` reads: JSON lines, CSV, Parquet, `tfds:`.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files, records, typed

Row = tuple[str, Mapping[str, Any]]  # where it stands, and what is there


def rows(spec: str) -> list[Row]:
  """(where, row) of all that a path, pattern or `tfds:` spec names.

  Raises UserError for a file without rows.
  """
  found: list[Row] = list(files.rows(spec))
  if not found:
    raise errors.UserError(f"{spec}: empty; at least one row is needed")
  return found


def text(row: Mapping[str, Any], name: str, where: str) -> str:
  """A text of a row, which may be empty."""
  value = _value(row, name, where)
  if not isinstance(value, str):
    raise errors.UserError(
      f'{where}: "{name}" should be a text, not {typed.shown(value)}'
    )
  return value


def number(row: Mapping[str, Any], name: str, where: str) -> float:
  """A number of a row, also as a table of text has it."""
  value = _value(row, name, where)
  try:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
      return float(value)
  except ValueError:
    pass
  raise errors.UserError(
    f'{where}: "{name}" should be a number, not {typed.shown(value)}'
  )


def one_of(
  row: Mapping[str, Any], name: str, where: str, known: Mapping[Any, Any]
) -> Any:
  """What `known` has for the value of a row."""
  value = _value(row, name, where)
  kind = str if isinstance(value, str) else type(value)  # a table's cells
  for one, meant in known.items():
    if type(one) is kind and one == value:
      return meant
  shown = ", ".join(typed.shown(one) for one in known)
  raise errors.UserError(
    f'{where}: "{name}" should be one of {shown}, not {typed.shown(value)}'
  )


def texts(row: Mapping[str, Any], name: str, where: str) -> list[str]:
  """A list of texts of a row."""
  value = _value(row, name, where)
  if not isinstance(value, (list, tuple)) or not all(
    isinstance(one, str) for one in value
  ):
    raise errors.UserError(
      f'{where}: "{name}" should be a list of texts, not {typed.shown(value)}'
    )
  return list(value)


def objects(
  row: Mapping[str, Any], name: str, where: str
) -> list[Mapping[str, Any]]:
  """A list of objects of a row, which may be empty."""
  if not isinstance(row, Mapping):
    raise errors.UserError(
      f'{where}: should be an object with "{name}", not {typed.shown(row)}'
    )
  value = _value(row, name, where)
  if not isinstance(value, (list, tuple)) or not all(
    isinstance(one, Mapping) for one in value
  ):
    raise errors.UserError(
      f'{where}: "{name}" should be a list of objects, not {typed.shown(value)}'
    )
  return list(value)


def needs(row: Mapping[str, Any], names: Collection[str], where: str) -> None:
  """UserError for the first of the columns that a row has not."""
  for name in names:
    _value(row, name, where)


def _value(row, name, where):
  if name in row:
    return row[name]
  near = records.near_misses(name, row)
  hint = f"; did you mean {typed.shown(near[0])}?" if near else ""
  has = ", ".join(str(x)[:40] for x in itertools.islice(row, 12))
  raise errors.UserError(f'{where}: no column "{name}"; it has {has}{hint}')


def filled(found: Iterator[Any], spec: str) -> list[Any]:
  """All items; UserError where there are none."""
  items = list(found)
  if not items:
    raise errors.UserError(f"{spec}: no item of the set in it")
  return items
