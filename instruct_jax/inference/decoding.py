"""Where a policy's weights lie while an iteration's responses are sampled.

Divided over fsdp, as they are trained, every layer is gathered again for every
token. Laid out for decoding they are whole on each device but for what `tensor`
divides, in the dtype that the model computes in: gathered once an iteration,
for as long as it takes to sample. Kernels are converted to that dtype whenever
they are read, so what is said is the same.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp

from instruct_jax.base import memory
from instruct_jax.inference import context
from instruct_jax.models import heads
from instruct_jax.parallel import layouts, sharding

_KERNEL = re.compile(
  r"(^|/)(query|key|value|output|up|gate|down|unembedding)/kernel$"
)


def laid_out(ctx: context.Context, params: dict, state: Any) -> dict:
  """The policy's parameters as `config.layout.rollout` has them for sampling.

  `state` is all that lies on the devices beside (`is_apart`). While shapes are
  traced, as in a plan, nothing lies anywhere.
  """
  if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
    return params
  if not is_apart(ctx, state, params):
    return params
  return program(ctx, params)(params)


def is_apart(ctx: context.Context, state: Any, params: dict) -> bool:
  """Whether sampling has a copy of the parameters that lies for decoding.

  Of 'auto': where parameters are gathered at all, and the copy and the state,
  arrays or their shapes, leave 3/8 of a device's memory to sampling; not on
  CPUs, whose devices have one memory.
  """
  how, mesh = ctx.config.layout.rollout, ctx.mesh
  if how != "auto":
    return how == "decode"
  if mesh.shape["fsdp"] == 1 or sharding.platform() == "cpu":
    return False
  held = layouts.device_bytes((state, shapes(ctx, params)))
  there = memory.of_device(mesh.local_devices[0])
  return held <= context.BESIDE_SAMPLING * there


def program(ctx: context.Context, params: dict) -> jax.stages.Wrapped:
  """What makes the copy of parameters, arrays or their shapes."""
  leaves, structure = jax.tree.flatten(params)
  made = jax.tree.leaves(shapes(ctx, params))
  return _program(
    structure,
    tuple(x.sharding for x in leaves),
    tuple((x.dtype, x.sharding) for x in made),
  )


@functools.lru_cache(maxsize=8)
def _program(structure, lie, made):
  def copied(params):
    converted = [
      # Where they lie: of what has half the bits half as much is sent then.
      jax.lax.with_sharding_constraint(x.astype(dtype), place)
      for x, place, (dtype, _) in zip(jax.tree.leaves(params), lie, made)
    ]
    return jax.tree.unflatten(structure, converted)

  places = jax.tree.unflatten(structure, [place for _, place in made])
  return jax.jit(copied, out_shardings=places)


def shapes(ctx: context.Context, params: dict) -> dict:
  """The copy's shapes, dtypes and places."""
  rules = layouts.rules(heads.RULES, "tensor")
  places = sharding.place(params, ctx.mesh, rules)
  dtype = jnp.dtype(ctx.policy.config.dtype)

  def one(path, x, place):
    is_kernel = _KERNEL.search(sharding.path_name(path))
    return jax.ShapeDtypeStruct(
      x.shape, dtype if is_kernel else x.dtype, sharding=place
    )

  return jax.tree_util.tree_map_with_path(one, params, places)
