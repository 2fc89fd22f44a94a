"""Ratios of two means: by hand, and by the contrast that they stand for."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from instruct_jax.base import errors
from instruct_jax.maths import ratios

ABOVE, BELOW = [0.40, 0.44, 0.39, 0.47, 0.42], [0.20, 0.19, 0.23, 0.21, 0.20]


def _contrast(c, above, below):
  """(low, high) of the mean of above - c below, Student's."""
  values = np.asarray(above) - c * np.asarray(below)
  n = len(values)
  half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
  return values.mean() - half, values.mean() + half


def test_by_hand():
  """A denominator that is always 2: half the interval of the mean above."""
  found = ratios.ratio_interval([1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
  half = stats.t.ppf(0.975, 2) / math.sqrt(3)
  np.testing.assert_allclose(
    (found.value, found.low, found.high), (1, 1 - half / 2, 1 + half / 2)
  )
  assert (found.n, found.clusters) == (3, 3)


def test_ends_are_where_the_contrast_is_no_longer_told_from_zero():
  found = ratios.ratio_interval(ABOVE, BELOW)
  np.testing.assert_allclose(found.value, np.mean(ABOVE) / np.mean(BELOW))
  np.testing.assert_allclose(
    _contrast(found.low, ABOVE, BELOW)[0], 0, atol=1e-12
  )
  np.testing.assert_allclose(
    _contrast(found.high, ABOVE, BELOW)[1], 0, atol=1e-12
  )


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.integers(0, 10**6), st.floats(-3, 3))
def test_beyond_a_number_as_its_contrast_is(seed, c):
  random = np.random.default_rng(seed)
  above, below = random.normal(1, 1, 4), random.normal(2, 0.3, 4)
  found = ratios.ratio_interval(above, below)
  low, high = _contrast(c, above, below)
  hypothesis.assume(math.isfinite(found.low))
  assert (found.low > c) == (low > 0)
  assert (found.high < c) == (high < 0)


def test_what_is_proportional_has_no_width():
  found = ratios.ratio_interval([2.0, 2.2, 2.4], [1.0, 1.1, 1.2])
  np.testing.assert_allclose((found.low, found.high), (2, 2))
  zeros = ratios.ratio_interval([0.0, 0.0], [0.5, 0.51])
  assert (zeros.value, zeros.low, zeros.high) == (0, 0, 0)


@pytest.mark.parametrize(
  ("below", "value"), [([1.0, -0.5, 0.4], 10 / 3), ([1.0, -1.0, 0.0], math.nan)]
)
def test_below_is_not_told_from_zero(below, value):
  found = ratios.ratio_interval([1.0, 1.0, 1.0], below)
  np.testing.assert_allclose(found.value, value)
  assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
  ("above", "below"),
  [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 1.0])],
)
def test_refuses(above, below):
  with pytest.raises(errors.UserError, match="a ratio of means needs"):
    ratios.ratio_interval(above, below)
