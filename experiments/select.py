"""Picks the SFT epoch that the reward model likes best on validation prompts.

Paper: section 3.5 and appendix C.1: validation loss overfits after one epoch,
yet reward and human preference go on improving. What it picks is the SFT
baseline of every evaluation and PPO's start; nothing upstream is rebuilt.

  python -m instruct_jax.main --config=experiments/select.py
"""

from experiments import common


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  common.known(variant, common.SMALL + common.PAPER, "select")
  config = common.base("select", variant, "select")
  config.needs.data = f"dataset.py:{variant}"
  config.needs.policy = f"sft.py:{variant}"
  config.needs.reward = f"rm.py:{variant}"
  config.selection = {"prompts": 256, "temperature": 1.0, "batch": 128}
  if variant == "files":
    config.selection.prompts, config.selection.batch = 64, 32
  if variant == "test":
    config.selection.prompts = config.selection.batch = 16
  return config.lock()
