"""Rows in slices, one after the other, of which every device has its share."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from instruct_jax.parallel import sharding


def split(tree: Any, count: int) -> Any:
  """[B, ...] -> [count, B / count, ...], every device's rows in each slice."""

  def one(x):
    x = x.reshape(len(x) // count, count, *x.shape[1:])
    return x.swapaxes(0, 1)

  return jax.tree.map(one, tree)


def loop(
  count: jax.Array | int,
  body: Callable[[jax.Array, Any], Any],
  carry: Any,
  *,
  most: int,
  first: jax.Array | int = 0,
) -> Any:
  """`jax.lax.fori_loop(first, count, body, carry)` of at most so many turns.

  The program says how many, where the data decide: what reads it (`planning`)
  can count a loop's work.
  """
  with jax.named_scope(f"at_most_{most}"):
    return jax.lax.fori_loop(first, count, body, carry)


def most(rows: int, count: int) -> int:
  """How many slices, at most `count`, divide the rows on every device."""
  own = rows // math.gcd(rows, sharding.ways(*sharding.BATCH))
  return max(n for n in range(1, count + 1) if own % n == 0)


def mapped(function: Callable[[Any], Any], rows: Any, *, count: int) -> Any:
  """function(rows) [B, ...], computed in `count` slices of the rows.

  Memory is that of a slice. Every row must be computed alone; where the slices
  or the devices do not divide the rows, the last is repeated in their place.
  """
  B = len(jax.tree.leaves(rows)[0])
  devices = sharding.ways(*sharding.BATCH)
  size = -(-B // (max(1, min(count, B)) * devices)) * devices
  count = -(-B // size)
  if count == 1:
    return function(rows)
  index = jnp.minimum(jnp.arange(count * size), B - 1)
  if count * size > B:
    rows = jax.tree.map(lambda x: x[index], rows)
  found = jax.lax.map(function, split(rows, count))

  def joined(x):
    return x.swapaxes(0, 1).reshape(count * size, *x.shape[2:])[:B]

  return jax.tree.map(joined, found)
