"""A config that cannot run is refused before anything is made of it."""

import pathlib

import pytest
from etils import epath

from instruct_jax import algorithms
from instruct_jax.base import errors, keys
from instruct_jax.maths import rl
from instruct_jax.runs import digests, plan
from tests import experiments_test

EXPERIMENTS = pathlib.Path(__file__).parent.parent / "experiments"

# (experiment, what is changed, what the message must say)
REFUSED = [
  # A value by itself; those of data and models reach the whole chain.
  ("ppo_ptx", {"optimizer.policy.learning_rate": -1.0}, "learning_rate=-1.0"),
  ("ppo_ptx", {"seed": -1}, "config.seed=-1: must be a whole number from 0"),
  ("ppo_ptx", {"seed": 2**63}, "config.seed=9223372036854775808"),
  ("ppo_ptx", {"data.prompt_length": 10**9}, "data.prompt_length=1000000000"),
  ("ppo_ptx", {"data.tokenizer": ""}, "data.tokenizer=''"),
  # Names that a registry knows.
  ("ppo_ptx", {"job": "trane"}, "Did you mean 'train'"),
  ("ppo_ptx", {"algorithm": "pop"}, "Did you mean 'ppo'"),
  ("ppo_ptx", {"evaluation.suite": "polices"}, "Did you mean 'policies'"),
  ("ppo_ptx", {"optimizer.value.name": "adan"}, "optimizer.value.name 'adan'"),
  ("ppo_ptx", {"optimizer.value.schedule": "cos"}, "Did you mean 'cosine'"),
  ("ppo_ptx", {"rl.missing_end": "fix"}, "Did you mean 'fixed'"),
  ("ppo_ptx", {"epoch_of": "pretraning"}, "Did you mean 'pretraining'"),
  ("ppo_ptx", {"product": "polcy"}, "Did you mean 'policy'"),
  ("ppo_ptx", {"data.source": "microwrld"}, "Did you mean 'microworld'"),
  ("ppo_ptx", {"data.start": "bus"}, "Did you mean 'bos'"),
  ("ppo_ptx", {"data.start": "bos"}, "has no bos token"),
  ("ppo_ptx", {"data.vocab_size": 300}, "words and its special tokens need"),
  ("ppo_ptx", {"experiment": "../x"}, "part of a file's name"),
  ("ppo_ptx", {"data.template": "plane"}, "Did you mean 'plain'"),
  ("ppo_ptx", {"data.template": "no place"}, "{prompt}"),
  ("ppo_ptx", {"data.tokenizer": "bpe"}, "data.tokenizer=bpe"),
  ("ppo_ptx", {"model.mlp": "gelo"}, "config.model.mlp 'gelo'"),
  ("ppo_ptx", {"reward_model.norm": "rms"}, "config.reward_model.norm 'rms'"),
  ("ppo_ptx", {"evaluation.baseline": "stf"}, "Did you mean 'sft'"),
  ("ppo_ptx", {"evaluation.subjects.sft.run": "stf"}, "Did you mean 'sft'"),
  ("sft", {"evaluation.subjects.sft.best_of": 4}, "no reward model to choose"),
  ("rankings", {"rankings.sources.sft.policy": "stf"}, "Did you mean 'sft'"),
  # What values must be to each other.
  ("ppo_ptx", {"epochs": 1}, "give one of the two"),
  ("ppo_ptx", {"steps": 0}, "give one of the two"),
  ("ppo_ptx", {"batch.prompts": 33}, "33 is not a multiple of 4"),
  ("ppo_ptx", {"microbatches": 3}, "config.microbatches"),
  ("ppo_ptx", {"mesh.data": 3}, "config.mesh.data"),
  (
    "sft",
    {"mesh.data": 8, "validation.demonstrations": 4},
    "config.validation",
  ),
  ("sft", {"keep_every": 2}, "epochs are kept already"),
  ("ppo_ptx", {"epoch_of": "rankings"}, "config.epoch_of 'rankings'"),
  ("ppo_ptx", {"rl.kl_target": 6.0, "rl.kl_horizon": 6.4}, "above 0.2 x"),
  ("ppo_ptx", {"rl.missing_end": "penalty"}, "give 0 or more"),
  ("ppo_ptx", {"optimizer.policy.weight_decay": 0.1}, "policy.name=adamw"),
  ("ppo_ptx", {"evaluation.prompts": 0}, "at least 1"),
  ("ppo_ptx", {"batch.pretraining": 16, "rl.minibatches": 32}, "pretraining"),
  ("ppo_ptx", {"model.kv_heads": 3}, "config.model.kv_heads = 3 must divide"),
  ("ppo_ptx", {"model.window_pattern": "sf"}, "says which layers slide"),
  ("ppo_ptx", {"model.context_length": 10}, "model.context_length = 10"),
  ("sft", {"loss.demonstrations": 0.0}, "every coefficient is 0"),
  ("sft", {"batch.demonstrations": 65, "microbatches": 65}, "64 training rows"),
  ("rankings", {"rankings.k_min": 5, "rankings.k_max": 4}, "k_min (5)"),
  ("rankings", {"rankings.sources.sft.share": 0.9}, "add up to 1, not 1.26"),
  ("rankings", {"rankings.train": 201}, "has 200 prompts"),
  ("rankings", {"rankings.train": 0}, "config.rankings.train=0"),
  (
    "rankings",
    {
      "data.source": "files",
      "data.tokenizer": "bpe",
      "data.pretraining": __file__,
    },
    "nobody who can rank",
  ),
  (
    "dataset",
    {"data.source": "files", "data.sizes.prompts": (9, 9, 9)},
    "config.data.sizes.prompts is set, but it is for the microworld",
  ),
  ("dataset", {"data.sizes.prompts": (9, 0, 9)}, "rows in every split"),
  # What the world does not read.
  (
    "dataset",
    {"data.prompts": "x.jsonl"},
    "config.data.prompts is set, but the"
    " microworld does not read it; name the :files variant",
  ),
  ("ppo_ptx", {"data.rankings": __file__}, "config.data.rankings is set, but"),
  ("ppo_ptx", {"data.per_user": 9}, "config.data.per_user is set, but"),
  ("dataset", {"data.remove_pii": False}, "config.data.remove_pii is set, but"),
  ("ppo_ptx", {"evaluation.baseline": ""}, "Known: flan, gpt,"),
  # What only a stage below cannot do: refused before the first is built.
  ("ppo_ptx", {"data.k_max": 3}, "rankings.py:test, which this needs"),
  ("ppo_ptx", {"data.sizes.prompts": (40, 48, 48)}, "has 40 prompts"),
  ("ppo_ptx", {"model.layers": 1}, "config.reward_model.layers=2 differs"),
  ("ppo_ptx", {"mesh.fsdp": 5}, "config.mesh"),
  # Needs that give something else, or have another shape.
  ("ppo_ptx", {"needs.policy": "rm.py:test"}, "hands on reward"),
  ("ppo_ptx", {"needs.reward": "sft.py:test"}, "where a reward is needed"),
  ("ppo_ptx", {"needs.policy": "dataset.py:test"}, "hands on no parameters"),
  ("ppo_ptx", {"needs.data": "sft.py:test"}, "config.job=dataset is needed"),
  ("ppo_ptx", {"needs.policy": "sft.py:tiny"}, "here it is"),
  ("ppo_ptx", {"needs.policy": "ppo_ptx.py:test"}, "needs itself"),
  ("select", {"needs.policy": "pretrain.py:test"}, "keeps no epochs"),
]


def planned(experiment, variant, changes, workdir):
  module = experiments_test.MODULES[experiment]
  config, default = module.get_config(variant), module.get_config(variant)
  config.unlock().update_from_flattened_dict(changes)
  source = epath.Path(EXPERIMENTS / f"{experiment}.py")
  inherited = plan.overrides_of(config, default)
  return plan.plan(config.lock(), source, workdir, inherited)


@pytest.mark.parametrize(("experiment", "changes", "message"), REFUSED)
def test_refused_before_anything_is_made(
  tmp_path, experiment, changes, message
):
  with pytest.raises(errors.UserError) as caught:
    planned(experiment, "test", changes, epath.Path(tmp_path / "runs"))
  assert message in str(caught.value)
  assert list(tmp_path.iterdir()) == []


MIXES_TEXT = ("ppo", "rloo", "grpo", "best_of_n", "expert_iteration", "dpo")


@pytest.mark.parametrize("experiment", MIXES_TEXT)
def test_text_is_mixed_in_from_the_command_line(tmp_path, experiment):
  section = "dpo" if experiment == "dpo" else "rl"
  rows, coefficient = {"batch.pretraining": 16}, {f"{section}.ptx_coef": 0.3}
  workdir = epath.Path(tmp_path)
  stage = planned(experiment, "test", rows | coefficient, workdir)
  assert algorithms.rows_of(stage.config.batch)["pretraining"] == 16
  without = planned(experiment, "test", {}, workdir)
  assert "pretraining" not in algorithms.rows_of(without.config.batch)
  assert without.digest != stage.digest
  # What is no part of a batch is no part of what is computed.
  config = without.config.copy_and_resolve_references().unlock()
  del config.batch.pretraining, config.validation.pretraining
  assert digests.of_stage(config, without.needs) == without.digest
  # One without the other says what to add; what it says is taken.
  with pytest.raises(errors.UserError, match="give both, or neither"):
    planned(experiment, "test", coefficient, workdir)


def test_rows_of_what_makes_an_epoch(tmp_path):
  with pytest.raises(errors.UserError, match="its rows make an epoch"):
    planned("pretrain", "test", {"batch.pretraining": 0}, epath.Path(tmp_path))


@pytest.mark.parametrize("variant", ["tiny", "test"])
def test_the_whole_chain_is_taken(tmp_path, variant):
  stage = planned("ppo_ptx", variant, {}, epath.Path(tmp_path))
  assert len(plan.in_order(stage)) == 7


def test_every_mode_for_unended_responses_is_known():
  import jax.numpy as jnp

  ended = jnp.asarray([True])
  for mode in rl.MISSING_END:
    rl.shape_scores(jnp.zeros(1), ended, mode=mode, value=1.0)


NAMES = [
  key
  for key, value in keys.flatten(
    experiments_test.MODULES["ppo_ptx"].get_config("test")
  ).items()
  if isinstance(value, str) and value
]
"""Keys of names and paths: what nobody knows is refused, whichever it is."""


@pytest.mark.parametrize("key", sorted(set(NAMES) - {"experiment", "variant"}))
def test_no_name_may_be_made_up(tmp_path, key):
  with pytest.raises(errors.UserError):
    planned("ppo_ptx", "test", {key: "made_up"}, epath.Path(tmp_path))
