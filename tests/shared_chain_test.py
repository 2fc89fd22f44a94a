"""The real path: two commands on one chain, of which one is killed."""

import json
import re
import signal
import time

import pytest

from tests import built, doors

BRANCHES = ("ppo", "ppo_ptx")
BEFORE = built.STAGES[:4]
EVERY = (*built.STAGES[:-1], *BRANCHES, "evaluate")
NAMES = {f"{name}-test" for name in EVERY}


def start(folder, workdir, name, house=0):
  """The command, its output in a file."""
  return doors.house(house).start(
    doors.ROOT,
    "instruct_jax.main",
    *("--config=experiments/evaluate.py:test", f"--workdir={workdir}"),
    *(f"--config.measure.data={folder}", "--config.measure.sets=hellaswag"),
    out=folder / f"output-{name}",
    INSTRUCT_JAX_CACHE=str(folder / "cache"),
    JAX_NUM_CPU_DEVICES="1",
  )


def digests(workdir):
  return {
    path.parent.name: json.loads(path.read_text())["parameters_digest"]
    for path in workdir.glob("*/results.json")
  }


def is_at(process, workdir):
  """Whether a process works on one branch while another does on another."""
  held = []
  for name in BRANCHES:
    try:
      holder = json.loads((workdir / f".{name}-test.lock").read_text())
    except (FileNotFoundError, ValueError):
      return False
    held.append(holder["process"])
  return process.pid in held and len(set(held)) > 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_commands_of_which_one_is_killed_end_as_one_alone(
  tmp_path, tmp_path_factory
):
  """From the rankings on, which both branches need."""
  endings = ["ann is a nurse .", "a cow .", "bob lives", "in oslo ."]
  lines = ["what job does ann have ?", "0", *endings]
  (tmp_path / "hellaswag_val.txt").write_text("\n".join(lines))
  alone, shared = tmp_path / "alone", tmp_path / "shared"
  built.copied(tmp_path_factory, alone)
  built.copied(tmp_path_factory, shared, *BEFORE)
  assert start(tmp_path, alone, "alone").wait(timeout=900) == 0
  first = start(tmp_path, shared, "a")
  second = start(tmp_path, shared, "b", house=1)
  end = time.monotonic() + 600
  while not is_at(second, shared):
    assert time.monotonic() < end
    assert first.poll() is None
    assert second.poll() is None
    time.sleep(0.05)
  time.sleep(1)  # in the middle of it
  second.send_signal(signal.SIGKILL)
  second.wait()
  assert first.wait(timeout=900) == 0
  assert set(digests(shared)) == NAMES
  assert digests(shared) == digests(alone)
  said = "".join((tmp_path / f"output-{x}").read_text() for x in "ab")
  begun = re.findall(r"(\w+)-test: starts", said)
  new = len(NAMES) - len(BEFORE)
  assert len(begun) == new + 1  # the one that was broken off
  assert "taken over" in said
  assert re.search(rf"chain \d/{new} by 2 jobs", said)
  assert not [path for path in shared.iterdir() if path.name[0] == "."]
  assert not list(shared.glob("*.old*"))
