"""What the limits of a run drop and cut, in words: a table, and warnings.

Counts are those of `rows.Rows`. Duplicates, prompts beyond so many of a user
and the like go on purpose and are counted elsewhere, by `data.clean`.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.batch import histograms
from instruct_jax.data.read import kinds

Counts = Mapping[str, Any]
MUCH = 0.1  # more than this share, dropped or cut, is a warning
HELD = (95, 99)  # percent that a proposed limit would hold
HEADERS = (
  *("kind", "split", "records", "dropped", "counted in", "dropped %"),
  *("responses", "cut", "cut %", "in turns", "left out", "left out %"),
  *("pairs", "alike", "alike %", "rows"),
)
_LARGE = 1 << 30  # bytes of a kind's rows
_LENGTHS = "_lengths"


@dataclasses.dataclass(frozen=True)
class Limit:
  """One way in which data is lost."""

  count: str  # what `counts` calls how many are lost
  of: str  # and of how many
  what: str  # what happens to those that are counted
  key: str = ""  # the limit, of config.data
  lengths: str = ""  # `counts` has what would hold most under this name
  advice: str = "more responses that differ are needed"  # where it has not

  def says(self, data: ml_collections.ConfigDict | None = None) -> str:
    """What happens, and the limit that does it."""
    value = "" if data is None else f"={data[self.key]}" if self.key else ""
    return f"{self.what} data.{self.key}{value}" if self.key else self.what

  def remedy(self, of_splits: Sequence[Counts]) -> str:
    """What to change, and to what."""
    if self.lengths:
      low, high = (
        max(counts[f"{self.lengths}_p{p}"] for counts in of_splits)
        for p in HELD
      )
      return (
        f"--config.data.{self.key}={low} would hold {HELD[0]} %, {high}"
        f" {HELD[1]} %"
      )
    return self.advice


LIMITS = (
  Limit(
    *("prompts_too_long", "records"),
    "dropped, as their prompts are longer than",
    *("prompt_length", "prompt"),
  ),
  Limit(
    *("turns_lost", "turns"),
    "answers left out of conversations that have several, as what was said"
    " before is longer than",
    *("prompt_length", "prompt"),
  ),
  Limit(
    *("responses_cut", "responses"),
    "responses cut to",
    *("response_length", "response"),
  ),
  Limit(
    *("too_few_completions", "records"),
    "dropped, as the responses that they order are the same tokens",
  ),
  Limit(
    *("pairs_alike", "pairs"),
    "pairs lost, as both responses are the same tokens within",
    "response_length",
    advice="a higher one tells apart what begins alike",
  ),
  Limit(
    *("responses_empty", "records"),
    "dropped, as their responses have no token",
  ),
  Limit(
    *("documents_cut", "documents"),
    "documents cut to rows of",
    *("row_length", "document"),
  ),
  Limit(
    *("tokens_dropped", "tokens"),
    "tokens dropped behind the last full row of",
    "row_length",
    advice="a lower one, or --config.data.packing=True, keeps them",
  ),
)
_DROPPED = ("prompts_too_long", "too_few_completions", "responses_empty")


def lengths(name: str, of: Sequence[int] | np.ndarray) -> Counts:
  """NAME_lengths: what `finished` makes NAME_p95 and NAME_p99 of."""
  return {f"{name}{_LENGTHS}": histograms.of(of)}


def merged(pieces: Iterable[Counts]) -> dict[str, Any]:
  """The counts of several pieces of one split together."""
  total: dict[str, Any] = {}
  for counts in pieces:
    for name, value in counts.items():
      if isinstance(value, histograms.Histogram):
        there = (total[name],) if name in total else ()
        total[name] = histograms.merged([*there, value])
      else:
        total[name] = total.get(name, 0) + value
  return total


def finished(counts: Counts) -> dict[str, Any]:
  """Counts with percentiles, the least limits that so many keep to."""
  done: dict[str, Any] = {}
  for name, value in counts.items():
    if not isinstance(value, histograms.Histogram):
      done[name] = value
    elif len(value):
      of = name.removesuffix(_LENGTHS)
      done |= {f"{of}_p{percent}": value.at(percent) for percent in HELD}
  return done


def warnings(
  kind: str, by_split: Mapping[str, Counts], data: ml_collections.ConfigDict
) -> list[str]:
  """A line for each limit that drops or cuts much of a split."""
  lines = []
  for limit in LIMITS:
    much = {
      split: counts
      for split, counts in by_split.items()
      if counts.get(limit.count, 0) > MUCH * counts.get(limit.of, 0)
    }
    if much:
      told = ", ".join(
        f"{split} {counts[limit.count]:,} of {counts[limit.of]:,}"
        f" ({_percent(counts[limit.count], counts[limit.of])} %"
        f"{_with_others(limit, counts)})"
        for split, counts in much.items()
      )
      remedy = limit.remedy(list(much.values()))
      lines.append(f"{kind}: {limit.says(data)}: {told}; {remedy}")
  return lines


def table(
  kind: str, by_split: Mapping[str, Counts]
) -> list[list[str | int | float | None]]:
  """A row of HEADERS for each split that has records."""
  lines = []
  for split, counts in by_split.items():
    if not counts.get("rows"):
      continue
    dropped, unit = _dropped(counts), "records"
    total = counts.get("records", counts.get("documents"))
    share = _percent(dropped, total or 0)
    if kinds.KINDS[kind].is_stream:  # at the end of one, all documents joined
      dropped, unit = counts.get("tokens_dropped", 0), "tokens"
      share = _percent(dropped, counts["tokens"])
    cut = _part(counts, "responses", "responses_cut")
    left = _part(counts, "turns", "turns_lost")
    alike = _part(counts, "pairs", "pairs_alike")
    row = [kind, split, total, dropped, unit, share, *cut, *left, *alike]
    lines.append([*row, counts["rows"]])
  return lines


def _part(counts: Counts, of: str, lost: str) -> list[int | float | None]:
  """How many there are, how many are lost and the per cent; or None each."""
  if of not in counts or lost not in counts:
    return [None] * 3
  return [counts[of], counts[lost], _percent(counts[lost], counts[of])]


def _dropped(counts: Counts) -> int:
  """Records that one limit or another drops."""
  return sum(counts.get(name, 0) for name in _DROPPED)


def _with_others(limit: Limit, counts: Counts) -> str:
  """What the table says beside a part of it that a warning is of."""
  every = _dropped(counts)
  if limit.count not in _DROPPED or every == counts[limit.count]:
    return ""
  return f"; {every:,} with what is dropped for other reasons"


def in_words(
  counts: Counts, data: ml_collections.ConfigDict | None = None
) -> str:
  """Counts of one split, for an error's message, with what the limits are."""
  lost = [
    f"{counts[limit.count]:,} {limit.says(data)}"
    for limit in LIMITS
    if counts.get(limit.count)
  ]
  named = "documents" if "documents" in counts else "records"
  total = [f"{counts[named]:,} {named}"] if named in counts else []
  if not total and "tokens" in counts:
    total = [f"{counts['tokens']:,} tokens"]
  return ", ".join([*total, *lost]) or "nothing"


def remedies(counts: Counts) -> str:
  """What would hold most of what one split loses, for an error's message."""
  return "; ".join(
    limit.remedy([counts])
    for limit in LIMITS
    if counts.get(limit.count) and f"{limit.lengths}_p{HELD[0]}" in counts
  )


def check_memory(
  sizes: histograms.Histogram, data: ml_collections.ConfigDict
) -> str:
  """A warning where few long rankings make the rows of all large, or ''.

  `sizes` are how many responses they have. Raises UserError where this machine
  has not that much memory.
  """
  if not len(sizes):
    return ""
  most, usual = int(sizes.values[-1]), sizes.at(99)
  size = len(sizes) * most * (2 * data.response_length + most)
  told = (
    f"rankings: one has {most:,} responses, 99 % have {usual} or fewer, and"
    f" every row is as wide as the widest: {size / 2**30:.1f} GiB. Leave the"
    " longest out, or divide them"
  )
  if size > _memory():
    raise errors.UserError(f"{told}; there are {_memory() / 2**30:.1f} GiB")
  return told if size > _LARGE and most > 2 * usual else ""


def _memory() -> int:
  """Bytes of this machine's memory."""
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _percent(count: int, of: int) -> float:
  return round(100 * count / of, 1) if of else 0.0
