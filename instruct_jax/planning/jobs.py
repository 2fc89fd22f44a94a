"""Which programs a plan compiles: those of a run and of what it needs.

An RL run samples, scores and updates; its reward model and its SFT policy are
trained on the same devices before.
"""

import dataclasses
import math
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.base import errors, keys, ranges
from instruct_jax.inference import context
from instruct_jax.planning import topology
from instruct_jax.runs import plan, references
from instruct_jax.training import loop

_SAMPLING = ("decoding_copy", "prefill", "decode_step", "score")
_TRAINED_BEFORE = {"rm": "reward", "sft": "sft"}  # algorithms, and their need


@dataclasses.dataclass(frozen=True)
class Job:
  """A program to compile: one of `programs.PROGRAMS`, of a config."""

  program: str
  config: ConfigDict


def of(
  config: ConfigDict,
  source: epath.Path,
  place: topology.Place,
  inherited: dict[str, Any],
) -> dict[str, Job]:
  """{name: job} of a config that was read from `source`; quick ones first.

  What it needs takes over the `inherited` keys. Raises UserError for a config
  that trains nothing or cannot run, on this place or anywhere.
  """
  if config.job != "train":
    raise errors.UserError(
      f"--config: {config.experiment}.py trains nothing itself, so there is"
      " nothing to plan; name an experiment that does, as"
      " experiments/ppo_ptx.py:1.3b"
    )
  own = _checked(_meshed(config, place))
  algorithm = algorithms.named(own.algorithm)
  found: dict[str, Job] = {}
  if algorithm.is_rewarded:
    found = {name: Job(name, own) for name in _SAMPLING}
    for need, below in _trained_before(own, source, inherited).items():
      found[f"{need}_update"] = Job("update", _checked(_meshed(below, place)))
  if own.algorithm == "ppo" and own.rl.ptx_coef:
    found["ppo_update"] = Job("update", _without_text(own))
    return found | {"ppo_ptx_update": Job("update", own)}
  return found | {f"{own.algorithm}_update": Job("update", own)}


def _without_text(config: ConfigDict) -> ConfigDict:
  plain = config.copy_and_resolve_references().unlock()
  plain.rl.ptx_coef, plain.batch.pretraining = 0.0, 0
  return plain.lock()


def _checked(config: ConfigDict) -> ConfigDict:
  """What does not ask for data that nobody has yet."""
  ranges.check(keys.flatten(config))
  context.check(config)
  loop.check(config)
  return config


def _trained_before(
  config: ConfigDict, source: epath.Path, inherited: dict[str, Any]
) -> dict[str, ConfigDict]:
  """{algorithm: config} of the SFT and the reward model of an RL run."""
  found = {}
  for algorithm, need in _TRAINED_BEFORE.items():
    first = [config.needs.get(need, ""), *config.needs.values()]
    below = _find(algorithm, first, source, inherited, set())
    if below is not None:
      found[algorithm] = below
  return found


def _find(algorithm, named, source, inherited, seen):
  """The first config that trains so, of those named and what they need."""
  for reference in named:
    if not references.is_experiment(reference) or reference in seen:
      continue
    seen.add(reference)
    below, path = references.load_config(reference, source.parent)
    below.update_from_flattened_dict(plan.fitting(inherited, below))
    if below.job == "train" and below.algorithm == algorithm:
      return below
    deeper = _find(algorithm, below.needs.values(), path, inherited, seen)
    if deeper is not None:
      return deeper
  return None


def _meshed(config: ConfigDict, place: topology.Place) -> ConfigDict:
  """The config with a mesh of the place's devices.

  One that names no mesh (1 x 1 x 1) has all devices of a slice along fsdp, and
  microbatches of a row a device; `data` grows by the slices.
  """
  mesh = config.mesh
  named = math.prod(mesh.values())
  if named == place.chips and place.slices == 1:
    return config
  meshed = config.copy_and_resolve_references().unlock()
  if named == place.each:
    meshed.mesh.data *= place.slices
  elif named == 1:
    meshed.mesh.data, meshed.mesh.fsdp = place.slices, place.each
    meshed.microbatches = _microbatches(meshed, place.chips)
  elif named != place.chips:
    text = " x ".join(f"{axis} {size}" for axis, size in mesh.items())
    raise errors.UserError(
      f"config.mesh = {text} takes {named} devices; --topology={place.name}"
      f" has {place.each}"
      + (f" in each of {place.slices} slices" if place.slices > 1 else "")
      + f": give --config.mesh.fsdp={place.each}, or factors of it to fsdp and"
      " tensor"
    )
  return meshed.lock()


def _microbatches(config: ConfigDict, ways: int) -> int:
  """The most microbatches that leave every device a row of each kind."""
  rows = algorithms.named(config.algorithm).minibatch_rows(
    config, algorithms.rows_of(config.batch)
  )
  return max(1, math.gcd(*rows.values()) // ways)


def described(jobs: dict[str, Job]) -> dict[str, dict[str, Any]]:
  """The flat configs of the jobs, as they are planned."""
  return {name: keys.flatten(job.config) for name, job in jobs.items()}
