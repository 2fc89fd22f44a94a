"""What became of people's files on the way into a data set, as tables."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from instruct_jax.data.batch import limits
from instruct_jax.data.read import kinds

Summary = Mapping[str, Any]  # as `prepare.build` returns it
# What `data.clean` counts, and how people call it.
_CLEANED = {
  "read": "read",
  "duplicates": "duplicates",
  "over_per_user": "over per_user",
  "says_nothing": "all tied",
  "held_out_elsewhere": "held out elsewhere",
  "kept": "kept",
}


def tables(
  summary: Summary, data: ml_collections.ConfigDict
) -> dict[str, list[dict[str, Any]]]:
  """Rows by kind of what cleaning took out; by split, of what limits do.

  And a warning for each limit that takes much.
  """
  cleaning, kept, much = [], [], []
  for kind in _kinds(summary):
    cleaning.append({"kind": kind, **cleaned(summary[kind]["cleaning"])})
    by_split = _by_split(summary, kind, data)
    rows = limits.table(kind, by_split)
    kept += [dict(zip(limits.HEADERS, row)) for row in rows]
    lines = limits.warnings(kind, by_split, data)
    lines += _circles(kind, summary[kind]["cleaning"])
    much += [{"warning": line} for line in lines]
  return {
    "data_cleaning": cleaning,
    "data_limits": kept,
    "data_warnings": much,
  }


def cleaned(counts: Mapping[str, int]) -> dict[str, int | None]:
  """The counts of `data.clean`, as people call them."""
  named = {name: counts.get(key) for key, name in _CLEANED.items()}
  pii = sum(n for key, n in counts.items() if key.startswith("pii_"))
  return {**named, "personal data": pii}


def _circles(kind: str, counts: Mapping[str, int]) -> list[str]:
  """A line where rankings order nothing, though they name pairs."""
  if not (circles := counts.get("circles_alone", 0)):
    return []
  return [
    f"{kind}: {circles:,} of {counts['read']:,} have nothing but circles (a"
    " beats b, b beats c, c beats a): they stay and order nothing; look at"
    " them, or leave them out"
  ]


def _kinds(summary: Summary) -> list[str]:
  return [kind for kind in kinds.KINDS if kind in summary]


def _by_split(summary, kind, data):
  """The counts of each split, of packed rows where a run packs."""
  counts = {split: summary[kind].get(split, {}) for split in kinds.SPLITS}
  if not data.packing:
    return counts
  # Packing drops no tokens: it has no end of a stream.
  plain = {
    split: {name: n for name, n in some.items() if name != "tokens_dropped"}
    for split, some in counts.items()
  }
  return {
    split: {**some, **some.get("packed", {})} for split, some in plain.items()
  }
