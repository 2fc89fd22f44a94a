"""What of a state is not trained, in the dtype that it is computed in.

Networks compute in `model.dtype` and convert their matrices to it each time
they are read. What never changes is converted once: where that is 16 bits it
takes half the memory and says exactly the same but for token and position
embeddings, which are added in 32. An array of several roles stays one.
"""

import functools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from instruct_jax.inference import context
from instruct_jax.parallel import sharding
from instruct_jax.training import partition

# Norms, biases and a scalar model's head count in float32, and are small.
_CONVERTED = re.compile(
  r"(query|key|value|output|up|gate|down|unembedding)/kernel$"
  r"|_embedding/embedding$"
)


def held(
  ctx: context.Context,
  params: partition.Trees,
  frozen: partition.Trees,
  trained: Mapping[str, partition.Names],
) -> tuple[partition.Trees, partition.Trees]:
  """(params, frozen) as a state holds them; `trained` says what changes."""
  converted = {}  # by an array's id, with the array, so that it keeps its id

  def one(role, names, path, x):
    name = sharding.path_name(path)
    dtype = jnp.dtype(ctx.model(role).config.dtype)
    if name in names or x.dtype == dtype or not _CONVERTED.search(name):
      return x
    if (id(x), dtype) not in converted:
      converted[id(x), dtype] = x.astype(dtype), x
    return converted[id(x), dtype][0]

  def of(role, tree, names):
    if names is None:
      return tree
    function = functools.partial(one, role, names)
    return jax.tree_util.tree_map_with_path(function, tree)

  return (
    {role: of(role, x, trained[role]) for role, x in params.items()},
    {role: of(role, x, frozenset()) for role, x in frozen.items()},
  )
