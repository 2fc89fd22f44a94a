"""SFT: supervised fine-tuning on demonstrations, every epoch kept.

Paper: section 3.5 and appendix C.1: 16 epochs, residual dropout 0.2, cosine to
10 %; the final model is the epoch that the reward model likes best on
validation prompts, which is what `select.py` picks.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: validation
loss is best after an early epoch while the reward goes on rising.

  python -m instruct_jax.main --config=experiments/sft.py
"""

from experiments import common
from instruct_jax import paper

DEFAULTS = common.POLICIES | {
  "needs.data": "dataset.py",
  "needs.policy": "",
  "needs.gpt": "",
  "epoch_of": "demonstrations",
  "loss.demonstrations": 1.0,
  "keep_epochs": True,
  "show": ("demonstrations/loss",),
  "evaluation.baseline": "sft",
  "evaluation.subjects": common.GPT | {"sft": common.subject()},
}
SMALL = {
  "needs.policy": "pretrain.py",
  "needs.gpt": "pretrain.py",
  "batch.demonstrations": 16,
  "validation.demonstrations": 32,
  "epochs": 5,
  "validate_every": 16,
  "samples_every": 16,
  "save_every": 80,
  "log_every": 4,
  "optimizer.policy": common.optimizer(
    "adamw", 1e-3, weight_decay=0.01, warmup_steps=5
  ),
}
VARIANTS = {
  "tiny": SMALL,
  "test": SMALL
  | common.TEST_EVALUATION
  | {
    "model.dropout": 0.1,
    "batch.demonstrations": 16,
    "validation.demonstrations": 16,
    "epochs": 2,
    "save_every": 2,
    "log_every": 2,
  },
  "files": SMALL
  | common.FILES_EVALUATION
  | {"batch.demonstrations": 16, "validation.demonstrations": 16},
} | {
  size: common.fine_tuning(numbers, "policy", "demonstrations")
  | {"model.dropout": numbers.dropout}
  for size, numbers in paper.SFT.items()
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.training("sft", variant, "sft", DEFAULTS, VARIANTS)
