"""The one training loop. It knows no algorithm by name but the registry's."""

import dataclasses
import logging
from types import ModuleType
from typing import Any

import jax
from etils import epath

from instruct_jax.algorithms import ppo, rm, sft
from instruct_jax.base import errors, metrics
from instruct_jax.data.batch import loader
from instruct_jax.inference import context
from instruct_jax.parallel import checkpoint, sharding
from instruct_jax.training import hooks, learner

_log = logging.getLogger(__name__)

ALGORITHMS: dict[str, ModuleType] = {"sft": sft, "rm": rm, "ppo": ppo}


def algorithm_of(config) -> ModuleType:
  """The module of `config.algorithm`; UserError for an unknown name."""
  if config.algorithm not in ALGORITHMS:
    raise errors.unknown("algorithm", config.algorithm, ALGORITHMS)
  return ALGORITHMS[config.algorithm]


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

  state: learner.State
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
  algorithm = algorithm_of(config)
  run_, state = learner.setup(ctx, algorithm, total_steps, checkpoints)
  keep_every = data.steps_per_epoch if config.keep_epochs else 0
  saver = checkpoint.Checkpointer(folder / "checkpoints", keep_every=keep_every)
  restored = saver.restore(learner.items_of(state))
  earlier = 0.0
  if restored is not None:
    state = learner.with_items(state, restored.items)
    data.set_state(restored.extra["batches"])
    earlier = restored.extra["seconds"]
    _log.info("%s: resumed at step %d", config.experiment, restored.step)
  first = 0 if restored is None else restored.step
  log = metrics.Log(folder)
  log.truncate(first)
  collect, update_state = learner.compiled(run_)
  with hooks.Hooks(run_, data, log, saver, first, keep_every, earlier) as after:
    for step in range(first, total_steps):
      clock = hooks.Clock()
      batch = sharding.global_batch(next(data), ctx.mesh)
      clock.lap("data")
      k_collect, k_update = jax.random.split(
        jax.random.fold_in(run_.root, step)
      )
      minibatches = collect(state, batch, k_collect)
      if config.time_phases:
        jax.block_until_ready(minibatches)
      clock.lap("collect")
      after.flush()  # The step before, whose values are ready by now.
      state, found = update_state(state, minibatches, k_update)
      if config.time_phases:
        jax.block_until_ready(found)
      clock.lap("update")
      if step + 1 == total_steps and hasattr(algorithm, "finish"):
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
  row = metrics.read_metrics(folder)[-1]
  return {name: value for name, value in row.items() if name != "step"}
