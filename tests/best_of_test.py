"""The best of n: which it is, and how far it is from who says them."""

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
