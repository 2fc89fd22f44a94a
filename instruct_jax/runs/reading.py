"""The parameters that finished runs hand on, and the context they fit."""

import dataclasses
import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from jax.tree_util import tree_leaves_with_path
from ml_collections import ConfigDict

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.inference import context, rewards
from instruct_jax.models import forward, heads, lora
from instruct_jax.parallel import checkpoint, digest, sharding, stored
from instruct_jax.runs import bases, records
from instruct_jax.training import partition

_log = logging.getLogger(__name__)


def open_context(folder: epath.PathLike, *, axis: str = "") -> context.Context:
  """The context of a run, for reading it on the devices that are here.

  The run's own mesh is used if it fits all devices exactly, else one device,
  or all of them along an `axis` of the mesh. Several processes have no device
  that is all of theirs: they take all, along 'data' unless another is named.
  """
  if jax.process_count() > 1:
    axis = axis or "data"
  config = records.read_config(folder).unlock()
  if math.prod(config.mesh.values()) != jax.device_count():
    config.mesh = ConfigDict(dict.fromkeys(config.mesh, 1))
    if axis:
      config.mesh[axis] = jax.device_count()
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
  steps = [handed_on.step if step is None else step]
  if not handed_on.finished and step is None:
    steps = checkpoint.steps(handed_on.run)[::-1]
  for last, number in zip([*[False] * (len(steps) - 1), True], steps):
    try:
      return _load_whole(handed_on.run, number, handed_on.item, ctx)
    except stored.Damaged as damage:
      if last:
        raise
      _log.warning("%s The one before is read instead.", damage)
  raise AssertionError("unreachable")


def load_rewards(
  needs: Mapping[str, epath.PathLike], ctx: context.Context
) -> rewards.Models:
  """The parameters of the reward model, or models, among what a run needs.

  Raises UserError as `load_parameters`.
  """
  return rewards.together(
    {
      need: load_parameters(folder, ctx, "reward")
      for need, folder in needs.items()
      if rewards.is_one(need)
    }
  )


def by_model_alone(ctx: context.Context, combine: str) -> context.Context:
  """A context whose reward is what reward models say, and nothing else."""
  config = ctx.config.copy_and_resolve_references().unlock()
  config.reward = rewards.model_alone(combine)
  return dataclasses.replace(ctx, config=config.lock())


def load_kept(
  folder: epath.PathLike, ctx: context.Context, role: str, *, ema: bool = True
) -> dict[str, Any]:
  """The parameters of any role of a finished run, placed as above.

  The average of a role that has one, unless `ema` is off. Raises UserError
  where the run has no such role.
  """
  if hf_folder.is_reference(folder):
    return load_parameters(folder, ctx, role)
  return _load_whole(*_kept(folder, role, ema), ctx)


def _kept(folder, role, ema):
  """(run, step, item) of any role of a finished run."""
  handed_on = records.product(folder)
  config = records.read_config(handed_on.run)
  roles = {handed_on.role, *(config.get("optimizer") or {})}
  if role not in roles:
    raise errors.unknown(f"role of the run {folder}", role, roles)
  kept = "ema" if ema and role in config.ema else "params"
  return handed_on.run, handed_on.step, f"{kept}.{role}"


def load_adapters(
  folder: epath.PathLike, ctx: context.Context, role: str, *, ema: bool = True
) -> tuple[dict[str, Any], bases.Base]:
  """What a finished run trained of a role with adapters, and on top of what.

  Raises UserError as `load_kept`, and where the run has no adapters.
  """
  run, step, item = _kept(folder, role, ema)
  base = bases.find(run, step, role)
  if base is None or base.lora is None:
    raise errors.UserError(
      f"{folder}: its {role} has no adapters (config.lora.rank); it is a whole"
      " model"
    )
  return load_trained(run, step, item, ctx.mesh), base


def load_base(base: bases.Base, ctx: context.Context, role: str) -> Any:
  """The parameters that a role was trained on top of, of the role it was."""
  return load_parameters(base.folder, _below(ctx, role), base.role)


def load_trained(
  run: epath.Path, step: int, item: str, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """What an item of a checkpoint holds of a role, placed by the table.

  All of the role's parameters, or those that were trained (`bases`).
  """
  shapes: dict[str, Any] = {}
  for path, text in checkpoint.load_item(run, step, item)["arrays"].items():
    *branches, leaf = path.split(".")
    tree = shapes
    for name in branches:
      tree = tree.setdefault(name, {})
    tree[leaf] = digest.described(text)
  return checkpoint.load(run, step, item, _placed(shapes, mesh))


def _below(ctx, role):
  """A context for what a role was trained on: it has the same decoder."""
  decoder = ctx.model(role).config
  return dataclasses.replace(
    ctx,
    policy=heads.LanguageModel(decoder),
    scalar=heads.ScalarModel(decoder),
  )


def _load_whole(run, step, item, ctx):
  """An item of a checkpoint with what it lacks; adapters are merged."""
  role = item.rpartition(".")[2]
  base = bases.find(run, step, role)
  abstract = abstract_parameters(ctx, role)
  if base is None:
    return checkpoint.load(run, step, item, abstract)
  trained = load_trained(run, step, item, ctx.mesh)
  rest = load_base(base, ctx, role)
  rest, _ = partition.split(rest, _names(abstract) - _names(trained))
  scale = base.lora.scale if base.lora else 0.0

  def whole(rest, trained):
    return lora.merged(partition.joined(rest, trained), scale)

  placement = jax.tree.map(lambda x: x.sharding, abstract)
  whole = jax.jit(whole, donate_argnums=0, out_shardings=placement)
  return whole(rest, trained)


def _names(tree):
  leaves = tree_leaves_with_path(tree)
  return frozenset(sharding.path_name(path) for path, _ in leaves)


def abstract_parameters(ctx: context.Context, role: str) -> dict[str, Any]:
  """Shapes, dtypes and shardings of the parameters of `role` in `ctx`."""
  init = functools.partial(forward.init_params, ctx.model(role))
  return _placed(jax.eval_shape(init, jax.random.key(0)), ctx.mesh)


def _placed(shapes, mesh):
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.place(shapes, mesh, heads.RULES),
  )
