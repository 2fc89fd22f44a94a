"""Agreement: Krippendorff's own example, by hand, by law."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.maths import agreement

quick = hypothesis.settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)
_ = math.nan
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", part C:
# four observers, twelve units.
FOUR = np.asarray(
  [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
  ]
)


def random_ratings(seed, labelers=4, units=12, values=4):
  rng = np.random.default_rng(seed)
  ratings = rng.integers(1, values + 1, (labelers, units)).astype(float)
  ratings[rng.random(ratings.shape) < 0.2] = math.nan
  ratings[:2, 0] = (1, values)  # somebody disagrees
  return ratings


def by_pairs(ratings, distance):
  """Alpha over ordered pairs, in loops: 1 - mean within / mean over all."""
  said = [column[~np.isnan(column)] for column in ratings.T]
  said = [column for column in said if len(column) > 1]
  n = sum(map(len, said))
  within = sum(
    distance(a, b) / (len(column) - 1)
    for column in said
    for a, b in itertools.permutations(column, 2)
  )
  every = np.concatenate(said)
  over = sum(distance(a, b) for a, b in itertools.permutations(every, 2))
  return 1 - (within / n) / (over / (n * (n - 1)))


class TestAlpha:
  @pytest.mark.parametrize(
    ("level", "value"),
    [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)],
  )
  def test_krippendorffs_example(self, level, value):
    found = agreement.alpha(FOUR, level)
    assert round(found.value, 3) == value
    # Unit 12 was judged by one observer.
    assert (found.units, found.values) == (11, 40)
    assert found.low < found.value < found.high <= 1

  def test_by_hand(self):
    """Krippendorff's two-observer example: ten units, 0 or 1, α = 0.095."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = agreement.alpha(np.asarray([one, two]), "nominal")
    # 4 disagreements, 6 ones and 14 zeros: 1 - 19 * 8 / (2 * 6 * 14).
    np.testing.assert_allclose(found.value, 1 - 19 * 8 / 168)
    assert round(found.value, 3) == 0.095

  @quick
  @hypothesis.given(seeds)
  def test_as_a_mean_over_pairs(self, seed):
    ratings = random_ratings(seed)
    for level, distance in (
      ("nominal", lambda a, b: float(a != b)),
      ("interval", lambda a, b: (a - b) ** 2),
    ):
      np.testing.assert_allclose(
        agreement.alpha(ratings, level).value, by_pairs(ratings, distance)
      )

  @quick
  @hypothesis.given(seeds)
  def test_what_leaves_it_as_it_is(self, seed):
    """Who is who, the order of units; a stretch of the scale if ordinal."""
    ratings = random_ratings(seed)
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(rng.permutation(ratings).T).T
    for level in agreement.LEVELS:
      np.testing.assert_allclose(
        agreement.alpha(mixed, level).value,
        agreement.alpha(ratings, level).value,
      )
    stretched = agreement.alpha(np.exp(ratings), "ordinal").value
    np.testing.assert_allclose(
      stretched, agreement.alpha(ratings, "ordinal").value
    )

  def test_all_agree(self):
    found = agreement.alpha(np.asarray([[1, 2, 3], [1, 2, 3]]), "ordinal")
    assert (found.value, found.high) == (1, 1)

  def test_nobody_ever_says_another_thing(self):
    found = agreement.alpha(np.ones((2, 3)), "nominal")
    assert (found.value, found.low, found.high) == (None, None, None)

  def test_nobody_judged_the_same(self):
    ratings = np.asarray([[1, math.nan], [math.nan, 2]])
    assert agreement.alpha(ratings, "nominal") is None

  def test_clusters_widen_the_interval(self):
    """Units of one prompt that are copies of each other add nothing."""
    rng = np.random.default_rng(0)
    once = rng.integers(0, 2, (2, 40)).astype(float)
    often = np.repeat(once, 5, axis=1)
    clusters = np.repeat(np.arange(40), 5)
    of_once = agreement.alpha(once, "nominal")
    alone = agreement.alpha(often, "nominal")
    together = agreement.alpha(often, "nominal", clusters=clusters)
    width = together.high - together.low
    assert width > 1.7 * (alone.high - alone.low)
    np.testing.assert_allclose(width, of_once.high - of_once.low, rtol=0.1)

  def test_covers_95_percent(self):
    """Two labelers who say the truth with 0.8: α → 1 - 2·0.8·0.2 / 0.5."""
    rng, inside, trials = np.random.default_rng(0), 0, 200
    for seed in range(trials):
      truth = rng.integers(0, 2, 80)
      wrong = rng.random((2, 80)) < 0.2
      found = agreement.alpha(
        (truth ^ wrong).astype(float), "nominal", seed=seed
      )
      inside += found.low <= 1 - 0.32 / 0.5 <= found.high
    assert 0.9 < inside / trials < 0.99

  def test_unknown_level(self):
    with pytest.raises(errors.UserError, match=r"did you mean 'nominal'|Did"):
      agreement.alpha(FOUR, "nomial")


class TestPairwise:
  def test_by_hand(self):
    """A and B agree on 1 of 2, A and C on 1 of 1, B and C share nothing."""
    ratings = np.asarray([[1, 2, 3], [1, 1, math.nan], [math.nan] * 2 + [3]])
    share, by_two = agreement.pairwise(ratings)
    assert by_two == {(0, 1): (1, 2), (0, 2): (1, 1)}
    assert (share.value, share.n, share.clusters) == (2 / 3, 3, 3)

  def test_clusters(self):
    share, _ = agreement.pairwise(np.ones((3, 4)), np.asarray([0, 0, 1, 1]))
    assert (share.value, share.n, share.clusters) == (1, 12, 2)

  def test_nobody_judged_the_same(self):
    assert agreement.pairwise(np.asarray([[1, math.nan]])) == (None, {})

  def test_another_shape(self):
    with pytest.raises(errors.UserError, match="labelers, units"):
      agreement.pairwise(np.ones(3))
    with pytest.raises(errors.UserError, match="3 units need a cluster each"):
      agreement.pairwise(np.ones((2, 3)), np.ones(2))
