"""RM: the reward model, from all C(K, 2) pairs of each prompt's ranking.

Paper: section 3.5, equation 1; appendix C.2: one 6B reward model for every
size of policy, so `:1.3b` and `:175b` are names for `:6b`. One epoch, cosine to
10 %, 64 prompts a batch, each completion computed once; then a bias so that
demonstrations score 0.

Hardware: `:tiny` 2 CPU cores. Expected for `:tiny`: see the README's results
(accuracy on held-out prompts, by training and by held-out labelers).

  python -m instruct_jax.main --config=experiments/rm.py
"""

from experiments import common
from instruct_jax import paper


def get_config(variant="tiny"):
  """Variants: tiny, test, files, and 6b, also called 1.3b and 175b."""
  common.known(variant, common.SMALL + common.PAPER, "rm")
  variant = paper.RM_SIZES.get(variant, variant)
  config = common.training("rm", variant, "rm")
  config.product = "reward"
  config.epoch_of = "rankings"
  config.show = ("rankings/loss", "rankings/accuracy")
  config.needs.data = f"dataset.py:{variant}"
  config.needs.policy = "" if variant in common.PAPER else f"sft.py:{variant}"
  config.reward_gain = False
  config.epochs = 1
  config.samples = 0
  config.evaluation.suite = "reward"
  config.evaluation.always = True
  config.evaluation.prompts = 300
  if variant in common.PAPER:
    return _paper(config, variant).lock()
  if variant != "files":
    config.needs.rankings = f"rankings.py:{variant}"
  config.batch.rankings = 16
  config.validation.rankings = 16
  config.validate_every = 40
  config.save_every = 60
  config.log_every = 5
  config.optimizer.reward = common.optimizer(
    "muon",
    5e-3,
    weight_decay=0.01,
    warmup_steps=10,
    warmup_from=0.01,
  )
  if variant == "files":
    config.batch.rankings = config.validation.rankings = 8
    config.evaluation.batch = 16
  if variant == "test":
    config.batch.rankings = config.validation.rankings = 8
    config.save_every = config.validate_every = 2
    config.log_every = 1
    config.evaluation.prompts = config.evaluation.batch = 16
    config.evaluation.task_prompts = 16
  return config.lock()


def _paper(config, variant):
  numbers = paper.RM[variant]
  config.batch.rankings = numbers.batch
  config.validation.rankings = numbers.batch
  config.epochs = numbers.epochs
  config.optimizer.reward = common.optimizer(
    "adam",
    numbers.learning_rate,
    schedule=numbers.schedule,
    warmup_steps=numbers.warmup_steps,
    final_fraction=numbers.final_fraction,
  )
  return config
