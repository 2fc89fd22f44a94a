"""An experiment is found, and works, wherever it lies and is named from."""

import os

import pytest
from etils import epath

from instruct_jax.base import errors, experiment_file
from tests import doors

MAIN = ("instruct_jax.main", "--print_config")
MINE = """from experiments import sft
def get_config(variant="test"):
  config = sft.get_config(variant)
  config.{key} = {value}
  return config
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
  with doors.opened(tmp_path_factory.mktemp("outputs")) as opened:
    yield opened


def keys_of(done):
  """{key: value} as --print_config shows them."""
  assert done.code == 0, done.err
  assert done.err == ""
  rows = [line.partition("#")[0] for line in done.out.splitlines()]
  return {k.strip(): v.strip() for k, _, v in (r.partition("=") for r in rows)}


def write(path, key="epochs", value=3):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(MINE.format(key=key, value=value))
  return path


def test_by_its_whole_path_from_any_folder(house, tmp_path):
  found = keys_of(
    house.run(tmp_path, *MAIN, f"--config={doors.ROOT}/experiments/ppo.py:test")
  )
  assert found["experiment"] == "'ppo'"


def test_one_s_own_needs_only_what_differs(house, tmp_path):
  """What it names and has not beside it is ours; the plan finds it."""
  mine = write(tmp_path / "own" / "mine.py")
  for name in (mine, "own/mine.py", "./own/../own/mine.py"):
    found = keys_of(house.run(tmp_path, *MAIN, f"--config={name}"))
    assert found["epochs"] == "3"
    assert found["needs.policy"] == "'pretrain.py:test'"


def test_a_name_of_ours_is_taken_from_beside_it_first(house, tmp_path):
  mine = write(tmp_path / "own" / "sft.py")
  write(tmp_path / "own" / "pretrain.py", "no_such_key", 1)
  done = house.run(tmp_path, *MAIN, f"--config={mine}")
  assert "note: this would not run yet" in done.err
  assert "own/pretrain.py:4" in done.err
  assert "no_such_key" in done.err


@pytest.mark.parametrize("package", [True, False])
def test_a_folder_of_one_s_own_that_is_called_experiments(
  house, tmp_path, package
):
  """Its modules come first, and ours are there, too; from outside as well."""
  folder = tmp_path / "experiments"
  mine = write(folder / "mine.py")
  (folder / "shared.py").write_text("EPOCHS = 5\n")
  mine.write_text(
    mine.read_text()
    .replace("= 3", "= shared.EPOCHS")
    .replace("import sft", "import sft, shared")
  )
  if package:
    (folder / "__init__.py").write_text("")
  (tmp_path / "elsewhere").mkdir()
  for where in (tmp_path, tmp_path / "elsewhere"):
    found = keys_of(house.run(where, *MAIN, f"--config={mine}"))
    assert found["epochs"] == "5"


def test_a_module_of_one_s_own_that_is_called_experiments(house, tmp_path):
  (tmp_path / "experiments.py").write_text("raise ValueError('not this one')\n")
  mine = write(tmp_path / "mine.py")
  assert (
    keys_of(house.run(tmp_path, *MAIN, f"--config={mine}"))["epochs"] == "3"
  )


def test_an_error_in_what_it_calls_names_both_lines(house, tmp_path):
  mine = tmp_path / "mine.py"
  mine.write_text("import helper\ndef get_config():\n  return helper.make()\n")
  (tmp_path / "helper.py").write_text("def make():\n  return {}['x']\n")
  done = house.run(tmp_path, *MAIN, "--config=mine.py")
  assert done.code == 2
  assert "mine.py:3: KeyError: 'x'\n    return helper.make()\n" in done.err
  assert "helper.py:2: return {}['x']" in done.err


def test_help_lists_what_can_be_read_of_a_damaged_folder(house, tmp_path):
  write(tmp_path / "mine.py")
  (tmp_path / "broken.py").write_text("def get_config(:\n")
  os.mkfifo(tmp_path / "pipe.py")
  done = house.run(
    tmp_path, "instruct_jax.main", f"--config={tmp_path}/mine.py", "--help"
  )
  assert done.code == 0
  assert "mine.py" in done.out
  for name in ("broken.py", "pipe.py  "):
    assert f"{name}      (cannot be read as Python)" in done.out


def test_a_pipe_or_a_device_is_no_experiment(tmp_path):
  os.mkfifo(tmp_path / "p.py")
  (tmp_path / "d.py").symlink_to("/dev/zero")
  for name, kind in (("p.py", "a pipe"), ("d.py", "a device")):
    with pytest.raises(errors.UserError) as caught:
      experiment_file.load(epath.Path(tmp_path / name), "")
    assert f"{name}: is {kind}, where a file is due" in str(caught.value)
