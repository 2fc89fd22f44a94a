"""Attention: structures become masks by hand and by law; its computing."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.models import attention

quick = hypothesis.settings(max_examples=15, deadline=None)


@pytest.fixture(autouse=True)
def _strict():
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def variant(request):
  return jax.jit if request.param else lambda f: f


def mask_of(structure, **changes):
  return attention.plan(structure, **changes).mask


def mask_of_padded(is_token):
  return mask_of(attention.padded(is_token))


def shared(is_prompt, is_response):
  structure = attention.shared_prompt(is_prompt, is_response)
  return structure.positions, mask_of(structure)


def test_positions_count_real_tokens(variant):
  is_token = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
  positions = variant(attention.positions_of)(is_token)
  np.testing.assert_array_equal(positions, [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]])
  assert positions.dtype == jnp.int32


def test_padded_rows(variant):
  mask = variant(mask_of_padded)(np.array([[0, 1, 1, 0]], bool))
  np.testing.assert_array_equal(
    mask[0],
    np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], bool),
  )


class TestSharedPrompt:
  is_prompt = np.array([[0, 1, 1], [1, 1, 1]], bool)
  is_response = np.array(
    [[[1, 1], [1, 0]], [[1, 0], [0, 0]]], bool
  )  # B = 2, K = 2, R = 2; the last completion is padding

  def test_by_hand(self, variant):
    positions, mask = variant(shared)(self.is_prompt, self.is_response)
    np.testing.assert_array_equal(
      positions, [[0, 0, 1, 2, 3, 2, 2], [0, 1, 2, 3, 3, 2, 2]]
    )
    assert positions.dtype == jnp.int32
    np.testing.assert_array_equal(
      mask[0],
      np.array(
        [
          [1, 0, 0, 0, 0, 0, 0],  # a pad sees itself only
          [0, 1, 0, 0, 0, 0, 0],
          [0, 1, 1, 0, 0, 0, 0],
          [0, 1, 1, 1, 0, 0, 0],  # first response
          [0, 1, 1, 1, 1, 0, 0],
          [0, 1, 1, 0, 0, 1, 0],  # second response does not see the first
          [0, 1, 1, 0, 0, 1, 1],
        ],
        bool,
      ),
    )

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_each_response_as_if_alone(self, seed):
    """Rows and positions equal those of prompt + one response by itself."""
    rng = np.random.default_rng(seed)
    B, K, P, R = 2, 3, 4, 3
    lengths = rng.integers(1, P + 1, B)
    is_prompt = np.arange(P) >= P - lengths[:, None]
    is_response = np.arange(R) < rng.integers(1, R + 1, (B, K))[..., None]
    positions, mask = shared(is_prompt, is_response)
    for k in range(K):
      alone = np.concatenate([is_prompt, is_response[:, k]], axis=1)
      at = np.r_[0:P, P + k * R : P + (k + 1) * R]
      expected = np.asarray(attention.positions_of(alone))
      np.testing.assert_array_equal(np.asarray(positions)[:, at], expected)
      rows = np.asarray(mask)[:, at]
      np.testing.assert_array_equal(rows[:, :, at], mask_of_padded(alone))
      others = np.setdiff1d(np.arange(P + K * R), at)
      assert not rows[:, P:, others].any()


def test_segments_start_again_and_stay_apart():
  segments = jnp.array([[1, 1, 2, 2, 2, 3], [1, 1, 1, 0, 0, 0], [1] * 6])
  positions = np.asarray(attention.segment_positions(segments))
  assert positions.tolist() == [
    [0, 1, 0, 1, 2, 0],
    [0, 1, 2, 0, 1, 2],
    [0, 1, 2, 3, 4, 5],
  ]
  assert positions.dtype == np.int32
  mask = np.asarray(mask_of(attention.packed(segments)))
  for b, row in enumerate(np.asarray(segments)):
    for q in range(6):
      for k in range(6):
        own = row[q] == row[k] > 0 and k <= q
        assert mask[b, q, k] == (own or q == k)


def test_tokens_that_follow_see_the_cache_up_to_themselves(variant):
  """The rows of the whole mask, whether they come at once or one by one."""
  is_token = np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
  whole = np.asarray(mask_of_padded(is_token))
  positions = np.asarray(attention.positions_of(is_token))

  def following(first, size):
    structure = attention.following(
      is_token, positions[:, first : first + size], jnp.int32(first)
    )
    return variant(mask_of)(structure)

  for first, size in ((1, 2), (3, 1), (4, 2), (5, 1)):
    real = is_token[:, first : first + size]
    np.testing.assert_array_equal(
      np.asarray(following(first, size))[real],
      whole[:, first : first + size][real],
    )


def test_a_window_counts_positions_and_not_slots():
  """Slot 0 is a pad and slot 3 a hole; the window is 2."""
  is_token = np.array([[0, 1, 1, 0, 1, 1]], bool)
  expected = np.array(
    [
      [1, 0, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0],
      [0, 1, 1, 0, 0, 0],
      [0, 1, 1, 1, 0, 0],  # a pad: as the token before it, and itself
      [0, 0, 1, 0, 1, 0],
      [0, 0, 0, 0, 1, 1],
    ],
    bool,
  )
  mask = mask_of(attention.padded(is_token), window=2)
  np.testing.assert_array_equal(mask[0], expected)
  positions = np.asarray(attention.positions_of(is_token))
  for t in (1, 2, 4, 5):
    one = attention.following(is_token, positions[:, t : t + 1], t)
    np.testing.assert_array_equal(
      mask_of(one, window=2)[0, 0], expected[t], err_msg=f"slot {t}"
    )


@quick
@hypothesis.given(st.integers(0, 10**6), st.integers(1, 9))
def test_a_window_by_its_law(seed, window):
  """q sees k if it did without and position q - position k < window."""
  rng = np.random.default_rng(seed)
  is_prompt = np.arange(5) >= rng.integers(0, 5, (2, 1))
  is_response = np.arange(4) < rng.integers(0, 5, (2, 3, 1))
  segments = jnp.asarray(
    np.sort(rng.integers(1, 4, (2, 12)), axis=1), jnp.int32
  )
  for structure in (
    attention.padded(np.asarray(rng.random((2, 12)) < 0.7)),
    attention.packed(segments),
    attention.shared_prompt(is_prompt, is_response),
  ):
    place = np.asarray(structure.positions)
    near = place[:, :, None] - place[:, None, :] < window
    itself = np.eye(place.shape[1], dtype=bool)
    expected = np.asarray(mask_of(structure)) & near | itself
    actual = mask_of(structure, window=window)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
  ("groups", "T", "cap"),
  [(1, 5, 0.0), (2, 5, 0.0), (2, 5, 2.5), (1, 1, 0.0), (2, 1, 2.5)],
)
def test_attention_and_its_gradient_are_the_textbooks(groups, T, cap):
  shapes = {"q": (2, 2, groups, T, 4), "k": (2, 2, 7, 4), "v": (2, 2, 7, 4)}
  rng = np.random.default_rng(0)
  args = [
    jnp.asarray(rng.normal(size=s) * 3, "float32") for s in shapes.values()
  ]
  mask = jnp.asarray(rng.random((2, T, 7)) < 0.6).at[:, :, 0].set(True)

  def textbook(q, k, v):
    scores = jnp.einsum("bgmte,bgse->bgmts", q, k) / jnp.sqrt(4)
    if cap:
      scores = cap * jnp.tanh(scores / cap)
    scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
    return jnp.einsum("bgmts,bgse->bgmte", jax.nn.softmax(scores), v)

  def ours(q, k, v):
    return attention.attend(q, k, v, attention.Plan((), mask, cap))

  @functools.partial(jax.jit, static_argnums=0)
  def both(f, *args):
    out, pull = jax.vjp(f, *args)
    return out, pull(jnp.cos(jnp.arange(out.size)).reshape(out.shape))

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    both(ours, *args),
    both(textbook, *args),
  )


def test_a_soft_cap_keeps_scores_within_it():
  """One large score of two: capped, the weights are those of caps alone."""
  q = jnp.asarray([[[[[1000.0]]]]])
  k = jnp.asarray([[[[1.0], [-1.0]]]])
  v = jnp.asarray([[[[1.0], [0.0]]]])
  plan = attention.Plan((), jnp.ones((1, 1, 2), bool), cap=0.5)
  expected = np.exp(0.5) / (np.exp(0.5) + np.exp(-0.5))
  np.testing.assert_allclose(
    attention.attend(q, k, v, plan).ravel(), [expected], rtol=1e-6
  )
