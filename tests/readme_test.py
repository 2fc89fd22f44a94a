"""What the README shows is what the code does."""

import pathlib

from experiments import differences

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_table_of_small_variants_is_made_from_the_configs():
  assert differences.table() in README.read_text()


def test_the_test_command_can_be_found_by_ci():
  lines = README.read_text().splitlines()
  commands = [x for x in lines if x.startswith("pip install") and "pytest" in x]
  assert len(commands) == 1
  assert "[test]" in commands[0]
