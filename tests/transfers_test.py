"""A step moves nothing from the host to the devices but its batch."""

import jax
import pytest

from instruct_jax import algorithms
from instruct_jax.parallel import sharding
from instruct_jax.training import loop, step
from tests import tiers, toys

NAMES = ("sft", "rm", "dpo", "ppo", "rloo")


@pytest.mark.parametrize("name", tiers.often(NAMES, "rm", "ppo"))
def test_a_step_moves_nothing_but_its_batch(name):
  ctx = toys.make_context(toys.config_of(name), layers=1)
  algorithm = algorithms.named(ctx.config.algorithm)
  with jax.set_mesh(ctx.mesh):
    run, state = step.setup(ctx, algorithm, 3, toys.checkpoints(ctx))
    update = step.compiled(run)
    first, second = (
      sharding.global_batch(toys.batch(name, seed), ctx.mesh) for seed in (0, 1)
    )

    def one(state, batch):
      k_collect, k_update = loop.keys(run.root, state.step)
      collected = algorithm.collect(ctx, state, batch, k_collect)
      return update(state, *collected, k_update)[0]

    state = one(state, first)
    with jax.transfer_guard_host_to_device("disallow"):
      state = one(state, second)
  assert state.step == 2
