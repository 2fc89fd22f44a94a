"""RLOO: the mean of a prompt's other responses in place of a value network.

Paper: Ahmadian et al. 2024 (arXiv:2402.14740), after Kool et al. 2019: a whole
response is one action with one return, the score less β times its KL, and its
baseline is the mean return of the others; no GAE, no value network. All else is
PPO's (`ppo.py`): as many episodes, minibatches, the clip (of the whole
response's ratio), EMA. The paper samples 2 or 4 responses a prompt.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: as PPO's, in
less time and memory.

With pretraining gradients mixed in, as PPO-ptx: --config.rl.ptx_coef=1
--config.batch.pretraining=16 (and validation.pretraining, to see them there).

  python -m instruct_jax.main --config=experiments/rloo.py
"""

from experiments import common, ppo
from instruct_jax import paper

_SHARED = (  # with PPO: what no value network needs
  "kl_coef",
  "ptx_coef",
  "clip",
  "minibatches",
  "inner_epochs",
  "temperature",
  "missing_end",
  "missing_end_value",
  "kl_target",
  "kl_horizon",
)
GROUP = 4


def prompts(episodes, group=GROUP):
  """The rows of prompts that make as many episodes."""
  return {
    "batch.prompts": episodes // group,
    "validation.prompts": episodes // group,
  }


DEFAULTS = (
  ppo.DEFAULTS
  | {
    "rl": {key: ppo.DEFAULTS["rl"][key] for key in _SHARED}
    | {
      "group_size": GROUP,
      "baseline": "leave_one_out",
      "aggregation": "sequence",
      "kl_in": "reward",
      "whiten_advantages": False,
    },
    "evaluation.subjects": {
      "sft": common.subject("sft"),
      "rloo": common.subject(),
    }
    | common.GPT,
  }
  | prompts(paper.PPO.batch_episodes)
)


def without_value(variants):
  """PPO's variants, less what is a value network's or a batch's."""
  drop = ("optimizer.value", "batch.prompts", "validation.prompts")
  return {
    name: {key: x for key, x in changes.items() if key not in drop}
    for name, changes in variants.items()
  }


_PPO = without_value(ppo.VARIANTS)
VARIANTS = _PPO | {
  "test": _PPO["test"] | prompts(32),
  "files": _PPO["files"] | prompts(64),
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("rloo", variant, "groups", DEFAULTS, VARIANTS)
