"""Who sees whom: marks of queries and keys, and what follows from them.

A mark is a few whole numbers a token; a query sees a key if their marks say so.
So a mask [B, T, S] needs never be stored: a kernel makes the part that it
works on from marks [B, T] and [B, S], and leaves out blocks in which nothing is
seen. B rows, T queries, S keys.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

NO_TEXT = -1  # of a key that is no token: no query has it
EVERYWHERE = 2**31 - 1  # the window of a layer that has none
_FAR = EVERYWHERE // 2


@flax.struct.dataclass
class Marks:
  """What stands at a token, int32. What no row needs is None on both sides."""

  slot: jax.Array  # grows along a text, and is nobody else's
  text: jax.Array  # 0 or more of queries; NO_TEXT of keys that are no tokens
  branch: jax.Array | None = None  # 0 what all see, k a continuation of it
  place: jax.Array | None = None  # in its text, for windows

  def map(self, function: Callable[[jax.Array], Any]) -> Any:
    """Marks of what a function makes of each that is there."""
    return jax.tree.map(function, self)

  def stacked(self, axis: int) -> jax.Array:
    """All marks in one array, beside each other on a new axis."""
    return jnp.stack(jax.tree.leaves(self), axis)


def sees(query: Marks, key: Marks, window: jax.Array | int | None) -> jax.Array:
  """Whether a query sees a key, bool; their marks are broadcast.

  It sees itself, even where it is a pad, so that no row of a softmax is empty,
  and tokens at or before it, of its own text, that all branches or its own may
  see and that stand less than `window` places back.
  """
  seen = (key.text == query.text) & (key.slot <= query.slot)
  if query.branch is not None and key.branch is not None:
    seen &= (key.branch == 0) | (key.branch == query.branch)
  if window is not None:
    seen &= _is_near(query, key, window)
  return seen | (key.slot == query.slot)


def _is_near(query, key, window):
  return query.place - key.place < window


def mask(
  query: Marks, key: Marks, *, window: jax.Array | int | None
) -> jax.Array:
  """`sees` of all pairs: [B, T] and [B, S] -> [B, T, S]."""
  return sees(*_paired(query, key), window)


def is_near(query: Marks, key: Marks, *, window: jax.Array | int) -> jax.Array:
  """Which pairs [B, T, S] a window alone lets see each other."""
  return _is_near(*_paired(query, key), window)


def _paired(query, key):
  return query.map(lambda x: x[:, :, None]), key.map(lambda x: x[:, None, :])


@dataclasses.dataclass(frozen=True)
class Range:
  """The least and the most of marks in a block; least > most of none."""

  least: jax.Array
  most: jax.Array

  def touches(self, other: "Range") -> jax.Array:
    """Whether two ranges have a number in common, or may have."""
    return (self.least <= other.most) & (other.least <= self.most)


def tiles(
  query: Marks,
  key: Marks,
  *,
  window: jax.Array | int | None,
  sizes: tuple[int, int],
) -> jax.Array:
  """Which blocks of queries may see something of which blocks of keys.

  Marks [B, T] and [B, S], in blocks of `sizes` (t, s), give [B, T / t, S / s]
  bool: False only where `sees` is False of every pair.
  """

  def ranges(marks, size, axis):
    def split(x):
      return jnp.expand_dims(x.reshape(x.shape[0], -1, size), axis)

    def range_of(x, counts):
      return Range(
        jnp.where(counts, x, _FAR).min(axis=-1),
        jnp.where(counts, x, -_FAR).max(axis=-1),
      )

    marks = marks.map(split)
    of_tokens = marks.map(lambda x: range_of(x, marks.text >= 0))
    return of_tokens, range_of(marks.slot, marks.slot >= 0)

  queries, own = ranges(query, sizes[0], 2)  # [B, T / size, 1]
  keys, every = ranges(key, sizes[1], 1)  # [B, 1, S / size]
  seen = keys.slot.least <= queries.slot.most
  seen &= keys.text.touches(queries.text)
  if query.branch is not None:
    seen &= (keys.branch.least <= 0) | keys.branch.touches(queries.branch)
  if window is not None:
    seen &= queries.place.least - keys.place.most < window
  return seen | own.touches(every)


def filled(
  x: jax.Array, marks: Marks, axis: int, size: int, *, is_query: bool
) -> tuple[jax.Array, Marks]:
  """x and its marks, filled up to tiles of a size by what sees nothing.

  Nor does anything see it: no token of the other side has its marks.
  """
  count = -x.shape[axis] % size
  spare = [(0, 0)] * x.ndim
  spare[axis] = (0, count)
  nobody = NO_TEXT - is_query

  def fill(mark):
    return jnp.pad(mark, ((0, 0), (0, count)), constant_values=nobody)

  return jnp.pad(x, spare), marks.map(fill)
