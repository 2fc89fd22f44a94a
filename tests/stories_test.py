"""Every experiment's `:files` from a real checkpoint, for a few steps, and out.

stories260K, a story-teller of 260,032 parameters, is where the whole chain
starts. What an experiment made of it is exported and read again bit for bit.
"""

import importlib
import random

import jax
import numpy as np
import pytest
from etils import epath

from experiments import story_prompts
from instruct_jax.base import keys
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import llama2c
from instruct_jax.runs import build, exchange, plan, reading, records
from tests import exchange_test, pretrained_chain_test

PUBLIC = exchange_test.PUBLIC
FEW = {  # of every experiment that has the key; what is digested stays
  "samples": 0,
  "evaluation.prompts": 4,
  "evaluation.batch": 4,
}
PPO = {
  "steps": 2,
  "batch.prompts": 8,
  "validation.prompts": 8,
  "rl.minibatches": 2,
}
# What makes an experiment short; `select` is built on the way.
CHANGES = {
  "sft": {"evaluation.suite": "none"},
  "rm": {},
  "ppo_ptx": PPO | {"batch.pretraining": 4, "validation.pretraining": 4},
  "dpo": {},
}
ROLES = {"rm": ("reward",), "ppo_ptx": ("policy", "value")}


def stories(folder):
  """The files of a story-teller's chain: its own prompts, told by rule."""
  openings = random.Random(0).sample(story_prompts.openings(), 60)
  ends = (". She was happy.", ". He was sad and cried.", " and ran away.")

  def write(name, rows):
    return pretrained_chain_test.write(folder / f"{name}.jsonl", rows)

  return {
    "prompts": write("prompts", [{"prompt": x} for x in openings]),
    "demonstrations": write(
      "demonstrations",
      [{"prompt": x, "response": ends[0]} for x in openings],
    ),
    "rankings": write(
      "rankings",
      [
        {"prompt": x, "responses": list(ends), "ranks": [1, 2 + n % 2, 3]}
        for n, x in enumerate(openings)
      ],
    ),
    "pretraining": write(
      "pretraining", [{"text": f"{x}{ends[0]}"} for x in openings]
    ),
  }


class Chain:
  """What is built from the checkpoint, each stage once."""

  def __init__(self, folder):
    self.folder, self._built = folder, {}
    llama2c.to_hf(
      PUBLIC / "stories260K.bin", PUBLIC / "tok512.bin", folder / "in"
    )
    self.inherited = {
      "pretrained": f"hf:{folder / 'in'}",
      "data.template": "plain",
      "data.prompt_length": 56,
      "data.response_length": 16,
      "data.row_length": 72,
      "data.validation_fraction": 0.3,
      "data.test_fraction": 0.3,
      **{f"data.{k}": v for k, v in stories(folder).items()},
    }

  def run(self, name):
    """The folder of an experiment, which is evaluated."""
    if name not in self._built:
      self._built[name] = self._build(name)
    return self._built[name]

  def _build(self, name):
    module = importlib.import_module(f"experiments.{name}")
    config = module.get_config("files").unlock()
    there = keys.flatten(config)
    few = {k: v for k, v in FEW.items() if k in there}
    config.update_from_flattened_dict(self.inherited | few | CHANGES[name])
    stage = plan.plan(
      config.lock(),
      pretrained_chain_test.EXPERIMENTS / f"{name}.py",
      epath.Path(self.folder) / "runs",
      self.inherited,
    )
    build.build(stage)
    return stage.folder

  def exported(self, name, role):
    """The folder in Hugging Face format, made once."""
    out = self.folder / f"{name}-{role}"
    if not out.exists():
      exchange.send_out(self.run(name), out, role=role, drop_bias=True)
    return out


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  if not PUBLIC.exists():
    pytest.skip(f"the public checkpoint is not here: {PUBLIC}")
  return Chain(tmp_path_factory.mktemp("stories"))


CASES = [(n, r) for n in CHANGES for r in ROLES.get(n, ("policy",))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "role"), CASES)
def test_it_trains_from_the_checkpoint_and_goes_out_again(chain, name, role):
  run = chain.run(name)
  results = records.read_results(run)
  assert all(np.isfinite(x) for x in results["metrics"].values())
  out = chain.exported(name, role)
  ctx = reading.open_context(run)
  kept = reading.load_kept(run, ctx, role)
  handed = "policy" if role == "policy" else "reward"
  again = reading.load_parameters(epath.Path(f"hf:{out}"), ctx, handed)
  for one, two in zip(jax.tree.leaves(kept), jax.tree.leaves(again)):
    np.testing.assert_array_equal(one, two)
  before, after = (
    hf_folder.Folder(path) for path in (chain.folder / "in", out)
  )
  shared = set(before.names) & set(after.names)
  moved = {n for n in shared if (before.read(n) != after.read(n)).any()}
  assert len(moved) > 10, "it has learned nothing"
