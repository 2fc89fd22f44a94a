"""Means and proportions with their intervals: by hand, by law, by coverage."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from instruct_jax.base import errors
from instruct_jax.maths import statistics

quick = hypothesis.settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


class TestMeanInterval:
  def test_independent_values(self):
    """One value a cluster: the textbook interval of a mean."""
    values = np.array([1.0, 2, 4, 7, 1])
    interval = statistics.mean_interval(values, np.arange(5))
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    np.testing.assert_allclose((interval.low, interval.high), (low, high))
    assert (interval.value, interval.n, interval.clusters) == (3, 5, 5)

  def test_by_hand(self):
    """Means 1 and 0 of two clusters of two: se² = 2 (1 + 1) / 16 = 1 / 4."""
    interval = statistics.mean_interval(
      np.array([1.0, 1, 0, 0]), np.array(["a", "a", "b", "b"])
    )
    half = stats.t.ppf(0.975, 1) / 2
    np.testing.assert_allclose(interval.high - interval.value, half)

  @quick
  @hypothesis.given(seeds, st.integers(2, 5))
  def test_copies_add_nothing(self, seed, copies):
    """Repeating every value within its cluster leaves the interval."""
    values = np.random.default_rng(seed).normal(size=8)
    once = statistics.mean_interval(values, np.arange(8))
    often = statistics.mean_interval(
      np.repeat(values, copies), np.repeat(np.arange(8), copies)
    )
    np.testing.assert_allclose(
      (often.low, often.value, often.high), (once.low, once.value, once.high)
    )

  def test_covers_95_percent(self):
    """Clusters that share an effect, of unequal sizes."""
    rng, inside, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
      sizes = rng.integers(1, 6, 30)
      clusters = np.repeat(np.arange(30), sizes)
      values = rng.normal(size=30)[clusters] + rng.normal(size=sizes.sum())
      inside += not statistics.mean_interval(values, clusters).excludes(0.0)
    assert 0.91 < inside / trials < 0.98

  def test_one_cluster_says_nothing(self):
    values = np.array([1.0, 2, 3])
    interval = statistics.mean_interval(values, np.zeros(3, int))
    assert (interval.low, interval.value, interval.high) == (
      -math.inf,
      2,
      math.inf,
    )
    bounded = statistics.mean_interval(
      values, np.zeros(3, int), bounds=(1.0, 7.0)
    )
    assert 1 <= bounded.low < 2 < bounded.high <= 7

  @pytest.mark.parametrize("prompts", [1, 4])
  @pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
  def test_wilson_s_bounds_are_where_the_rate_is_z_deviations_off(
    self, prompts, rate
  ):
    """(p - rate)² = z² p (1 - p) / n at both bounds, scaled to 2 .. 7."""
    value = 2 + 5 * rate
    interval = statistics.mean_interval(
      np.full(prompts, value), np.arange(prompts), bounds=(2.0, 7.0)
    )
    z = stats.norm.ppf(0.975)
    for bound in (interval.low, interval.high):
      p = (bound - 2) / 5
      np.testing.assert_allclose(
        (p - rate) ** 2, z * z * p * (1 - p) / prompts, atol=1e-12
      )
    assert interval.low <= value <= interval.high
    assert interval.high - interval.low > 0.1

  def test_an_interval_is_cut_to_its_bounds(self):
    """Otherwise it is Student's, as without bounds."""
    values, clusters = np.array([2.0, 7, 2, 7, 7]), np.arange(5)
    free = statistics.mean_interval(values, clusters)
    wide = statistics.mean_interval(values, clusters, bounds=(1.0, 8.0))
    assert free.low < 2 < 5 < 7 < free.high
    assert (wide.low, wide.high) == (free.low, 8.0)
    near = statistics.mean_interval(values, clusters, bounds=(2.0, 99.0))
    assert (near.low, near.high) == (2.0, free.high)

  def test_its_own_bounds_are_not_excluded(self):
    interval = statistics.Interval(0.5, 0.25, 0.75, 9, 9)
    inside = [interval.excludes(x) for x in (0.25, 0.5, 0.75)]
    assert inside == [False] * 3
    assert interval.excludes(0.2)
    assert interval.excludes(0.8)

  def test_equal_values(self):
    interval = statistics.mean_interval(np.full(4, 0.1), np.arange(4))
    np.testing.assert_allclose((interval.low, interval.high), 0.1)

  @pytest.mark.parametrize(
    ("values", "clusters", "bounds", "message"),
    [
      ([], [], None, "nothing to average"),
      ([1.0], [1, 2], None, "one cluster a value"),
      ([math.nan], [1], None, "finite"),
      ([0.5, 2], [1, 2], (0, 1), "leave"),
      ([-0.5, 1], [1, 2], (0, 1), "leave"),
      ([0.5], [1], (1, 0), "bounds"),
      ([1.0], [1], (1, 1), "bounds"),
    ],
  )
  def test_bad_input(self, values, clusters, bounds, message):
    with pytest.raises(errors.UserError, match=message):
      statistics.mean_interval(
        np.array(values), np.array(clusters), bounds=bounds
      )


def _share(values, clusters=None, **more):
  values = np.asarray(values, float)
  clusters = np.arange(len(values)) if clusters is None else clusters
  return statistics.proportion_interval(values, np.asarray(clusters), **more)


def _drawn(rng, rate, *, count, size, share):
  """Bernoulli values in clusters of 1 to 2 size - 1; `share` of a cluster's
  values are one draw, so that its correlation is share²."""
  clusters = np.repeat(np.arange(count), rng.integers(1, 2 * size, count))
  alone, shared = (rng.random(n) < rate for n in (len(clusters), count))
  same = rng.random(len(clusters)) < share
  return np.where(same, shared[clusters], alone), clusters


class TestProportionInterval:
  @pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [
      (81, 263, 0.2553, 0.3662),
      (15, 148, 0.0624, 0.1605),
      (0, 20, 0.0, 0.1611),
      (1, 29, 0.0061, 0.1718),
    ],
  )
  def test_newcombe_1998_table_1(self, wins, n, low, high):
    """Method 3, the score method without continuity correction."""
    found = _share(np.arange(n) < wins)
    np.testing.assert_allclose((found.low, found.high), (low, high), atol=5e-5)
    np.testing.assert_allclose(
      statistics.wilson(wins / n, n), (found.low, found.high)
    )
    assert (found.value, found.n, found.clusters) == (wins / n, n, n)

  def test_rounding_does_not_leave_0_to_1(self):
    """Of 16 trials the upper end of 1 would be 1 + 2e-16, of 21 the lower one
    of 0 below 0."""
    for trials in range(1, 200):
      for rate in (0.0, 1.0):
        low, high = statistics.wilson(rate, trials)
        assert 0 <= low < high <= 1

  def test_by_hand(self):
    """Clusters 1111 1111 1111 1100 0011 0000 0000 0000 0000: p = 4 / 9.

    u = 20/9 x 3, 2/9 x 2, -16/9 x 4: sum of squares 2232/81, x 9/8 = 31, over
    36² (independent: 36/35 · 36 · 20/81 = 64/7, less). n* = (20/81)(36/35) /
    (31 / 1296) · (t_35 / t_8)².
    """
    values = [1] * 14 + [0, 0, 0, 0] + [1, 1] + [0] * 16
    found = _share(values, np.repeat(np.arange(9), 4))
    ratio = stats.t.ppf(0.975, 35) / stats.t.ppf(0.975, 8)
    trials = 20 / 81 * 36 / 35 / (31 / 1296) * ratio**2
    np.testing.assert_allclose(
      (found.low, found.high), statistics.wilson(4 / 9, trials)
    )
    assert (found.value, found.n, found.clusters) == (4 / 9, 36, 9)

  @pytest.mark.parametrize(
    ("rate", "count", "size", "share"),
    [
      (rate, *design)
      for rate in (0.02, 0.5, 0.98)
      for design in ((15, 6, 0.0), (15, 6, 0.6), (60, 3, 0.6), (300, 1, 0.0))
    ],
  )
  def test_covers_95_percent(self, rate, count, size, share):
    rng, inside, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
      drawn = _drawn(rng, rate, count=count, size=size, share=share)
      inside += not _share(*drawn).excludes(rate)
    assert 0.92 < inside / trials < 0.995

  @quick
  @hypothesis.given(
    st.lists(
      st.tuples(
        st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]),
        st.integers(0, 4),
        st.floats(1e-6, 1e6),
      ),
      min_size=1,
      max_size=30,
    )
  )
  @hypothesis.example([(1.0, 0, 1.0), (1.0, 1, 3.0), (1 - 1e-16, 2, 1.0)])
  def test_never_leaves_0_to_1(self, drawn):
    values, clusters, weights = map(np.asarray, zip(*drawn))
    for more in ({}, {"weights": weights}):
      found = _share(values, clusters, **more)
      assert 0 <= found.low <= found.value <= found.high <= 1
      assert found.high - found.low > 1e-3  # always something to doubt

  @quick
  @hypothesis.given(seeds)
  def test_the_loser_sees_the_mirror_image(self, seed):
    rng = np.random.default_rng(seed)
    wins = rng.choice([0, 0.5, 1], 12)
    clusters = rng.integers(0, 6, 12)
    one, other = _share(wins, clusters), _share(1 - wins, clusters)
    np.testing.assert_allclose(
      (one.low, one.value, one.high),
      (1 - other.high, 1 - other.value, 1 - other.low),
      atol=1e-9,
    )

  @quick
  @hypothesis.given(seeds, st.integers(2, 5))
  def test_copies_tell_nothing_new(self, seed, copies):
    """They make no interval narrower, and hardly a wider one."""
    values = np.random.default_rng(seed).random(200) < 0.3
    once = _share(values)
    often = _share(np.repeat(values, copies), np.repeat(np.arange(200), copies))
    assert often.low <= once.low + 1e-12
    assert often.high >= once.high - 1e-12
    assert (often.high - often.low) < 1.02 * (once.high - once.low)

  @pytest.mark.parametrize("value", [0.0, 1.0])
  def test_at_the_ends_a_cluster_is_one_trial(self, value):
    found = _share(np.full(20, value), np.repeat(np.arange(10), 2))
    expected = stats.binomtest(int(10 * value), 10).proportion_ci(
      method="wilson"
    )
    np.testing.assert_allclose((found.low, found.high), expected, atol=1e-12)
    assert found.value == value

  def test_two_clusters_that_differ_are_no_evidence_either(self):
    """Two of ten clusters have all the wins: ten trials at most."""
    values = np.repeat([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 5)
    found = _share(values, np.repeat(np.arange(10), 5))
    low, high = statistics.wilson(0.2, 10)
    assert found.low <= low
    assert high <= found.high

  def test_one_cluster_is_one_trial(self):
    found = _share(np.ones(50), np.zeros(50, int))
    np.testing.assert_allclose(
      (found.low, found.high), statistics.wilson(1.0, 1)
    )
    assert not found.excludes(0.5)
    assert _share([0.3]).value == 0.3

  def test_what_varies_within_clusters_only_is_no_certainty(self):
    """A win and a loss in each cluster: the spread between them is 0."""
    found = _share([1, 0] * 10, np.repeat(np.arange(10), 2))
    low, high = statistics.wilson(0.5, 20)
    assert found.low <= low < high <= found.high

  def test_votes_of_a_panel_tell_more_than_one_vote(self):
    """Shares that all lie near a half: about as a mean's interval."""
    values = np.random.default_rng(0).choice([0.4, 0.5, 0.6], 300)
    found = _share(values)
    mean = statistics.mean_interval(values, np.arange(300))
    np.testing.assert_allclose(
      (found.low, found.high), (mean.low, mean.high), atol=2e-4
    )

  def test_weights(self):
    """A task of 10 counts as one of 90: weights 5 and 5 / 9. By hand:

    p = (9/10 + 1/3) / 2 = 37/60, Σ e² = 25 (9 · 23² + 37²) / 60² +
    25/81 (30 · 23² + 60 · 37²) / 60², n* = p (1 - p) 100² / Σ e².
    """
    values = np.random.default_rng(0).random(100) < 0.4
    assert _share(values, weights=np.full(100, 8.0)) == _share(values)
    right = np.r_[np.ones(9), np.zeros(1), np.ones(30), np.zeros(60)]
    found = _share(right, weights=np.r_[np.full(10, 0.9), np.full(90, 0.1)])
    np.testing.assert_allclose(found.value, 37 / 60)
    total = 25 * (9 * 23**2 + 37**2) + 25 / 81 * (30 * 23**2 + 60 * 37**2)
    trials = 37 * 23 * 100**2 / total
    np.testing.assert_allclose(
      (found.low, found.high), statistics.wilson(37 / 60, trials)
    )

  @pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
      ([0.5, 1.1], None, "leave"),
      ([], None, "nothing to average"),
      ([math.nan], None, "finite"),
      ([0.5, 0.5], [1.0], "2 finite weights"),
      ([0.5, 0.5], [1.0, math.inf], "2 finite weights"),
      ([0.5, 0.5], [1.0, 0.0], "not positive"),
    ],
  )
  def test_bad_input(self, values, weights, message):
    weights = None if weights is None else np.asarray(weights)
    with pytest.raises(errors.UserError, match=message):
      _share(values, weights=weights)


def test_a_standard_error_by_hand():
  """Residuals -2, 0, 2; then those of a cluster of the first two."""
  values = np.asarray([1.0, 3.0, 5.0])
  alone = statistics.standard_error(values, "abc")
  assert alone == pytest.approx(np.std(values, ddof=1) / 3**0.5)
  shared = statistics.standard_error(values, ["a", "a", "b"])
  assert shared == pytest.approx((2 * (4 + 4)) ** 0.5 / 3)
  assert statistics.standard_error(values, "aaa") is None


def test_a_standard_error_is_that_of_the_interval():
  rng = np.random.default_rng(0)
  values, clusters = rng.normal(size=40), rng.integers(12, size=40)
  one = statistics.mean_interval(values, clusters)
  error = statistics.standard_error(values, [f"c{n}" for n in clusters])
  freedom = len(set(clusters.tolist())) - 1
  quantile = stats.t.ppf(0.975, freedom)
  assert one.high - one.value == pytest.approx(quantile * error)
