"""An experiment is defaults and what its variants change, no key set twice."""

import ast
import importlib
import pathlib

import pytest

from experiments import common
from instruct_jax.base import errors, keys

FOLDER = pathlib.Path(common.__file__).parent
MODULES = {
  path.stem: importlib.import_module(f"experiments.{path.stem}")
  for path in sorted(FOLDER.glob("*.py"))
  if "def get_config" in path.read_text()
}
TABLES = {
  name: (getattr(module, "DEFAULTS", {}), module.VARIANTS)
  for name, module in MODULES.items()
}
CASES = [(name, v) for name, (_, table) in TABLES.items() for v in table]


def without(name, variant, key):
  """The experiment's config flattened, but for one change of a variant's.

  None where another change needs this one.
  """
  defaults, variants = TABLES[name]
  less = {k: v for k, v in variants[variant].items() if k != key}
  try:
    config = common.training(name, variant, "sft", defaults, {variant: less})
  except KeyError:
    return None
  return keys.flatten(config)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_every_change_of_a_variant_changes_something(name, variant):
  whole = without(name, variant, None)
  for key in TABLES[name][1][variant]:
    assert without(name, variant, key) != whole, f"{key} is set twice"


@pytest.mark.parametrize("name", MODULES)
def test_configs_do_not_share_what_a_user_changes(name):
  variant = next(iter(TABLES[name][1]))
  config = MODULES[name].get_config(variant).unlock()
  before = keys.flatten(config)
  for section in ("optimizer", "evaluation", "rl", "rankings", "data"):
    for key in keys.flatten(config.get(section, {})):
      config.update_from_flattened_dict({f"{section}.{key}": None})
  assert keys.flatten(MODULES[name].get_config(variant)) == before


def test_experiments_import_nothing_above_paper_sizes_and_base():
  allowed = {"paper", "models", "base"}
  for path in FOLDER.glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom):
        root, *rest = node.module.split(".")
        if root == "instruct_jax":
          names = rest[:1] or [alias.name for alias in node.names]
          assert set(names) <= allowed, f"{path.name}:{node.lineno}"


def test_a_need_is_built_in_the_same_variant():
  config = MODULES["ppo_ptx"].get_config("files")
  assert dict(config.needs) == {
    "data": "dataset.py:files",
    "policy": "select.py:files",
    "reward": "rm.py:files",
    "sft": "select.py:files",
    "gpt": "pretrain.py:files",
    "flan": "instruction_tuning.py:select-files-flan",
    "t0": "instruction_tuning.py:select-files-t0",
  }


def test_a_variant_may_name_its_place():
  config = MODULES["ppo_ptx"].get_config("1.3b-on-v5e-4x4")
  assert config.variant == "1.3b-on-v5e-4x4"
  assert config.mesh.fsdp == 16
  assert config.needs.reward == "rm.py:1.3b-on-v5e-4x4"
  assert config.needs.data == "dataset.py:1.3b"  # as wherever it is used
  assert MODULES["rm"].get_config("1.3b-on-v5e-4x4").variant == "6b-on-v5e-4x4"


@pytest.mark.parametrize(
  ("variant", "word"), [("1.3b-on-v5e", "v5e-4x4"), ("tiny-on-v5e-4x4", "fsdp")]
)
def test_a_place_that_there_is_not_is_refused(variant, word):
  with pytest.raises(errors.UserError, match=word):
    MODULES["ppo_ptx"].get_config(variant)


def test_an_unknown_variant_is_told_the_placed_ones_too():
  with pytest.raises(errors.UserError, match=r"1\.3b-on-v5e-4x4, ") as error:
    MODULES["ppo_ptx"].get_config("1.3b_on_v5e")
  assert "Did you mean '1.3b-on-v5e-" in str(error.value)
  assert "tiny-on" not in str(error.value)
