"""The cache outlives a process; half-written entries do not."""

import os
import subprocess
import sys

import jax
import pytest

from instruct_jax.base import compilation
from instruct_jax.parallel import sharding

PROGRAM = """
import jax, jax.numpy as jnp
from instruct_jax.base import compilation
from instruct_jax.parallel import sharding
print(compilation.enable_cache())
assert compilation.compile_seconds() == 0
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.tanh(x @ x) + 1)(jnp.ones((8, 8)))
assert compilation.compile_seconds() > 0
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def run(folder):
  """(where the cache is, its hits, what was said) of a process of its own."""
  environment = os.environ | {
    compilation.FOLDER_VARIABLE: str(folder),
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "JAX_PLATFORMS": "cpu",
  }
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  where, hits = done.stdout.split()
  return where, int(hits), done.stderr


def test_programs_are_named_and_said_at_once(caplog, monkeypatch):
  caplog.set_level("INFO", logger="instruct_jax")

  def _doubled(x):
    return 2 * x

  before = len(compilation.programs())
  jax.jit(_doubled)(1.0)
  assert "doubled" not in caplog.text  # for so short a time
  monkeypatch.setattr(compilation, "_SAID_AFTER", 0.0)
  jax.jit(_doubled)(1)
  ours = [x for x in compilation.programs(before) if x.name == "doubled"]
  assert len(ours) == 2
  assert all(x.seconds > 0 for x in ours)
  assert f"compiled doubled in {ours[1].seconds:.1f} s" in caplog.text


def test_a_summary_names_what_took_longest():
  seconds = {"a": 0.2, "update": 3.25, "c": 0.3, "d": 0.01, "e": 1.0}
  programs = [compilation.Program(*x) for x in seconds.items()]
  assert compilation.summary(programs) == (
    "4.8 s in 5 programs: update 3.2 s, e 1.0 s, c 0.3 s"
  )
  assert compilation.summary(programs[3:], most=2) == (
    "1.0 s in 2 programs: e 1.0 s"
  )
  assert compilation.summary(programs[:1]) == ""
  assert compilation.summary([]) == ""


@pytest.mark.slow
def test_second_process_compiles_nothing(tmp_path):
  where, hits, _ = run(tmp_path / "cache")
  assert where == str(tmp_path / "cache" / f"jax-{jax.__version__}")
  assert hits == 0
  entries = sorted(tmp_path.glob("cache/*/*-cache"))
  assert entries
  _, again, said = run(tmp_path / "cache")
  assert again == len(entries)
  assert "Error" not in said

  # Killed while it wrote: the entry is made anew, once, without a word.
  entries[0].write_bytes(entries[0].read_bytes()[:-30])
  entries[1].write_bytes(b"")
  _, hits, said = run(tmp_path / "cache")
  assert hits == len(entries) - 2
  assert "Error" not in said
  assert run(tmp_path / "cache")[1] == len(entries)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
  (tmp_path / "file").write_text("")
  where, hits, _ = run(tmp_path / "file" / "cache")
  assert (where, hits) == ("None", 0)


def test_a_level_of_optimisation_that_is_given_stays(monkeypatch):
  name = "xla_backend_optimization_level"
  mesh = sharding.make_mesh(1, 1, 1)
  monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
  assert compilation.options(mesh) == {name: 1}
  monkeypatch.setenv("XLA_FLAGS", f"--{name}=0")
  assert compilation.options(mesh) == {}


def test_off(monkeypatch):
  monkeypatch.setenv(compilation.FOLDER_VARIABLE, "")
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", None)
  try:
    assert compilation.enable_cache() is None
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
  ("environment", "home"),
  [
    ({"HOME": "/x"}, "/x/.cache/instruct_jax"),
    ({"HOME": ""}, ""),  # not /.cache
    ({"HOME": "/x", "INSTRUCT_JAX_CACHE": ""}, ""),
    ({"HOME": "/x", "INSTRUCT_JAX_CACHE": "~/y"}, "/x/y"),
    ({"INSTRUCT_JAX_CACHE": "~nobody-of-that-name/y"}, ""),  # not ./~nobody...
  ],
)
def test_where_what_can_be_made_again_is_kept(environment, home, monkeypatch):
  monkeypatch.delenv("INSTRUCT_JAX_CACHE", raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert compilation.cache_home() == home
