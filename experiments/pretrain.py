"""GPT: pretraining on the corpus, the model that everything starts from.

The paper starts from GPT-3 and does not train it; so there is no `:1.3b` here.
Pretraining is SFT whose loss counts every token.

Hardware: 2 CPU cores. Expected for `:tiny`: see the README's results.

  python -m instruct_jax.main --config=experiments/pretrain.py
"""

from experiments import common


def get_config(variant="tiny"):
  """Variants: tiny, test, files."""
  common.known(variant, common.SMALL, "pretrain")
  config = common.training("pretrain", variant, "sft")
  config.epoch_of = "pretraining"
  config.show = ("pretraining/loss",)
  config.needs.data = f"dataset.py:{variant}"
  config.loss.pretraining = 1.0
  config.batch.pretraining = 32
  config.validation.pretraining = 32
  config.epochs = 1
  config.save_every = 200
  config.validate_every = 200
  config.samples_every = 200
  config.optimizer.policy = common.optimizer(
    "muon",
    1.5e-2,
    b2=0.98,
    weight_decay=0.01,
    warmup_steps=100,
    warmup_from=0.01,
    final_fraction=0.05,
  )
  config.evaluation.suite = "policies"
  config.evaluation.prompts = 1024
  config.evaluation.baseline = "gpt"
  config.evaluation.subjects = {
    "gpt": common.subject(),
    "prompted_gpt": common.subject(prompted=True),
  }
  if variant == "files":
    config.batch.pretraining = config.validation.pretraining = 16
    config.optimizer.policy.learning_rate = 1e-2
    config.evaluation.prompts = 64
    config.evaluation.batch = 32
  if variant == "test":
    config.batch.pretraining = 16
    config.validation.pretraining = 16
    config.epochs, config.steps = 0, 12
    config.save_every = config.validate_every = config.samples_every = 5
    config.log_every = 2
    config.optimizer.policy.warmup_steps = 2
    config.evaluation.prompts = config.evaluation.batch = 16
    config.evaluation.task_prompts = 16
  return config.lock()
