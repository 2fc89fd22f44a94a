"""Bradley-Terry: a published table, by hand, by law."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.maths import strengths

quick = hypothesis.settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)
# Baseball, American League 1987 (Agresti, Categorical Data Analysis, table
# 10.10): Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore.
BASEBALL = np.asarray(
  [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
  ]
)


def random_wins(seed, models=4):
  return np.random.default_rng(seed).integers(1, 9, (models,) * 2) * (
    1 - np.eye(models)
  )


def test_baseball():
  """As the R package BradleyTerry2 and Agresti print it, against Baltimore."""
  fitted = strengths.fit(BASEBALL)
  found = [fitted.difference(team, 6) for team in range(6)]
  np.testing.assert_allclose(
    [value for value, _ in found],
    [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839],
    atol=6e-5,
  )
  np.testing.assert_allclose(
    [error for _, error in found],
    [0.3433, 0.3396, 0.3367, 0.3359, 0.3339, 0.3319],
    atol=6e-5,
  )


def test_two_models_by_hand():
  """3 wins to 1: log 3, of which the error is √(4 / (3 · 1))."""
  fitted = strengths.fit([[0, 3], [1, 0]])
  np.testing.assert_allclose(fitted.values, [math.log(3) / 2, -math.log(3) / 2])
  np.testing.assert_allclose(
    fitted.difference(0, 1), (math.log(3), math.sqrt(4 / 3))
  )


@quick
@hypothesis.given(seeds)
def test_expected_wins_are_the_observed(seed):
  """At the maximum each model wins as often as it is expected to."""
  wins = random_wins(seed)
  s = strengths.fit(wins).values
  for i in range(4):
    expected = sum(
      (wins[i, j] + wins[j, i]) / (1 + math.exp(s[j] - s[i]))
      for j in range(4)
      if j != i
    )
    np.testing.assert_allclose(expected, wins[i].sum())
  np.testing.assert_allclose(s.sum(), 0, atol=1e-9)


@quick
@hypothesis.given(seeds)
def test_names_do_not_matter(seed):
  wins = random_wins(seed)
  order = np.random.default_rng(seed).permutation(4)
  fitted, turned = (
    strengths.fit(wins),
    strengths.fit(wins[np.ix_(order, order)]),
  )
  np.testing.assert_allclose(turned.values, fitted.values[order])
  np.testing.assert_allclose(turned.errors, fitted.errors[order])


def test_errors_are_those_of_many_tables():
  """The spread of what tables of one and the same strengths give."""
  rng, truth = np.random.default_rng(0), np.asarray([0.8, 0.0, -0.8])
  p = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
  found, said = [], []
  for _ in range(400):
    upper = np.triu(rng.binomial(60, p), 1)
    wins = upper + np.tril((60 - upper.T), -1)
    fitted = strengths.fit(wins)
    found.append(fitted.values)
    said.append(fitted.errors)
  np.testing.assert_allclose(
    np.std(found, axis=0), np.mean(said, axis=0), rtol=0.12
  )


def test_clustered_errors():
  """Of comparisons of their own nearly the same; of copies as of one."""
  rng = np.random.default_rng(0)
  first, second = rng.integers(0, 3, (2, 3000))
  keep = first != second
  first, second = first[keep], second[keep]
  won = (rng.random(len(first)) < 0.6).astype(float)
  fitted = strengths.fit(strengths.table(first, second, won, 3))
  alone = strengths.clustered(fitted, first, second, won, np.arange(len(first)))
  np.testing.assert_allclose(alone.errors, fitted.errors, rtol=0.05)
  five = [np.repeat(x, 5) for x in (first, second, won, np.arange(len(first)))]
  again = strengths.fit(strengths.table(*five[:3], 3))
  together = strengths.clustered(again, *five)
  np.testing.assert_allclose(together.errors, alone.errors, rtol=1e-6)


def test_ties_are_half_a_win_each():
  wins = strengths.table(
    np.asarray([0, 0, 1]), np.asarray([1, 1, 0]), np.asarray([1, 0.5, 1]), 2
  )
  np.testing.assert_array_equal(wins, [[0, 1.5], [1.5, 0]])


@pytest.mark.parametrize(
  ("wins", "groups"),
  [
    ([[0, 2], [0, 0]], [[0], [1]]),  # always wins
    (
      [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
      [[0, 1], [2, 3]],
    ),
  ],
)
def test_what_has_no_likeliest(wins, groups):
  found = strengths.ungraspable(np.asarray(wins))
  assert sorted(found) == groups
  with pytest.raises(errors.UserError, match="never won, never lost, or never"):
    strengths.fit(np.asarray(wins))
  assert np.isfinite(strengths.fit(np.asarray(wins), prior=1).values).all()


def test_a_prior_is_that_many_ties():
  wins = np.asarray([[0, 3, 1], [1, 0, 2], [2, 2, 0]])
  ties = wins + 0.5 * (1 - np.eye(3))
  np.testing.assert_allclose(
    strengths.fit(wins, prior=1).values, strengths.fit(ties).values
  )


def test_strong_ones_are_found():
  """Newton's steps from 0 do not run away from lopsided tables."""
  wins = np.asarray([[0, 9999, 9999], [1, 0, 9999], [1, 1, 0]])
  s = strengths.fit(wins).values
  assert np.isfinite(s).all()
  assert s[0] > s[1] > s[2]


@pytest.mark.parametrize(
  ("wins", "said"),
  [
    (np.ones((2, 3)), r"\[models, models\]"),
    (np.zeros((1, 1)), r"\[models, models\]"),
    (np.asarray([[0, -1], [1, 0]]), "negative"),
    (np.asarray([[1, 1], [1, 0]]), "against oneself"),
    (np.asarray([[0, math.nan], [1, 0]]), "finite"),
  ],
)
def test_no_table_of_wins(wins, said):
  with pytest.raises(errors.UserError, match=said):
    strengths.fit(wins)
