"""Attention on the accelerator that is there, beside all its scores in float32.

  python -m tests.accelerator

Prints a line a structure, and fails where the kernels are further from the
truth than twice what bfloat16 gives with all scores.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.models import attention
from instruct_jax.parallel import sharding


def structures(rng):
  """Rows of 700 tokens."""
  ones = jnp.ones((2, 700), bool)
  segments = np.sort(rng.integers(0, 5, (2, 700)), axis=1)
  return {
    "padded": attention.padded(ones.at[0, :99].set(False)),
    "packed": attention.packed(jnp.asarray(segments, jnp.int32)),
    "shared prompt": attention.shared_prompt(
      ones[:, :100], ones[:, 100:].reshape(2, 6, 100)
    ),
  }


def gradients(plan, q, k, v):
  """Of a loss that tells positions apart, and the output."""

  def loss(q, k, v):
    out = attention.attend(q, k, v, plan).astype(jnp.float32)
    return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

  return jax.grad(loss, (0, 1, 2), has_aux=True)(q, k, v)


def computed(structure, window, given, platform):
  """`gradients` as on a platform, flat, in float64."""
  here = sharding.platform
  try:
    sharding.platform = platform
    plan = attention.plan(structure, window=window)
    found = jax.jit(functools.partial(gradients, plan))(*given)
  finally:
    sharding.platform = here
  return [np.asarray(x, np.float64) for x in jax.tree.leaves(found)]


def distance(found, truth):
  """How far arrays are from what they ought to be."""
  return sum(np.abs(a - b).mean() for a, b in zip(found, truth))


def main() -> None:
  """Every structure, with a window and without."""
  rng, here = np.random.default_rng(0), sharding.platform
  assert here() != "cpu", "no accelerator"
  shapes = ((2, 2, 2, 700, 64), (2, 2, 700, 64), (2, 2, 700, 64))
  exact = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
  coarse = [x.astype(jnp.bfloat16) for x in exact]
  for name, structure in structures(rng).items():
    for window in (0, 150):
      how = functools.partial(computed, structure, window)
      with jax.default_matmul_precision("highest"):
        truth = how(exact, lambda: "cpu")
      kernels = distance(how(coarse, here), truth)
      dense = distance(how(coarse, lambda: "cpu"), truth)
      print(f"{name}, window {window}: {kernels:.2e}, all scores {dense:.2e}")
      assert kernels < 2 * dense, name


if __name__ == "__main__":
  main()
