"""RM: the reward model, from all C(K, 2) pairs of each prompt's ranking.

Paper: section 3.5, equation 1; appendix C.2: one 6B reward model for every
size of policy, so `:1.3b` and `:175b` are names for `:6b`. One epoch, cosine to
10 %, 64 prompts a batch, each completion computed once; then a bias so that
demonstrations score 0.

Hardware: `:tiny` 2 CPU cores. Expected for `:tiny`: see the README's results
(accuracy on held-out prompts, by training and by held-out labelers).

  python -m instruct_jax.main --config=experiments/rm.py
"""

from experiments import common
from instruct_jax import paper

DEFAULTS = {
  "product": "reward",
  "needs.data": "dataset.py",
  "needs.policy": "",
  "epoch_of": "rankings",
  "reward_gain": False,
  "samples": 0,
  "show": ("rankings/loss", "rankings/accuracy"),
  "evaluation.suite": "reward",
  "evaluation.always": True,
  "evaluation.prompts": 300,
}
SMALL = {
  "needs.policy": "sft.py",
  "needs.rankings": "rankings.py",
  "batch.rankings": 16,
  "validation.rankings": 16,
  "epochs": paper.RM["6b"].epochs,
  "validate_every": 40,
  "save_every": 60,
  "log_every": 5,
  "optimizer.reward": common.optimizer(
    "muon",
    5e-3,
    weight_decay=0.01,
    warmup_steps=10,
    warmup_from=0.01,
  ),
}
VARIANTS = {
  "tiny": SMALL,
  "test": SMALL
  | common.TEST_EVALUATION
  | {
    "batch.rankings": 8,
    "validation.rankings": 8,
    "save_every": 2,
    "validate_every": 2,
    "log_every": 1,
  },
  "files": {k: v for k, v in SMALL.items() if k != "needs.rankings"}
  | {"batch.rankings": 8, "validation.rankings": 8, "evaluation.batch": 16},
} | {
  name: common.fine_tuning(paper.RM[size], "reward", "rankings")
  for name, size in paper.RM_SIZES.items()
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, and 6b, also called 1.3b and 175b."""
  size, at, place = variant.partition("-on-")
  variant = f"{paper.RM_SIZES.get(size, size)}{at}{place}"
  return common.training("rm", variant, "rm", DEFAULTS, VARIANTS)
