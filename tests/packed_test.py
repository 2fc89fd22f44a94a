"""Rows without padding say what padded rows say, and learn the same."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.suite import lengths
from instruct_jax.algorithms import best_of_n, dpo, groups, ppo, rm, sft
from instruct_jax.models import forward, heads, packed
from instruct_jax.parallel import sharding
from instruct_jax.training import gradient
from tests import tiers, toys

B, K, P, R = 6, 3, 4, 3
L = P + R
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


def config(**changes):
  return toys.decoder_config(layers=1, positions="learned", **changes)


POLICY, SCALAR = heads.LanguageModel(config()), heads.ScalarModel(config())


@functools.cache
def params_of(model):
  """Of such a size that everything in front of a token matters."""
  with jax.ensure_compile_time_eval():
    params = toys.init_params(model, jax.random.key(0))
    return jax.tree.map(lambda x: 1.5 * x if x.ndim > 1 else x, params)


def sequences(prompts, responses, seed=0):
  """With prompts and responses [B] or [B, K] of these lengths."""
  rng = np.random.default_rng(seed)
  prompts, responses = np.asarray(prompts), np.asarray(responses)
  shape = (*responses.shape, R)
  return {
    "prompt": rng.integers(1, toys.V, (len(prompts), P)).astype(np.int32),
    "is_prompt": np.arange(P) >= P - prompts[:, None],
    "response": rng.integers(1, toys.V, shape).astype(np.int32),
    "is_response": np.arange(R) < responses[..., None],
  }


def of_episodes(policy, scalar, rows):
  logprobs, entropies = forward.response_logprobs_and_entropies(
    POLICY, policy, rows, temperature=0.7
  )
  return {
    "logprobs": logprobs,
    "entropies": entropies,
    "values": forward.response_values(SCALAR, scalar, rows),
    "scores": forward.scores(SCALAR, scalar, rows),
  }


def of_rankings(policy, scalar, rows):
  return {
    "logprobs": forward.completion_logprobs(POLICY, policy, rows),
    "scores": forward.completion_scores(SCALAR, scalar, rows),
  }


@functools.partial(jax.jit, static_argnums=(0, 1))
def said_of(function, is_packed, rows):
  """What is said where there is a token, or of an item that has one."""
  function = functools.partial(function, params_of(POLICY), params_of(SCALAR))
  if is_packed:
    said, padding = packed.mapped(function, rows, parts=B // 2)
  else:
    said, padding = function(rows), ()
  is_response = rows["is_response"]
  others = tuple(range(1, is_response.ndim))
  is_item = rows["is_prompt"].any(axis=1) | is_response.any(axis=others)

  def real(x):
    if x.ndim == is_response.ndim:
      return jnp.where(is_response, x, 0)
    return jnp.where(is_item.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)

  return jax.tree.map(real, said), padding


def assert_packed_is_padded(function, rows):
  found, (empty, slots) = said_of(function, True, rows)
  expected, _ = said_of(function, False, rows)
  for name, x in expected.items():
    np.testing.assert_allclose(found[name], x, err_msg=name, **TOLERANCE)
  tokens = rows["is_prompt"].sum() + rows["is_response"].sum()
  assert slots - empty == tokens


@pytest.fixture
def few_slots(monkeypatch):
  """Two rows at a time."""
  monkeypatch.setattr(packed, "CPU_SLOTS", 2 * L)


PROMPTS = st.lists(st.integers(0, P), min_size=B, max_size=B)
RESPONSES = st.lists(st.integers(0, R), min_size=B, max_size=B)
COMPLETIONS = st.lists(
  st.lists(st.sampled_from([0, 1, R]), min_size=K, max_size=K),
  min_size=B,
  max_size=B,
)
EDGES = [
  ([0] * B, [0] * B),
  ([P] * B, [R] * B),
  ([1] * B, [0] * B),
  ([0] * B, [R] * B),
  ([P, 1, 1, 1, 1, 1], [R, 0, 1, 0, 1, 0]),
]


def test_items_without_a_token_take_no_row():
  rows = sequences([P, *[0] * (B - 1)], [R, *[0] * (B - 1)])
  (empty, slots) = said_of(of_episodes, True, rows)[1]
  assert packed.plan(jax.tree.map(jnp.asarray, rows)).steps == 1
  assert empty == slots - L


@hypothesis.settings(max_examples=25)
@hypothesis.given(PROMPTS, RESPONSES, st.integers(0, 99))
def test_episodes_of_any_length(prompts, responses, seed):
  rows = sequences(prompts, responses, seed)
  assert_packed_is_padded(of_episodes, rows)


@pytest.mark.parametrize(("prompts", "responses"), EDGES)
def test_episodes_at_the_edges(prompts, responses):
  assert_packed_is_padded(of_episodes, sequences(prompts, responses))


@hypothesis.settings(max_examples=25)
@hypothesis.given(PROMPTS, COMPLETIONS, st.integers(0, 99))
def test_rankings_of_any_length(prompts, completions, seed):
  rows = sequences(prompts, completions, seed)
  assert_packed_is_padded(of_rankings, rows)


def test_no_length_compiles_a_program_anew():
  before = said_of._cache_size()
  rng = np.random.default_rng(1)
  for _ in range(5):
    rows = sequences(rng.integers(0, P + 1, B), rng.integers(0, R + 1, B))
    said_of(of_episodes, True, rows)
  assert said_of._cache_size() <= before + 1


def test_one_item_is_a_row_of_its_own():
  rows = sequences([2], [3])
  found, (empty, slots) = jax.jit(
    lambda rows: packed.mapped(
      functools.partial(of_episodes, params_of(POLICY), params_of(SCALAR)), rows
    )
  )(rows)
  assert (int(empty), int(slots)) == (L - 5, L)
  alone = of_episodes(params_of(POLICY), params_of(SCALAR), rows)
  for name, x in alone.items():
    np.testing.assert_allclose(found[name], x, err_msg=name, **TOLERANCE)


def off_by_one(name, structure):
  """In the first row, whose first text has a prompt of two tokens."""
  x = getattr(structure, name)
  changed = {
    "positions": lambda: x.at[0, 2].add(1),
    "is_key": lambda: x.at[0, 1].set(False),
    "segments": lambda: x.at[0, 4].add(-1),
    "branches": lambda: x.at[0, 2].add(1),
  }
  return dataclasses.replace(structure, **{name: changed[name]()})


MUTATED = ("positions", "is_key", "segments", "branches")


@pytest.mark.parametrize("name", MUTATED)
def test_a_structure_that_is_wrong_by_one_is_seen(name, monkeypatch):
  """Two items, of four and three tokens or two completions, in one row."""
  function = of_rankings if name == "branches" else of_episodes
  if name == "branches":
    rows = sequences([2, 2], [[3, 2, 0], [1, 0, 0]])
  else:
    rows = sequences([2, 2], [2, 1])
  said = functools.partial(function, params_of(POLICY), params_of(SCALAR))
  run = jax.jit(lambda rows: packed.mapped(said, rows)[0])
  right = packed.Layout.structure
  plain = run(rows)
  monkeypatch.setattr(
    packed.Layout, "structure", lambda *a: off_by_one(name, right(*a))
  )
  other = jax.jit(lambda rows: packed.mapped(said, rows)[0])(rows)
  is_response = rows["is_response"]
  difference = jnp.where(is_response, plain["logprobs"] - other["logprobs"], 0)
  assert jnp.abs(difference).max() > 1e-3, difference


def test_little_of_an_iteration_is_padding():
  """In 8 minibatches of 64 episodes of the benchmark's ragged lengths."""
  rng = np.random.default_rng(0)
  chance, padding = lengths.chance_of(32, 128), []
  for _ in range(8):
    responses = np.minimum(rng.geometric(chance, 64), 128)
    before = rng.integers(16, 65, 64)
    rows = {
      "is_prompt": jnp.arange(64) < before[:, None],
      "is_response": jnp.arange(128) < responses[:, None],
    }
    padding.append(packed.padding(rows, packed.plan(rows)))
  empty, slots = np.sum(padding, axis=0)
  assert 0 <= empty / slots < 0.1


def test_short_items_fill_longer_rows(monkeypatch):
  """512 episodes of 48 tokens at most, 26 on average."""
  rng = np.random.default_rng(0)
  before = rng.integers(7, 33, 512)
  responses = np.minimum(rng.geometric(1 / 7, 512), 16)
  rows = {
    "is_prompt": jnp.arange(32) < before[:, None],
    "is_response": jnp.arange(16) < responses[:, None],
  }

  def share():
    plan = packed.plan(rows)
    empty, slots = packed.padding(rows, plan)
    return plan.shape.width, float(empty / slots)

  width, of_longer = share()
  monkeypatch.setattr(packed, "SHORT", 47)
  same, of_same = share()
  assert (same, width) == (48, 56)
  assert of_longer < of_same - 0.03, (of_longer, of_same)


# What is learned.

ALGORITHMS = {
  "sft": sft,
  "rm": rm,
  "ppo": ppo,
  "dpo": dpo,
  "rloo": groups,
  "grpo": groups,
  "best_of_n": best_of_n,
}


def minibatch_of(ctx, name):
  """Ragged, with responses of no token and of all."""
  if name not in ("ppo", "rloo", "grpo", "best_of_n"):
    return toys.batch(name, 0)
  scored = toys.recorded(0)
  is_response = np.array(scored.is_response)
  is_response[1] = False
  is_response[2] = True
  scored = dataclasses.replace(scored, is_response=is_response)
  beta = () if name == "best_of_n" else (jnp.float32(0.1),)
  parts, _ = ALGORITHMS[name].minibatches(
    ctx, scored, *beta, {}, jax.random.key(0)
  )
  return jax.tree.map(lambda x: x[0], parts)


def gradient_of(ctx, name, params, minibatch):
  algorithm = ALGORITHMS[name].ALGORITHM
  function = functools.partial(gradient.of_minibatch, ctx, algorithm)
  return jax.jit(function)(params, {}, minibatch, jax.random.key(1))


@pytest.mark.parametrize(
  "name", tiers.often(ALGORITHMS, "sft", "rm", "dpo", "ppo")
)
def test_what_is_learned_is_the_same(name, monkeypatch):
  """Gradients and metrics of every loss, a row or two at a time."""
  monkeypatch.setattr(packed, "CPU_SLOTS", 24)
  ctx = toys.make_context(toys.config_of(name), layers=1)
  given = toys.checkpoints(ctx)
  roles = {"policy": "policy", "reward": "reward", "value": "reward"}
  params = {r: given[roles[r]] for r in ctx.config.optimizer}
  minibatch = minibatch_of(ctx, name)
  grads, metrics = gradient_of(ctx, name, params, minibatch)
  monkeypatch.setattr(packed, "can_be", lambda rows: False)
  expected, of_padded = gradient_of(ctx, name, params, minibatch)
  assert metrics.pop(gradient.PADDING)[1] > 0
  of_padded.pop(gradient.PADDING, None)
  assert metrics.keys() == of_padded.keys()
  for key, pair in of_padded.items():
    counted = 1 if key.startswith("count/") else 2  # of those the sum is logged
    np.testing.assert_allclose(
      *(metrics[key][:counted], pair[:counted]),
      rtol=1e-4,
      atol=1e-4,
      err_msg=key,
    )
  for one, other in zip(
    jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_devices_read_their_own_rows():
  """On 4 x 2 devices as on one; no device has all of another's slots."""
  rng = np.random.default_rng(0)
  rows = sequences(rng.integers(0, P + 1, 8), rng.integers(0, R + 1, 8))
  said = functools.partial(of_episodes, params_of(POLICY), params_of(SCALAR))

  def run(rows):
    return packed.mapped(said, rows)[0]

  expected = jax.jit(run)(rows)
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    found = jax.jit(run)(sharding.global_batch(rows, mesh))
  for name, x in expected.items():
    np.testing.assert_allclose(found[name], x, err_msg=name, **TOLERANCE)
