"""Best-of-n: fine-tune on what the reward model likes best of n samples.

Paper: InstructGPT has no such run; it is what its predecessors compare with
(Stiennon et al. 2020; WebGPT, Nakano et al. 2021). Each iteration the policy
answers every prompt n times, the reward's best is kept, and the policy learns
it as a demonstration: expert iteration, or RAFT (Dong et al. 2023). With
--config.rl.sampler=start the policy that it began with answers throughout:
best-of-n, distilled. As many episodes as PPO (`ppo.py`), of which one in n is
learned from.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
like it about as SFT: the reward rises faster than what it stands for.

  python -m instruct_jax.main --config=experiments/best_of_n.py
"""

from experiments import common, ppo, rloo
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
    | {"group_size": N, "sampler": "policy"},
    "show": ("objective/score", "best/score", "objective/kl"),
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
# No KL term holds it: at 2.5e-4 and above it leaves SFT by 6 nats and more, and
# labelers no longer prefer it.
SMALL = {"optimizer.policy": common.optimizer("adam", 1e-4, **ppo.OPTIMIZER)}
VARIANTS = _RLOO | {
  "tiny": _RLOO["tiny"] | SMALL,
  "test": _RLOO["test"] | SMALL | _prompts(32),
  "files": _RLOO["files"] | SMALL | _prompts(64),
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("best_of_n", variant, "best_of_n", DEFAULTS, VARIANTS)
