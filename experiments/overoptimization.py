"""Over-optimisation: a long PPO run with little KL penalty, and best-of-n.

Paper: Gao et al. 2022 (arXiv:2210.10760), figure 1; the effect is what the KL
penalty of InstructGPT is there for (section 3.5). Their gold reward model is
the microworld's exact judge, beside it the simulated labelers; the proxy is the
reward model. Every `keep_every` steps of the run, and best-of-n of its start
for n = 1, 2, 4, ... 64 of one pool of samples: KL from the start, proxy, gold;
the table `overoptimization` of results.json.

  ppo-tiny-long            `ppo.py`, longer, with a smaller β, its steps kept
  overoptimization-tiny    what is measured of them

Hardware: `:tiny` 2 CPU cores, two minutes after `rm.py` and `select.py`.
Expected for `:tiny`: the reward model's score rises throughout, the judge's
with it and then down (one seed, validation prompts, a thousand rankings more):
-0.3 to 0.9 and 0.55 to 0.66 at 1 to 2 nats, to 0.30 at 12; best-of-n bends
after n = 8.

  python -m instruct_jax.main --config=experiments/overoptimization.py
"""

from ml_collections import ConfigDict

from experiments import common, ppo

DEFAULTS = {
  "needs.data": "dataset.py",
  "needs.policy": "overoptimization.py:ppo-{variant}",
  "needs.start": "select.py",
  "needs.reward": "rm.py",
  "overoptimization": {
    "prompts": 256,
    "responses": 64,
    "split": "test",
    "batch": 128,
  },
}
VARIANTS = {
  "tiny": {},
  "test": {
    "overoptimization.prompts": 8,
    "overoptimization.responses": 4,
    "overoptimization.batch": 16,
  },
}
LONG = {
  "tiny": {"rl.kl_coef": 0.01, "steps": 30, "keep_every": 2},
  "test": {"rl.kl_coef": 0.01, "steps": 6, "keep_every": 2},
}
_PPO = "ppo-"


def get_config(variant="tiny"):
  """Variants: tiny, test; ppo-tiny, ppo-test of the run that is measured."""
  if variant.startswith(_PPO) and variant.removeprefix(_PPO) in VARIANTS:
    return _long(variant.removeprefix(_PPO))
  return common.base(
    "overoptimization", variant, "overoptimization", DEFAULTS, VARIANTS
  )


def _long(variant: str) -> ConfigDict:
  config = ppo.get_config(variant)
  with config.unlocked():
    config.variant = f"{variant}-long"
    config.update_from_flattened_dict(LONG[variant])
  return config
