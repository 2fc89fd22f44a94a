"""The one training loop. It knows no algorithm by name but the registry's."""

import dataclasses
import logging
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.base import errors, journal, run_folder
from instruct_jax.data.batch import loader
from instruct_jax.data.read import kinds
from instruct_jax.inference import context, rewards
from instruct_jax.maths import arrays
from instruct_jax.parallel import checkpoint, sharding
from instruct_jax.training import hooks
from instruct_jax.training import step as step_lib

_log = logging.getLogger(__name__)


def check(config: ConfigDict) -> None:
  """UserError for a config that cannot be trained; reads no file."""
  algorithm = algorithms.named(config.algorithm)
  if bool(config.epochs) == bool(config.steps):
    raise errors.UserError(
      "config.epochs and config.steps: give one of the two, the other is 0 "
      f"(epochs {config.epochs}, steps {config.steps})"
    )
  for kind in (*config.batch, *config.validation, config.epoch_of):
    if kind not in kinds.KINDS:
      raise errors.unknown("kind of data in config.batch", kind, kinds.KINDS)
  longest = config.data.prompt_length + config.data.response_length
  packed = config.data.packing and any(
    kinds.KINDS[kind].can_pack and not kinds.KINDS[kind].is_stream
    for kind in config.batch
  )
  if packed and longest > config.data.row_length:
    raise errors.UserError(
      f"config.data.packing: config.data.row_length={config.data.row_length}"
      f" cannot hold a prompt and its response of {longest} tokens"
      " (prompt_length + response_length)"
    )
  algorithm.check(config)
  needs_model = rewards.needs_model(config.reward)
  if algorithm.is_rewarded and needs_model and "reward" not in config.needs:
    raise errors.UserError(
      "config.needs.reward is missing: name a reward model, or take it out of"
      " the reward with config.reward.model.weight=0"
    )
  _check_rows(config, algorithm)


def _check_rows(config, algorithm):
  """The rows of a batch divide into minibatches, microbatches and devices."""
  devices = config.mesh.data * config.mesh.fsdp
  sizes = algorithm.minibatch_rows(config, dict(config.batch))
  for kind, size in sizes.items():
    of_slice = arrays.exact_div(
      size,
      config.microbatches,
      f"rows of {kind} in a minibatch / config.microbatches",
    )
    arrays.exact_div(
      of_slice,
      devices,
      f"rows of {kind} in a microbatch / (config.mesh.data x config.mesh.fsdp)",
    )
  try:
    algorithm.minibatch_rows(config, dict(config.validation))
  except errors.UserError as error:
    raise errors.UserError(f"config.validation: {error}") from None


def open_batches(ctx: context.Context) -> tuple[loader.Batches, int]:
  """The training batches and the number of steps that the config asks for."""
  config = ctx.config
  rows = {
    kind: ctx.rows(kind, "train", packed=config.data.packing)
    for kind in config.batch
  }
  sizes = {config.epoch_of: config.batch[config.epoch_of]} | dict(config.batch)
  found = loader.Batches(
    rows,
    sizes,
    seed=config.seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  if config.epochs:
    return found, config.epochs * found.steps_per_epoch
  return found, config.steps


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a finished run hands on."""

  state: algorithms.State
  metrics: dict[str, float]  # of the last step
  steps: int
  epochs: list[int]  # the steps at which an epoch ended, if those are kept
  seconds: float  # in the loop, all starts together


def run(
  ctx: context.Context, folder: epath.Path, checkpoints: dict[str, Any]
) -> Outcome:
  """Trains as `ctx.config` says, from the newest good checkpoint in `folder`.

  Raises Interrupted after SIGTERM (what was done is saved) and Diverged after
  `config.max_skipped` updates in a row that were not finite.
  """
  with jax.set_mesh(ctx.mesh):
    return _run(ctx, folder, checkpoints)


def _run(ctx, folder, checkpoints):
  config = ctx.config
  data, total_steps = open_batches(ctx)
  algorithm = algorithms.named(config.algorithm)
  run_, state = step_lib.setup(ctx, algorithm, total_steps, checkpoints)
  keep_every = data.steps_per_epoch if config.keep_epochs else 0
  saver = checkpoint.Checkpointer(
    run_folder.files(folder).checkpoints, keep_every=keep_every
  )
  restored = saver.restore(step_lib.items_of(state))
  earlier = 0.0
  if restored is not None:
    state = step_lib.with_items(state, restored.items)
    data.set_state(restored.extra["batches"])
    earlier = restored.extra["seconds"]
    _log.info("%s: resumed at step %d", config.experiment, restored.step)
  first = 0 if restored is None else restored.step
  log = journal.Log(folder)
  log.truncate(first)
  update_state = step_lib.compiled(run_)
  with hooks.Hooks(run_, data, log, saver, first, keep_every, earlier) as after:
    for step in range(first, total_steps):
      clock = hooks.Clock()
      batch = sharding.global_batch(next(data), ctx.mesh)
      clock.lap("data")
      k_collect, k_update = jax.random.split(
        jax.random.fold_in(run_.root, step)
      )
      minibatches, collected = algorithm.collect(ctx, state, batch, k_collect)
      if config.time_phases:
        jax.block_until_ready(minibatches)
      clock.lap("collect")
      after.flush()  # The step before, whose values are ready by now.
      state, found = update_state(state, minibatches, collected, k_update)
      if config.time_phases:
        jax.block_until_ready(found)
      clock.lap("update")
      if step + 1 == total_steps:
        state = algorithm.finish(ctx, state)
      after(step + 1, state, found, clock)
  ends = range(keep_every, total_steps + 1, keep_every) if keep_every else ()
  return Outcome(
    state=state,
    metrics=after.last or _last_row(folder),
    steps=total_steps,
    epochs=list(ends),
    seconds=after.seconds(),
  )


def _last_row(folder):
  """The metrics of the last step that is logged, of a run found complete."""
  row = journal.read_metrics(folder)[-1]
  return {name: value for name, value in row.items() if name != "step"}
