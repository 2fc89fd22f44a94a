"""DPO: direct preference optimisation on the reward model's own rankings.

Paper: none of InstructGPT's; Rafailov et al. 2023 (equation 7, appendix B:
β = 0.1, 64 prompts a batch, learning rate 1e-6 after 150 steps of warm-up, here
with Adam). No reward model is trained on or sampled from: one is needed only
where the SFT epoch is selected by it, and to be shown beside the others. As for
PPO, the policy starts from the selected SFT model, which is its reference and
the baseline of all comparisons; in the paper's sizes from the last SFT epoch.

Conservative DPO: --config.dpo.label_smoothing=0.1. IPO (Azar et al. 2023):
--config.dpo.loss=ipo, and as TRL has it --config.dpo.per_token=True. With text
mixed in: --config.dpo.ptx_coef=1 --config.batch.pretraining=16.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
prefer it over SFT; the README's results say by how much, and at which KL.

  python -m instruct_jax.main --config=experiments/dpo.py
"""

from experiments import common

DEFAULTS = common.POLICIES | {
  "needs": {
    "data": "dataset.py",
    "policy": "sft.py",
    "reward": "rm.py",
    "sft": "sft.py",
    "gpt": "",
  },
  "dpo": {
    "beta": 0.1,
    "label_smoothing": 0.0,
    "loss": "sigmoid",
    "per_token": False,
    "ptx_coef": 0.0,
  },
  "epoch_of": "rankings",
  "batch.rankings": 64,
  "validation.rankings": 64,
  "batch.pretraining": 0,
  "validation.pretraining": 0,
  "epochs": 1,
  "validate_every": 100,
  "samples_every": 100,
  "optimizer.policy": common.optimizer(
    "adam", 1e-6, schedule="constant", warmup_steps=150, warmup_from=0.0
  ),
  "show": ("rankings/loss", "rewards/accuracy", "rewards/margin"),
  "evaluation.baseline": "sft",
  "evaluation.subjects": {
    "sft": common.subject("sft"),
    "dpo": common.subject(),
  }
  | common.GPT,
}
FROM_SELECTED = {
  "needs.policy": "select.py",
  "needs.sft": "select.py",
  "needs.gpt": "pretrain.py",
}
SMALL = FROM_SELECTED | {
  "dpo.beta": 0.3,  # by labelers' preference on validation prompts, seed 0
  "batch.rankings": 16,
  "validation.rankings": 16,
  "validate_every": 40,
  "samples_every": 80,
  "save_every": 60,
  "log_every": 5,
  "optimizer.policy": common.optimizer("adam", 2e-4, warmup_steps=10),
}
VARIANTS = {
  "tiny": SMALL | {"needs.rankings": "rankings.py"},
  "test": SMALL
  | common.TEST_EVALUATION
  | {
    "needs.rankings": "rankings.py",
    "batch.rankings": 8,
    "validation.rankings": 8,
    "validate_every": 2,
    "samples_every": 4,
    "save_every": 2,
    "log_every": 1,
  },
  "files": SMALL
  | common.FILES_EVALUATION
  | {"batch.rankings": 8, "validation.rankings": 8},
} | {size: {} for size in common.PAPER}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("dpo", variant, "dpo", DEFAULTS, VARIANTS)
