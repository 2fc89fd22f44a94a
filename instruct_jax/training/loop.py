"""The one training loop. It knows no algorithm by name but the registry's."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import algorithms, worlds
from instruct_jax.base import (
  errors,
  journal,
  logged,
  phases,
  run_folder,
  weights_and_biases,
)
from instruct_jax.data.batch import limits, loader
from instruct_jax.data.read import kinds
from instruct_jax.inference import context, rewards
from instruct_jax.maths import arrays
from instruct_jax.parallel import checkpoint, sharding
from instruct_jax.training import (
  judging,
  log,
  mfu,
  optim,
  partition,
  profiling,
  save,
  step,
  validate,
)

_log = logging.getLogger(__name__)


def check(config: ConfigDict) -> None:
  """UserError for a config that cannot be trained; reads no file."""
  algorithm = algorithms.named(config.algorithm)
  if bool(config.epochs) == bool(config.steps):
    raise errors.UserError(
      "config.epochs and config.steps: give one of the two, the other is 0 "
      f"(epochs {config.epochs}, steps {config.steps})"
    )
  if config.keep_epochs and config.keep_every:
    raise errors.UserError(
      f"config.keep_every={config.keep_every}: epochs are kept already"
      " (config.keep_epochs); give 0"
    )
  for kind in (*config.batch, *config.validation, config.epoch_of):
    if kind not in kinds.KINDS:
      raise errors.unknown("kind of data in config.batch", kind, kinds.KINDS)
  batch = algorithms.rows_of(config.batch)
  if config.epoch_of in config.batch and config.epoch_of not in batch:
    raise errors.UserError(
      f"config.batch.{config.epoch_of}=0: its rows make an epoch"
      " (config.epoch_of); give 1 or more"
    )
  if config.epoch_of not in batch:
    raise errors.unknown("config.epoch_of", config.epoch_of, batch)
  longest = config.data.prompt_length + config.data.response_length
  packed = config.data.packing and any(
    kinds.KINDS[kind].can_pack and not kinds.KINDS[kind].is_stream
    for kind in batch
  )
  if packed and longest > config.data.row_length:
    raise errors.UserError(
      f"config.data.packing: config.data.row_length={config.data.row_length}"
      f" cannot hold a prompt and its response of {longest} tokens"
      " (prompt_length + response_length)"
    )
  profiling.parse(config.profile)
  weights_and_biases.check(config.wandb)
  _check_roles(config)
  algorithm.check(config)
  partition.check(config)
  needs_model = rewards.needs_model(config.reward)
  if algorithm.is_rewarded and needs_model and "reward" not in config.needs:
    raise errors.UserError(
      "config.needs.reward is missing: name a reward model, or take it out of"
      " the reward with config.reward.model.weight=0"
    )
  _check_rows(config, algorithm)
  _check_counts(config)


def _check_roles(config):
  """Every role that is trained has its optimizer, and is the product's."""
  for role, section in config.optimizer.items():
    optim.check(section, f"config.optimizer.{role}")
  roles = {"config.product": config.product}
  roles |= {f"config.ema.{role}": role for role in config.ema}
  for key, role in roles.items():
    if role not in config.optimizer:
      raise errors.unknown(f"{key}: trained role", role, config.optimizer)


def _check_rows(config, algorithm):
  """The rows of a batch divide into minibatches, microbatches and devices."""
  devices = config.mesh.data * config.mesh.fsdp
  sizes = algorithm.minibatch_rows(config, algorithms.rows_of(config.batch))
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
    held_out = algorithms.rows_of(config.validation)
    algorithm.minibatch_rows(config, held_out)
    for kind, size in held_out.items():
      arrays.exact_div(
        size, devices, f"rows of {kind} / (config.mesh.data x config.mesh.fsdp)"
      )
  except errors.UserError as error:
    raise errors.UserError(f"config.validation: {error}") from None


def _check_counts(config):
  """No batch takes more rows than the world has, where that is known."""
  world = worlds.of(config.data)
  for kind, size in algorithms.rows_of(config.batch).items():
    counts = world.counts(config.data, kind)
    if counts and not kinds.KINDS[kind].is_stream and size > counts[0]:
      raise errors.UserError(
        f"config.batch.{kind}={size}: there are {counts[0]} training rows"
        f" (config.data.sizes.{kind}={counts}); lower it, or raise them"
      )


def open_rows(
  ctx: context.Context,
  checkpoints: algorithms.Roles,
  wanted: Iterable[str],
  split: str,
) -> dict[str, loader.Rows]:
  """The rows of these kinds, with what the algorithm computes of them once."""
  rows = {
    kind: ctx.rows(kind, split, packed=ctx.config.data.packing)
    for kind in wanted
  }
  algorithm = algorithms.named(ctx.config.algorithm)
  columns = algorithm.columns(ctx, checkpoints, rows) if rows else {}
  for kind, of_kind in columns.items():
    rows[kind] = rows[kind].with_columns(of_kind)
  return rows


def open_batches(
  ctx: context.Context, checkpoints: algorithms.Roles
) -> tuple[loader.Batches, int]:
  """The training batches and the number of steps that the config asks for.

  `checkpoints` holds the parameters that the run starts from, by role.
  """
  config = ctx.config
  wanted = algorithms.rows_of(config.batch)
  rows = open_rows(ctx, checkpoints, wanted, "train")
  for kind, of_kind in rows.items():
    for line in limits.warnings(kind, {"train": of_kind.counts}, config.data):
      _log.warning("warning: %s", line)
  sizes = {config.epoch_of: wanted[config.epoch_of]} | wanted
  batches = loader.Batches(
    rows,
    sizes,
    seed=config.seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  if config.epochs:
    return batches, config.epochs * batches.steps_per_epoch
  return batches, config.steps


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a finished run hands on."""

  state: algorithms.State
  metrics: dict[str, float]  # of the last step
  steps: int
  kept: list[int]  # the steps whose checkpoints stay
  seconds: float  # in the loop, all starts together
  digest: str  # of parameters and averages, with what they were trained on


def train(
  ctx: context.Context,
  folder: epath.Path,
  checkpoints: dict[str, Any],
  *,
  digest_of: Callable[[str], str] = str,
) -> Outcome:
  """Trains as `ctx.config` says, from the newest good checkpoint in `folder`.

  `checkpoints` are the parameters to start from, by role; `digest_of` a role
  names them, where they are needed to read what was trained on top of them.

  Raises Interrupted after SIGTERM (what was done is saved) and Diverged after
  `config.max_skipped` updates in a row that were not finite.

  `checkpoints` holds the parameters that it starts from, by role, and is
  emptied: what the state does not hold takes no memory while it trains.
  """
  with jax.set_mesh(ctx.mesh), contextlib.ExitStack() as stack:
    return _train(ctx, folder, checkpoints, digest_of, stack)


def _train(ctx, folder, checkpoints, digest_of, stack):
  config = ctx.config
  data, total_steps = open_batches(ctx, checkpoints)
  stack.callback(data.close)
  held_out = open_rows(
    ctx, checkpoints, algorithms.rows_of(config.validation), "validation"
  )
  algorithm = algorithms.named(config.algorithm)
  run, state = step.setup(ctx, algorithm, total_steps, checkpoints)
  checkpoints.clear()
  bases = step.bases_of(run, digest_of)
  keep_every = config.keep_every
  if config.keep_epochs:
    keep_every = data.steps_per_epoch
  checkpointer = checkpoint.Checkpointer(
    run_folder.files(folder).checkpoints, keep_every=keep_every
  )
  stack.callback(checkpointer.close)
  restored = checkpointer.restore(step.items_of(run, state))
  first, earlier = 0, 0.0
  if restored is not None:
    if restored.extra.get("bases", {}) != bases:
      raise errors.UserError(
        f"{folder}: its checkpoints were trained on top of other parameters"
        " than those that it needs now; move it away to train anew"
      )
    state = step.with_items(state, restored.items)
    data.set_state(restored.extra["batches"])
    first, earlier = restored.step, restored.extra["seconds"]
    _log.info("%s: resumed at step %d", config.experiment, first)
  book = journal.Log(folder, wandb=config.wandb, config=config.to_dict())
  book.truncate(first)
  profile = profiling.Profile(
    config.profile, run_folder.files(folder).tensorboard, first, total_steps
  )
  stack.callback(profile.close)
  watch = stack.enter_context(phases.Watch())
  logger = log.Logger(run, book, first, checkpointer.steps, watch=watch)
  stack.callback(logger.close)
  validation = validate.Validation(run, book, held_out)
  saver = save.Saver(
    *(run, checkpointer, data),
    keep_every=keep_every,
    earlier=earlier,
    bases=bases,
    flush=logger.flush,
  )
  after = (validation.measure, validation.show, logger, profile, saver)
  for done in _steps(run, state, data, first, logger.flush, profile):
    state = done.state
    for happens in after:
      happens(done)
  logger.flush()
  if logger.seconds:
    _log.info("%s: %s", config.experiment, phases.shares(logger.seconds))
  ends = range(keep_every, total_steps + 1, keep_every) if keep_every else ()
  return Outcome(
    state=state,
    metrics=logger.last or _last_row(folder),
    steps=total_steps,
    kept=list(ends),
    seconds=saver.seconds(),
    digest=step.digest_of(run, state, bases),
  )


def _steps(run, state, data, first, flush, profile):
  """Yields each step when it is done, dispatched but not waited for."""
  ctx, algorithm = run.ctx, run.algorithm
  update_state = step.compiled(run)
  judged = judging.Judging(ctx, algorithm, "train")
  for number in range(first, run.total_steps):
    with profile.around(number + 1):
      with phases.phase("data") as made:
        batch = sharding.global_batch(next(data), ctx.mesh)
        made(batch)
      k_collect, k_update = keys(run.root, state.step)
      with phases.phase("collect") as made:
        minibatches, collected = algorithm.collect(ctx, state, batch, k_collect)
        made(minibatches)
      flush()  # The step before, whose values are ready by now.
      with phases.phase("update") as made:
        state, metrics = update_state(state, minibatches, collected, k_update)
        made(metrics)
    metrics |= judged.metrics(batch, minibatches)
    needed = mfu.of_step(ctx, state.frozen, batch, minibatches, collected)
    if needed is not None:
      metrics[mfu.COUNT] = needed, 1.0
    is_last = number + 1 == run.total_steps
    if is_last:
      state = algorithm.finish(ctx, state)
    yield step.Done(number + 1, state, metrics, is_last)


@jax.jit
def keys(root: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
  """A step's keys for `collect` and update, from its number on the devices."""
  collect, update = jax.random.split(jax.random.fold_in(root, number))
  return collect, update


def _last_row(folder):
  """The metrics of the last step that is logged, of a run found complete."""
  row = logged.read_metrics(folder)[-1]
  return {name: value for name, value in row.items() if name != "step"}
