"""What is not trained: in the compute dtype, and once for all its roles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes
from instruct_jax.training import step
from tests import toys

LORA = {"rank": 2, "alpha": 4.0, "targets": "", "dropout": 0.0, "roles": ()}


def made(dtype, *, tied=True, **changes):
  """(run, state, what it started from) of PPO, with learned positions too."""
  config = toys.config_of("ppo", **changes)
  ctx = toys.make_context(
    config, dtype=dtype, tied=tied, positions="learned", norm_bias=True
  )
  given = toys.checkpoints(ctx)
  return *step.setup(ctx, algorithms.named("ppo"), 10, given), given


def dtypes(tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path): x.dtype for path, x in leaves}


def pointers(tree):
  return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def test_in_32_bits_a_checkpoint_s_arrays_are_the_frozen_networks():
  """No copy: the very buffers, where the policy and its average have others."""
  _, state, given = made("float32")
  assert pointers(state.frozen["reference"]) == pointers(given["policy"])
  assert pointers(state.frozen["reward"]) == pointers(given["reward"])
  assert not set(pointers(state.params)) & set(pointers(state.frozen))


@pytest.mark.parametrize("tied", [True, False])
def test_in_16_bits_matrices_take_half(tied):
  """Norms, biases and the scalar head stay; what is trained stays, too."""
  _, state, _ = made("bfloat16", tied=tied)
  for tree in (state.params, state.ema):
    assert set(dtypes(tree).values()) == {jnp.dtype("float32")}
  for role in ("reference", "reward"):
    for name, dtype in dtypes(state.frozen[role]).items():
      is_matrix = "embedding'" in name or "'kernel'" in name
      is_matrix &= "'head'" not in name
      assert dtype == ("bfloat16" if is_matrix else "float32"), name


def test_in_16_bits_all_but_embeddings_say_the_same():
  """Bit for bit; sums of embeddings are in 32 bits also where they are 16."""
  run, state, given = made("bfloat16")
  sequences = toys.recorded(0).sequences
  said = jax.jit(episodes.response_logprobs, static_argnums=0)
  rounded = jax.tree_util.tree_map_with_path(
    lambda path, x: (
      x.astype(jnp.bfloat16).astype(jnp.float32)
      if "embedding" in jax.tree_util.keystr(path)
      else x
    ),
    given["policy"],
  )
  found = said(run.ctx, state.frozen["reference"], sequences)
  expected = said(run.ctx, rounded, sequences)
  np.testing.assert_array_equal(found, expected)


def test_with_adapters_policy_and_reference_are_one_array():
  """In 16 bits; adapters, norms and heads are trained or read in 32."""
  _, state, _ = made("bfloat16", lora=LORA)
  base = dict(
    zip(dtypes(state.params["policy"]), pointers(state.params["policy"]))
  )
  reference = dict(
    zip(dtypes(state.frozen["reference"]), pointers(state.frozen["reference"]))
  )
  assert reference.items() <= base.items()
  assert {
    str(dtype)
    for name, dtype in dtypes(state.params["policy"]).items()
    if "lora_" in name
  } == {"float32"}


@pytest.mark.parametrize("changes", [{}, {"lora": LORA}])
def test_a_step_keeps_both_dtypes(changes):
  """An iteration, traced: what was 16 bits stays so, and so does the rest."""
  run, state, _ = made("bfloat16", **changes)
  batch = toys.batch("ppo", 0)

  def iteration(state, key):
    collected = run.algorithm.collect(run.ctx, state, batch, key)
    return step.update(run, state, *collected, key)[0]

  after = jax.eval_shape(iteration, state, jax.random.key(0))
  assert dtypes(after) == dtypes(state)
