"""PPO: reinforcement learning against the reward model, without ptx (γ = 0).

With text mixed in it is `ppo_ptx.py`; of other numbers, and for the algorithms
that share its keys: --config.rl.ptx_coef=1 --config.batch.pretraining=16.

Paper: sections 3.5 and 4, appendix C.4: 512 episodes an iteration in 8
minibatches, one inner epoch, β = 0.02, clip 0.2, EMA 0.992, warm-up over 10
iterations; the value network starts from the reward model.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
prefer it over SFT, and it pays an alignment tax on the tasks.

  python -m instruct_jax.main --config=experiments/ppo.py
"""

import dataclasses

from experiments import common
from instruct_jax import paper

_RL = (  # the keys of `config.rl` that the paper's table has
  "kl_coef",
  "ptx_coef",
  "clip",
  "value_clip",
  "discount",
  "gae_lambda",
  "minibatches",
  "inner_epochs",
  "temperature",
  "missing_end",
  "missing_end_value",
  "whiten_rewards",
)
_NUMBERS = dataclasses.asdict(paper.PPO)
OPTIMIZER = {
  "schedule": paper.PPO.schedule,
  "warmup_steps": paper.PPO.warmup_steps,
  "warmup_from": paper.PPO.warmup_from,
  "eps": paper.RL_ADAM_EPS,
}
DEFAULTS = common.POLICIES | {
  "needs": {
    "data": "dataset.py",
    "policy": "ppo_init.py",
    "reward": "rm.py",
    "sft": "select.py",
    "gpt": "",
  },
  "rl": {key: _NUMBERS[key] for key in _RL}
  | {"value_coef": 1.0, "kl_target": 0.0, "kl_horizon": 10_000.0},
  "batch.prompts": paper.PPO.batch_episodes,
  # As many as in a batch: the same programs, so nothing more is compiled.
  "validation.prompts": paper.PPO.batch_episodes,
  "batch.pretraining": 0,  # With rl.ptx_coef above 0: rows of text.
  "validation.pretraining": 0,
  "validate_batches": 1,
  "validate_every": 20,
  "epoch_of": "prompts",
  "steps": paper.PPO.iterations,
  "ema.policy": paper.PPO.ema_decay,
  "save_every": 20,
  "samples_every": 20,
  "log_every": 1,
  "show": ("objective/score", "objective/kl", "response/length"),
  "evaluation.baseline": "sft",
  "evaluation.subjects": {
    "sft": common.subject("sft"),
    "ppo": common.subject(),
  }
  | common.GPT,
}
FROM_SFT = {"needs.policy": "select.py", "needs.gpt": "pretrain.py"}
SMALL = {
  "rl.kl_coef": 0.1,
  "steps": 14,
  "ema.policy": 0.97,
  "optimizer.policy": common.optimizer("adam", 5e-4, **OPTIMIZER),
  "optimizer.value": common.optimizer("adam", 1e-3, **OPTIMIZER),
  "save_every": 5,
  "samples_every": 7,
  "validate_every": 7,
}
FILES = (
  SMALL
  | common.FILES_EVALUATION
  | {
    "rl.minibatches": 4,
    "batch.prompts": 64,
    "validation.prompts": 64,
    "steps": 16,
  }
)
VARIANTS = {
  "tiny": FROM_SFT | SMALL,
  "test": FROM_SFT
  | SMALL
  | common.TEST_EVALUATION
  | {
    "rl.minibatches": 4,
    "batch.prompts": 32,
    "validation.prompts": 32,
    "steps": 4,
    "save_every": 2,
  },
  "files": FROM_SFT | FILES,
} | {
  size: {
    "optimizer.policy": common.optimizer(
      "adam", paper.POLICY_LEARNING_RATE[size], **OPTIMIZER
    ),
    "optimizer.value": common.optimizer(
      "adam", paper.VALUE_LEARNING_RATE[size], **OPTIMIZER
    ),
  }
  for size in common.PAPER
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("ppo", variant, "ppo", DEFAULTS, VARIANTS)
