import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.maths import arrays, rl

quick = hypothesis.settings(max_examples=15, deadline=None)
B, R = 4, 6


@pytest.fixture(autouse=True)
def _strict():
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def variant(request):
  return jax.jit if request.param else lambda f: f


def _mask(rng, rows=B, width=R):
  return np.arange(width) < rng.integers(1, width + 1, rows)[:, None]


def _normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


class TestLogprobs:
  def test_by_hand(self, variant):
    logits = np.log(np.array([[[1, 2, 5], [1, 1, 2]]], np.float32))
    tokens = np.array([[2, 0]], np.int32)
    np.testing.assert_allclose(
      variant(rl.logprobs)(logits, tokens),
      [[math.log(5 / 8), math.log(1 / 4)]],
      rtol=1e-6,
    )

  def test_temperature(self, variant):
    """Detail 3: one function divides, for rollout, reference and update."""
    logits = np.log(np.array([[[1, 3]]], np.float32))
    tokens = np.array([[1]], np.int32)
    f = variant(functools.partial(rl.logprobs, temperature=0.5))
    np.testing.assert_allclose(f(logits, tokens), [[math.log(0.9)]], rtol=1e-6)
    h = variant(functools.partial(rl.entropy, temperature=0.5))
    expected = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    np.testing.assert_allclose(h(logits), [[expected]], rtol=1e-6)

  def test_twin(self, variant):
    rng = np.random.default_rng(0)
    logits, tokens = _normal(rng, 2, 3, 5), rng.integers(0, 5, (2, 3))
    expected = np.zeros((2, 3))
    for b in range(2):
      for t in range(3):
        probs = [math.exp(x) for x in logits[b, t]]
        expected[b, t] = math.log(probs[tokens[b, t]] / sum(probs))
    tokens = tokens.astype(np.int32)
    np.testing.assert_allclose(
      variant(rl.logprobs)(logits, tokens), expected, rtol=1e-5
    )

  @pytest.mark.parametrize("temperature", [1.0, 0.7])
  def test_gradient_is_that_of_log_softmax(self, variant, temperature):
    rng = np.random.default_rng(1)
    logits, weights = _normal(rng, 2, 3, 5), _normal(rng, 2, 3)
    tokens = rng.integers(0, 5, (2, 3)).astype(np.int32)

    def ours(x):
      return (rl.logprobs(x, tokens, temperature=temperature) * weights).sum()

    def plain(x):
      y = jax.nn.log_softmax(x / np.float32(temperature))
      y = jnp.take_along_axis(y, tokens[..., None], axis=-1)[..., 0]
      return (y * weights).sum()

    np.testing.assert_allclose(
      variant(jax.grad(ours))(logits), jax.grad(plain)(logits), atol=1e-6
    )

  def test_huge_and_excluded_logits(self, variant):
    logits = np.array([[[1e30, 0, -np.inf], [1e4, 1e4, -np.inf]]], np.float32)
    tokens = np.array([[0, 1]], np.int32)
    np.testing.assert_allclose(
      variant(rl.logprobs)(logits, tokens), [[0, -math.log(2)]], atol=1e-6
    )
    np.testing.assert_allclose(
      variant(rl.entropy)(logits), [[0, math.log(2)]], atol=1e-6
    )
    grad = jax.grad(lambda x: rl.logprobs(x, tokens).sum())
    assert np.isfinite(variant(grad)(logits)).all()
    grad = jax.grad(lambda x: rl.entropy(x[:, 1:]).sum())
    assert np.isfinite(variant(grad)(logits)).all()

  def test_bfloat16_logits(self, variant):
    """Detail 13: float32 out, whatever the compute dtype."""
    rng = np.random.default_rng(2)
    logits = jnp.asarray(_normal(rng, 1, 2, 300), jnp.bfloat16)
    tokens = np.array([[7, 200]], np.int32)
    y = variant(rl.logprobs)(logits, tokens)
    assert y.dtype == rl.entropy(logits).dtype == jnp.float32
    exact = rl.logprobs(logits.astype(jnp.float32), tokens)
    np.testing.assert_array_equal(y, exact)
    grad = variant(jax.grad(lambda x: rl.logprobs(x, tokens).sum()))(logits)
    assert grad.dtype == jnp.bfloat16

  def test_shapes_are_checked(self):
    with pytest.raises(AssertionError):
      rl.logprobs(jnp.zeros((2, 3, 5)), jnp.zeros((2, 4), jnp.int32))
    with pytest.raises(AssertionError):
      rl.logprobs(jnp.zeros((2, 5)), jnp.zeros((2,), jnp.int32))

  def test_entropy_by_hand(self, variant):
    """Of (1, 3) / 4, at temperature 1 if none is said."""
    logits = np.log(np.array([[[1, 3]]], np.float32))
    expected = -math.log(1 / 4) / 4 - 3 * math.log(3 / 4) / 4
    np.testing.assert_allclose(
      variant(rl.entropy)(logits), [[expected]], rtol=1e-6
    )

  def test_entropy_of_the_uniform(self, variant):
    np.testing.assert_allclose(
      variant(rl.entropy)(np.zeros((1, 1, 8), np.float32)),
      [[math.log(8)]],
      rtol=1e-6,
    )


class TestCrossEntropy:
  def test_by_hand(self, variant):
    logits = np.log(np.array([[[1, 3], [1, 1], [1, 7]]], np.float32))
    tokens = np.array([[0, 1, 1]], np.int32)
    mask = np.array([[True, True, False]])
    logprobs = rl.logprobs(logits, tokens)
    total, weight = variant(rl.cross_entropy)(logprobs, mask)
    np.testing.assert_allclose(total, math.log(4) + math.log(2), rtol=1e-6)
    assert float(weight) == 2
    assert total.dtype == weight.dtype == jnp.float32

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_microbatches_add_up(self, seed):
    rng = np.random.default_rng(seed)
    logits, mask = _normal(rng, B, R, 5), _mask(rng)
    tokens = rng.integers(0, 5, (B, R)).astype(np.int32)
    logprobs = rl.logprobs(logits, tokens)
    whole = rl.cross_entropy(logprobs, mask)
    parts = [
      rl.cross_entropy(logprobs[i : i + 1], mask[i : i + 1]) for i in range(B)
    ]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-5)


class TestShapeScores:
  scores = np.array([2.0, 3.0], np.float32)
  ended = np.array([True, False])

  @pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("fixed", -1.0, [2, -1]), ("penalty", 1.5, [2, 1.5]), ("none", 9, [2, 3])],
  )
  def test_by_hand(self, variant, mode, value, expected):
    """Detail 4."""
    f = variant(functools.partial(rl.shape_scores, mode=mode, value=value))
    np.testing.assert_allclose(f(self.scores, self.ended), expected)

  def test_never_in_the_dtype_of_the_tokens(self, variant):
    """Detail 13: integer scores would round -0.5 away."""
    f = variant(functools.partial(rl.shape_scores, mode="fixed", value=-0.5))
    y = f(np.array([2, 3], np.int32), self.ended)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, [2, -0.5])

  def test_unknown_mode(self):
    with pytest.raises(errors.UserError, match="Did you mean 'penalty'"):
      rl.shape_scores(self.scores, self.ended, mode="penalti", value=0)


class TestRewards:
  def test_by_hand(self, variant):
    """Detail 6: k1, not clamped, on every token; score on the last."""
    logprobs = np.array([[-1, -2, -3], [-1, -1, -1]], np.float32)
    ref = np.array([[-1, -3, -9], [-2, -1, 5]], np.float32)
    mask = np.array([[1, 1, 1], [1, 1, 0]], bool)
    scores = np.array([10, 20], np.float32)
    f = variant(functools.partial(rl.rewards, kl_coef=0.1))
    y = f(scores, logprobs, ref, mask)
    np.testing.assert_allclose(
      y, [[0, -0.1, 9.4], [-0.1, 20, 0]], rtol=1e-6, atol=1e-7
    )
    assert y.dtype == jnp.float32

  def test_empty_response_has_no_reward(self, variant):
    zeros = np.zeros((1, 3), np.float32)
    f = variant(functools.partial(rl.rewards, kl_coef=0.1))
    y = f(np.ones(1, np.float32), zeros, zeros, np.zeros((1, 3), bool))
    assert not np.asarray(y).any()

  @quick
  @hypothesis.given(st.integers(0, 10**6), st.floats(0, 2))
  def test_sum_is_the_objective(self, seed, kl_coef):
    """Eq. 2: rewards of a row add up to r - β log(π / π_ref); pads are out."""
    rng = np.random.default_rng(seed)
    logprobs, ref, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
    scores = _normal(rng, B)
    y = rl.rewards(
      scores,
      np.where(mask, logprobs, np.nan),
      np.where(mask, ref, np.inf),
      mask,
      kl_coef=jnp.float32(kl_coef),
    )
    kl = ((logprobs - ref) * mask).sum(axis=1)
    np.testing.assert_allclose(
      np.asarray(y).sum(axis=1), scores - kl_coef * kl, rtol=1e-4, atol=1e-4
    )


def _gae_twin(rewards, values, mask, discount, gae_lambda):
  out = np.zeros(rewards.shape)
  for b in range(rewards.shape[0]):
    n, advantage, following = mask[b].sum(), 0.0, 0.0
    for t in reversed(range(n)):
      delta = rewards[b, t] + discount * following - values[b, t]
      advantage = delta + discount * gae_lambda * advantage
      following, out[b, t] = values[b, t], advantage
  return out


class TestGae:
  def test_by_hand(self, variant):
    """Detail 8; the pad's value, 50, must not enter."""
    rewards = np.array([[1, 2, 7]], np.float32)
    values = np.array([[0.5, 1, 50]], np.float32)
    mask = np.array([[True, True, False]])
    f = variant(functools.partial(rl.gae, discount=1.0, gae_lambda=0.5))
    y = f(rewards, values, mask)
    np.testing.assert_allclose(y, [[1.5 + 0.5 * 1, 1, 0]])
    assert y.dtype == jnp.float32

  @pytest.mark.parametrize(
    ("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.8), (1.0, 0.0)]
  )
  def test_twin(self, variant, discount, gae_lambda):
    rng = np.random.default_rng(3)
    rewards, values, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
    f = functools.partial(rl.gae, discount=discount, gae_lambda=gae_lambda)
    np.testing.assert_allclose(
      variant(f)(rewards, values, mask),
      _gae_twin(rewards, values, mask, discount, gae_lambda),
      rtol=1e-5,
      atol=1e-6,
    )

  @quick
  @hypothesis.given(st.integers(0, 10**6), st.floats(0.5, 1))
  def test_lambda_1_is_return_minus_value(self, seed, discount):
    rng = np.random.default_rng(seed)
    rewards, values, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
    y = rl.gae(rewards, values, mask, discount=discount, gae_lambda=1.0)
    for b in range(B):
      for t in range(mask[b].sum()):
        later = rewards[b, t : mask[b].sum()]
        value = (discount ** np.arange(len(later)) * later).sum()
        np.testing.assert_allclose(y[b, t], value - values[b, t], atol=1e-4)

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_pads_change_nothing(self, seed):
    rng = np.random.default_rng(seed)
    rewards, values, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
    f = functools.partial(rl.gae, discount=1.0, gae_lambda=0.95)
    clean = f(rewards, values, mask)
    dirty = f(
      np.where(mask, rewards, np.nan), np.where(mask, values, np.inf), mask
    )
    np.testing.assert_array_equal(clean, dirty)
    wide = ((0, 0), (0, 3))
    padded = f(np.pad(rewards, wide), np.pad(values, wide), np.pad(mask, wide))
    np.testing.assert_allclose(padded[:, :R], clean, rtol=1e-6)

  def test_float32_for_bfloat16(self):
    x = jnp.ones((1, 2), jnp.bfloat16)
    y = rl.gae(x, x, jnp.ones((1, 2), bool), discount=1.0, gae_lambda=0.95)
    assert y.dtype == jnp.float32


class TestPolicyLoss:
  def test_by_hand(self, variant):
    ratio = np.array([[1.5, 1.5, 0.5, 0.5, 1.1, 9]], np.float32)
    gain = np.array([[1, -1, 1, -1, 2, 9]], np.float32)
    mask = np.array([[1, 1, 1, 1, 1, 0]], bool)
    f = variant(functools.partial(rl.policy_loss, clip=0.2))
    (total, weight), metrics = f(np.log(ratio), np.zeros((1, 6)), gain, mask)
    expected = -1.2 + 1.5 - 0.5 + 0.8 - 2.2
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert float(weight) == 5
    assert total.dtype == jnp.float32
    # Clipped: ratio 1.5 with a gain, 0.5 with a loss. Else the worse counts.
    np.testing.assert_allclose(metrics["policy/clip_fraction"], (2, 5))
    np.testing.assert_allclose(metrics["policy/ratio"], (5.1, 5), rtol=1e-6)
    squares = (np.log(ratio[0, :5]) ** 2).sum() / 2
    np.testing.assert_allclose(
      metrics["policy/approx_kl"], (squares, 5), rtol=1e-6
    )

  def test_twin(self, variant):
    rng = np.random.default_rng(4)
    new, old, gain = (_normal(rng, B, R) for _ in range(3))
    mask, expected = _mask(rng), 0.0
    for b in range(B):
      for t in range(R):
        if mask[b, t]:
          ratio = math.exp(new[b, t] - old[b, t])
          near = min(max(ratio, 0.8), 1.2)
          expected += max(-gain[b, t] * ratio, -gain[b, t] * near)
    f = variant(functools.partial(rl.policy_loss, clip=0.2))
    (total, weight), _ = f(new, old, gain, mask)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert float(weight) == mask.sum()

  def test_first_minibatch(self, variant):
    """Detail 2: same parameters, so ratio 1, nothing clipped, and REINFORCE."""
    rng = np.random.default_rng(5)
    new, gain, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
    f = functools.partial(rl.policy_loss, clip=0.2)
    _, metrics = variant(f)(new, new, gain, mask)
    n = mask.sum()
    np.testing.assert_array_equal(metrics["policy/ratio"], (n, n))
    assert float(metrics["policy/clip_fraction"][0]) == 0
    assert float(metrics["policy/approx_kl"][0]) == 0
    grad = variant(jax.grad(lambda x: f(x, new, gain, mask)[0][0]))(new)
    np.testing.assert_allclose(grad, -gain * mask, rtol=1e-6)

  def test_clipped_tokens_have_no_gradient(self, variant):
    new = np.log(np.array([[1.5, 0.5]], np.float32))
    gain = np.array([[1, -1]], np.float32)
    zeros, mask = np.zeros((1, 2), np.float32), np.ones((1, 2), bool)
    f = functools.partial(rl.policy_loss, clip=0.2)
    grad = variant(jax.grad(lambda x: f(x, zeros, gain, mask)[0][0]))(new)
    assert not np.asarray(grad).any()

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_pads_reach_neither_value_nor_gradient(self, seed):
    rng = np.random.default_rng(seed)
    new, old, gain = (_normal(rng, B, R) for _ in range(3))
    mask = _mask(rng)
    f = functools.partial(rl.policy_loss, clip=0.2)
    value = jax.value_and_grad(lambda *x: f(*x, mask)[0][0] / f(*x, mask)[0][1])
    clean = value(new, old, gain)
    dirty = value(
      np.where(mask, new, 1e4), np.where(mask, old, -1e4), gain + 9 * ~mask
    )
    np.testing.assert_array_equal(clean[0], dirty[0])
    np.testing.assert_array_equal(clean[1], dirty[1])
    assert not np.asarray(dirty[1])[~mask].any()

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_microbatches_add_up(self, seed):
    """Detail 9: sums and weights of any split give the global mean."""
    rng = np.random.default_rng(seed)
    new, old, gain = (_normal(rng, B, R) for _ in range(3))
    mask = _mask(rng)
    f = functools.partial(rl.policy_loss, clip=0.2)
    whole = f(new, old, gain, mask)
    parts = [f(*(x[i : i + 2] for x in (new, old, gain, mask))) for i in (0, 2)]
    total = jax.tree.map(lambda a, b: a + b, *parts)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
      total,
      whole,
    )


class TestValueLoss:
  def test_by_hand(self, variant):
    """Detail 7: half the mean of the worse of unclipped and clipped."""
    values = np.array([[1.0, 0.1, 2.0, 9]], np.float32)
    old = np.array([[0.0, 0.0, 0.0, 0]], np.float32)
    returns = np.array([[1.0, 1.0, -1.0, 0]], np.float32)
    mask = np.array([[1, 1, 1, 0]], bool)
    f = variant(functools.partial(rl.value_loss, clip=0.2))
    (total, weight), metrics = f(values, old, returns, mask)
    np.testing.assert_allclose(total, (0.64 + 0.81 + 9) / 2, rtol=1e-6)
    assert float(weight) == 3
    np.testing.assert_allclose(metrics["value/clip_fraction"], (1, 3))
    np.testing.assert_allclose(metrics["value/error"], (9.81, 3), rtol=1e-6)

  def test_twin_and_unclipped(self, variant):
    rng = np.random.default_rng(6)
    values, old, returns = (_normal(rng, B, R) for _ in range(3))
    mask, expected = _mask(rng), 0.0
    for b in range(B):
      for t in range(mask[b].sum()):
        near = old[b, t] + np.clip(values[b, t] - old[b, t], -0.2, 0.2)
        worse = max(
          abs(values[b, t] - returns[b, t]), abs(near - returns[b, t])
        )
        expected += worse**2 / 2
    f = variant(functools.partial(rl.value_loss, clip=0.2))
    (total, _), _ = f(values, old, returns, mask)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    f = variant(functools.partial(rl.value_loss, clip=math.inf))
    (total, _), metrics = f(values, old, returns, mask)
    squares = ((values - returns) ** 2 * mask).sum()
    np.testing.assert_allclose(total, squares / 2, rtol=1e-5)
    assert float(metrics["value/clip_fraction"][0]) == 0

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_pads_reach_neither_value_nor_gradient(self, seed):
    rng = np.random.default_rng(seed)
    values, old, returns = (_normal(rng, B, R) for _ in range(3))
    mask = _mask(rng)
    f = jax.value_and_grad(lambda *x: rl.value_loss(*x, mask, clip=0.2)[0][0])
    clean = f(values, old, returns)
    dirty = f(*(np.where(mask, x, np.nan) for x in (values, old, returns)))
    np.testing.assert_array_equal(clean[0], dirty[0])
    np.testing.assert_array_equal(clean[1], dirty[1])


class TestExplainedVariance:
  returns = np.array([[1, 2, 3, 9]], np.float32)
  mask = np.array([[1, 1, 1, 0]], bool)

  @pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3, 0], 1), ([5, 5, 5, 0], 0), ([3, 2, 1, 0], -3)],
  )
  def test_by_hand(self, variant, values, expected):
    y = variant(rl.explained_variance)(
      np.array([values], np.float32), self.returns, self.mask
    )
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert y.dtype == jnp.float32

  def test_constant_returns(self, variant):
    ones = np.ones((1, 4), np.float32)
    assert float(variant(rl.explained_variance)(ones, ones, self.mask)) == 0


class TestNextKlCoef:
  @pytest.mark.parametrize(
    ("kl", "expected"), [(6.0, 0.1), (6.6, 0.1005), (60.0, 0.101), (0.0, 0.099)]
  )
  def test_by_hand(self, variant, kl, expected):
    """Detail 12: the error is clipped to ± 0.2; 500 of 10,000 episodes."""
    f = functools.partial(
      rl.next_kl_coef, target=6.0, horizon=10_000, episodes=500
    )
    y = variant(f)(jnp.float32(0.1), jnp.float32(kl))
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(f(0.1, kl), expected, rtol=1e-5)


def test_whitened_advantages_do_not_change_returns():
  """Detail 8: returns = advantages + values, taken before whitening."""
  rng = np.random.default_rng(7)
  rewards, values, mask = _normal(rng, B, R), _normal(rng, B, R), _mask(rng)
  advantages = rl.gae(rewards, values, mask, discount=1.0, gae_lambda=1.0)
  returns = np.asarray(advantages + values) * mask
  tail = np.cumsum((rewards * mask)[:, ::-1], axis=1)[:, ::-1]
  np.testing.assert_allclose(returns, tail * mask, atol=1e-5)
  white = np.asarray(arrays.whiten(advantages, mask))
  np.testing.assert_allclose(white[mask].std(), 1, rtol=1e-4)
