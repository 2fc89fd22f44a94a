"""The best of n: which it is, and how far it is from who says them."""

import itertools
import math

import numpy as np
import pytest

from instruct_jax.maths import best_of


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_kl_is_that_of_the_greatest_of_n_draws(n):
  """Of m equally likely responses with scores of their own: the best of n is
  the i-th from below with the chance (i^n - (i - 1)^n) / m^n. The more there
  are, the nearer is the KL to the closed form, which it never exceeds."""
  gaps = []
  for m in (10, 1000, 100_000):
    i = np.arange(1, m + 1, dtype=np.float64) / m
    chance = np.diff(i**n, prepend=0.0)
    exact = float((chance * np.log(chance * m)).sum())
    gaps.append(best_of.kl(n) - exact)
  assert min(gaps) > -1e-9
  assert gaps == sorted(gaps, reverse=True)
  assert gaps[-1] < 1e-3


def test_kl_by_hand():
  assert best_of.kl(1) == 0
  assert best_of.kl(4) == pytest.approx(math.log(4) - 3 / 4)


def test_places_by_hand():
  scores = np.asarray([1.0, 5.0, 5.0, -2.0, -1.0, -np.inf, *[-np.inf] * 3])
  np.testing.assert_array_equal(best_of.places(scores, 3), [1, 4, 6])
  np.testing.assert_array_equal(best_of.places(scores, 1), np.arange(9))


@pytest.mark.parametrize("tied", [False, True])
def test_the_best_of_a_pool_is_the_mean_over_all_choices(tied):
  rng = np.random.default_rng(0)
  prompts, most = 5, 6
  scores = rng.normal(size=(prompts, most))
  if tied:
    scores = rng.integers(0, 3, size=(prompts, most)).astype(float)
  values = rng.normal(size=(prompts, most))
  for n in range(1, most + 1):
    wanted = []
    for row, value in zip(scores, values):
      means = []
      for chosen in itertools.combinations(range(most), n):
        best = max(row[i] for i in chosen)
        # Whichever of equal ones was sampled first is as likely as another.
        means.append(np.mean([value[i] for i in chosen if row[i] == best]))
      wanted.append(np.mean(means))
    found = best_of.expected(scores, values, n=n)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_best_of_a_pool_by_hand():
  """Of 3 choose 2: the second best is best once, the best twice."""
  found = best_of.expected([[0.2, 0.9, 0.5]], [[10.0, 30.0, 20.0]], n=2)
  np.testing.assert_allclose(found, [(20 + 2 * 30) / 3])
  whole = best_of.expected(np.eye(64)[:1], np.eye(64)[:1], n=64)
  assert whole.tolist() == [1.0]
  with pytest.raises(ValueError, match="best of 4 of a pool of 3"):
    best_of.expected(np.zeros((1, 3)), np.zeros((1, 3)), n=4)
