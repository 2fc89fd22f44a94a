"""The length-controlled win rate: by hand, by law, by what it is for."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import optimize, special

from instruct_jax.base import errors
from instruct_jax.maths import length_control, statistics

quick = hypothesis.settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


def drawn(seed, n=600, *, theta=0.0, phi=0.0, psi=0.0):
  """Comparisons drawn from the model itself."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(20, 200, (n, 2)) + np.asarray([30, 0])
  hard = rng.normal(size=n)
  logit = theta + psi * hard
  logit = logit + phi * length_control.standardised(lengths)
  won = (rng.random(n) < special.expit(logit)).astype(float)
  return won, lengths, hard


def test_standardised_by_hand():
  """Differences 4, 0, -4: their standard deviation is 4."""
  lengths = np.asarray([[5, 1], [3, 3], [0, 4]])
  np.testing.assert_allclose(
    length_control.standardised(lengths), [math.tanh(1), 0, math.tanh(-1)]
  )
  # All alike: there is no deviation, the difference itself is the unit.
  np.testing.assert_allclose(
    length_control.standardised(np.asarray([[5, 1], [5, 1]])), math.tanh(1)
  )
  np.testing.assert_array_equal(
    length_control.standardised(np.asarray([[2, 2], [2, 2]])), 0
  )


def test_equal_lengths_give_the_raw_rate():
  """θ alone: the logit of the share, but for the ridge."""
  won = np.asarray([1.0, 1, 1, 0] * 50)
  found = length_control.win_rate(won, np.full((200, 2), 9), np.arange(200))
  np.testing.assert_allclose(found.rate.value, 0.75, atol=1e-4)
  np.testing.assert_allclose(found.theta, math.log(3), atol=1e-3)
  # The delta method of 200 trials: ± 1.97 · √(1 / (200 · p (1 - p))) in logits.
  half = 1.972 / math.sqrt(200 * 0.75 * 0.25)
  np.testing.assert_allclose(
    special.logit([found.rate.low, found.rate.high]),
    [math.log(3) - half, math.log(3) + half],
    atol=0.01,
  )


def test_as_another_solver_finds_it():
  won, lengths, hard = drawn(0, theta=0.4, phi=0.9, psi=0.7)
  x = np.stack([np.ones(600), length_control.standardised(lengths), hard], 1)

  def loss(w):
    z = x @ w
    return (np.logaddexp(0, z) - won * z).sum() + 0.005 * (w * w).sum()

  w = optimize.minimize(loss, np.zeros(3), tol=1e-10).x
  found = length_control.win_rate(won, lengths, np.arange(600), difficulty=hard)
  np.testing.assert_allclose((found.theta, found.phi, found.psi), w, atol=1e-4)
  np.testing.assert_allclose(
    found.rate.value, special.expit(w[0] + w[2] * hard).mean(), atol=1e-4
  )


def test_what_is_won_by_length_alone_is_taken_away():
  """A model that is only longer wins more than half, controlled just half."""
  won, lengths, _ = drawn(1, n=4000, phi=3.0)
  found = length_control.win_rate(won, lengths, np.arange(4000))
  assert won.mean() > 0.6
  assert found.rate.low < 0.5 < found.rate.high
  assert found.phi > 2


@quick
@hypothesis.given(seeds)
def test_the_other_way_round(seed):
  won, lengths, hard = drawn(seed, n=80, theta=0.3, phi=0.5, psi=0.4)
  clusters = np.arange(80) // 2
  one = length_control.win_rate(won, lengths, clusters, difficulty=hard).rate
  other = length_control.win_rate(
    1 - won, lengths[:, ::-1], clusters, difficulty=hard
  ).rate
  np.testing.assert_allclose(
    (one.value, one.low, one.high),
    (1 - other.value, 1 - other.high, 1 - other.low),
    atol=1e-7,
  )


def test_covers_95_percent():
  inside, trials = 0, 200
  for seed in range(trials):
    won, lengths, hard = drawn(seed, n=300, theta=0.5, phi=1.0, psi=0.5)
    truth = special.expit(0.5 + 0.5 * hard).mean()
    rate = length_control.win_rate(
      won, lengths, np.arange(300), difficulty=hard
    ).rate
    inside += rate.low <= truth <= rate.high
  assert 0.9 < inside / trials < 0.99


def test_clusters_widen_it():
  won, lengths, _ = drawn(3, n=200, theta=0.2)
  many = [np.repeat(x, 4, axis=0) for x in (won, lengths, np.arange(200))]
  alone = length_control.win_rate(won, lengths, np.arange(200)).rate
  together = length_control.win_rate(*many).rate
  np.testing.assert_allclose(
    (together.low, together.high), (alone.low, alone.high), atol=2e-3
  )
  assert (together.n, together.clusters) == (800, 200)


def test_all_won():
  """Nothing is separated to infinity, and the interval stays honest."""
  found = length_control.win_rate(
    np.ones(20), np.full((20, 2), 9), np.arange(20)
  )
  assert 0.95 < found.rate.value < 1
  assert found.rate.low < 0.86  # Wilson's of 20 of 20 begins at 0.84


def test_one_comparison():
  found = length_control.win_rate(np.ones(1), np.asarray([[9, 3]]), np.zeros(1))
  rate = found.rate
  assert 0.5 < rate.value < 1
  assert (rate.low, rate.high) == statistics.wilson(rate.value, 1)


def test_few_comparisons_by_hand():
  """3 of 6: a rate of 1/2, whose error is √(6/5 · 6 · (1/2)²) / 6; in logits
  four times that, and t has 5 degrees of freedom."""
  won = np.asarray([1.0, 1, 1, 0, 0, 0])
  rate = length_control.win_rate(won, np.full((6, 2), 9), np.arange(6)).rate
  half = 2.5706 * 4 * math.sqrt(6 / 5 * 6 / 4) / 6
  np.testing.assert_allclose(rate.value, 0.5)
  np.testing.assert_allclose(
    special.logit([rate.low, rate.high]), [-half, half], rtol=0.01
  )


def test_difficulties_find_who_is_easy():
  """γ follows what it was drawn from; unanswered instructions have 0."""
  rng = np.random.default_rng(0)
  gamma = rng.normal(size=200)
  lengths = rng.integers(10, 90, (12, 200, 2))
  won = (
    rng.random((12, 200)) < special.expit(gamma + rng.normal(size=(12, 1)))
  ).astype(float)
  won[:, 0] = math.nan
  found = length_control.difficulties(list(won), list(lengths))
  assert found[0] == 0
  assert np.corrcoef(found[1:], gamma[1:])[0, 1] > 0.8


def test_difficulties_as_another_solver_finds_them():
  rng = np.random.default_rng(1)
  won = rng.random((2, 6)).round(2)
  won[1, 3] = math.nan
  lengths = rng.integers(10, 90, (2, 6, 2))
  tanh = np.zeros((2, 6))
  for m in range(2):
    known = ~np.isnan(won[m])
    tanh[m, known] = length_control.standardised(lengths[m][known])

  def loss(w):
    z = w[:2, None] + w[2:4, None] * tanh + w[4:]
    each = np.logaddexp(0, z) - np.nan_to_num(won) * z
    penalty = 0.005 * (w[:4] ** 2).sum() + 0.5 * (w[4:] ** 2).sum()
    return each[~np.isnan(won)].sum() + penalty

  best = optimize.minimize(loss, np.zeros(10), tol=1e-12).x
  found = length_control.difficulties(list(won), list(lengths))
  np.testing.assert_allclose(found, best[4:], atol=1e-4)


@pytest.mark.parametrize(
  ("step", "damped"),
  [
    ([8.0, -0.5], [2.0, -0.125]),  # as far as its longest coefficient may go
    ([0.1, -8.0], [0.025, -2.0]),
    ([1.5, -2.0], [1.5, -2.0]),
    ([0.0, 0.0], [0.0, 0.0]),
  ],
)
def test_a_long_step_is_shortened_and_no_other(step, damped):
  found = length_control._damped(np.asarray(step))
  np.testing.assert_allclose(found, damped)


def test_wrong_shapes():
  with pytest.raises(errors.UserError, match=r"lengths \[N, 2\]"):
    length_control.win_rate(np.ones(3), np.ones((2, 2)), np.arange(3))
  with pytest.raises(errors.UserError, match=r"lengths \[N, 2\]"):
    length_control.win_rate(np.ones(0), np.ones((0, 2)), np.arange(0))
  with pytest.raises(errors.UserError, match=r"\[models, instructions\]"):
    length_control.difficulties([np.ones(3)], [np.ones((2, 2))])
