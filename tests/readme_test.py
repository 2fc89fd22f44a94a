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


def test_chains_are_taken_over_from_their_run_folders(tmp_path):
  """Of the seeds that are finished; a run that was moved aside is not one."""

  def write(name, seed, **more):
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    tree = {
      "seed": seed,
      "seconds": {"wall": 2.0, "compile": 1.0},
      "peak_memory_bytes": 7,
      "metrics": {"reward/accuracy/training": 0.5, "loss": 1.0},
    }
    (folder / "results.json").write_text(json.dumps(tree | more))

  write("ppo_ptx-tiny-seed1", 1, tables={"preference": []})
  write("ppo_ptx-tiny-seed1.old1", 1, tables={"preference": ["old"]})
  ppo = {"metrics": {"likert/ppo": 5.0, "loss": 2.0}}
  write("ppo-tiny-seed1", 1, tables={"preference": ["ppo"]}, **ppo)
  write("rm-tiny-seed1", 1)
  write("dataset-tiny", 0)
  (tmp_path / "out").mkdir()
  results.take_over(tmp_path / "runs", tmp_path / "out")
  by_seed, chains = results.read(tmp_path / "out")
  # With what PPO without ptx has more; what both measured is PPO-ptx's.
  assert by_seed[1]["tables"] == {"preference": ["ppo"]}
  assert by_seed[1]["metrics"]["likert/ppo"] == 5.0
  assert by_seed[1]["metrics"]["loss"] == 1.0
  assert set(chains[1]) == {"dataset", "rm", "ppo_ptx"}
  assert chains[1]["rm"]["metrics"] == {"reward/accuracy/training": 0.5}
  assert results.seconds(chains)[4] == ["rm", "2.0 (1.0)"]
  assert results.seconds(chains)[1] == ["pretrain", "–"]
