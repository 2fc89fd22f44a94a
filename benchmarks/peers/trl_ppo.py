"""An iteration of TRL's PPOTrainer (TRL 1.10, the last line that has it)."""

import math
import pathlib
import tempfile

import channel
import datasets
import loading
import transformers
from trl.experimental import ppo
from trl.experimental.ppo import ppo_trainer

STEPS = 10_000


class Gate(transformers.TrainerCallback):
  """Says what each iteration gave, and waits until the next may begin."""

  def __init__(self, spec: dict, link: channel.Channel):
    self.spec, self.link = spec, link
    self.lengths, self.losses = [], {}

  def on_train_begin(self, args, state, control, **kwargs):
    """Everything is loaded."""
    del args, state, control
    model = kwargs["model"].policy
    self.link.ready(**loading.facts(self.spec, model, "trl"))

  def on_log(self, args, state, control, logs=None, **kwargs):
    """Takes the losses."""
    del args, state, control, kwargs
    self.losses = {k: v for k, v in (logs or {}).items() if "loss/" in k}

  def on_step_end(self, args, state, control, **kwargs):
    """An iteration is done."""
    del args, state, control, kwargs
    finite = map(math.isfinite, self.losses.values())
    self.link.done(
      units=sum(self.lengths),
      losses=self.losses,
      finite=bool(self.losses) and all(finite),
    )


def rl(spec: dict, link: channel.Channel) -> None:
  """Iterations on the spec's prompts, one a run."""
  gate = Gate(spec, link)
  count = len(spec["prompts"])
  generation = ppo_trainer.batch_generation

  def recorded(model, queries, *rest):
    made, logits = generation(model, queries, *rest)
    gate.lengths = loading.lengths_of(made[:, queries.shape[1] :])
    return made, logits

  ppo_trainer.batch_generation = recorded
  with tempfile.TemporaryDirectory() as folder:
    words = loading.tokenizer(spec, pathlib.Path(folder))
    config = ppo.PPOConfig(
      output_dir=folder,
      # One microbatch a minibatch: TRL steps every `accumulate` of them.
      per_device_train_batch_size=count,
      gradient_accumulation_steps=1,
      num_mini_batches=spec["minibatches"],
      num_ppo_epochs=1,
      total_episodes=count * STEPS,
      local_rollout_forward_batch_size=min(count, 64),
      num_sample_generations=0,
      response_length=spec["response"],
      stop_token="eos",
      temperature=1.0,
      learning_rate=loading.RATE,
      lr_scheduler_type="constant",
      kl_coef=0.02,
      use_cpu=True,
      bf16=False,
      gradient_checkpointing=False,  # faster
      save_strategy="no",
      report_to=[],
      disable_tqdm=True,
    )
    prompts = [{"input_ids": prompt} for prompt in spec["prompts"]]
    ppo.PPOTrainer(
      args=config,
      processing_class=words,
      model=loading.policy(spec),
      ref_model=loading.policy(spec),
      reward_model=loading.scalar(spec),
      value_model=loading.scalar(spec),
      train_dataset=datasets.Dataset.from_list(prompts),
      callbacks=[gate],
    ).train()


if __name__ == "__main__":
  channel.serve({"rl": rl})
