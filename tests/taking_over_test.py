"""Finished runs are taken over into what is committed, of one world each."""

import json

import pytest

from benchmarks import results, taking_over
from instruct_jax.base import errors
from instruct_jax.figures import claims

DATA = "microworld/prompts/microworld-test.array_record-00000-of-00001"


class Runs:
  """A workdir in which runs are written as they lie there when finished."""

  def __init__(self, folder):
    self.folder = folder
    self.out = folder / "out"
    self.out.mkdir(parents=True)
    self.write("dataset-tiny", job="dataset")
    self.records(b"records")

  def records(self, content):
    path = self.folder / "runs" / "dataset-tiny" / DATA
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

  def write(self, name, *needs, steps=0, tables=None, job="train", **metrics):
    folder = self.folder / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
      "seed": int(name[-1]) if "seed" in name else 0,
      "steps": steps,
      "seconds": {"wall": 2.0, "compile": 1.0},
      "peak_memory_bytes": 7,
      "metrics": metrics,
      "tables": tables or {},
      "provenance": {"command": "/a/path", "commit": "c"},
      "product": {"run": "."},
    }
    (folder / "results.json").write_text(json.dumps(tree))
    self.configure(name, *needs, job=job)

  def configure(self, name, *needs, job="train", **config):
    record = {
      "needs": {need.split("-")[0]: f"../{need}" for need in needs},
      "needs_digests": {need.split("-")[0]: need for need in needs},
      "data_digests": {},
      "config": {"job": job, "seed": 9, "evaluation": {"prompts": 8}} | config,
    }
    path = self.folder / "runs" / name / "config.json"
    path.write_text(json.dumps(record))

  def take(self, *names, **how):
    names = names or ("rloo",)
    return taking_over.take_over(self.folder / "runs", self.out, names, **how)


@pytest.fixture
def runs(tmp_path):
  return Runs(tmp_path)


def test_with_their_stages(runs):
  """Of the seeds that are finished; a run that was moved aside is not one."""
  accuracy = {"reward/accuracy/training": 0.5, "loss": 1.0}
  runs.write("rm-tiny-seed1", "dataset-tiny", **accuracy)
  needs = ("dataset-tiny", "rm-tiny-seed1")
  sampled = {"steps": 3, "count/episodes": 8.0, "likert/rloo": 5.0}
  tables = {"preference": [{"a": "row"}], "nlp": [], "likert_by_use_case": [{}]}
  runs.write("rloo-tiny-seed1", *needs, tables=tables, **sampled)
  runs.write("rloo-tiny-seed1.old1", *needs, steps=9)
  runs.write("sft-tiny-seed1")
  (path,) = runs.take("ppo", "rloo")
  found = results.read(runs.out)
  assert {name: [*by_seed] for name, by_seed in found.items()} == {"rloo": [1]}
  rloo = found["rloo"][1]
  assert json.loads(path.read_text()) == rloo
  assert rloo["tables"] == {"preference": [{"a": "row"}]}
  assert rloo["provenance"] == {"commit": "c"}
  assert rloo["metrics"] == {"count/episodes": 8.0, "likert/rloo": 5.0}
  assert "product" not in rloo
  assert list(rloo["stages"]) == ["dataset", "rm", "rloo"]
  assert rloo["stages"]["rm"]["metrics"] == {"reward/accuracy/training": 0.5}
  assert rloo["stages"]["rloo"]["episodes"] == 24
  assert rloo["settings"]["evaluation.prompts"] == 8
  by_stage = {
    row[0]: row[1]
    for row in results.seconds(found | {"ppo_ptx": found["rloo"]})
  }
  assert by_stage["rm"] == "2.0 (1.0)"
  assert by_stage["pretrain"] == "–"


def test_seeds_are_added_as_they_are_made(runs):
  runs.write("rloo-tiny", "dataset-tiny")
  first = runs.take()[0].read_text()
  runs.write("rloo-tiny-seed1", "dataset-tiny")
  assert [path.name for path in runs.take()] == [
    "rloo-tiny-seed0.json",
    "rloo-tiny-seed1.json",
  ]
  assert (runs.out / "rloo-tiny-seed0.json").read_text() == first


def test_nothing_to_take(runs):
  with pytest.raises(errors.UserError, match="no finished run in it of rloo"):
    runs.take()


def test_other_settings_among_the_runs(runs):
  runs.write("rloo-tiny", "dataset-tiny")
  runs.write("rloo-tiny-seed1", "dataset-tiny")
  runs.configure("rloo-tiny-seed1", "dataset-tiny", steps=7)
  with pytest.raises(errors.UserError, match="differ: other settings: steps"):
    runs.take(replace=True)
  assert not [*runs.out.iterdir()]


@pytest.mark.parametrize("kind", ["settings", "data", "none"])
def test_other_settings_than_what_is_committed(runs, kind):
  runs.write("rloo-tiny", "dataset-tiny")
  (first,) = runs.take()
  before = first.read_text()
  if kind == "none":
    kept = json.loads(before)
    del kept["settings"]
    first.write_text(json.dumps(kept))
  (runs.folder / "runs" / "rloo-tiny" / "results.json").unlink()
  runs.write("rloo-tiny-seed1", "dataset-tiny")
  if kind == "settings":
    evaluation = {"prompts": 9}
    runs.configure("rloo-tiny-seed1", "dataset-tiny", evaluation=evaluation)
  if kind == "data":
    runs.records(b"other records")
  said = {
    "settings": "evaluation.prompts",
    "data": "other data",
    "none": "without its settings",
  }
  with pytest.raises(errors.UserError, match=said[kind]):
    runs.take()
  assert [path.name for path in runs.out.iterdir()] == [first.name]
  runs.take(replace=True)
  assert [path.name for path in runs.out.iterdir()] == ["rloo-tiny-seed1.json"]


def test_the_seed_is_no_setting(runs):
  runs.write("rloo-tiny", "dataset-tiny")
  runs.write("rloo-tiny-seed1", "dataset-tiny")
  runs.configure("rloo-tiny-seed1", "dataset-tiny", seed=1)
  assert len(runs.take()) == 2


def test_only_one_world_is_shown_together(runs):
  """The world of PPO-ptx; a file that knows of none is of none of today's."""

  def write(name, **world):
    path = runs.out / f"{name}-tiny-seed0.json"
    path.write_text(json.dumps({"metrics": {}} | world))

  for name, world in {"ppo_ptx": "new", "dpo": "new", "ppo": "old"}.items():
    write(name, world=world)
  write("rloo")
  assert [*results.read(runs.out)] == ["dpo", "ppo_ptx"]
  assert [*results.read(runs.out, ["ppo"])] == []
  write("ppo_ptx")
  assert [*results.read(runs.out)] == ["rloo", "ppo_ptx"]


def test_every_set_of_tasks_has_a_row():
  """After the other measures, before their mean; f1 has none."""
  metrics = {"likert/gpt": 2.5, "nlp/odd/gpt": 0.25, "nlp/odd_f1/gpt": 0.5}
  metrics |= {"nlp/pairs/gpt": 0.75, "nlp/mean/gpt": 0.5}
  rows = results.measures({"ppo_ptx": {0: {"metrics": metrics}}})
  cells = [(row[0], row[1]) for row in rows if row[1] != "–"]
  assert cells == [
    ("Likert, 1 to 7", "2.50 (2.50)"),
    ("task: odd, exact match %", "25 (25)"),
    ("task: pairs, exact match %", "75 (75)"),
    ("tasks, mean of the sets, exact match %", "50.0 (50.0)"),
  ]


def test_all_that_claims_read_can_be_taken_over():
  sources = {part.source for claim in claims.CLAIMS for part in claim.parts}
  names = {name for one in sources for runs in one.runs for name in runs}
  assert names <= set(results.TAKEN)
