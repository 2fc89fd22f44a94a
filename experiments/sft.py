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


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  common.known(variant, common.SMALL + common.PAPER, "sft")
  config = common.training("sft", variant, "sft")
  config.epoch_of = "demonstrations"
  config.show = ("demonstrations/loss",)
  config.needs.data = f"dataset.py:{variant}"
  config.needs.policy = (
    "" if variant in common.PAPER else (f"pretrain.py:{variant}")
  )
  config.loss.demonstrations = 1.0
  config.keep_epochs = True
  config.evaluation.suite = "policies"
  config.evaluation.prompts = 1024
  config.evaluation.baseline = "sft"
  if variant in common.PAPER:
    return _paper(config, variant).lock()
  config.needs.gpt = f"pretrain.py:{variant}"
  config.evaluation.subjects = {
    "gpt": common.subject("gpt"),
    "prompted_gpt": common.subject("gpt", prompted=True),
    "sft": common.subject(),
  }
  config.model.dropout = 0.0
  config.batch.demonstrations = 32
  config.validation.demonstrations = 32
  config.epochs = 5
  config.validate_every = config.samples_every = 8
  config.save_every = 40
  config.log_every = 4
  config.optimizer.policy = common.optimizer(
    "adamw", 1e-3, weight_decay=0.01, warmup_steps=10
  )
  if variant == "files":
    config.batch.demonstrations = config.validation.demonstrations = 16
    config.evaluation.prompts = 64
    config.evaluation.batch = 32
  if variant == "test":
    config.batch.demonstrations = 16
    config.validation.demonstrations = 16
    config.epochs = 2
    config.save_every = 2
    config.log_every = 2
    config.model.dropout = 0.1
    config.evaluation.prompts = config.evaluation.batch = 16
    config.evaluation.task_prompts = 16
  return config.lock()


def _paper(config, variant):
  numbers = paper.SFT[variant]
  config.model.dropout = numbers.dropout
  config.batch.demonstrations = numbers.batch
  config.validation.demonstrations = numbers.batch
  config.epochs = numbers.epochs
  config.optimizer.policy = common.optimizer(
    "adam",
    numbers.learning_rate,
    schedule=numbers.schedule,
    warmup_steps=numbers.warmup_steps,
    final_fraction=numbers.final_fraction,
  )
  config.evaluation.subjects = {"sft": common.subject()}
  return config
