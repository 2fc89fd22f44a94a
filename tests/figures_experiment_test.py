"""What the paper's figures need: which stages, and which are shared."""

import pathlib

import pytest
from etils import epath

from experiments import common, figures, ppo_ptx
from instruct_jax.base import errors
from instruct_jax.runs import plan

FOLDER = epath.Path(pathlib.Path(common.__file__).parent)


def stages_of(module, variant, workdir):
  path = FOLDER / f"{module.__name__.rpartition('.')[2]}.py"
  config = module.get_config(variant)
  stage = plan.plan(config, path, epath.Path(workdir), {})
  return {each.name: each for each in plan.in_order(stage)}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
  return stages_of(ppo_ptx, "tiny", tmp_path_factory.mktemp("default"))


def test_one_size_adds_little_to_the_default_command(default, tmp_path):
  stages = stages_of(figures, "small", tmp_path)
  tuned = {
    f"{stage}-tiny-{name}"
    for stage in ("mixture", "instruction_tuning", "select")
    for name in ("flan", "t0")
  }
  expected = set(default) | tuned
  expected |= {"ppo-tiny", "compare-tiny-one", "figures-small"}
  assert set(stages) == expected
  for name, stage in default.items():
    assert stages[name].digest == stage.digest
  assert set(stages["compare-tiny-one"].config.evaluation.subjects) == {
    *("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx", "flan", "t0")
  }


@pytest.mark.parametrize("variant", ["tiny", "test"])
def test_all_figures_share_what_they_are_drawn_from(variant, tmp_path):
  stages = stages_of(figures, variant, tmp_path)
  for name in (
    f"sizes-{variant}",
    f"compare-{variant}-large",
    f"compare-{variant}-alternatives",
    f"sweeps-{variant}",
    f"sft_epochs-{variant}",
    f"overoptimization-{variant}",
    f"rm_folds-{variant}",
    f"dpo-{variant}",
    f"rloo-{variant}",
  ):
    assert name in stages
  # Each name once: what differs would stand in each other's way.
  folders = [stage.folder for stage in stages.values()]
  assert len(folders) == len(set(folders))
  assert list(stages)[-1] == f"figures-{variant}"


def test_unknown_variants_are_refused():
  with pytest.raises(errors.UserError, match=r"variant of figures\.py"):
    figures.get_config("huge")
