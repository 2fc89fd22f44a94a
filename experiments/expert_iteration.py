"""Expert iteration: learn what the reward model likes best of one's own n.

Paper: none of InstructGPT's; Anthony et al. 2017, RAFT (Dong et al. 2023). As
`best_of_n.py`, but the newest policy answers, so each iteration starts where
the last one ended. Nothing holds it to its start: no KL term, no bound.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
like it about as SFT: the reward rises faster than what it stands for.

  python -m instruct_jax.main --config=experiments/expert_iteration.py
"""

from experiments import best_of_n, common, ppo

DEFAULTS = best_of_n.DEFAULTS | {
  "rl": best_of_n.DEFAULTS["rl"] | {"sampler": "policy"},
  "show": ("objective/return", "best/return", "objective/kl"),
  "evaluation.subjects": {
    "sft": common.subject("sft"),
    "expert_iteration": common.subject(),
  }
  | common.GPT,
}
# At 2.5e-4 and above it leaves SFT by 6 nats and more, and labelers no longer
# prefer it.
SMALL = {"optimizer.policy": common.optimizer("adam", 1e-4, **ppo.OPTIMIZER)}
VARIANTS = best_of_n.VARIANTS | {
  name: best_of_n.VARIANTS[name] | SMALL for name in common.SMALL
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training(
    "expert_iteration", variant, "best_of_n", DEFAULTS, VARIANTS
  )
