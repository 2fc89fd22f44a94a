"""One expression an array says what optax says, one tree after the other."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from instruct_jax.parallel import sharding
from instruct_jax.training import fused, optim

SECTION = {
  "name": "adamw",
  "learning_rate": 0.1,
  "b1": 0.9,
  "b2": 0.95,
  "eps": 1e-4,
  "weight_decay": 0.0,
  "clip_norm": 0.0,
  "schedule": "cosine",
  "warmup_steps": 2,
  "warmup_from": 0.1,
  "final_fraction": 0.1,
}


def _section(**changes):
  return ml_collections.ConfigDict(SECTION | changes)


def _tree(seed):
  """Parameters that decay and those that do not, and their gradients."""
  rng = np.random.default_rng(seed)
  new = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  return {
    "decoder": {
      "block_0": {"up": {"kernel": new(4, 6), "bias": new(6)}},
      "final_norm": {"scale": new(4)},
      "token_embedding": {"embedding": new(7, 4)},
    }
  }


def _plainly(optimizer, role, grads, decay):
  """An update by optax alone."""
  updates, state = optimizer.update(grads, role.optimizer, role.params)
  params = optax.apply_updates(role.params, updates)
  ema = jax.tree.map(
    lambda new, old: (1 - decay) * new + decay * old, params, role.ema
  )
  return fused.Role(params, state, ema)


def _of(section):
  """(rate, optimizer, a first role, an update of it)."""
  rate = optim.learning_rate(section, total_steps=8, updates_per_step=2)
  optimizer = optim.make(section, total_steps=8, updates_per_step=2)
  params = _tree(0)
  role = fused.Role(params, optimizer.init(params), _tree(1))
  update = functools.partial(fused.updated, section, rate, optimizer)
  return optimizer, role, jax.jit(update, static_argnames="decay")


def _assert_same(one, other):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6),
    one,
    other,
  )


@pytest.mark.parametrize(
  "changes",
  [
    {"name": "adam"},
    {"weight_decay": 0.3},
    {"weight_decay": 0.3, "clip_norm": 2.0},  # of about 8 to 30
    {"clip_norm": 16.0},  # that of the first alone is below
    {"name": "muon", "weight_decay": 0.3, "clip_norm": 2.0},
  ],
)
def test_updates_are_those_of_optax(changes):
  optimizer, role, update = _of(_section(**changes))
  plain = role
  for i in range(5):
    grads = jax.tree.map(lambda x, i=i: x * (1 + i), _tree(2 + i))
    plain = _plainly(optimizer, plain, grads, 0.8)
    role = update(role, grads, is_finite=jnp.bool_(True), decay=0.8)
    _assert_same(role, plain)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_what_is_not_finite_moves_the_clock_alone(name):
  _, role, update = _of(_section(name=name))
  role = update(role, _tree(2), is_finite=jnp.bool_(True), decay=0.8)
  broken = jax.tree.map(lambda x: x * jnp.nan, _tree(3))
  after = update(role, broken, is_finite=jnp.bool_(False), decay=0.8)
  assert int(optim.clock(after.optimizer)) == 2
  assert int(optim.clock(role.optimizer)) == 1
  still = optim.with_clocks_of(after.optimizer, role.optimizer)
  jax.tree.map(
    np.testing.assert_array_equal, after.replace(optimizer=still), role
  )


@pytest.mark.parametrize("is_finite", [True, False])
def test_devices_choose_and_the_cpu_branches(monkeypatch, is_finite):
  section, found = _section(weight_decay=0.3, clip_norm=2.0), {}
  for platform in ("cpu", "gpu"):
    monkeypatch.setattr(
      sharding, "platform", lambda platform=platform: platform
    )
    _, role, update = _of(section)
    arguments = role, _tree(2)
    said = {"is_finite": jnp.bool_(is_finite), "decay": 0.8}
    found[platform] = update(*arguments, **said)
    is_branch = " cond[" in str(update.trace(*arguments, **said).jaxpr)
    assert is_branch == (platform == "cpu")
  _assert_same(found["cpu"], found["gpu"])


def test_a_role_without_an_average_gets_none():
  _, role, update = _of(_section())
  after = update(
    role.replace(ema=None), _tree(2), is_finite=jnp.bool_(True), decay=0.0
  )
  assert after.ema is None


def test_nothing_is_held_twice():
  """New arrays take the places of old ones, in which no copy is in between."""
  section = _section(weight_decay=0.1, clip_norm=1.0)
  rate = optim.learning_rate(section, total_steps=8)
  optimizer = optim.make(section, total_steps=8)
  params = {f"block_{i}/kernel": jnp.ones((256, 64)) for i in range(3)}
  role = fused.Role(params, optimizer.init(params), params)

  def update(role, grads):
    return fused.updated(
      *(section, rate, optimizer, role, grads),
      is_finite=optax.global_norm(grads) < 1e9,
      decay=0.9,
    )

  compiled = jax.jit(update, donate_argnums=0).lower(role, params).compile()
  array = 4 * 256 * 64
  assert compiled.memory_analysis().temp_size_in_bytes < array / 4
