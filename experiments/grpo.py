"""GRPO: returns standardised within the group of a prompt's responses.

Paper: Shao et al. 2024 (arXiv:2402.03300), section 4.1: the advantage of every
token is (r - mean) / std of its group, each token has its own clipped ratio, a
response counts by the mean over its tokens, and the KL (its k3 estimate) stands
in the loss. That is the default here, being what the name means; Dr. GRPO
(--config.rl.baseline=centred --config.rl.aggregation=length) and DAPO's mean
over all tokens (--config.rl.aggregation=token) are settings. β is the paper's
0.04, in the small variants what gave PPO's KL on validation prompts. All else
is PPO's; text is mixed in as into `rloo.py`.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: as PPO's, in
less time and memory.

  python -m instruct_jax.main --config=experiments/grpo.py
"""

from experiments import common, rloo
from instruct_jax import paper

GROUP = 8


def _prompts(episodes):
  return rloo.prompts(episodes, GROUP)


DEFAULTS = (
  rloo.DEFAULTS
  | {
    "rl": rloo.DEFAULTS["rl"]
    | {
      "group_size": GROUP,
      "baseline": "standardised",
      "aggregation": "response",
      "kl_in": "loss",
      "kl_coef": 0.04,
    },
    "evaluation.subjects": {
      "sft": common.subject("sft"),
      "grpo": common.subject(),
    }
    | common.GPT,
  }
  | _prompts(paper.PPO.batch_episodes)
)
# A mean over tokens, against standardised returns: that of RLOO's 0.1.
SMALL = {"rl.kl_coef": 0.3}
VARIANTS = rloo.VARIANTS | {
  "tiny": rloo.VARIANTS["tiny"] | SMALL,
  "test": rloo.VARIANTS["test"] | SMALL | _prompts(32),
  "files": rloo.VARIANTS["files"] | SMALL | _prompts(64),
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("grpo", variant, "groups", DEFAULTS, VARIANTS)
