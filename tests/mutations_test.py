"""The maker of mutants: what it changes, what it leaves, what it is told."""

import ast

import pytest

from tests import mutations
from tests.mutations_known import TARGETS

MODULE = '''"""Says 1 < 2."""
import jax.numpy as jnp


def f(x: int, is_real, *, rows: int = 1) -> "a < b":
  """Returns 1."""
  if x > 3 and rows:
    raise ValueError(f"{x + 1} is more than {3}")
  x = jnp.where(is_real, x - 1, x)
  return g("train", x, mode=True)
'''


@pytest.fixture
def mutants(tmp_path):
  (tmp_path / "m.py").write_text(MODULE)
  nodes = mutations.Mutator("m.py", tmp_path).nodes()
  return tmp_path, [mutant for node in nodes for mutant in node]


def test_every_mutant_is_another_program(mutants):
  folder, mutants = mutants
  for mutant in mutants:
    changed = ast.dump(ast.parse(mutant.source(folder)))
    assert changed != ast.dump(ast.parse(MODULE)), mutant


def test_what_is_changed_and_what_is_left(mutants):
  _, mutants = mutants
  changes = {(mutant.line, mutant.after) for mutant in mutants}
  for change in (
    (5, 'def f(x: int, is_real, *, rows: int = 2) -> "a < b":'),
    (7, "if x >= 3 and rows:"),
    (7, "if x > 3 or rows:"),
    (7, "if not (x > 3 and rows):"),
    (9, "x = jnp.where(is_real, x + 1, x)"),
    (9, "x = jnp.where(jnp.ones_like(is_real, bool), x - 1, x)"),
    (9, "x = jnp.where(is_real, x, x - 1)"),
    (9, "pass"),
    (10, 'return g("train", x, mode=False)'),
    (10, 'return g("train", x, )'),
    (10, "return g('validation', x, mode=True)"),
  ):
    assert change in changes, change
  assert not {line for line, _ in changes} & {1, 2, 6, 8}  # words and types


def test_a_seed_draws_the_same_mutants_of_different_nodes():
  one, other = (mutations.draw(3, 20, "maths/") for _ in range(2))
  assert one == other
  assert len({(m.path, m.start, m.stop) for m in one}) > 15
  assert one != mutations.draw(4, 20, "maths/")


def test_modules_and_tests_are_where_the_tables_say():
  for module, tests in TARGETS.items():
    for path in (module, *tests):
      assert (mutations.ROOT / path).exists(), path


def test_the_bugs_that_are_named_can_still_be_made():
  for mutant in mutations.named():
    ast.parse(mutant.source(mutations.ROOT))
