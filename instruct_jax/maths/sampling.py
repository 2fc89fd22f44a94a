"""A part of a stream that is too long to be held, each item as likely."""

import dataclasses
import heapq
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class Sample(Generic[T]):
  """Items of a stream in their order, and how many it had."""

  items: list[T]
  size: int  # of these together
  seen: int  # items of the stream
  seen_size: int

  @property
  def is_whole(self) -> bool:
    """Whether nothing was left out."""
    return len(self.items) == self.seen


def uniform(
  stream: Iterable[T],
  most: int,
  size: Callable[[T], int] = lambda _: 1,
) -> Sample[T]:
  """As many items as have a size of `most` together, and one at least.

  Those whose places in the stream have the least hashes: the same of the same
  stream. Holds nothing else.
  """
  held: list[tuple[int, int, int, T]] = []  # a heap, the highest hash first
  total = seen = seen_size = 0
  limit = _MASK + 1
  for item in stream:
    hashed, own = _mixed(seen), size(item)
    seen, seen_size = seen + 1, seen_size + own
    if hashed >= limit:
      continue
    heapq.heappush(held, (-hashed, seen, own, item))
    total += own
    while total > most and len(held) > 1:
      limit, _, gone, _ = heapq.heappop(held)
      limit, total = -limit, total - gone
  held.sort(key=lambda entry: entry[1])
  return Sample([item for *_, item in held], total, seen, seen_size)


def _mixed(number: int) -> int:
  """A hash of a number with 64 bits (SplitMix64, Steele et al. 2014)."""
  value = (number + 1) * 0x9E3779B97F4A7C15 & _MASK
  value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
  value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
  return value ^ value >> 31
