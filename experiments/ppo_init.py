"""The initialisation for RL: GPT, 2 epochs, 10 % pretraining data mixed in.

Paper: appendix C.3. PPO's `:1.3b`, `:6b` and `:175b` start here. The small
variants of `ppo.py` and `ppo_ptx.py` start from the selected SFT model instead
(a listed departure); to change that: --config.needs.policy=ppo_init.py:tiny

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: much like
SFT, with a validation loss of text that stays nearer to GPT's.

  python -m instruct_jax.main --config=experiments/ppo_init.py
"""

from experiments import common
from instruct_jax import paper
from instruct_jax.maths import arrays


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  common.known(variant, common.SMALL + common.PAPER, "ppo_init")
  config = common.training("ppo_init", variant, "sft")
  config.epoch_of = "demonstrations"
  config.show = ("demonstrations/loss",)
  config.needs.data = f"dataset.py:{variant}"
  config.needs.policy = (
    "" if variant in common.PAPER else (f"pretrain.py:{variant}")
  )
  fraction = 0.1
  if variant in common.PAPER:
    numbers = paper.RL_INIT[variant]
    fraction = numbers.pretraining_fraction
    config.batch.demonstrations = numbers.batch
    config.epochs = numbers.epochs
    config.optimizer.policy = common.optimizer(
      "adam",
      numbers.learning_rate,
      schedule=numbers.schedule,
      warmup_steps=numbers.warmup_steps,
      final_fraction=numbers.final_fraction,
    )
  else:
    config.batch.demonstrations = 32 if variant == "tiny" else 16
    config.epochs = 2
    config.save_every = 2 if variant == "test" else 40
    config.log_every = 4
    config.optimizer.policy = common.optimizer(
      "adamw", 1e-3, weight_decay=0.01, warmup_steps=10
    )
  config.validation.demonstrations = config.batch.demonstrations
  # A tenth of what is learned from: of the loss, and of a batch's rows.
  config.loss = {"demonstrations": 1 - fraction, "pretraining": fraction}
  config.batch.pretraining = arrays.exact_div(
    config.batch.demonstrations, 8, "ppo_init's batch of demonstrations / 8"
  )
  config.evaluation.suite = "policies"
  config.evaluation.prompts = 16 if variant == "test" else 1024
  if variant == "test":
    config.evaluation.batch = config.evaluation.task_prompts = 16
  config.evaluation.baseline = "ppo_init"
  config.evaluation.subjects = {"ppo_init": common.subject()}
  return config.lock()
