"""The `:test` chain, built by one command, once for all tests of a session.

Whichever worker needs it first builds it; what others start from is a copy.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "experiments/ppo_ptx.py:test"
STAGES = ("dataset", "pretrain", "sft", "rankings", "rm", "select", "ppo_ptx")


def chain(factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
  """The folder of its runs, which is only read, and what the command said."""
  base = factory.getbasetemp()
  is_worker = "PYTEST_XDIST_WORKER" in os.environ
  folder = (base.parent if is_worker else base) / "built"
  folder.mkdir(exist_ok=True)
  said = folder / "output"
  with (folder / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not said.exists():
      output = _build(folder / "runs")
      said.write_text(output)
  return folder / "runs", said.read_text()


def copied(
  factory: pytest.TempPathFactory,
  workdir: pathlib.Path,
  *stages: str,
) -> pathlib.Path:
  """`workdir`, with these stages of the chain in it, by default all."""
  runs, _ = chain(factory)
  for stage in stages or STAGES:
    shutil.copytree(runs / f"{stage}-test", workdir / f"{stage}-test")
  return workdir


def _build(workdir):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.main"),
      *(f"--config={CONFIG}", f"--workdir={workdir}"),
    ],
    cwd=ROOT,
    env=os.environ
    | {
      "INSTRUCT_JAX_CACHE": str(workdir.parent / "cache"),
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "1",
    },
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stdout
  return done.stdout
