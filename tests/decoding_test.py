"""A policy's copy for sampling: where it lies, and that it says the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, iteration
from instruct_jax.inference import decoding
from instruct_jax.parallel import layouts, sharding
from instruct_jax.training import step
from tests import toys

MESH = {"data": 2, "fsdp": 2, "tensor": 2}


@functools.cache
def run_of(rollout, dtype="float32", scan=False):
  layout = {"rollout": rollout}
  config = toys.config_of("ppo", mesh=MESH, layout=layout)
  ctx = toys.make_context(config, dtype=dtype, scan=scan)
  algorithm = algorithms.named(config.algorithm)
  return step.setup(ctx, algorithm, 1, toys.checkpoints(ctx))


def axes_of(tree):
  """{path: the axes of the mesh that divide it}."""
  return {
    sharding.path_name(path): {
      axis for entry in x.sharding.spec for axis in sharding.axes_of(entry)
    }
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.parametrize("scan", [False, True])
def test_the_copy_is_whole_but_for_tensor_and_in_the_model_s_dtype(scan):
  run, state = run_of("decode", "bfloat16", scan)
  params = state.params["policy"]
  found = decoding.laid_out(run.ctx, params, state)
  assert jax.tree.structure(found) == jax.tree.structure(params)
  trained, copied = axes_of(params), axes_of(found)
  assert any("fsdp" in axes for axes in trained.values())
  for path, axes in copied.items():
    assert axes == trained[path] - {"fsdp"}, path
  for path, x in jax.tree_util.tree_leaves_with_path(found):
    is_kernel = sharding.path_name(path).endswith("kernel")
    assert x.dtype == (jnp.bfloat16 if is_kernel else jnp.float32)
  # What is trained stays where and what it was.
  assert axes_of(state.params["policy"]) == trained
  assert not any(x.is_deleted() for x in jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_says_the_same_tokens(dtype):
  said = {}
  for rollout in ("train", "decode"):
    run, state = run_of(rollout, dtype)
    prompts = sharding.global_batch(toys.prompts(3), run.ctx.mesh)
    policy = decoding.laid_out(run.ctx, state.params["policy"], state)
    said[rollout] = episodes.sample(run.ctx, policy, prompts, jax.random.key(5))
  np.testing.assert_array_equal(said["train"].tokens, said["decode"].tokens)
  assert len(np.unique(said["train"].tokens)) > 10


def test_rollouts_are_sampled_from_it_and_scored_without(monkeypatch):
  run, state = run_of("decode")
  seen = []

  def sample(ctx, policy, prompts, key):
    seen.append(policy)
    return real(ctx, policy, prompts, key)

  real = episodes.sample
  monkeypatch.setattr(episodes, "sample", sample)
  prompts = sharding.global_batch(toys.prompts(0), run.ctx.mesh)
  found = iteration.played(run.ctx, state, prompts, jax.random.key(0))
  assert all("fsdp" not in axes for axes in axes_of(seen[0]).values())
  plain, state = run_of("train")
  expected = iteration.played(plain.ctx, state, prompts, jax.random.key(0))
  assert seen[1] is state.params["policy"]
  np.testing.assert_array_equal(found.response, expected.response)
  np.testing.assert_array_equal(found.logprobs, expected.logprobs)


def test_by_itself_a_copy_is_made_where_memory_is_left(monkeypatch):
  run, state = run_of("auto")
  params = state.params["policy"]
  assert not decoding.is_apart(run.ctx, state, params)  # CPUs share theirs
  copy = decoding.shapes(run.ctx, params)
  needed = layouts.device_bytes((state, copy))
  enough = -(-needed * 8 // 5)
  with sharding.standing_in("tpu"):
    for memory, wanted in ((enough, True), (enough - 2, False)):
      monkeypatch.setattr(
        decoding.memory, "of_device", lambda _, memory=memory: memory
      )
      assert decoding.is_apart(run.ctx, state, params) == wanted


def test_slots_leave_room_for_a_copy_where_there_can_be_one(monkeypatch):
  """Each of a slot's numbers is of 2 layers, keys and values, 4 bytes."""
  slots = {}
  ctx = run_of("train")[0].ctx
  copy = layouts.device_bytes(
    decoding.shapes(ctx, run_of("train")[1].params["policy"])
  )
  with sharding.standing_in("tpu"):
    for share in (0.6, 0.7):  # of a device's memory, that a copy takes
      monkeypatch.setattr(
        decoding.memory, "of_device", lambda _, there=copy / share: there
      )
      slots[share] = {
        rollout: run_of(rollout)[0].ctx.sampling().slots
        for rollout in ("train", "auto", "decode")
      }
  assert slots[0.6]["auto"] == slots[0.6]["decode"] < slots[0.6]["train"]
  assert slots[0.7]["decode"] < slots[0.7]["auto"] == slots[0.7]["train"]


def test_one_device_needs_no_copy_by_itself():
  config = toys.config_of("ppo", layout={"rollout": "auto"})
  ctx = toys.make_context(config)
  with sharding.standing_in("tpu"):
    assert not decoding.is_apart(ctx, (), {})
