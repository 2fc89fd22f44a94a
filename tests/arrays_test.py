import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.maths import arrays

quick = hypothesis.settings(max_examples=15, deadline=None)


@pytest.fixture(autouse=True)
def _strict():
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def variant(request):
  return jax.jit if request.param else lambda f: f


def _random(seed, shape=(4, 7), low=0.3):
  rng = np.random.default_rng(seed)
  x = rng.normal(scale=3.0, size=shape).astype(np.float32)
  return x, rng.random(shape) < rng.uniform(low, 1)


class TestExactDiv:
  def test_divides(self):
    assert arrays.exact_div(512, 8, "x") == 64

  @pytest.mark.parametrize(
    ("numerator", "denominator", "hint"),
    [(500, 8, "496 or 504"), (3, 8, "would be: 8"), (4, 0, "at least 1")],
  )
  def test_names_what_is_wrong(self, numerator, denominator, hint):
    with pytest.raises(errors.UserError, match=hint) as error:
      arrays.exact_div(numerator, denominator, "batch / minibatches")
    assert "batch / minibatches" in str(error.value)


class TestMeans:
  x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
  mask = np.array([[True, False, True], [True, False, False]])

  def test_by_hand(self, variant):
    total, weight = variant(arrays.sum_and_weight)(self.x, self.mask)
    assert (float(total), float(weight)) == (8, 3)
    np.testing.assert_allclose(
      variant(arrays.masked_mean)(self.x, self.mask), 8 / 3, rtol=1e-6
    )
    np.testing.assert_allclose(
      variant(arrays.masked_var)(self.x, self.mask), 14 / 9, rtol=1e-6
    )

  def test_empty_mask(self, variant):
    nowhere = np.zeros_like(self.mask)
    assert float(variant(arrays.masked_mean)(self.x, nowhere)) == 0
    assert float(variant(arrays.masked_var)(self.x, nowhere)) == 0

  @pytest.mark.parametrize(
    "dtype", [jnp.int32, jnp.bool_, jnp.bfloat16, jnp.float32]
  )
  def test_float32_whatever_comes_in(self, variant, dtype):
    x = jnp.ones((2, 3), dtype)
    for y in (
      *variant(arrays.sum_and_weight)(x, self.mask),
      variant(arrays.masked_mean)(x, self.mask),
      variant(arrays.whiten)(x, self.mask),
    ):
      assert y.dtype == jnp.float32

  def test_masked_values_never_enter(self, variant):
    poisoned = np.where(self.mask, self.x, np.nan)
    assert float(variant(arrays.masked_mean)(poisoned, self.mask)) > 0
    y = variant(arrays.whiten)(poisoned, self.mask)
    np.testing.assert_array_equal(y, arrays.whiten(self.x, self.mask))
    grad = variant(jax.grad(arrays.masked_mean))(poisoned, self.mask)
    np.testing.assert_allclose(grad, self.mask / np.float32(3))

  @quick
  @hypothesis.given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
  def test_parts_add_up(self, seed, parts):
    """The mean of a whole is the sum of sums over the sum of weights."""
    x, mask = _random(seed)
    pieces = [
      arrays.sum_and_weight(a, b)
      for a, b in zip(np.split(x, parts), np.split(mask, parts))
    ]
    total = sum(s for s, _ in pieces)
    weight = sum(w for _, w in pieces)
    whole = arrays.masked_mean(x, mask)
    np.testing.assert_allclose(
      total / max(weight, jnp.float32(1)), whole, rtol=1e-5, atol=1e-6
    )


class TestWhiten:
  def test_by_hand(self, variant):
    x = np.array([[1, 3, 100]], np.float32)
    mask = np.array([[True, True, False]])
    np.testing.assert_allclose(
      variant(arrays.whiten)(x, mask), [[-1, 1, 0]], rtol=1e-6
    )
    keep = variant(lambda x, m: arrays.whiten(x, m, shift_mean=False))
    np.testing.assert_allclose(keep(x, mask), [[1, 3, 0]], rtol=1e-6)

  @quick
  @hypothesis.given(
    st.integers(0, 10**6), st.floats(-50, 50), st.floats(0.1, 50)
  )
  def test_mean_0_variance_1(self, seed, shift, scale):
    x, mask = _random(seed)
    hypothesis.assume(mask.sum() > 2)
    y = arrays.whiten(x * np.float32(scale) + np.float32(shift), mask)
    inside = np.asarray(y)[mask]
    np.testing.assert_allclose(inside.mean(), 0, atol=1e-4)
    np.testing.assert_allclose(inside.var(), 1, rtol=1e-3)
    assert not np.asarray(y)[~mask].any()

  @quick
  @hypothesis.given(st.integers(0, 10**6))
  def test_scale_only_keeps_the_mean(self, seed):
    x, mask = _random(seed)
    hypothesis.assume(mask.sum() > 2)
    inside = np.asarray(arrays.whiten(x, mask, shift_mean=False))[mask]
    np.testing.assert_allclose(inside.mean(), x[mask].mean(), atol=1e-4)
    np.testing.assert_allclose(inside.var(), 1, rtol=1e-3)


class TestIndices:
  def test_last_index(self, variant):
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    index = variant(arrays.last_index)(mask)
    np.testing.assert_array_equal(index, [1, 2, 0])
    assert index.dtype == jnp.int32
