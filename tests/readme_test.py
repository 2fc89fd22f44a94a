"""What the README and the tables in docs/ show is what the code does."""

import json
import pathlib
import re

import pytest

from benchmarks import results
from experiments import differences

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
  ("name", "document"),
  [("differences", differences.document), ("results", results.document)],
)
def test_a_generated_file_is_what_its_command_gives(name, document):
  assert (ROOT / "docs" / f"{name}.md").read_text() == document() + "\n"


def test_the_test_command_can_be_found_by_ci():
  lines = README.splitlines()
  commands = [x for x in lines if x.startswith("pip install") and "pytest" in x]
  assert len(commands) == 1
  assert "[test]" in commands[0]


def test_two_commands_each_with_its_own_install():
  section = README.partition("## Two commands")[2].partition("\n## ")[0]
  commands = re.findall(r"^pip install .*&& (python -m \S+)", section, re.M)
  assert commands == ["python -m instruct_jax.main", "python -m pytest"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_and_files_that_are_named_are_there(name):
  text = (ROOT / name).read_text()
  links = re.findall(r"\]\(([^):]+)\)", text)
  rooms = {path.name for path in (ROOT / "instruct_jax").iterdir()}
  files = [
    match
    for match in re.findall(r"`([a-z_]+(?:/\w+)*(?:/|\.py|\.md))`", text)
    if "/" in match and match.split("/")[0] in rooms
  ]
  for path in (*links, *(f"instruct_jax/{file}" for file in files)):
    assert (ROOT / path).exists(), path


def test_finished_runs_are_taken_over_with_their_stages(tmp_path):
  """Of the seeds that are finished; a run that was moved aside is not one."""

  def write(name, needs, *, steps=0, tables=None, **metrics):
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    tree = {
      "seed": 1 if "seed1" in name else 0,
      "steps": steps,
      "seconds": {"wall": 2.0, "compile": 1.0},
      "peak_memory_bytes": 7,
      "metrics": metrics,
      "tables": {"preference": tables, "nlp": []} if tables else {},
      "provenance": {"command": "/a/path", "commit": "c"},
    }
    (folder / "results.json").write_text(json.dumps(tree))
    below = {name: f"../{need}" for name, need in needs.items()}
    (folder / "config.json").write_text(json.dumps({"needs": below}))

  write("dataset-tiny", {})
  write(
    "rm-tiny-seed1",
    {"data": "dataset-tiny"},
    **{"reward/accuracy/training": 0.5, "loss": 1.0},
  )
  needs = {"data": "dataset-tiny", "reward": "rm-tiny-seed1"}
  sampled = {"steps": 3, "count/episodes": 8.0, "likert/rloo": 5.0}
  write("rloo-tiny-seed1", needs, tables=["a row"], **sampled)
  write("rloo-tiny-seed1.old1", needs, tables=["old"], steps=9)
  write("sft-tiny-seed1", {}, tables=["of no experiment that is compared"])
  (tmp_path / "out").mkdir()
  results.take_over(tmp_path / "runs", tmp_path / "out")
  found = results.read(tmp_path / "out")
  assert {name: set(by_seed) for name, by_seed in found.items()} == {
    "rloo": {1}
  }
  rloo = found["rloo"][1]
  assert rloo["tables"] == {"preference": ["a row"]}
  assert rloo["provenance"] == {"commit": "c"}
  assert list(rloo["stages"]) == ["dataset", "rm", "rloo"]
  assert rloo["stages"]["rm"]["metrics"] == {"reward/accuracy/training": 0.5}
  assert rloo["stages"]["rloo"]["episodes"] == 24
  by_stage = {
    row[0]: row[1]
    for row in results.seconds(found | {"ppo_ptx": found["rloo"]})
  }
  assert by_stage["rm"] == "2.0 (1.0)"
  assert by_stage["pretrain"] == "–"


def test_the_table_of_the_readme_is_that_of_the_results():
  rows = results.side_by_side(results.read())
  for row in rows:
    assert "| " + " | ".join(row) + " |" in README, row[0]
