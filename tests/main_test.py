"""The doors: --help, --print_config."""

import pathlib
import runpy
import subprocess
import sys

import pytest
import setuptools

from experiments import ppo_ptx
from instruct_jax.base import keys

ROOT = pathlib.Path(__file__).parent.parent
EXPERIMENT = '''"""Mine: half the seed."""
from experiments import ppo_ptx

def get_config(variant="test"):
  """Variants: test."""
  config = ppo_ptx.get_config(variant).unlock()
  config.rl.clip = 0.125
  return config.lock()
'''


def door(folder, *arguments):
  """The exit code, stdout and stderr of a command run in `folder`."""
  done = subprocess.run(
    [sys.executable, "-m", *arguments],
    cwd=folder,
    env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(folder)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert "Traceback" not in done.stderr
  return done.returncode, done.stdout, done.stderr


def test_help_lists_experiments_variants_and_where_keys_are_explained(tmp_path):
  code, out, _ = door(tmp_path, "instruct_jax.main", "--help")
  assert code == 0
  for path in (ROOT / "experiments").glob("*.py"):
    if "def get_config" in path.read_text():
      assert path.name in out
  assert ppo_ptx.__doc__.split("\n")[0] in out
  assert "Variants: tiny, test, files, 1.3b, 6b, 175b." in out
  assert "--print_config" in out
  assert keys.__file__ in out


def test_help_with_a_config_lists_the_experiments_beside_it(tmp_path):
  (tmp_path / "own").mkdir()
  (tmp_path / "own" / "mine.py").write_text(EXPERIMENT)
  code, out, _ = door(
    tmp_path, "instruct_jax.main", "--config=own/mine.py", "--help"
  )
  assert code == 0
  assert "Mine: half the seed." in out
  assert "ppo_ptx.py" not in out.partition("Experiments")[2]


@pytest.mark.parametrize(
  ("name", "flag"),
  [("sample", "--greedy"), ("convert", "--role"), ("data", "--kind")],
)
def test_help_of_the_other_doors(tmp_path, name, flag):
  code, out, _ = door(tmp_path, f"instruct_jax.{name}", "--help")
  assert code == 0
  assert flag.strip("-") in out
  assert f"python -m instruct_jax.{name}" in out


def test_a_config_in_another_folder_prints_what_would_run(tmp_path):
  """It imports the shared sections, and nothing is built or written."""
  (tmp_path / "own").mkdir()
  (tmp_path / "own" / "mine.py").write_text(EXPERIMENT)
  for needed in ("dataset", "pretrain", "sft", "rankings", "rm", "select"):
    source = ROOT / "experiments" / f"{needed}.py"
    (tmp_path / "own" / source.name).write_text(source.read_text())
  before = set(tmp_path.rglob("*.json"))
  code, out, err = door(
    tmp_path,
    "instruct_jax.main",
    "--config=own/mine.py:test",
    "--print_config",
    "--config.seed=3",
  )
  assert code == 0, err
  lines = [line.partition("#")[0].strip() for line in out.splitlines()]
  assert lines == sorted(lines)
  assert {"rl.clip = 0.125", "seed = 3", "rl.gae_lambda = 0.95"} <= set(lines)
  assert len(lines) == len(keys.flatten(ppo_ptx.get_config("test")))
  assert not (tmp_path / "runs").exists()
  assert set(tmp_path.rglob("*.json")) == before


def test_what_is_installed_holds_the_experiments(monkeypatch):
  arguments = {}
  monkeypatch.setattr(setuptools, "setup", arguments.update)
  monkeypatch.chdir(ROOT)
  runpy.run_path(str(ROOT / "setup.py"))
  assert {"instruct_jax", "experiments"} <= set(arguments["packages"])
  assert not {"tests", "benchmarks"} & set(arguments["packages"])
