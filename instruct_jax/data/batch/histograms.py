"""How often each length occurs: percentiles of any number in bounded memory.

Lengths below 65,536 are kept exactly, longer ones to 16 bits.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

_EXACT_BITS = 16


@dataclasses.dataclass(frozen=True)
class Histogram:
  """M different lengths, ascending, and how often each occurs."""

  values: np.ndarray  # [M] int64
  counts: np.ndarray  # [M] int64

  def __len__(self) -> int:
    return int(self.counts.sum())

  def at(self, percent: float) -> int:
    """The least length that so many per cent do not exceed."""
    place = len(self) * (percent / 100) - 1
    return int(self._sorted(max(0, int(np.ceil(place)))))

  def between(self, percent: float) -> float:
    """The percentile, linear between two lengths, as `numpy.percentile`."""
    place = (len(self) - 1) * (percent / 100)
    low = int(np.floor(place))
    a, b = self._sorted(low), self._sorted(min(low + 1, len(self) - 1))
    t = place - low
    return float(b - (b - a) * (1 - t) if t >= 0.5 else a + (b - a) * t)

  def to_json(self) -> list[list[int]]:
    """What `from_json` reads."""
    return [self.values.tolist(), self.counts.tolist()]

  def _sorted(self, place: int) -> np.int64:
    """The length at a place of all of them in ascending order."""
    ends = np.cumsum(self.counts)
    return self.values[np.searchsorted(ends, place, side="right")]


def of(lengths: Sequence[int] | np.ndarray) -> Histogram:
  """The histogram of lengths [N]; those above 65,535 are rounded up."""
  lengths = np.asarray(lengths, np.int64)
  bits = np.frexp(np.maximum(lengths, 1).astype(np.float64))[1]
  coarse = np.maximum(bits - _EXACT_BITS, 0)
  rounded = -(-lengths >> coarse) << coarse
  values, counts = np.unique(rounded, return_counts=True)
  return Histogram(values, counts.astype(np.int64))


def merged(histograms: Iterable[Histogram]) -> Histogram:
  """The histogram of all their lengths together."""
  some = [*histograms, of([])]
  values, place = np.unique(
    np.concatenate([each.values for each in some]), return_inverse=True
  )
  counts = np.zeros(len(values), np.int64)
  np.add.at(counts, place, np.concatenate([each.counts for each in some]))
  return Histogram(values, counts)


def from_json(content: Sequence[Sequence[int]]) -> Histogram:
  """What `to_json` returned."""
  values, counts = (np.asarray(some, np.int64) for some in content)
  return Histogram(values, counts)
