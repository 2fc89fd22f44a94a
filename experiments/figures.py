"""Everything that the paper's figures are drawn from, by one command.

Three sizes of the model through all methods of the paper (`sizes.py`), sweeps
of γ, β, learning rate, episodes and initialisation (`sweeps.py`), SFT by epoch
(`sft_epochs.py`), over-optimisation (`overoptimization.py`), five reward models
over groups of labelers (`rm_folds.py`), and what successors of the paper make
of the same rankings and prompts (DPO, RLOO). Its results.json has all tables;
the one `models` says of every subject what it was trained with.

  figures-tiny               all of it
  figures-small              one size: figures 1, 3, 4, 6, 7
  compare-tiny-alternatives  DPO and RLOO beside PPO, PPO-ptx and SFT

Hardware: 2 CPU cores. `:tiny` took 42:29 in two terminals, a core each, from
nothing and beside other work (its 71 stages add up to 64 minutes of one core);
`:small` took 8:37 in one terminal, from nothing, most of which are the default
command's stages. Several terminals share the work.
Expected: what the README's table of claims says.

  python -m instruct_jax.main --config=experiments/figures.py
  python -m instruct_jax.main --config=experiments/figures.py:small
"""

from ml_collections import ConfigDict

from experiments import common, sizes
from instruct_jax.base import errors

PARTS = {
  "sizes": "sizes.py:{variant}",
  "sweeps": "sweeps.py:{variant}",
  "alternatives": "figures.py:compare-{variant}-alternatives",
  "epochs": "sft_epochs.py:{variant}",
  "overoptimization": "overoptimization.py:{variant}",
  "folds": "rm_folds.py:{variant}",
  "agreement": "rankings.py:{variant}",
}
ONE_SIZE = {
  "one": "sizes.py:compare-{variant}-one",
  "agreement": PARTS["agreement"],
}
ALTERNATIVES = {
  "sft": "select.py:{variant}",
  "ppo": "ppo.py:{variant}",
  "ppo_ptx": "ppo_ptx.py:{variant}",
  "dpo": "dpo.py:{variant}",
  "rloo": "rloo.py:{variant}",
}
DEFAULTS = {"join": {"against": ()}, "evaluation.baseline": "sft"}
VARIANTS = {"tiny": {}, "small": {}, "test": {}}
_ALTERNATIVES = {
  f"compare-{name}-alternatives": name for name in ("tiny", "test")
}


def get_config(variant="tiny"):
  """Variants: tiny, small, test."""
  if variant in _ALTERNATIVES:
    return _alternatives(_ALTERNATIVES[variant])
  if variant not in VARIANTS:
    known = [*VARIANTS, *_ALTERNATIVES]
    raise errors.unknown("variant of figures.py", variant, known)
  if variant == "small":
    return _join(variant, "tiny", ONE_SIZE, ("one",))
  return _join(variant, variant, PARTS, ())


def _join(
  name: str, variant: str, parts: dict[str, str], against: tuple[str, ...]
) -> ConfigDict:
  """Joins parts of a variant under a name of its own."""
  needs = {"data": "dataset.py"} | parts
  changes = sizes.COMPARED[variant] | DEFAULTS | {"needs": needs}
  changes["join"] = {"against": against}
  config = common.base("figures", variant, "join", changes, VARIANTS)
  with config.unlocked():
    config.variant = name
  return config


def _alternatives(variant: str) -> ConfigDict:
  """What was trained without a reward model or a value network, beside PPO."""
  changes = sizes.COMPARED[variant] | {
    "needs": {"data": "dataset.py", "reward": "rm.py"} | ALTERNATIVES,
    "evaluation.baseline": "sft",
    "evaluation.subjects": {
      name: common.subject(name) for name in ALTERNATIVES
    },
  }
  config = common.base("compare", variant, "compare", changes, VARIANTS)
  with config.unlocked():
    config.variant = f"{variant}-alternatives"
  return config
