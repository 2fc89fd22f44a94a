"""Runs by experiment and seed, and their numbers over seeds."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from instruct_jax.base import errors
from instruct_jax.figures import values

Row = Mapping[str, Any]

OTHER = "no results of a run"  # why a file of another kind is left out
_NAMES = 3  # of files that were left out for one reason


class Missing(errors.UserError):
  """What a figure needs is not there: which, where, and what would make it."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One finished run, or what was kept of it."""

  name: str
  experiment: str
  variant: str
  seed: int
  metrics: Mapping[str, float]
  tables: Mapping[str, Sequence[Row]]
  place: str  # of results.json
  responses: str = ""  # its samples, where they are

  @functools.cached_property
  def rows(self) -> dict[str, Row]:
    """The rows of all tables that say which metric they are, by metric."""
    return {
      row["metric"]: row
      for rows in self.tables.values()
      for row in rows
      if isinstance(row.get("metric"), str)
    }

  def found(self, metric: str) -> values.Found | None:
    """A metric with the interval and n of its row, where it has one."""
    row = self.rows.get(metric, {})
    value = self.metrics.get(metric, row.get("value"))
    if not is_finite(value):
      return None
    return of_row({**row, "value": value})


@dataclasses.dataclass(frozen=True)
class Group:
  """The seeds of one experiment and variant."""

  experiment: str
  variant: str
  runs: Mapping[int, Run]  # by seed, in order

  @property
  def label(self) -> str:
    """As a command names it: ppo_ptx.py:tiny."""
    return f"{self.experiment}.py:{self.variant}"

  def value(self, metric: str) -> values.Value | None:
    """A metric over the seeds that have it; None where none has."""
    every = {seed: run.found(metric) for seed, run in self.runs.items()}
    found = {seed: one for seed, one in every.items() if one is not None}
    return values.over_seeds(found) if found else None

  def names(self, prefix: str) -> list[str]:
    """What follows `prefix` in the names of metrics, in their order."""
    found = (
      name.removeprefix(prefix)
      for run in self.runs.values()
      for name in (*run.metrics, *run.rows)
      if name.startswith(prefix)
    )
    return [*dict.fromkeys(found)]

  def table(self, name: str) -> dict[int, Sequence[Row]]:
    """A table of every seed that has one with rows."""
    tables = {seed: run.tables.get(name) for seed, run in self.runs.items()}
    return {seed: rows for seed, rows in tables.items() if rows}

  @functools.cached_property
  def models(self) -> dict[str, Row]:
    """The rows of the table `models` by subject: sizes and settings."""
    return {
      str(row["subject"]): row
      for rows in self.table("models").values()
      for row in rows
      if "subject" in row
    }


@dataclasses.dataclass(frozen=True)
class Runs:
  """All that a folder has, by experiment and variant."""

  folder: str
  groups: tuple[Group, ...]  # those of `read.FIRST` first
  left_out: Mapping[str, str]  # {file: why it is not among them}

  def of(self, experiment: str, variant: str | None = None) -> dict[int, Run]:
    """The seeds of an experiment, of any one variant by default."""
    for group in self.groups:
      if group.experiment == experiment and variant in (None, group.variant):
        return dict(group.runs)
    return {}

  def group_with(self, *metrics: str) -> Group | None:
    """The first group that has all these metrics."""
    return next((x for x in self.groups if all(map(x.value, metrics))), None)

  def value(self, metric: str) -> values.Value | None:
    """A metric over the seeds of the first group that has it."""
    group = self.group_with(metric)
    return group.value(metric) if group else None

  def with_table(self, name: str) -> list[Group]:
    """The groups that have rows in a table."""
    return [group for group in self.groups if group.table(name)]


def by_reason(left_out: Mapping[str, str]) -> list[tuple[str, int, str]]:
  """(why, how many, the first names) of what was left out, most first."""
  names: dict[str, list[str]] = {}
  for name, why in left_out.items():
    names.setdefault(why, []).append(name)
  rows = []
  for why, of_it in sorted(names.items(), key=lambda item: -len(item[1])):
    more = len(of_it) - _NAMES
    tail = f" and {more} more" if more > 0 else ""
    rows.append((why, len(of_it), f"{', '.join(of_it[:_NAMES])}{tail}"))
  return rows


def of_row(row: Row) -> values.Found:
  """What a row of a table found; its interval where it has one."""
  low, high, n = (row.get(key) for key in ("low", "high", "n"))
  return values.Found(
    float(row["value"]),
    float(low) if is_finite(low) else math.nan,
    float(high) if is_finite(high) else math.nan,
    int(n) if is_finite(n) else 0,
  )


def is_finite(value: Any) -> TypeGuard[float]:
  """True for a number that is neither infinite nor nan."""
  return (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
  )
