"""Picks the SFT epoch that the reward model likes best on validation prompts.

Paper: section 3.5 and appendix C.1: validation loss overfits after one epoch,
yet reward and human preference go on improving. What it picks is the SFT
baseline of every evaluation and PPO's start; nothing upstream is rebuilt.

  python -m instruct_jax.main --config=experiments/select.py
"""

from experiments import common

DEFAULTS = {
  "needs.data": "dataset.py",
  "needs.policy": "sft.py",
  "needs.reward": "rm.py",
  "selection": {"prompts": 256, "temperature": 1.0, "batch": 128},
}
VARIANTS = {
  "tiny": {},
  "test": {"selection.prompts": 16, "selection.batch": 16},
  "files": {"selection.prompts": 64, "selection.batch": 32},
} | {size: {} for size in common.PAPER}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.base("select", variant, "select", DEFAULTS, VARIANTS)
