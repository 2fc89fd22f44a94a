"""The initialisation for RL: GPT, 2 epochs, 10 % pretraining data mixed in.

Paper: appendix C.3. PPO's `:1.3b`, `:6b` and `:175b` start here. The small
variants of `ppo.py` and `ppo_ptx.py` start from the selected SFT model instead
(a listed departure); to change that: --config.needs.policy=ppo_init.py:tiny

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: much like
SFT, with a validation loss of text that stays nearer to GPT's.

  python -m instruct_jax.main --config=experiments/ppo_init.py
"""

from typing import Any

from experiments import common
from instruct_jax import paper


def rows(demonstrations: int) -> dict[str, Any]:
  """A tenth of what is learned from is text: of the rows, and of the loss."""
  return {
    "batch.demonstrations": demonstrations,
    "batch.pretraining": demonstrations // 8,
    "validation.demonstrations": demonstrations,
  }


FRACTION = paper.RL_INIT["6b"].pretraining_fraction
DEFAULTS = common.POLICIES | {
  "needs.data": "dataset.py",
  "needs.policy": "",
  "epoch_of": "demonstrations",
  "loss.demonstrations": 1 - FRACTION,
  "loss.pretraining": FRACTION,
  "show": ("demonstrations/loss",),
  "evaluation.baseline": "ppo_init",
  "evaluation.subjects": {"ppo_init": common.subject()},
}
SMALL = {
  "needs.policy": "pretrain.py",
  "epochs": paper.RL_INIT["6b"].epochs,
  "save_every": 40,
  "log_every": 4,
  "optimizer.policy": common.optimizer(
    "adamw", 1e-3, weight_decay=0.01, warmup_steps=10
  ),
}
VARIANTS = {
  "tiny": SMALL | rows(32),
  "test": SMALL | common.TEST_EVALUATION | rows(16) | {"save_every": 2},
  "files": SMALL | rows(16),
} | {
  size: common.fine_tuning(numbers, "policy", "demonstrations")
  | rows(numbers.batch)
  for size, numbers in paper.RL_INIT.items()
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("ppo_init", variant, "sft", DEFAULTS, VARIANTS)
