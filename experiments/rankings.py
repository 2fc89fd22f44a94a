"""Rankings: K = 4..9 responses a prompt, ranked by simulated labelers.

Paper: section 3.5 (K-wise comparisons), 3.4 (labelers). Responses come from
SFT at two temperatures and from prompted GPT, as the paper's labelers saw the
outputs of several models. Training labelers rank the training prompts; both
groups rank the validation and test prompts.

Hardware: 2 CPU cores. With your own files the rankings are yours: no such step.

  python -m instruct_jax.main --config=experiments/rankings.py
"""

from experiments import common
from instruct_jax import paper

DEFAULTS = {
  "needs.data": "dataset.py",
  "needs.sft": "sft.py",
  "needs.gpt": "pretrain.py",
  "rankings": {
    "k_min": paper.K_MIN,
    "k_max": paper.K_MAX,
    # A thousand more cost 5 CPU seconds here and 7 in training the reward
    # model, of which there are few left in the default run's six minutes.
    "train": 5000,
    "validation": 200,
    "test": 300,
    "chunk": 250,
    "batch": 128,
    "sources": {
      "sft": {
        "policy": "sft",
        "temperature": 1.0,
        "prompted": False,
        "share": 0.64,
      },
      "sft_hot": {
        "policy": "sft",
        "temperature": 1.4,
        "prompted": False,
        "share": 0.11,
      },
      "prompted_gpt": {
        "policy": "gpt",
        "temperature": 1.0,
        "prompted": True,
        "share": 0.25,
      },
    },
  },
}
VARIANTS = {
  "tiny": {},
  "test": {
    "rankings.train": 48,
    "rankings.validation": 16,
    "rankings.test": 16,
    "rankings.chunk": 16,
    "rankings.batch": 64,
  },
}


def get_config(variant="tiny"):
  """Variants: tiny, test."""
  return common.base("rankings", variant, "rankings", DEFAULTS, VARIANTS)
