"""The three sizes: what is built of each, and what they share."""

import pathlib

import pytest
from etils import epath

from experiments import common, ppo_ptx, sizes
from instruct_jax.base import errors
from instruct_jax.models import sizes as model_sizes
from instruct_jax.runs import plan

FOLDER = epath.Path(pathlib.Path(common.__file__).parent)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  config = sizes.get_config("tiny")
  workdir = epath.Path(tmp_path_factory.mktemp("runs"))
  return plan.plan(config, FOLDER / "sizes.py", workdir, {})


@pytest.fixture(scope="module")
def stages(whole):
  return {stage.name: stage for stage in plan.in_order(whole)}


def test_every_stage_of_every_size(stages):
  expected = {"dataset-tiny", "rankings-tiny", "rm-tiny", "sizes-tiny"}
  for end in ("", "-small", "-large"):
    methods = ("pretrain", "sft", "select", "ppo", "ppo_ptx")
    expected |= {f"{method}-tiny{end}" for method in methods}
  expected |= {f"compare-tiny-{size}" for size in model_sizes.STAND_INS}
  for mixture in ("flan", "t0"):
    for stage in ("mixture", "instruction_tuning", "select"):
      expected.add(f"{stage}-tiny-{mixture}")
  assert set(stages) == expected


def test_medium_is_the_default_commands(stages, tmp_path):
  config = ppo_ptx.get_config("tiny")
  default = plan.plan(config, FOLDER / "ppo_ptx.py", epath.Path(tmp_path), {})
  for stage in plan.in_order(default):
    assert stages[stage.name].digest == stage.digest


def test_one_reward_model_serves_all_sizes(stages):
  for name in ("select-tiny-small", "ppo-tiny-large", "ppo_ptx-tiny-small"):
    assert stages[name].needs["reward"].name == "rm-tiny"
    assert stages[name].config.reward_model.width == 96


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_size_is_built_on_itself(stages, size):
  width = model_sizes.section(f"tiny-{size}").width
  for method in ("sft", "select", "ppo", "ppo_ptx"):
    stage = stages[f"{method}-tiny-{size}"]
    assert stage.config.model.width == width
    assert stage.needs["policy"].name.endswith(f"-tiny-{size}")
  assert stages[f"ppo_ptx-tiny-{size}"].needs["policy"].name == (
    f"select-tiny-{size}"
  )


def test_rates_of_adam_go_with_the_inverse_of_the_width(stages):
  def rate(name, role="policy"):
    return stages[name].config.optimizer[role].learning_rate

  for method, medium in (("sft", 1e-3), ("ppo", 5e-4), ("ppo_ptx", 5e-4)):
    assert rate(f"{method}-tiny") == medium
    assert rate(f"{method}-tiny-small") == pytest.approx(1.5 * medium)
    assert rate(f"{method}-tiny-large") == pytest.approx(0.5 * medium)
  assert rate("pretrain-tiny-large") == rate("pretrain-tiny")
  assert rate("ppo-tiny-large", "value") == rate("ppo-tiny", "value")


def test_subjects_are_named_by_size_and_method(stages):
  methods = {"gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx"}
  for size in model_sizes.STAND_INS:
    config = stages[f"compare-tiny-{size}"].config
    expected = {f"{size}_{method}" for method in methods} | {"large_sft"}
    if size == "medium":
      expected |= {"medium_flan", "medium_t0"}
    assert set(config.evaluation.subjects) == expected
    assert config.evaluation.baseline == "large_sft"
    assert config.evaluation.reference == f"{size}_sft"
    needs = stages[f"compare-tiny-{size}"].needs
    for name, subject in config.evaluation.subjects.items():
      end = name.partition("_")[0]
      model = needs[subject.run].config.model
      expected = model_sizes.section(model_sizes.of_size("tiny", end))
      assert model.to_dict() == expected.to_dict(), name


def test_sizes_grow():
  counts = []
  for size in model_sizes.STAND_INS:
    section = model_sizes.section(model_sizes.of_size("tiny", size))
    heads = section.heads * section.head_size
    block = 4 * heads * section.width + 2 * section.width * section.mlp_width
    counts.append(section.layers * block)
  assert counts[0] < counts[1] / 3 < counts[1] < counts[2] / 3
  assert 1.5e6 < counts[2] < 2.5e6


@pytest.mark.parametrize(
  "variant", ["huge", "ppo-tiny-medium", "sft-tiny-one", "compare-tiny-giant"]
)
def test_unknown_variants_are_refused(variant):
  with pytest.raises(errors.UserError, match=r"variant of sizes\.py"):
    sizes.get_config(variant)


def test_the_models_seed_passes_to_all(tmp_path):
  config = sizes.get_config("tiny").unlock()
  config.seed = 2
  stage = plan.plan(
    config.lock(), FOLDER / "sizes.py", epath.Path(tmp_path), {"seed": 2}
  )
  names = {each.name for each in plan.in_order(stage)}
  assert "ppo_ptx-tiny-large-seed2" in names
  assert "compare-tiny-small-seed2" in names
