"""PPO: reinforcement learning against the reward model, without ptx (γ = 0).

Paper: sections 3.5 and 4, appendix C.4: 512 episodes an iteration in 8
minibatches, one inner epoch, β = 0.02, clip 0.2, EMA 0.992, warm-up over 10
iterations; the value network starts from the reward model.

Hardware: `:tiny` 2 CPU cores; `:175b` a pod. Expected for `:tiny`: labelers
prefer it over SFT, and it pays an alignment tax on the tasks.

  python -m instruct_jax.main --config=experiments/ppo.py
"""

from experiments import common
from instruct_jax import paper


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return make("ppo", variant, paper.PPO, ptx_coef=0.0)


def make(experiment, variant, numbers, *, ptx_coef):
  """PPO and PPO-ptx differ in γ and in the pretraining rows of a batch."""
  common.known(variant, common.SMALL + common.PAPER, experiment)
  config = common.training(experiment, variant, "ppo")
  config.epoch_of = "prompts"
  config.show = ("objective/score", "objective/kl", "response/length")
  config.needs.data = f"dataset.py:{variant}"
  config.needs.policy = (
    f"ppo_init.py:{variant}"
    if variant in common.PAPER
    else f"select.py:{variant}"
  )
  config.needs.reward = f"rm.py:{variant}"
  config.needs.sft = f"select.py:{variant}"
  config.rl = {
    "kl_coef": numbers.kl_coef,
    "ptx_coef": numbers.ptx_coef,
    "clip": numbers.clip,
    "value_clip": numbers.value_clip,
    "value_coef": 1.0,  # a network of its own: any other is a learning rate
    "discount": numbers.discount,
    "gae_lambda": numbers.gae_lambda,
    "minibatches": numbers.minibatches,
    "inner_epochs": numbers.inner_epochs,
    "temperature": numbers.temperature,
    "missing_end": numbers.missing_end,
    "missing_end_value": numbers.missing_end_value,
    "whiten_rewards": numbers.whiten_rewards,
    "kl_target": 0.0,  # 0: the coefficient is fixed
    "kl_horizon": 10_000.0,
  }
  config.batch.prompts = numbers.batch_episodes
  if numbers.ptx_coef:
    config.batch.pretraining = numbers.batch_pretraining
  config.steps = numbers.iterations
  config.ema.policy = numbers.ema_decay
  config.save_every = config.samples_every = 20
  config.log_every = 1
  config.time_phases = True
  warmup = {
    "schedule": numbers.schedule,
    "warmup_steps": numbers.warmup_steps,
    "warmup_from": numbers.warmup_from,
    "eps": paper.RL_ADAM_EPS,
  }
  config.evaluation.suite = "policies"
  config.evaluation.prompts = 1024
  config.evaluation.baseline = "sft"
  config.evaluation.subjects = {
    "sft": common.subject("sft"),
    experiment: common.subject(),
  }
  if variant in common.PAPER:
    config.optimizer.policy = common.optimizer(
      "adam", paper.POLICY_LEARNING_RATE[variant], **warmup
    )
    config.optimizer.value = common.optimizer(
      "adam", paper.VALUE_LEARNING_RATE[variant], **warmup
    )
    return config.lock()
  config.needs.gpt = f"pretrain.py:{variant}"
  config.evaluation.subjects = {
    "gpt": common.subject("gpt"),
    "prompted_gpt": common.subject("gpt", prompted=True),
    "sft": common.subject("sft"),
    experiment: common.subject(),
  }
  config.rl.kl_coef = 0.1
  config.rl.ptx_coef = ptx_coef
  config.ema.policy = 0.97
  config.steps = 14
  config.save_every = 5
  config.samples_every = 7
  config.optimizer.policy = common.optimizer("adam", 5e-4, **warmup)
  config.optimizer.value = common.optimizer("adam", 1e-3, **warmup)
  if numbers.ptx_coef:
    config.batch.pretraining = 192
  if variant == "files":
    config.batch.prompts = 64
    if numbers.ptx_coef:
      config.batch.pretraining = 16
    config.rl.minibatches = 4
    config.steps = 16
    config.evaluation.prompts = 64
    config.evaluation.batch = 32
  if variant == "test":
    config.batch.prompts = 32
    if numbers.ptx_coef:
      config.batch.pretraining = 16
    config.rl.minibatches = 4
    config.steps = 4
    config.save_every = 2
    config.evaluation.prompts = config.evaluation.batch = 16
    config.evaluation.task_prompts = 16
  return config.lock()
