"""Attention on a CPU, tile by tile, beside all scores at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.models import attention, tiles
from instruct_jax.parallel import sharding
from tests import flash_test

WHOLE = (None, None)


def computed(f, given, monkeypatch, *, few):
  """f(*given), by tiles of 8 where there are more than so many queries."""
  monkeypatch.setattr(tiles, "TILE", 8)
  monkeypatch.setattr(tiles, "FEW", few)
  return jax.jit(lambda *x: f(*x))(*given)


def assert_near(actual, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-5),
    actual,
    expected,
  )


@pytest.mark.parametrize("name", flash_test.CASES)
def test_values_and_gradients_are_those_of_all_scores(name, monkeypatch):
  make, (B, G, M), settings = flash_test.CASES[name]
  structure = make()
  T, S = structure.positions.shape[1], structure.is_key.shape[1]
  at = (3, None) if name == "packed" else WHOLE
  given = flash_test.heads(B, G, M, len(range(T)[slice(*at)]), S)
  f = functools.partial(flash_test.attended, structure, settings, at)
  actual = computed(f, given, monkeypatch, few=4)
  assert_near(actual, computed(f, given, monkeypatch, few=100))


@pytest.mark.parametrize(("rows", "groups"), [(4, 2), (3, 1)])
def test_on_a_mesh_as_on_one_device(rows, groups, monkeypatch):
  segments = np.sort(np.random.default_rng(0).integers(0, 3, (rows, 12)), 1)
  structure = attention.packed(jnp.asarray(segments, jnp.int32))
  given = flash_test.heads(rows, groups, 2, 12)
  settings = {"window": 6}
  f = functools.partial(flash_test.attended, structure, settings, WHOLE)
  expected = computed(f, given, monkeypatch, few=100)
  with jax.set_mesh(sharding.make_mesh(2, 2, 2)):
    assert_near(computed(f, given, monkeypatch, few=4), expected)


def test_only_tiles_in_which_something_is_seen_are_met():
  """A prompt of 4 tokens and two responses: 1 + 2 + 2 tiles of 9."""
  ones = np.ones((2, 3, 4), bool)
  structure = attention.shared_prompt(ones[:, 0], ones[:, 1:])
  marks = attention._marks(structure, has_places=False)
  seen = attention.visible.tiles(*marks, window=None, sizes=(4, 4))
  found = tiles._Tiles.of(seen.at[1].set(False), None)
  assert int(found.count) == 5
  met = zip(*(x[:5].tolist() for x in (found.rows, found.queries, found.keys)))
  assert list(met) == [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 2)]


def test_a_long_row_has_no_scores():
  """But a mask, once for all heads; a short one has scores."""
  for T, has_scores in ((300, False), (100, True)):
    structure = attention.padded(jnp.ones((2, T), bool))
    f = functools.partial(flash_test.attended, structure, {}, WHOLE)
    given = flash_test.heads(2, 2, 1, T)
    text = jax.jit(lambda *x, f=f: f(*x)).trace(*given).lower().as_text()
    shapes = set(flash_test.compiled_shapes(text))
    assert ((2, 2, T, T) in shapes) == has_scores
    least = 2 * 2 * T * T
    assert any(np.prod(s) >= least for s in shapes) == has_scores
