"""The parameters that finished runs hand on, and the context they fit."""

import functools
import logging
import math
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.inference import context
from instruct_jax.models import forward, heads
from instruct_jax.parallel import checkpoint, sharding, stored
from instruct_jax.runs import records

_log = logging.getLogger(__name__)


def open_context(folder: epath.PathLike) -> context.Context:
  """The context of a run, for reading it on the devices that are here.

  The run's own mesh is used if it fits all devices exactly, else one device.
  """
  config = records.read_config(folder).unlock()
  if math.prod(config.mesh.values()) != jax.device_count():
    config.mesh = ConfigDict(dict.fromkeys(config.mesh, 1))
  return context.make(config.lock(), records.read_needs(folder))


def speaks_other_words(folder: epath.PathLike, ctx: context.Context) -> bool:
  """Whether a run was trained with another vocabulary than the context has.

  Read off what the first ids stand for; False where the run brings no
  tokenizer.
  """
  data = records.read_needs(folder).get("data")
  try:
    other = tokenizers.load(data) if data is not None else ctx.tokenizer
  except errors.UserError:  # a checkpoint without one
    return False
  if other.vocab_size != ctx.tokenizer.vocab_size:
    return True
  ids = range(min(other.vocab_size, 2000))
  return any(other.decode([i]) != ctx.tokenizer.decode([i]) for i in ids)


def load_parameters(
  folder: epath.PathLike,
  ctx: context.Context,
  role: str,
  *,
  step: int | None = None,
  unfinished: bool = False,
) -> dict[str, Any]:
  """The parameters that a run hands on, placed on `ctx.mesh` by the table.

  Args:
    folder: the run.
    ctx: whose model for `role` they are to fit.
    role: 'policy' or 'reward'.
    step: another of the run's checkpoints than its product's.
    unfinished: take the newest checkpoint that is whole if the run goes on.

  Raises:
    UserError: as `product`; a run of the other role; arrays of other shapes.
  """
  handed_on = records.product(folder, unfinished=unfinished)
  if handed_on.role != role:
    raise errors.UserError(
      f"{folder}: a {handed_on.role} is what this run hands on, where a {role}"
      " is needed."
    )
  if hf_folder.is_reference(folder):
    there = hf_folder.Folder(hf_folder.path_of(folder))
    hf_load.check(there, role)
    return hf_load.load(there, abstract_parameters(ctx, role), role)
  abstract = abstract_parameters(ctx, role)
  steps = [handed_on.step if step is None else step]
  if not handed_on.finished and step is None:
    steps = checkpoint.steps(handed_on.run)[::-1]
  for last, number in zip([*[False] * (len(steps) - 1), True], steps):
    try:
      return checkpoint.load(handed_on.run, number, handed_on.item, abstract)
    except stored.Damaged as damage:
      if last:
        raise
      _log.warning("%s The one before is read instead.", damage)
  raise AssertionError("unreachable")


def load_kept(
  folder: epath.PathLike, ctx: context.Context, role: str, *, ema: bool = True
) -> dict[str, Any]:
  """The parameters of any role of a finished run, placed as above.

  The average of a role that has one, unless `ema` is off. Raises UserError
  where the run has no such role.
  """
  handed_on = records.product(folder)
  if hf_folder.is_reference(folder):
    return load_parameters(folder, ctx, role)
  config = records.read_config(handed_on.run)
  roles = {handed_on.role, *(config.get("optimizer") or {})}
  if role not in roles:
    raise errors.unknown(f"role of the run {folder}", role, roles)
  kept = "ema" if ema and role in config.ema else "params"
  abstract = abstract_parameters(ctx, role)
  return checkpoint.load(
    handed_on.run, handed_on.step, f"{kept}.{role}", abstract
  )


def abstract_parameters(ctx: context.Context, role: str) -> dict[str, Any]:
  """Shapes, dtypes and shardings of the parameters of `role` in `ctx`."""
  init = functools.partial(forward.init_params, ctx.model(role))
  shapes = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.place(shapes, ctx.mesh, heads.RULES),
  )
