"""Reads samples that somebody else made, and groups them.

A file is anything that `data.read.files` reads as rows: CSV, TSV, JSON lines, a
JSON array, Parquet, compressed or not. In `ref_text` a `|` stands between
alternatives; in JSON it may be a list. Whatever is wrong in a row is a
UserError that names file, line and column: a row is never left out.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files, records, typed
from instruct_jax.scoring import tasks

BY = ("model_type", "prompt_type")
_BETWEEN = "|"

Group = tuple[str, ...]


def read(
  spec: str,
  task: tasks.Task,
  *,
  named: Mapping[str, str],
  by: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], dict[Group, list[tasks.Row]]]:
  """The columns that rows are grouped by, and the rows of each group.

  Args:
    named: {a column of the task: what the file calls it}.
    by: columns of the file; None: those of BY that its first row has.

  Groups come in the order of their first rows. Raises UserError for a column
  that is missing or named for nothing, a value that is no text or number as
  the task needs it, and no rows.
  """
  for name in named:
    if name not in task.columns:
      raise errors.unknown("--column", name, task.columns)
  columns = {name: named.get(name, name) for name in task.columns}
  grouped_by, groups = by, {}
  for where, row in _rows(spec):
    if grouped_by is None:
      grouped_by = tuple(name for name in BY if name in row)
    for name in (*columns.values(), *grouped_by):
      _check_column(row, name, where, columns)
    key = tuple(_text(row[name], name, where) for name in grouped_by)
    values = _values(row, columns, task, where)
    groups.setdefault(key, []).append(values)
  if not groups:
    raise errors.UserError(f"{spec}: empty; at least one sample is needed")
  return tuple(grouped_by or ()), groups


def _rows(spec: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
  for unit in files.units(spec):
    yield from files.unit_rows(unit)


def _check_column(
  row: Mapping[str, Any], name: str, where: str, columns: Mapping[str, str]
) -> None:
  if name in row:
    return
  near = records.near_misses(name, row)
  hint = f"; did you mean {typed.shown(near[0])}?" if near else ""
  has = ", ".join(str(x)[:40] for x in itertools.islice(row, 12))
  mine = next((ours for ours, theirs in columns.items() if theirs == name), "")
  how = f" (--column {mine}=NAME for another)" if mine else " (--by)"
  raise errors.UserError(
    f'{where}: no column "{name}"{how}; it has {has}{hint}'
  )


def _values(
  row: Mapping[str, Any],
  columns: Mapping[str, str],
  task: tasks.Task,
  where: str,
) -> tasks.Row:
  """What the task needs of a row, in its own names."""
  if task.is_numeric:
    return {
      ours: _fraction(row[theirs], theirs, where)
      for ours, theirs in columns.items()
    }
  sample, known = columns[tasks.SAMPLE], columns[tasks.REFERENCES]
  alternatives = _alternatives(row[known], known, where)
  if not task.has_unanswerable and not any(x.strip() for x in alternatives):
    raise errors.UserError(
      f'{where}: "{known}" is empty; this task needs a reference'
    )
  return {
    tasks.SAMPLE: _text(row[sample], sample, where),
    tasks.REFERENCES: alternatives,
  }


def _text(value: Any, name: str, where: str) -> str:
  """A text; numbers, which an answer may be, as they are written."""
  if value is None:  # what a model said nothing to
    return ""
  if isinstance(value, str):
    return str(value)
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise errors.UserError(
      f'{where}: "{name}" should be a text, not {typed.shown(value)}'
    )
  return str(value)


def _alternatives(value: Any, name: str, where: str) -> list[str]:
  if isinstance(value, list):
    return [_text(one, name, where) for one in value]
  return _text(value, name, where).split(_BETWEEN)


def _fraction(value: Any, name: str, where: str) -> float:
  """A number from 0 to 1, also as a table has it."""
  try:
    number = float(value) if isinstance(value, (str, int, float)) else math.nan
  except ValueError:
    number = math.nan
  if not 0 <= number <= 1:
    raise errors.UserError(
      f'{where}: "{name}" should be a number from 0 to 1, not'
      f" {typed.shown(value)}"
    )
  return number
