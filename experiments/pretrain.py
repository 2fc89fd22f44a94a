"""GPT: pretraining on the corpus, the model that everything starts from.

The paper starts from GPT-3 and does not train it; so there is no `:1.3b` here.
Pretraining is SFT whose loss counts every token.

Hardware: 2 CPU cores. Expected for `:tiny`: see the README's results.

  python -m instruct_jax.main --config=experiments/pretrain.py
"""

from experiments import common

DEFAULTS = common.POLICIES | {
  "needs.data": "dataset.py",
  "epoch_of": "pretraining",
  "loss.pretraining": 1.0,
  "batch.pretraining": 32,
  "validation.pretraining": 32,
  "epochs": 1,
  "save_every": 200,
  "validate_every": 200,
  "samples_every": 200,
  "show": ("pretraining/loss",),
  "optimizer.policy": common.optimizer(
    "muon",
    1.5e-2,
    b2=0.98,
    weight_decay=0.01,
    warmup_steps=100,
    warmup_from=0.01,
    final_fraction=0.05,
  ),
  "evaluation.baseline": "gpt",
  "evaluation.subjects": {
    "gpt": common.subject(),
    "prompted_gpt": common.subject(prompted=True),
  },
}
VARIANTS = {
  "tiny": {},
  "test": common.TEST_EVALUATION
  | {
    "batch.pretraining": 16,
    "validation.pretraining": 16,
    "epochs": 0,
    "steps": 12,
    "save_every": 5,
    "validate_every": 5,
    "samples_every": 5,
    "log_every": 2,
    "optimizer.policy.warmup_steps": 2,
  },
  "files": common.FILES_EVALUATION
  | {
    "batch.pretraining": 16,
    "validation.pretraining": 16,
    "optimizer.policy.learning_rate": 1e-2,
  },
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files."""
  return common.training("pretrain", variant, "sft", DEFAULTS, VARIANTS)
