"""A table of N rows through a compiled function, in batches of one shape."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.base import interrupt, progress
from instruct_jax.data.batch import loader
from instruct_jax.parallel import hosts, sharding

Table = Mapping[str, np.ndarray]  # [N, ...] each


def in_batches(
  function: Callable[[dict[str, jax.Array]], Any],
  table: Table,
  mesh: jax.sharding.Mesh,
  *,
  rows: int,
) -> Any:
  """What `function` makes of the N rows: a tree of whole arrays [N, ...].

  It is given `rows` rows at a time, on the mesh; they are rounded up to what
  the mesh and the processes divide. Row 0 fills the last batch up, and what is
  made of it is dropped. Every process holds the whole table, gives its share
  of each batch and gets the whole result. The mesh is in use meanwhile, as it
  is in training, which has the same programs therefore.
  """
  count = len(next(iter(table.values())))
  rows = rounded(rows, mesh)
  pending = []  # All are dispatched before the first is waited for.
  with jax.set_mesh(mesh):
    if not count:
      return _empty(function, table, rows)
    for start in range(0, count, rows):
      index = np.arange(start, start + rows)
      index[index >= count] = 0
      batch = {name: x[index] for name, x in table.items()}
      pending.append(function(placed(batch, mesh)))
  parts = [hosts.fetch(part) for part in pending]
  return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def of_rows(
  function: Callable[[dict[str, jax.Array]], Any],
  table: loader.Rows,
  mesh: jax.sharding.Mesh,
  *,
  rows: int,
  note: str,
) -> Any:
  """What `function` makes of all rows of a kind: a tree of arrays [N, ...].

  As `in_batches`, for tables of any length: batches are read one after the
  other, and one is computed while the next is read. The line of progress says
  `note` and how far it is. Raises Interrupted after SIGTERM.
  """
  size = rounded(rows, mesh)
  parts, pending = [], None
  for batch in table.in_order(size):
    interrupt.check()
    progress.say(f"{note} {len(parts) * size}/{len(table)}")
    with jax.set_mesh(mesh):
      before, pending = pending, function(placed(batch, mesh))
    if before is not None:
      parts.append(hosts.fetch(before))
  parts.append(hosts.fetch(pending))
  progress.say("")
  return jax.tree.map(lambda *x: np.concatenate(x)[: len(table)], *parts)


def one_batch(table: Table, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """The whole table on the mesh, row 0 repeated after the N rows to divide."""
  count = len(next(iter(table.values())))
  index = np.arange(rounded(count, mesh))
  index[index >= count] = 0
  return placed({name: x[index] for name, x in table.items()}, mesh)


def placed(batch: Table, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """On the mesh, a batch that all processes hold: each gives its share."""
  index, count = jax.process_index(), jax.process_count()
  share = len(next(iter(batch.values()))) // count
  mine = slice(index * share, (index + 1) * share)
  return sharding.global_batch({k: x[mine] for k, x in batch.items()}, mesh)


def filled(
  rows: Mapping[str, jax.Array],
  size: int,
  mesh: jax.sharding.Mesh,
  *,
  columns: int = 0,
) -> dict[str, jax.Array]:
  """Rows [B, ...] on the mesh with as many empty ones as make them `size`.

  Whatever their number, they then share a program, also with what is `placed`.
  With `columns` those of [B, P] are filled up too, before the first.
  """
  return _filling(mesh)(dict(rows), size, columns)


@functools.cache
def _filling(mesh):
  def fill(rows, size, columns):
    def one(x):
      left = max(0, columns - x.shape[1]) if x.ndim == 2 else 0
      padding = (0, max(0, size - len(x))), (left, 0)
      return jnp.pad(x, padding[: x.ndim] + ((0, 0),) * (x.ndim - 2))

    return jax.tree.map(one, rows)

  layout = sharding.batch_sharding(mesh)
  return jax.jit(fill, static_argnums=(1, 2), out_shardings=layout)


@functools.partial(jax.jit, static_argnums=(1, 2))
def first(tree: Any, count: int, mesh: jax.sharding.Mesh) -> Any:
  """The first so many rows, without those that filled them up."""
  layout = sharding.batch_sharding(mesh)
  is_even = count % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0

  def one(x):
    x = x[:count]
    return jax.lax.with_sharding_constraint(x, layout) if is_even else x

  return jax.tree.map(one, tree)


def rounded(rows: int, mesh: jax.sharding.Mesh) -> int:
  """So many rows, or the next more that the mesh and the processes divide."""
  parts = math.lcm(mesh.shape["data"] * mesh.shape["fsdp"], jax.process_count())
  return -(-rows // parts) * parts


def _empty(function, table, rows):
  shapes = {
    name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
    for name, x in table.items()
  }
  return jax.tree.map(
    lambda x: np.zeros((0, *x.shape[1:]), x.dtype),
    jax.eval_shape(function, shapes),
  )
