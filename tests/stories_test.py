"""Every experiment's `:files` from a real checkpoint, for a few steps, and out.

stories260K, a story-teller of 260,032 parameters, is where the whole chain
starts. What an experiment made of it is exported, read again bit for bit, and
loaded in `transformers` where that is installed.
"""

import random

import jax
import numpy as np
import pytest
from etils import epath

from experiments import story_prompts
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import llama2c
from instruct_jax.runs import (
  build,
  exchange,
  plan,
  reading,
  records,
  references,
)
from tests import exchange_test, pretrained_chain_test, toys

PUBLIC = exchange_test.PUBLIC
# An experiment of one's own: ours, made short; its needs are looked for beside
# it, so that the whole chain is short.
SHORT = """from experiments import {name}
from instruct_jax.base import keys


def get_config(variant):
  config = {name}.get_config(variant).unlock()
  there = keys.flatten(config)
  few = {{key: x for key, x in {few}.items() if key in there}}
  config.update_from_flattened_dict(few | {changes})
  return config.lock()
"""
FEW = {  # of every experiment that has the key
  "samples": 0,
  "evaluation.prompts": 4,
  "evaluation.batch": 4,
  "validate_batches": 1,
}
PPO = {
  "steps": 2,
  "batch.prompts": 8,
  "validation.prompts": 8,
  "rl.minibatches": 2,
  # Stories do not end within 16 tokens: all of a group would have one score.
  "rl.missing_end": "none",
}
GROUPS = {"batch.prompts": 2, "validation.prompts": 2}  # of 4 or 8 episodes
PTX = {"batch.pretraining": 4, "validation.pretraining": 4}
CHANGES = {  # experiment -> what makes it short
  "sft": {"epochs": 2},
  "rm": {},
  "select": {"selection.prompts": 8, "selection.batch": 8},
  "ppo_ptx": PPO | PTX,
  "dpo": {},
  "rloo": PPO | GROUPS,
  "grpo": PPO | GROUPS,
  "best_of_n": PPO | GROUPS,
  "iterated": PPO
  | PTX
  | {
    "candidates.train": 8,
    "candidates.validation": 4,
    "candidates.test": 4,
    "candidates.chunk": 8,
    "candidates.batch": 16,
    "candidates.k_min": 2,
    "candidates.k_max": 3,
  },
}
ROLES = {"rm": ("reward",), "ppo_ptx": ("policy", "value")}
RANKED = 60


def stories(folder):
  """The files of a story-teller's chain: its own prompts, told by rule."""
  openings = random.Random(0).sample(story_prompts.openings(), 2 * RANKED)
  known = openings[:RANKED]  # the others are left to a second round
  ends = (". She was happy.", ". He was sad and cried.", " and ran away.")

  def write(name, rows):
    return pretrained_chain_test.write(folder / f"{name}.jsonl", rows)

  return {
    "prompts": write("prompts", [{"prompt": x} for x in openings]),
    "demonstrations": write(
      "demonstrations",
      [{"prompt": x, "response": ends[0]} for x in known],
    ),
    "rankings": write(
      "rankings",
      [
        {"prompt": x, "responses": list(ends), "ranks": [1, 2 + n % 2, 3]}
        for n, x in enumerate(known)
      ],
    ),
    "pretraining": write(
      "pretraining", [{"text": f"{x}{ends[0]}"} for x in known]
    ),
  }


class Chain:
  """What is built from the checkpoint, each stage once."""

  def __init__(self, folder):
    self.folder, self._built = folder, {}
    llama2c.to_hf(
      PUBLIC / "stories260K.bin", PUBLIC / "tok512.bin", folder / "in"
    )
    self.short = epath.Path(folder) / "short"
    self.short.mkdir()
    for name, changes in CHANGES.items():
      few = FEW
      if name == "iterated":  # its stages have configs of their own keys
        few, changes = FEW | changes, {}
        few.pop("steps")  # which the reward model has, too, and not set
      text = SHORT.format(name=name, few=few, changes=changes)
      (self.short / f"{name}.py").write_text(text)
    self.given = {
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
    reference = f"{name}.py:files"
    default, source = references.load_config(reference, self.short)
    config = default.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(self.given)
    overrides = plan.overrides_of(config, default)
    workdir = epath.Path(self.folder) / "runs"
    stage = plan.plan(config.lock(), source, workdir, overrides)
    build.build(stage)
    return stage.folder

  def exported(self, name, role):
    """The folder in Hugging Face format, made once."""
    out = self.folder / f"{name}-{role}"
    if not out.exists():
      exchange.send_out(self.run(name), out, role=role, drop_bias=True)
    return out

  def start(self, name, role):
    """Where training began, in Hugging Face format."""
    if name not in POLICIES:
      return self.folder / "in"
    began = {"policy": "select", "value": "rm"}[role]
    return self.exported(began, ROLES.get(began, ("policy",))[0])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  if not PUBLIC.exists():
    pytest.skip(f"the public checkpoint is not here: {PUBLIC}")
  return Chain(tmp_path_factory.mktemp("stories"))


# GRPO shares RLOO's module, chain_test has DPO, iterated_test a second round.
SELDOM = ("rloo", "dpo", "iterated")


def often(names):
  """Cases, whose first value is an experiment; those of SELDOM by hand."""
  return [
    pytest.param(*case, marks=pytest.mark.long if case[0] in SELDOM else ())
    for case in names
  ]


CASES = often((n, r) for n in CHANGES for r in ROLES.get(n, ("policy",)))
POLICIES = sorted(CHANGES.keys() - {"sft", "rm", "select"})


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
  before, after = map(hf_folder.Folder, (chain.start(name, role), out))
  shared = set(before.names) & set(after.names)
  moved = {n for n in shared if (before.read(n) != after.read(n)).any()}
  assert len(moved) > 10, "it has learned nothing"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", often((name,) for name in POLICIES))
def test_a_policy_is_measured_against_where_it_began(chain, name):
  metrics = records.read_results(chain.run(name))["metrics"]
  assert 0 < abs(metrics[f"kl/{name}"]) < 5
  assert f"score/{name}" in metrics, sorted(metrics)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "role"), CASES)
def test_transformers_computes_the_same(chain, name, role):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  run, out = chain.run(name), chain.exported(name, role)
  ctx = reading.open_context(run)
  params = reading.load_kept(run, ctx, role)
  ids = [ctx.tokenizer.encode("Once upon a time, there was a dog")]
  tokens = np.asarray(ids, np.int32)
  rows = {"prompt": tokens[:, :5], "response": tokens[:, 5:]}
  rows |= {f"is_{n}": np.ones(x.shape, bool) for n, x in rows.items()}
  with torch.no_grad():
    if role == "policy":
      model = transformers.AutoModelForCausalLM.from_pretrained(out)
      theirs = model(torch.tensor(ids)).logits[:, 4:-1]
      ours = toys.response_logits(ctx.policy, params, rows)
    else:
      model = transformers.AutoModelForSequenceClassification.from_pretrained(
        out, num_labels=1
      )
      theirs = model(torch.tensor(ids)).logits[:, 0]
      bias = params["head"]["bias"][0]  # which an RMS norm has no place for
      ours = toys.scores(ctx.scalar, params, rows) - bias
  np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-4)
