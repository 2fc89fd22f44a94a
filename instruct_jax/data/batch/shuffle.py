"""The order of an epoch's rows: a pure function of seeds, at any size.

Up to `IN_MEMORY` rows it is numpy's permutation. Of more, which would take 8
bytes each, it is a Feistel network over the row numbers, keyed by the seeds: a
permutation of which any part is had by itself (Luby and Rackoff 1988; rounds as
in the mixers of SplitMix64).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

IN_MEMORY = 1 << 24
_ROUNDS = 6  # four make a permutation that no test of ours can tell from chance


@dataclasses.dataclass(frozen=True)
class Order:
  """A permutation of `count` rows; `order[places]` are the rows there."""

  count: int
  keys: tuple[int, ...]  # of the rounds

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, places: slice | Sequence[int] | np.ndarray):
    if isinstance(places, slice):
      places = np.arange(*places.indices(self.count))
    rows = self._shuffled(np.asarray(places, np.uint64))
    # The domain is up to four times as large: what falls outside goes on.
    while len(outside := np.flatnonzero(rows >= self.count)):
      rows[outside] = self._shuffled(rows[outside])
    return rows.astype(np.int64)

  def _shuffled(self, numbers: np.ndarray) -> np.ndarray:
    """A permutation of all numbers of an even number of bits."""
    half = np.uint64(max(1, -(-(self.count - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for key in self.keys:
      left, right = right, left ^ (_mixed(right ^ np.uint64(key)) & mask)
    return left << half | right


def order(seeds: Sequence[int], count: int) -> np.ndarray | Order:
  """The permutation of `count` rows by these seeds."""
  rng = np.random.default_rng(seeds)
  if count <= IN_MEMORY:
    return rng.permutation(count)
  keys = rng.integers(2**64, size=_ROUNDS, dtype=np.uint64)
  return Order(count, tuple(keys.tolist()))


def _mixed(numbers: np.ndarray) -> np.ndarray:
  """Every bit of a result depends on every bit of its number."""
  x = numbers * np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
