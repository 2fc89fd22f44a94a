"""Products whose gradients are computed in another order, with equal values."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.models import product
from instruct_jax.parallel import sharding

SIZES = st.sampled_from([1, 3, 8])


def given(rows, inputs, outputs, dtype=jnp.float32, seed=0):
  """x, kernel and a weight for each result."""
  rng = np.random.default_rng(seed)
  shapes = (rows, inputs), (inputs, outputs), (rows, outputs)
  return tuple(jnp.asarray(rng.normal(size=s), dtype) for s in shapes)


def learned(x, kernel, weight):
  """The gradients by x and by the kernel."""

  def loss(x, kernel):
    return (product.product(x, kernel) * weight).sum()

  return jax.grad(loss, argnums=(0, 1))(x, kernel)


@hypothesis.settings(max_examples=8)
@hypothesis.given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_gradients_are_the_textbooks(rows, inputs, outputs, seed):
  """d L / dx = g W^T and d L / dW = x^T g, where g = d L / d (x W)."""
  x, kernel, g = (
    np.asarray(a, np.float64) for a in given(rows, inputs, outputs, seed=seed)
  )
  of_x, of_kernel = learned(*given(rows, inputs, outputs, seed=seed))
  np.testing.assert_allclose(of_x, g @ kernel.T, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(of_kernel, x.T @ g, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_other_devices_have_the_same(dtype, monkeypatch):
  """What is derived, as they have it, and in its dtype."""
  x, kernel, weight = given(24, 8, 16, dtype)
  here = product.product(x, kernel), *learned(x, kernel, weight)
  monkeypatch.setattr(sharding, "platform", lambda: "tpu")
  there = product.product(x, kernel), *learned(x, kernel, weight)
  for a, b in zip(here, there):
    assert a.dtype == b.dtype == dtype
    np.testing.assert_allclose(*(np.asarray(y, float) for y in (a, b)), 1e-2)


def test_a_mesh_changes_no_gradient():
  alone = learned(*given(16, 8, 12))
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    layouts = (sharding.BATCH, ("fsdp", "tensor"), sharding.BATCH)
    arrays = (
      jax.device_put(x, jax.NamedSharding(mesh, jax.P(*layout)))
      for x, layout in zip(given(16, 8, 12), layouts)
    )
    found = jax.jit(learned)(*arrays)
  for a, b in zip(found, alone):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_frozen_kernel_costs_no_gradient():
  x, kernel, weight = given(64, 32, 16)

  def program(argnums):
    def loss(x, kernel):
      return (product.product(x, kernel) * weight).sum()

    compiled = jax.jit(jax.grad(loss, argnums=argnums)).lower(x, kernel)
    return compiled.compile().cost_analysis()["flops"]

  assert program((0, 1)) - program(0) >= 2 * 64 * 32 * 16
