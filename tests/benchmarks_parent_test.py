"""The whole command against its parent, and how cost grows."""

import json
import subprocess
import xml.etree.ElementTree

import pytest

from benchmarks import results as committed
from benchmarks.suite import growth, parent, turns
from instruct_jax.base import errors

MAIN = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--workdir", type=pathlib.Path)
given = parser.parse_args()
STEPS = {steps}
if not STEPS:
  raise SystemExit("nothing to do")
for stage in ("sft", "ppo"):
  folder = given.workdir / stage
  folder.mkdir(parents=True)
  results = {{"steps": STEPS, "parameters_digest": stage, "metrics": {{}},
             "seconds": {{"wall": 1.0}}, "experiment": given.config}}
  (folder / "results.json").write_text(json.dumps(results))
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
  """Writes, and commits, how many steps a package's command makes."""
  home = tmp_path / "repository"
  (home / "instruct_jax").mkdir(parents=True)
  (home / "instruct_jax" / "__init__.py").write_text("")
  git(home, "init", "-q")
  monkeypatch.setattr(turns, "ROOT", home)

  def commit(steps):
    text = MAIN.format(steps=steps)
    (home / "instruct_jax" / "main.py").write_text(text)
    git(home, "add", "-A")
    git(home, "commit", "-q", "--allow-empty", "-m", "steps")
    return home

  return commit


def git(home, *arguments):
  who = ("-c", "user.name=a", "-c", "user.email=a@b")
  subprocess.run(["git", *who, *arguments], cwd=home, check=True)


def test_the_command_takes_turns_with_its_parent(repository):
  repository(3)
  home = repository(3)
  (home / "instruct_jax" / "main.py").open("a").write("\n")  # not committed
  found = parent.measure("HEAD~1", "x.py:test", 2)
  assert found["problems"] == []
  assert found["ratio"]["low"] <= found["ratio"]["high"]
  sides = list(found["sides"].values())
  assert [x["stages"]["ppo"]["steps"] for x in sides] == [3, 3]
  assert all(len(runs) == 2 for runs in found["runs"].values())
  left = subprocess.run(
    ["git", "worktree", "list"], cwd=home, capture_output=True, text=True
  )
  assert len(left.stdout.splitlines()) == 1


def test_other_steps_leave_no_ratio(repository):
  repository(2)
  repository(3)
  found = parent.measure("HEAD~1", "x.py:test", 1)
  assert found["problems"] == [
    "ppo: 3 steps, not 2",
    "sft: 3 steps, not 2",
  ]
  assert "ratio" not in found


def test_a_parent_that_fails_is_told(repository):
  repository(0)
  repository(3)
  found = parent.measure("HEAD~1", "x.py:test", 1)
  (problem,) = found["problems"]
  assert "nothing to do" in problem
  assert "ratio" not in found


def test_a_commit_that_is_none(repository):
  repository(1)
  with pytest.raises(errors.UserError, match="--parent=nobody"):
    parent.commit_of("nobody")


def stage(steps=1, **metrics):
  return {"steps": steps, "digest": "d", "seconds": {}, "metrics": metrics}


def test_results_may_differ_as_seeds_do(monkeypatch):
  by_seed = {
    n: {"metrics": {"kl/ppo_ptx": x, "likert/ppo_ptx": 5.0}}
    for n, x in enumerate((1.0, 1.25, 1.5))
  }
  monkeypatch.setattr(committed, "read", lambda: {"ppo_ptx": by_seed})
  assert parent.seeds_spread() == {"kl/ppo_ptx": 0.5, "likert/ppo_ptx": 0.0}
  ours = {"ppo_ptx": stage(**{"kl/ppo_ptx": 1.5, "loss": 9.0})}
  near = {"ppo_ptx": stage(**{"kl/ppo_ptx": 1.0, "loss": 1.0})}
  far = {"ppo_ptx": stage(**{"kl/ppo_ptx": 0.75})}
  assert parent.differences(ours, near) == []
  (said,) = parent.differences(ours, far)
  assert "kl/ppo_ptx 1.5, not 0.75" in said
  assert parent.differences(ours, {"sft": stage()}) == [
    "other stages: ppo_ptx, sft"
  ]


def fake(row, repeats, *, peak):
  """An iteration whose time is the square of its episodes."""
  del peak
  spec = row.spec()
  seconds = [float(len(spec["prompts"]) ** 2)] * repeats
  if len(spec["prompts"]) == 8:
    return {"problems": ["ours: died"], "sides": {}}
  side = {"seconds": seconds, "cpu_s": 1.0, "peak_GB": 1.0}
  return {"problems": [], "sides": {"ours": side}}


def test_growth_is_measured_and_drawn(tmp_path):
  found = growth.measure(2, growth.LINES[:1], one=fake)
  (line,) = (x for name, x in found.items() if name != "load")
  assert line["values"] == [16, 32, 64]  # of 8 there is no number
  assert line["seconds"] == [256.0, 1024.0, 4096.0]
  assert line["exponent"] == 2.0
  assert line["problems"] == ["ours: died"]
  growth.draw(found, tmp_path / "growth.svg")
  text = (tmp_path / "growth.svg").read_text()
  assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
  growth.draw(json.loads(json.dumps(found)), tmp_path / "again.svg")
  assert (tmp_path / "again.svg").read_text() == text


def test_each_line_changes_what_it_says():
  for line in growth.LINES:
    specs = [line.row(value).spec() for value in line.values]
    assert len({json.dumps(spec) for spec in specs}) == len(specs)
  of_length = growth.LINES[1].row(64).spec()
  assert len(of_length["prompts"][0]) + of_length["lengths"][0] == 64
  of_model = growth.LINES[2].row(growth.parameters(6, 384)).spec()
  assert of_model["model"]["layers"] == 6
  assert len(growth.LINES[3].row(9).spec()["responses"]) == 9
