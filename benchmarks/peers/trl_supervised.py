"""Epochs of TRL's SFTTrainer and RewardTrainer."""

import itertools
import math
import pathlib
import tempfile
from typing import Any

import channel
import datasets
import loading
import transformers
import trl

EPOCHS = 10_000
COMMON = {
  "num_train_epochs": EPOCHS,
  "learning_rate": loading.RATE,
  "lr_scheduler_type": "constant",
  "max_grad_norm": 1.0,
  "use_cpu": True,
  "bf16": False,
  "gradient_checkpointing": False,  # faster
  "logging_steps": 1,
  "save_strategy": "no",
  "report_to": [],
  "disable_tqdm": True,
}


class Gate(transformers.TrainerCallback):
  """Says what each epoch gave, and waits until the next may begin."""

  def __init__(self, spec: dict, link: channel.Channel, facts: dict):
    self.spec, self.link, self.facts = spec, link, facts
    self.units, self.loss = 0, math.nan

  def on_train_begin(self, args, state, control, **kwargs):
    """Everything is loaded."""
    del args, state, control, kwargs
    self.link.ready(**self.facts)

  def on_log(self, args, state, control, logs=None, **kwargs):
    """Takes the loss."""
    del args, state, control, kwargs
    self.loss = (logs or {}).get("loss", self.loss)

  def on_epoch_end(self, args, state, control, **kwargs):
    """All rows were seen once."""
    del args, state, control, kwargs
    units, self.units = self.units, 0
    finite = math.isfinite(float(self.loss))
    self.link.done(units=units, losses={"loss": self.loss}, finite=finite)


def sft(spec: dict, link: channel.Channel) -> None:
  """Demonstrations, packed as `packing` says; '' is one a row."""
  model = loading.policy(spec)
  gate = Gate(spec, link, loading.facts(spec, model, "trl"))
  table = [
    {
      "input_ids": [*prompt, *response],
      "completion_mask": [0] * len(prompt) + [1] * len(response),
    }
    for prompt, response in zip(spec["prompts"], spec["responses"])
  ]
  packing = spec["packing"]
  settings = {"packing_strategy": packing} if packing else {}

  def counted(features: list[dict[str, Any]]) -> dict[str, Any]:
    batch = collate(features)
    gate.units += int((batch["labels"][:, 1:] != -100).sum())
    return batch

  with tempfile.TemporaryDirectory() as folder:
    config = trl.SFTConfig(
      output_dir=folder,
      per_device_train_batch_size=spec["batch"],
      max_length=spec.get("row", spec["prompt"] + spec["response"]),
      packing=bool(packing),
      completion_only_loss=True,
      **settings,
      **COMMON,
    )
    trainer = trl.SFTTrainer(
      model=model,
      args=config,
      train_dataset=datasets.Dataset.from_list(table),
      processing_class=_tokenizer(spec, folder),
      callbacks=[gate],
    )
    collate, trainer.data_collator = trainer.data_collator, counted
    trainer.train()


def rm(spec: dict, link: channel.Channel) -> None:
  """All pairs of one ranking, a step a run."""
  model = loading.scalar(spec)
  gate = Gate(spec, link, loading.facts(spec, model, "trl", role="reward"))
  whole = [p + r for p, r in zip(spec["prompts"], spec["responses"])]
  table = [
    {"chosen_ids": better, "rejected_ids": worse}
    for better, worse in itertools.combinations(whole, 2)
  ]

  def counted(features: list[dict[str, Any]]) -> dict[str, Any]:
    gate.units += len(features)
    return collate(features)

  with tempfile.TemporaryDirectory() as folder:
    config = trl.RewardConfig(
      output_dir=folder,
      per_device_train_batch_size=len(table),
      max_length=spec["prompt"] + spec["response"],
      **COMMON,
    )
    trainer = trl.RewardTrainer(
      model=model,
      args=config,
      train_dataset=datasets.Dataset.from_list(table),
      processing_class=_tokenizer(spec, folder),
      callbacks=[gate],
    )
    collate, trainer.data_collator = trainer.data_collator, counted
    trainer.train()


def _tokenizer(spec, folder):
  return loading.tokenizer(spec, pathlib.Path(folder))


if __name__ == "__main__":
  channel.serve({"sft": sft, "rm": rm})
