"""What became of people's files on the way into a data set, as tables."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import ml_collections

from instruct_jax.base import terminal
from instruct_jax.data.batch import limits
from instruct_jax.data.read import kinds

Summary = Mapping[str, Any]  # as `prepare.build` returns it
_log = logging.getLogger(__name__)
# What `data.clean` counts, and how people call it.
_CLEANED = {
  "read": "read",
  "duplicates": "duplicates",
  "over_per_user": "over per_user",
  "says_nothing": "all tied",
  "held_out_elsewhere": "held out elsewhere",
  "kept": "kept",
}
_TITLES = {
  "data_cleaning": "Records that were taken out on purpose",
  "data_limits": "What the limits drop and cut",
}


def tables(
  summary: Summary, data: ml_collections.ConfigDict
) -> dict[str, list[dict[str, Any]]]:
  """Rows by kind of what cleaning took out; by split, of what limits do."""
  cleaning, kept = [], []
  for kind in _kinds(summary):
    cleaning.append({"kind": kind, **cleaned(summary[kind]["cleaning"])})
    rows = limits.table(kind, _by_split(summary, kind, data))
    kept += [dict(zip(limits.HEADERS, row)) for row in rows]
  return {"data_cleaning": cleaning, "data_limits": kept}


def cleaned(counts: Mapping[str, int]) -> dict[str, int | None]:
  """The counts of `data.clean`, as people call them."""
  named = {name: counts.get(key) for key, name in _CLEANED.items()}
  pii = sum(n for key, n in counts.items() if key.startswith("pii_"))
  return {**named, "personal data": pii}


def show(summary: Summary, data: ml_collections.ConfigDict) -> None:
  """Prints the tables, and a warning for each limit that takes much."""
  for name, rows in tables(summary, data).items():
    if rows:
      terminal.table(
        [list(row.values()) for row in rows],
        list(rows[0]),
        title=_TITLES[name],
        stream=sys.stderr,
      )
  for kind in _kinds(summary):
    by_split = _by_split(summary, kind, data)
    for line in limits.warnings(kind, by_split, data):
      _log.warning("%s", line)


def _kinds(summary: Summary) -> list[str]:
  return [kind for kind in kinds.KINDS if kind in summary]


def _by_split(summary, kind, data):
  """The counts of each split, of packed rows where a run packs."""
  counts = {split: summary[kind].get(split, {}) for split in kinds.SPLITS}
  if not data.packing:
    return counts
  return {
    split: {**some, **some.get("packed", {})} for split, some in counts.items()
  }
