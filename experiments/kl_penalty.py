"""Whether more KL penalty does what pretraining gradients do.

Paper: section 4.2 and appendix E (figures 33, 34): PPO falls on public tasks;
PPO-ptx gives it back, a larger KL coefficient β does not, or not without what
was gained in preference. PPO at larger β than its own, PPO and PPO-ptx are held
against SFT and go through the tasks. The points are those of `sweeps.py`, which
also has β below the default's and is not needed for this.

Hardware: `:tiny` 2 CPU cores, about four minutes after `ppo.py` and
`ppo_ptx.py`. Expected for `:tiny`: with β the tasks come back and the wins go.

  python -m instruct_jax.main --config=experiments/kl_penalty.py
"""

from experiments import ppo, sweeps
from instruct_jax.base import errors

VARIANTS = {"tiny": {}, "test": {}}


def get_config(variant="tiny"):
  """Variants: tiny, test."""
  if variant not in VARIANTS:
    raise errors.unknown("variant of kl_penalty.py", variant, VARIANTS)
  default = ppo.get_config(variant).rl.kl_coef
  values = [x for x in sweeps.values("kl", variant) if float(x) > default]
  return sweeps.comparison(
    "kl_penalty", variant, "kl", values, ("ppo", "ppo_ptx")
  )
