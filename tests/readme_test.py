"""What the README and the tables in docs/ show is what the code does."""

import pathlib
import re

import pytest

from benchmarks import results
from experiments import differences
from instruct_jax.figures import claim_table, collected, expected, verdicts

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


PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_links_and_files_that_are_named_are_there(name):
  text = (ROOT / name).read_text()
  links = re.findall(r"\]\(([^):]+)\)", text)
  rooms = {path.name for path in (ROOT / "instruct_jax").iterdir()}
  files = [
    match
    for match in re.findall(r"`([a-z_]+(?:/\w+)*(?:/|\.py|\.md))`", text)
    if "/" in match and match.split("/")[0] in rooms
  ]
  for link in links:
    page, _, part = link.partition("#")
    target = (ROOT / name).parent / page if page else ROOT / name
    assert target.exists(), link
    assert not part or part in anchors(target.read_text()), link
  for file in files:
    assert (ROOT / "instruct_jax" / file).exists(), file


def anchors(text):
  """What the headings of a page can be linked by."""
  headings = re.findall(r"^#+ (.*)$", text, re.M)
  plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
  return {heading.replace(" ", "-") for heading in plain}


def test_the_table_of_the_readme_is_that_of_the_results():
  rows = results.side_by_side(results.read())
  for row in rows:
    assert "| " + " | ".join(row) + " |" in README, row[0]


def test_claims_and_what_is_expected_are_what_their_commands_give():
  there = collected.collect()
  decided = verdicts.decide(there.results)
  table = claim_table.markdown(decided, there.tried)
  assert f"{claim_table.START}\n{table}\n{claim_table.STOP}" in README
  seeds = there.results.get(collected.MAIN, {})
  table = expected.markdown(seeds)
  assert f"{expected.START}\n{table}\n{expected.STOP}" in README
  document = (ROOT / "docs" / "claims.md").read_text()
  assert document == claim_table.document() + "\n"
