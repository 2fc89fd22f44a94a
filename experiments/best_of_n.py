"""Best-of-n: fine-tune on what the reward model likes best of n samples.

Paper: InstructGPT has no such run; it is what its predecessors compare with
(Stiennon et al. 2020; WebGPT, Nakano et al. 2021). The SFT model answers every
prompt n times, the reward's best is kept, and the policy learns it as a
demonstration, so that it tends to the best of n, whose KL from SFT is at most
log n - (n - 1) / n.
As many episodes as PPO (`ppo.py`), of which one in n is learned from. Where the
newest policy answers instead, it is `expert_iteration.py`. The evaluation has
SFT's best of n at inference, too. Text is mixed in as into `rloo.py`.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
prefer it over SFT, less often than PPO.

  python -m instruct_jax.main --config=experiments/best_of_n.py
"""

from experiments import common, rloo
from instruct_jax import paper

_SHARED = (  # with PPO
  "ptx_coef",
  "minibatches",
  "inner_epochs",
  "temperature",
  "missing_end",
  "missing_end_value",
)
N = 8


def _prompts(episodes):
  return rloo.prompts(episodes, N)


DEFAULTS = (
  rloo.DEFAULTS
  | {
    "rl": {key: rloo.DEFAULTS["rl"][key] for key in _SHARED}
    | {"group_size": N, "sampler": "start"},
    "show": ("objective/return", "best/return", "objective/kl_reverse"),
    "evaluation.subjects": {
      "sft": common.subject("sft"),
      "sft_best_of_n": common.subject("sft", best_of=N),
      "best_of_n": common.subject(),
    }
    | common.GPT,
  }
  | _prompts(paper.PPO.batch_episodes)
)
# Prompts, not episodes, are what an iteration's updates divide.
_RLOO = {
  name: {key: x for key, x in changes.items() if key != "rl.kl_coef"}
  for name, changes in rloo.VARIANTS.items()
}
VARIANTS = _RLOO | {
  "test": _RLOO["test"] | _prompts(32),
  "files": _RLOO["files"] | _prompts(64),
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("best_of_n", variant, "best_of_n", DEFAULTS, VARIANTS)
