"""Rules of a network's own: what mesh.fsdp and mesh.tensor divide of it.

A table of rules (`heads.RULES`) divides a matrix over both axes. A small policy
beside a large value network may do without the sums over `tensor` that every
layer takes; and who samples from it, without gathering each layer for a token.
None of these changes a value, but for the order of sums.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors
from instruct_jax.parallel import sharding

BOTH = "both"
# {name: {axis of a rule: the axes of the mesh in its place}}
LAYOUTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
  BOTH: {"fsdp": ("fsdp",), "tensor": ("tensor",)},
  "fsdp": {"fsdp": ("fsdp", "tensor"), "tensor": ()},
  "tensor": {"fsdp": (), "tensor": ("tensor",)},
  "copied": {"fsdp": (), "tensor": ()},
}


def rules(table: sharding.Rules, layout: str) -> sharding.Rules:
  """The table as a layout has it.

  both    matrices over fsdp and, by heads and MLP, over tensor: as it stands
  fsdp    over fsdp and tensor together, heads and MLP whole
  tensor  by heads and MLP over tensor, copied along fsdp
  copied  whole on every device

  Raises UserError for a name that is not in LAYOUTS.
  """
  if layout not in LAYOUTS:
    raise errors.unknown("layout", layout, LAYOUTS)
  if layout == BOTH:
    return table
  return [(path, _moved(spec, LAYOUTS[layout])) for path, spec in table]


def _moved(spec: P, places: Mapping[str, tuple[str, ...]]) -> P:
  """A rule's layout with other axes in the place of each."""
  entries = []
  for entry in spec:
    axes = [x for axis in sharding.axes_of(entry) for x in places[axis]]
    one = axes[0] if len(axes) == 1 else tuple(axes)
    entries.append(one if axes else None)
  return P(*entries)


def device_bytes(tree: Any) -> int:
  """Bytes of arrays, or of shapes with a place, on a device.

  What has no place is there whole; a random key is not counted.
  """

  def of(x):
    held = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
    return math.prod(held) * _item_bytes(x.dtype)

  return sum(map(of, jax.tree.leaves(tree)))


def _item_bytes(dtype: Any) -> int:
  if jnp.issubdtype(dtype, jax.dtypes.prng_key):
    return 0
  return jnp.dtype(dtype).itemsize
