"""Sweeps of what RL depends on: γ, β, learning rate, episodes, initialisation.

Paper: appendix E.6 and figures 33 and 34: PPO-ptx with enough γ gives back what
PPO costs on public NLP sets, and more KL penalty does not, even β = 2; learning
rates of the policy, the length of training, and pretraining text mixed into the
initialisation for RL (C.3, C.4). Each sweep moves one number of the default
`:tiny` command and leaves all others; what equals a default is its run. Of the
policies the whole suite, beside SFT, GPT and the default: `compare-tiny-SWEEP`,
whose table `models` says what number each policy was trained with.

  gamma      PPO-ptx, γ; 0 is PPO
  kl         PPO, β; the smallest is a step of `overoptimization.py`'s long run
  lr         PPO-ptx, the policy's learning rate
  episodes   PPO-ptx, half, two and four times as many: steps of one long run,
             which are what shorter runs end with (the rate is constant)
  init       PPO-ptx from `ppo_init.py` with more or less text in it

  ppo_ptx-tiny-gamma3      a point; subjects are named ppo_ptx_gamma3, with an
                           underscore for the point of a number
  compare-tiny-gamma       a sweep
  sweeps-tiny              all of them joined

Hardware: `:tiny` 2 CPU cores, about half an hour after `ppo.py` and
`ppo_ptx.py`. Expected for `:tiny`: tasks rise with γ from SFT's level to
GPT's, wins fall a little; more β moves no task.

  python -m instruct_jax.main --config=experiments/sweeps.py
  python -m instruct_jax.main --config=experiments/sweeps.py:compare-tiny-gamma
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments import common, overoptimization, ppo, ppo_init, ppo_ptx
from instruct_jax.base import errors


@dataclasses.dataclass(frozen=True)
class Sweep:
  """One number of one experiment, and the values that are not its default."""

  method: str  # whose number it is: the experiment, and how subjects begin
  values: tuple[str, ...]  # as they stand in names
  tested: tuple[str, ...]  # those of `:test`
  key: str = ""
  beside: tuple[str, ...] = ()  # defaults of other methods


SWEEPS = {
  "gamma": Sweep(
    "ppo_ptx",
    ("0.03", "0.1", "0.3", "3"),
    ("3",),
    "rl.ptx_coef",
    beside=("ppo",),
  ),
  "kl": Sweep("ppo", ("0.01", "0.03", "0.5", "2"), ("0.01", "2"), "rl.kl_coef"),
  "lr": Sweep(
    "ppo_ptx",
    ("1e-4", "2e-4", "1e-3", "2e-3"),
    ("2e-3",),
    "optimizer.policy.learning_rate",
  ),
  "episodes": Sweep("ppo_ptx", ("0.5", "2", "4"), ("0.5", "4")),
  "init": Sweep("ppo_ptx", ("0", "0.1", "0.5"), ("0.5",)),
}
LONGEST = "4"  # times the episodes, in one run
SHARED_TEXT = str(ppo_init.FRACTION)  # of ppo_init.py itself
MODULES = {"ppo": ppo, "ppo_ptx": ppo_ptx, "ppo_init": ppo_init}
SUITE = {"tiny": {"evaluation.prompts": 1024}, "test": common.TEST_EVALUATION}
DEFAULTS = {"join": {"against": ()}}
VARIANTS = {"tiny": {}, "test": {}}


def get_config(variant="tiny"):
  """Variants: tiny, test."""
  stage, variant, sweep, value = _parsed(variant)
  if not stage:
    return _join(variant)
  if stage == "compare":
    section = SWEEPS[sweep]
    config = comparison(
      "compare",
      variant,
      sweep,
      values(sweep, variant),
      (section.method, *section.beside),
    )
  else:
    config = _POINTS[sweep](stage, variant, sweep, value)
  with config.unlocked():
    config.variant = f"{variant}-{sweep}{value}"
  return config.lock()


def values(sweep: str, variant: str) -> tuple[str, ...]:
  """The values of a sweep that are not the default's; of `:test` a few."""
  section = SWEEPS[sweep]
  return section.tested if variant == "test" else section.values


def _parsed(text: str) -> tuple[str, str, str, str]:
  """'ppo-tiny-kl0.5' -> ('ppo', 'tiny', 'kl', '0.5'); no stage: all sweeps."""
  if text in VARIANTS:
    return "", text, "", ""
  known = list(VARIANTS)
  for variant in VARIANTS:
    for sweep, section in SWEEPS.items():
      if text == f"compare-{variant}-{sweep}":
        return "compare", variant, sweep, ""
      known.append(f"compare-{variant}-{sweep}")
      for value in section.values:
        for stage in _stages(sweep, value):
          name = f"{stage}-{variant}-{sweep}{value}"
          if text == name:
            return stage, variant, sweep, value
          known.append(name)
  raise errors.unknown("variant of sweeps.py", text, known)


def _stages(sweep: str, value: str) -> tuple[str, ...]:
  """What is trained for a point: nothing where it is a step of another run."""
  if sweep == "init":
    return ("ppo_ptx",) if value == SHARED_TEXT else ("ppo_init", "ppo_ptx")
  if sweep == "episodes":
    return ("ppo_ptx",) if value == LONGEST else ()
  return () if _is_long_run(sweep, value) else (SWEEPS[sweep].method,)


def _is_long_run(sweep: str, value: str) -> bool:
  """Whether a point is a step of the run that is optimised too far."""
  coefficients = {x["rl.kl_coef"] for x in overoptimization.LONG.values()}
  return sweep == "kl" and float(value) in coefficients


def _number(stage: str, variant: str, sweep: str, value: str) -> ConfigDict:
  """A point of which one number differs."""
  config = MODULES[stage].get_config(variant)
  config.update_from_flattened_dict({SWEEPS[sweep].key: float(value)})
  return config


def _episodes(stage: str, variant: str, sweep: str, value: str) -> ConfigDict:
  """The longest run, which keeps the steps of the shorter ones."""
  del sweep
  config = MODULES[stage].get_config(variant)
  with config.unlocked():
    config.keep_every = config.steps // 2
    config.steps = int(value) * config.steps
  return config


def _init(stage: str, variant: str, sweep: str, value: str) -> ConfigDict:
  """A policy with so much text in its initialisation, or the latter."""
  del sweep
  config = MODULES[stage].get_config(variant)
  with config.unlocked():
    if stage == "ppo_ptx":
      config.needs.policy = _initialisation(variant, value)
      return config
    share, rows = float(value), config.batch.demonstrations
    config.batch.pretraining = round(rows * share / (1 - share))
    config.loss.pretraining, config.loss.demonstrations = share, 1 - share
  return config


def _initialisation(variant: str, value: str) -> str:
  if value == SHARED_TEXT:
    return f"ppo_init.py:{variant}"
  return f"sweeps.py:ppo_init-{variant}-init{value}"


_POINTS = {
  "gamma": _number,
  "kl": _number,
  "lr": _number,
  "episodes": _episodes,
  "init": _init,
}


def comparison(
  name: str,
  variant: str,
  sweep: str,
  points: Sequence[str],
  beside: Sequence[str],
) -> ConfigDict:
  """The suite on points of a sweep, on whole methods, SFT and GPT.

  `name` is the experiment's; `beside` are methods as they are by default.
  """
  needs = {
    "data": f"dataset.py:{variant}",
    "reward": f"rm.py:{variant}",
    "gpt": f"pretrain.py:{variant}",
    "sft": f"select.py:{variant}",
  }
  needs |= {method: f"{method}.py:{variant}" for method in beside}
  subjects = {one: common.subject(one) for one in ("gpt", "sft", *beside)}
  for value in points:
    need, reference, step = _point(variant, sweep, value)
    needs[need] = reference
    subject = f"{SWEEPS[sweep].method}_{sweep}{value.replace('.', '_')}"
    subjects[subject] = common.subject(need, step=step)
  changes = SUITE[variant] | {
    "needs": needs,
    "evaluation.baseline": "sft",
    "evaluation.subjects": subjects,
  }
  return common.base(name, variant, "compare", changes, {variant: {}})


def _point(variant: str, sweep: str, value: str) -> tuple[str, str, int]:
  """(need, reference, step) of a point; step 0 is the end of its run."""
  method = SWEEPS[sweep].method
  steps = MODULES[method].get_config(variant).steps
  if _is_long_run(sweep, value):
    return "long", f"overoptimization.py:ppo-{variant}", steps
  if sweep == "episodes":
    reference = f"sweeps.py:{method}-{variant}-{sweep}{LONGEST}"
    step = 0 if value == LONGEST else int(float(value) * steps)
    return "long", reference, step
  need = f"{sweep}{value.replace('.', '_')}"
  return need, f"sweeps.py:{method}-{variant}-{sweep}{value}", 0


def _join(variant: str) -> ConfigDict:
  needs: dict[str, Any] = {"data": f"dataset.py:{variant}"}
  needs |= {name: f"sweeps.py:compare-{variant}-{name}" for name in SWEEPS}
  changes = SUITE[variant] | DEFAULTS | {"needs": needs}
  return common.base("sweeps", variant, "join", changes, VARIANTS)
