"""PPO-ptx, the paper's InstructGPT: PPO with pretraining gradients mixed in.

Paper: equation 2 with γ = 27.8 and 8 pretraining examples an episode; in each
minibatch both gradients are accumulated into one update (appendix C.4).

Hardware: `:tiny` 2 CPU cores, the whole chain from nothing in about six
minutes; `:175b` a pod. Expected for `:tiny`: labelers prefer it over SFT, and
SFT over prompted GPT over GPT; the README's results say by how much.

  python -m instruct_jax.main --config=experiments/ppo_ptx.py
"""

from experiments import common, ppo
from instruct_jax import paper

DEFAULTS = ppo.DEFAULTS | {
  "needs": ppo.DEFAULTS["needs"] | common.TUNED_NEEDS,
  "mixtures": common.MIXED,
  "rl.ptx_coef": paper.PPO_PTX.ptx_coef,
  "batch.pretraining": paper.PPO_PTX.batch_pretraining,
  "validation.pretraining": paper.PPO_PTX.batch_pretraining,
  "evaluation.subjects": {
    "sft": common.subject("sft"),
    "ppo_ptx": common.subject(),
  }
  | common.TUNED
  | common.GPT,
}
SMALL = {"rl.ptx_coef": 1.0}
# Both take 53 CPU-seconds more; experiments/instruction_tuning.py says how.
UNTUNED = {"evaluation.left_out": common.MIXTURES}


def _text(rows):
  return {"batch.pretraining": rows, "validation.pretraining": rows}


VARIANTS = ppo.VARIANTS | {
  "tiny": ppo.VARIANTS["tiny"] | SMALL | UNTUNED | _text(192),
  "test": ppo.VARIANTS["test"] | SMALL | UNTUNED | _text(16),
  "files": ppo.VARIANTS["files"] | SMALL | _text(16),
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("ppo_ptx", variant, "ppo", DEFAULTS, VARIANTS)
