"""The jobs that measure one policy at many steps of its training."""

import functools

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.evals import bench, epochs, overoptimization
from instruct_jax.inference import context
from instruct_jax.runs import reading, records

Folders = dict[str, epath.Path]


def check(config: ConfigDict) -> None:
  """UserError for a world in which over-optimisation cannot be seen."""
  if config.job != "overoptimization":
    return
  world = worlds.of(config.data)
  if world.judge is None or not world.labelers:
    raise errors.UserError(
      f"config.job={config.job}: the {world.name} has no judge and no labelers"
      " beside the reward model, so nobody could say that it is optimised too"
      " far; take the microworld (:tiny)"
    )


def measure_epochs(config: ConfigDict, needs: Folders) -> bench.Findings:
  """Every epoch of SFT that was kept: loss, reward and the judge (C.1)."""
  ctx = context.make(config, needs)
  kept = _kept(needs["policy"], "epochs")
  loaders = [_loader(needs["policy"], ctx, step) for step in kept]
  return epochs.measure_epochs(
    ctx, list(zip(kept, loaders)), reading.load_rewards(needs, ctx)
  )


def measure_overoptimization(
  config: ConfigDict, needs: Folders
) -> bench.Findings:
  """A run's kept steps and best-of-n of its start: reward, judge and KL."""
  ctx = context.make(config, needs)
  return overoptimization.measure_overoptimization(
    ctx,
    reading.load_parameters(needs["start"], ctx, "policy"),
    {
      step: _loader(needs["policy"], ctx, step)
      for step in _kept(needs["policy"], "kept")
    },
    reading.load_rewards(needs, ctx),
  )


def _kept(folder: epath.Path, name: str) -> list[int]:
  steps = records.read_results(folder)["product"].get(name)
  if not steps:
    raise errors.UserError(
      f"{folder}: kept no {'epochs' if name == 'epochs' else 'steps'} to"
      " measure; config.needs.policy should be a run with"
      f" {'keep_epochs' if name == 'epochs' else 'keep_every'}."
    )
  return steps


def _loader(folder, ctx, step):
  return functools.partial(
    reading.load_parameters, folder, ctx, "policy", step=step
  )
