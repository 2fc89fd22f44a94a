import functools
import itertools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.maths import preferences

quick = hypothesis.settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


@pytest.fixture(autouse=True)
def _strict():
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def variant(request):
  return jax.jit if request.param else lambda f: f


def _random(seed, prompts=4, k_max=5):
  """Scores, ranks with ties, and a mask of 1 to k_max completions."""
  rng = np.random.default_rng(seed)
  shape = (prompts, k_max)
  scores = rng.normal(size=shape).astype(np.float32)
  ranks = rng.integers(1, k_max, shape).astype(np.int32)
  counts = rng.integers(1, k_max + 1, prompts)
  return scores, ranks, np.arange(k_max) < counts[:, None]


def _twin(scores, ranks, is_completion):
  """Loss, weight, correct, log loss and pairs, in loops."""
  loss = weight = correct = log_loss = pairs = 0.0
  for s, r, m in zip(scores, ranks, is_completion):
    real, inner = np.flatnonzero(m), 0.0
    for i, j in itertools.combinations(real, 2):
      if r[i] == r[j]:
        continue
      best, other = (i, j) if r[i] < r[j] else (j, i)
      margin = s[best] - s[other]
      inner += math.log(1 + math.exp(-margin))
      correct += 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
      pairs += 1
    log_loss += inner
    if len(real) > 1:
      loss += inner / math.comb(len(real), 2)
      weight += 1
  return loss, weight, correct, log_loss, pairs


def _loss(scores, ranks, is_completion):
  beats = preferences.pairs(ranks, is_completion)
  return preferences.ranking_loss(scores, beats, is_completion)


def _all(scores, ranks, is_completion):
  beats = preferences.pairs(ranks, is_completion)
  loss, weight = preferences.ranking_loss(scores, beats, is_completion)
  correct, pairs = preferences.ranking_accuracy(scores, beats, is_completion)
  total, _ = preferences.ranking_log_loss(scores, beats, is_completion)
  return loss, weight, correct, total, pairs


ALL = jax.jit(_all)
GRADIENT = jax.jit(jax.grad(lambda *rows: _loss(*rows)[0]))


def test_pairs_by_hand(variant):
  ranks = np.array([[2, 1, 2, 1]], np.int32)
  real = np.array([[True, True, True, False]])
  expected = np.zeros((1, 4, 4), bool)
  expected[0, 1, [0, 2]] = True
  np.testing.assert_array_equal(
    variant(preferences.pairs)(ranks, real), expected
  )


def _pairs(ranks, real):
  """(prompt, winner, loser, C(K, 2) of the prompt), ties left out."""
  for b, m in enumerate(real):
    for i, j in itertools.permutations(np.flatnonzero(m), 2):
      if ranks[b, i] < ranks[b, j]:
        yield b, i, j, math.comb(m.sum(), 2)


class TestDirectLosses:
  """DPO, conservative DPO and IPO."""

  def test_by_hand(self, variant):
    """h = 2 in the first prompt's one pair; in the second's, -1 and a tie."""
    h = np.array([[3, 1, 7], [0, 1, 1]], np.float32)
    real = np.array([[1, 1, 0], [1, 1, 1]], bool)
    beats = np.zeros((2, 3, 3), bool)
    beats[0, 0, 1] = beats[1, 0, 1] = True
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    for smoothing in (0.0, 0.2, 0.5):
      one = (1 - smoothing) * softplus(-0.2) + smoothing * softplus(0.2)
      two = (1 - smoothing) * softplus(0.1) + smoothing * softplus(-0.1)
      loss = functools.partial(
        preferences.dpo_loss, beta=0.1, label_smoothing=smoothing
      )
      total, weight = variant(loss)(h, beats, real)
      np.testing.assert_allclose(total, one + two / 3, rtol=1e-6)
      assert float(weight) == 2
    loss = functools.partial(preferences.ipo_loss, beta=0.25)
    total, weight = variant(loss)(h, beats, real)
    np.testing.assert_allclose(total, (2 - 2) ** 2 + (-1 - 2) ** 2 / 3)
    assert float(weight) == 2

  @pytest.mark.parametrize("seed", range(3))
  def test_twin(self, variant, seed):
    """As TRL writes them, a pair at a time: with logits = h, - logsigmoid(β h)
    (1 - ε) - logsigmoid(-β h) ε, and (h - 1 / (2 β))²."""
    h, ranks, real = _random(seed)
    beats = preferences.pairs(ranks, real)
    beta, smoothing, direct, identity = 0.3, 0.1, 0.0, 0.0
    log_sigmoid = lambda x: -math.log(1 + math.exp(-x))  # noqa: E731
    for b, i, j, count in _pairs(ranks, real):
      logits = float(h[b, i]) - float(h[b, j])
      direct -= log_sigmoid(beta * logits) * (1 - smoothing) / count
      direct -= log_sigmoid(-beta * logits) * smoothing / count
      identity += (logits - 1 / (2 * beta)) ** 2 / count
    settings = {"beta": beta, "label_smoothing": smoothing}
    loss = functools.partial(preferences.dpo_loss, **settings)
    found, weight = variant(loss)(h, beats, real)
    np.testing.assert_allclose(found, direct, rtol=1e-5)
    assert float(weight) == (real.sum(axis=1) > 1).sum()
    loss = functools.partial(preferences.ipo_loss, beta=beta)
    np.testing.assert_allclose(variant(loss)(h, beats, real)[0], identity, 1e-5)

  def test_without_smoothing_it_is_the_reward_model_s(self, variant):
    h, ranks, real = _random(5)
    beats = preferences.pairs(ranks, real)
    loss = functools.partial(
      preferences.dpo_loss, beta=2.0, label_smoothing=0.0
    )
    np.testing.assert_allclose(
      variant(loss)(h, beats, real),
      preferences.ranking_loss(2 * h, beats, real),
      rtol=1e-6,
    )

  @pytest.mark.parametrize(
    "loss",
    [
      functools.partial(preferences.dpo_loss, beta=0.7, label_smoothing=0.1),
      functools.partial(preferences.ipo_loss, beta=0.7),
    ],
  )
  def test_padding_reaches_no_gradient(self, variant, loss):
    h, ranks, real = _random(6)
    beats = preferences.pairs(ranks, real)
    grad = jax.grad(lambda h: loss(h, beats, real)[0])
    clean = variant(grad)(h)
    dirty = variant(grad)(np.where(real, h, np.nan))
    np.testing.assert_array_equal(clean, dirty)
    assert not np.asarray(clean)[~real].any()
    assert np.asarray(clean)[real].any()

  def test_of_pairs(self, variant):
    values, ranks, real = _random(7)
    beats = preferences.pairs(ranks, real)
    won, lost, pairs = 0.0, 0.0, 0
    for b, i, j, _ in _pairs(ranks, real):
      won, lost, pairs = won + values[b, i], lost + values[b, j], pairs + 1
    values = np.where(real, values, np.nan)
    found = variant(preferences.of_pairs)(values, beats, real)
    np.testing.assert_allclose(found, (won, lost, pairs), rtol=1e-5)


class TestRankingLoss:
  def test_by_hand(self, variant):
    """Eq. 1. First prompt: K = 3 with one tie, 2 of C(3, 2) pairs; the second
    has K = 2; the third a single completion, which counts nowhere."""
    scores = np.array([[1, 0, 0], [0, 2, 9], [5, 9, 9]], np.float32)
    ranks = np.array([[1, 2, 2], [1, 2, 0], [1, 0, 0]], np.int32)
    real = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    total, weight = variant(_loss)(scores, ranks, real)
    first = 2 * math.log(1 + math.exp(-1)) / 3
    second = math.log(1 + math.exp(2))
    np.testing.assert_allclose(total, first + second, rtol=1e-6)
    assert float(weight) == 2
    assert total.dtype == weight.dtype == jnp.float32

  def test_all_tied(self, variant):
    scores = np.array([[3, -3]], np.float32)
    ranks, real = np.ones((1, 2), np.int32), np.ones((1, 2), bool)
    total, weight = variant(_loss)(scores, ranks, real)
    assert (float(total), float(weight)) == (0, 1)

  def test_pairs_that_no_ranking_gives(self, variant):
    """A beats B beats C beats A, and of four only two pairs: as said."""
    scores = np.array([[1, 0, 3, 9], [0, 1, 2, 4]], np.float32)
    real = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)
    beats = np.zeros((2, 4, 4), bool)
    beats[0, [0, 1, 2, 3], [1, 2, 0, 0]] = True  # the last is padding
    beats[1, [3, 0], [0, 1]] = True
    total, weight = variant(preferences.ranking_loss)(scores, beats, real)
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    first = (softplus(-1) + softplus(3) + softplus(-2)) / 3
    second = (softplus(-4) + softplus(1)) / 6
    np.testing.assert_allclose(total, first + second, rtol=1e-6)
    assert float(weight) == 2
    accuracy = variant(preferences.ranking_accuracy)(scores, beats, real)
    assert tuple(map(float, accuracy)) == (3, 5)
    total, pairs = variant(preferences.ranking_log_loss)(scores, beats, real)
    np.testing.assert_allclose(total, 3 * first + 6 * second, rtol=1e-6)
    assert float(pairs) == 5

  @pytest.mark.parametrize("seed", range(3))
  def test_twin(self, variant, seed):
    scores, ranks, real = _random(seed)
    scores[0, 1] = scores[0, 0]
    actual = variant(_all)(scores, ranks, real)
    np.testing.assert_allclose(actual, _twin(scores, ranks, real), rtol=1e-5)

  @quick
  @hypothesis.given(seeds)
  def test_order_of_completions_is_nothing(self, seed):
    scores, ranks, real = _random(seed)
    order = np.random.default_rng(seed).permutation(ranks.shape[1])
    shuffled = (x[:, order] for x in (scores, ranks, real))
    np.testing.assert_allclose(
      ALL(*shuffled), ALL(scores, ranks, real), rtol=1e-5
    )

  @quick
  @hypothesis.given(seeds, st.integers(1, 4))
  def test_padding_is_nothing(self, seed, more):
    scores, ranks, real = _random(seed)
    pad = functools.partial(np.pad, pad_width=((0, 0), (0, more)))
    wide = (np.where(real, scores, np.nan), ranks, real)
    wide = (pad(wide[0], constant_values=np.inf), *map(pad, wide[1:]))
    np.testing.assert_allclose(ALL(*wide), ALL(scores, ranks, real), rtol=1e-6)
    grad = np.asarray(GRADIENT(*wide))
    assert not grad[~wide[2]].any()
    np.testing.assert_allclose(
      grad[:, : scores.shape[1]], GRADIENT(scores, ranks, real), rtol=1e-5
    )

  @quick
  @hypothesis.given(seeds)
  def test_only_the_order_of_ranks_counts(self, seed):
    scores, ranks, real = _random(seed)
    np.testing.assert_array_equal(
      ALL(scores, 3 * ranks + 7, real), ALL(scores, ranks, real)
    )

  @quick
  @hypothesis.given(seeds)
  def test_symmetry(self, seed):
    """Opposite scores against opposite ranks: nothing changes. A constant on
    all scores, as the bias of the model is: nothing either."""
    scores, ranks, real = _random(seed)
    np.testing.assert_allclose(
      ALL(-scores, -ranks, real), ALL(scores, ranks, real), rtol=1e-5
    )
    np.testing.assert_allclose(
      _loss(scores + np.float32(4), ranks, real),
      _loss(scores, ranks, real),
      rtol=1e-4,
    )

  @quick
  @hypothesis.given(seeds)
  def test_ties_are_dropped(self, seed):
    """A tied pair's scores pull on nothing."""
    scores, ranks, real = _random(seed)
    ranks = np.where(ranks <= 2, 1, 2).astype(np.int32)
    loss = lambda s: _loss(s, ranks, real)[0]  # noqa: E731
    grad = np.asarray(jax.grad(loss)(scores))
    for row, r, m in zip(grad, ranks, real):
      if len(set(r[m])) < 2:
        assert not row.any()
      # Pulls are between the groups: they cancel over the prompt.
      np.testing.assert_allclose(row.sum(), 0, atol=1e-6)

  @quick
  @hypothesis.given(seeds)
  def test_microbatches_add_up(self, seed):
    scores, ranks, real = _random(seed)
    parts = [
      ALL(scores[i : i + 1], ranks[i : i + 1], real[i : i + 1])
      for i in range(len(scores))
    ]
    np.testing.assert_allclose(
      np.sum(parts, axis=0), ALL(scores, ranks, real), rtol=1e-5
    )

  def test_far_apart_scores(self, variant):
    scores = np.array([[-1e4, 1e4]], np.float32)
    ranks, real = np.array([[1, 2]], np.int32), np.ones((1, 2), bool)
    f = jax.value_and_grad(lambda s: _loss(s, ranks, real)[0])
    value, grad = variant(f)(scores)
    np.testing.assert_allclose(value, 2e4)
    np.testing.assert_allclose(grad, [[-1, 1]])

  def test_bfloat16_scores(self, variant):
    scores = jnp.array([[1, 2]], jnp.bfloat16)
    ranks, real = np.array([[1, 2]], np.int32), np.ones((1, 2), bool)
    for f in (
      preferences.ranking_loss,
      preferences.ranking_accuracy,
      preferences.ranking_log_loss,
    ):
      beats = preferences.pairs(ranks, real)
      assert all(
        x.dtype == jnp.float32 for x in variant(f)(scores, beats, real)
      )


class TestAgreement:
  def test_by_hand(self):
    """Second labeler swaps the last two; the third ties the first two."""
    ranks = np.array([[1, 2, 3], [1, 3, 2], [1, 1, 2]])
    # 1-2: 2 of 3. 1-3: 2 of 2. 2-3: both order (0, 2) and (1, 2): 1 of 2.
    assert preferences.agreement(ranks) == (5, 7)

  def test_single_labeler_or_completion(self):
    assert preferences.agreement(np.ones((1, 4), int)) == (0, 0)
    assert preferences.agreement(np.ones((3, 1), int)) == (0, 0)

  def test_unsigned_ranks(self):
    assert preferences.agreement(np.array([[1, 2], [2, 1]], np.uint8)) == (0, 1)

  def test_bad_shape(self):
    with pytest.raises(errors.UserError, match="labelers, completions"):
      preferences.agreement(np.ones(3, int))
