"""Mixtures: every part within one draw of its share, at any point."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.data.batch import mixtures

WEIGHTS = st.lists(
  st.integers(1, 90).map(lambda n: n / 10), min_size=1, max_size=7
)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(weights=WEIGHTS)
def test_counts_are_within_one_of_the_shares(weights):
  schedule = mixtures.schedule(weights)
  period = len(schedule.order)
  part, nth = schedule.draws(0, 2 * period + 3)
  shares = np.asarray(weights) / sum(weights)
  drawn = np.cumsum(part[:, None] == np.arange(len(weights)), axis=0)
  draws = np.arange(1, len(part) + 1)[:, None]
  assert np.abs(drawn - draws * shares).max() <= 1
  np.testing.assert_allclose(drawn[period - 1], period * shares)
  counted = drawn[np.arange(len(part)), part] - 1
  np.testing.assert_array_equal(nth, counted)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(weights=WEIGHTS, start=st.integers(0, 10**9))
def test_any_stretch_is_found_at_once(weights, start):
  schedule = mixtures.schedule(weights)
  part, nth = schedule.draws(start, 9)
  for n in range(9):
    one = schedule.draws(start + n, 1)
    assert (one[0].item(), one[1].item()) == (part[n], nth[n])


def test_decimals_are_what_they_look_like():
  assert len(mixtures.schedule([0.7, 0.3]).order) == 10
  assert len(mixtures.schedule([0.1, 0.1, 0.1]).order) == 3
  assert mixtures.schedule([2.0]).draws(5, 2)[1].tolist() == [5, 6]


@pytest.mark.parametrize("weights", [[1.0, 0.0], [-1.0], [float("nan"), 1.0]])
def test_a_weight_above_zero(weights):
  with pytest.raises(errors.UserError, match="above 0"):
    mixtures.schedule(weights)


def test_too_many_digits():
  with pytest.raises(errors.UserError, match="fewer digits"):
    mixtures.schedule([0.123456789, 0.876543211])
