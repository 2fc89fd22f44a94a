"""Items that share rows, a few rows at a time, of which every device has some.

An item (an episode, a ranking) takes so many slots, and a row has W of them;
of so many it asks what a model says, and of a row's slots A can be asked for.
Items are put into rows by best fit, the longest first, on the devices and each
device's among themselves: nothing crosses devices or processes, and no host
decides anything. Rows are then computed c at a time, in a loop that ends with
the last row in use: shapes are fixed, what is empty costs nothing.

Axes: B items, G groups of devices with items of their own, b = B / G; n rows of
a group, c of them at a time, m items in a row at most.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from instruct_jax.parallel import sharding, slices

# m: what is shorter than a 16th of a row leaves some of it empty.
ROW_ITEMS = 16


@dataclasses.dataclass(frozen=True)
class Shape:
  """How rows are computed."""

  width: int  # W
  rows: int  # c
  items: int  # m
  groups: int  # G
  asked: int  # A

  @property
  def size(self) -> int:
    """Items of all groups at a time, at most."""
    return self.groups * self.rows * self.items


def shape_of(
  items: int, *, width: int, slots: int, parts: int, asked: int = 0
) -> Shape:
  """Rows of a device have about so many `slots` at a time; at least a row.

  They are no more than one of so many `parts` of the items would take, each in
  a row of its own.
  """
  groups = sharding.ways(*sharding.BATCH)
  groups = 1 if items % groups else groups
  each = max(1, items // groups)
  most = max(1, each // max(1, parts))
  rows = max(1, min(slots // width, most))
  return Shape(width, rows, min(ROW_ITEMS, each), groups, asked or width)


@flax.struct.dataclass
class Plan:
  """Who shares a row with whom."""

  items: jax.Array  # [G, n, m] int32, an item of the group's own; b: none
  places: jax.Array  # [G, b] int32, where in [n * m] each item is
  steps: jax.Array  # [] int32: so many times c rows are in use
  shape: Shape = flax.struct.field(pytree_node=False)

  @property
  def slots(self) -> jax.Array:
    """[] float32: those that are computed, also if they are empty."""
    each = self.shape.groups * self.shape.rows * self.shape.width
    return self.steps.astype(jnp.float32) * each

  @property
  def most_steps(self) -> int:
    """What `steps` are where no item shares its row with another."""
    return self.items.shape[1] // self.shape.rows

  def taken(self, tree: Any, step: jax.Array | int) -> tuple[Any, jax.Array]:
    """([B, ...] of the items in c rows of each group, which are there [I]).

    I = G * c * m, a row's items one after the other; where there is none,
    everything is 0 or False.
    """
    c, G = self.shape.rows, self.shape.groups
    chosen = jax.lax.dynamic_slice_in_dim(self.items, step * c, c, axis=1)
    chosen = chosen.reshape(G, -1)

    def one(x):
      own = x.reshape(G, -1, *x.shape[1:])
      own = jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))(
        own, chosen
      )
      return _on_devices(own.reshape(-1, *x.shape[1:]))

    return jax.tree.map(one, tree), one(jnp.ones(self.places.size, bool))


def plan(
  lengths: jax.Array, shape: Shape, asked: jax.Array | None = None
) -> Plan:
  """Items of these lengths [B], each at most W, in rows.

  They ask of so many [B] of their slots, each of at most A.
  """
  if asked is None:
    asked = jnp.zeros_like(lengths)
  lengths, asked = (
    _on_devices(x.reshape(shape.groups, -1)) for x in (lengths, asked)
  )
  b = lengths.shape[1]
  rows = -(-max(b, 1) // shape.rows) * shape.rows
  fit = jax.vmap(functools.partial(_best_fit, rows=rows, shape=shape))
  row, column, used = fit(lengths, asked)
  items = jax.vmap(
    lambda row, column: (
      jnp.full((rows, shape.items), b, jnp.int32)
      .at[row, column]
      .set(jnp.arange(b, dtype=jnp.int32), mode="drop")
    )
  )(row, column)
  return Plan(
    items=_on_devices(items),
    places=row * shape.items + column,
    steps=-(-used.max() // shape.rows),
    shape=shape,
  )


def _best_fit(lengths, asked, *, rows, shape):
  """(the row [b] of each item, its place there [b], rows in use []).

  An item of length 0 is in row n, which there is not.
  """
  order = jnp.argsort(-lengths, stable=True)

  def put(state, item):
    left, unasked, counts = state
    length = lengths[item]
    fits = (left >= length) & (unasked >= asked[item]) & (counts < shape.items)
    # Of rows that are left as empty the first, so that those in use are.
    row = jnp.argmin(jnp.where(fits, left, shape.width + 1)).astype(jnp.int32)
    row = jnp.where(length > 0, row, rows)
    column = counts[jnp.minimum(row, rows - 1)]
    left = left.at[row].add(-length, mode="drop")
    unasked = unasked.at[row].add(-asked[item], mode="drop")
    counts = counts.at[row].add(1, mode="drop")
    return (left, unasked, counts), (row, column)

  state = (
    jnp.full(rows, shape.width, jnp.int32),
    jnp.full(rows, shape.asked, jnp.int32),
    jnp.zeros(rows, jnp.int32),
  )
  (*_, counts), (row, column) = jax.lax.scan(put, state, order)
  back = jnp.argsort(order)
  return row[back], column[back], (counts > 0).sum(dtype=jnp.int32)


def mapped(
  function: Callable[[Any, jax.Array], Any], tree: Any, plan_: Plan
) -> Any:
  """function(items, which are there) of all items: a tree of [B, ...].

  It is given [I, ...] as `Plan.taken` has them and returns [I, ...]. What it
  says of an item of length 0 is of none.
  """
  function = jax.jit(function)  # traced once for its shapes and its value
  G, n, m = plan_.items.shape
  shapes = jax.eval_shape(function, *plan_.taken(tree, 0))
  found = jax.tree.map(
    lambda x: _on_devices(jnp.zeros((G, n * m, *x.shape[1:]), x.dtype)), shapes
  )

  def one(step, found):
    said = function(*plan_.taken(tree, step))

    def put(x, new):
      new = new.reshape(G, -1, *new.shape[1:])
      first = step * new.shape[1]
      return jax.lax.dynamic_update_slice_in_dim(x, new, first, axis=1)

    return jax.tree.map(put, found, said)

  found = slices.loop(plan_.steps, one, found, most=plan_.most_steps)

  def of_items(x):
    # The place of an item of length 0 is past the end.
    x = jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))(
      x, plan_.places
    )
    return _on_devices(x.reshape(-1, *x.shape[2:]))

  return jax.tree.map(of_items, found)


def _on_devices(x):
  return sharding.constrain(x, sharding.BATCH)
