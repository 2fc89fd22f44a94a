"""How PPO is wired: a reference that differs from the policy, a temperature
that is not 1, a dropout that is not 0, rows that are no episodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.algorithms import episodes, ppo
from instruct_jax.inference import generate
from instruct_jax.training import step as step_lib
from tests import toys

TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def run():
  """A run with dropout whose policy has moved away from its reference."""
  config = toys.config_of(
    "ppo", rl={"temperature": TEMPERATURE, "ptx_coef": 0.0, "minibatches": 2}
  )
  ctx = toys.make_context(config, dropout=0.5)
  run, state = step_lib.setup(
    ctx, ppo.ALGORITHM, 3, toys.checkpoints(ctx, seed=0)
  )
  moved = toys.checkpoints(ctx, seed=1)["policy"]
  return run, state.replace(params=state.params | {"policy": moved})


@pytest.fixture(scope="module")
def prompts():
  return toys.batch("ppo", 0)["prompts"]


@pytest.fixture(scope="module")
def scored(run, prompts):
  run, state = run
  policy = state.params["policy"]
  generation = episodes.sample(run.ctx, policy, prompts, jax.random.key(1))
  return episodes.score(
    run.ctx, state.params, state.frozen, prompts, generation
  )


def logprobs(ctx, policy, scored):
  """log π(token) [B, R] of the responses at the temperature, plainly."""
  logits = toys.response_logits(ctx.policy, policy, scored.sequences)
  rows = np.asarray(jax.nn.log_softmax(logits / TEMPERATURE, axis=-1))
  picked = np.take_along_axis(rows, np.asarray(scored.response)[..., None], -1)
  return np.where(scored.is_response, picked[..., 0], 0.0)


@pytest.fixture(scope="module")
def plain(run, scored):
  """Of policy and reference."""
  run, state = run
  networks = state.params["policy"], state.frozen["reference"]
  return [logprobs(run.ctx, network, scored) for network in networks]


def test_logprobs_are_of_policy_and_reference_at_the_temperature(scored, plain):
  np.testing.assert_allclose(scored.logprobs, plain[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    scored.ref_logprobs, plain[1], rtol=1e-4, atol=1e-5
  )


def test_the_kl_is_between_policy_and_reference(run, prompts):
  run, state = run
  minibatches, metrics = run.algorithm.collect(
    run.ctx, state, {"prompts": prompts}, jax.random.key(1)
  )
  rows = jax.tree.map(
    lambda x: x.reshape(-1, *x.shape[2:]), minibatches["policy"]
  )
  logits = toys.response_logits(run.ctx.policy, state.frozen["reference"], rows)
  logp = jax.nn.log_softmax(logits / TEMPERATURE, axis=-1)
  reference = jnp.take_along_axis(logp, rows["response"][..., None], axis=-1)
  kl = jnp.where(
    rows["is_response"], rows["old_logprobs"] - reference[..., 0], 0.0
  )
  expected = float(kl.sum(axis=1).mean())
  assert abs(expected) > 1e-3
  total, weight = metrics["objective/kl"]
  np.testing.assert_allclose(total / weight, expected, rtol=1e-3, atol=1e-5)


def test_the_sampler_samples_at_the_temperature(run, prompts):
  """So cold that every token is the likeliest one."""
  run, state = run
  config = toys.config_of("ppo", rl={"temperature": 1e-4})
  cold = dataclasses.replace(run.ctx, config=config)
  policy = state.params["policy"]
  sampled = episodes.sample(cold, policy, prompts, jax.random.key(3))
  greedy = generate.generate(
    cold.policy,
    policy,
    prompts["prompt"],
    prompts["is_prompt"],
    jnp.arange(toys.B, dtype=jnp.int32),
    jax.random.key(3),
    cold.sampling(temperature=0.0),
  )
  np.testing.assert_array_equal(sampled.tokens, greedy.tokens)


def test_the_update_starts_from_the_logprobs_that_were_scored(run, scored):
  """At the temperature, and without dropout: every ratio is 1, for any key."""
  run, state = run
  minibatches, _ = ppo.minibatches(
    run.ctx, scored, jnp.float32(0.1), {}, jax.random.key(0)
  )
  first = jax.tree.map(lambda x: x[0], minibatches)
  loss, losses = toys.compiled(run.algorithm.loss), []
  for key in (None, jax.random.key(4), jax.random.key(5)):
    terms, metrics = loss(run.ctx, state.params, state.frozen, first, key)
    total, weight = metrics["policy/ratio_first_minibatch"]
    np.testing.assert_allclose(total / weight, 1.0, atol=1e-5)
    assert float(metrics["policy/approx_kl"][0]) < 1e-6
    losses.append({part: float(term[0]) for part, term in terms.items()})
  assert losses[0] == losses[1] == losses[2]


def test_the_entropy_is_that_of_the_temperature(run, scored):
  run, state = run
  minibatches, _ = ppo.minibatches(
    run.ctx, scored, jnp.float32(0.1), {}, jax.random.key(0)
  )
  rows = jax.tree.map(lambda x: x[0], minibatches["policy"])
  # Toys seldom end by themselves: here one does, so that masks matter.
  is_response = rows["is_response"].at[0, 1:].set(False)
  rows = rows | {"is_response": is_response}
  loss = toys.compiled(ppo.loss)
  _, metrics = loss(run.ctx, state.params, {}, {"policy": rows}, None)
  logits = toys.response_logits(run.ctx.policy, state.params["policy"], rows)
  logp = jax.nn.log_softmax(logits / TEMPERATURE, axis=-1)
  entropy = -(jnp.exp(logp) * logp).sum(axis=-1)
  expected = entropy[is_response].mean()
  total, weight = metrics["policy/entropy"]
  assert float(weight) == float(is_response.sum()) < is_response.size
  np.testing.assert_allclose(total / weight, expected, rtol=1e-4)


def test_what_is_reported_counts_no_token_after_the_end(run):
  ctx = run[0].ctx
  recorded = toys.recorded(3)
  mask = np.asarray(recorded.is_response)
  assert not mask.all()
  dirty = dataclasses.replace(
    recorded,
    logprobs=np.where(mask, recorded.logprobs, 7.0).astype(np.float32),
    ref_logprobs=np.where(mask, recorded.ref_logprobs, -7.0).astype(np.float32),
    values=np.where(mask, recorded.values, 50.0).astype(np.float32),
  )
  _, metrics = ppo.minibatches(
    ctx, dirty, jnp.float32(0.2), {}, jax.random.key(0)
  )
  kl = np.where(mask, recorded.logprobs - recorded.ref_logprobs, 0.0)
  rewards = np.where(recorded.ended, recorded.scores, -1.0)
  expected = {
    "objective/kl": kl.sum(axis=1).mean(),
    "objective/kl_per_token": kl.sum() / mask.sum(),
    "objective/kl_coef": 0.2,
    "objective/score": recorded.scores.mean(),
    "objective/return": (rewards - 0.2 * kl.sum(axis=1)).mean(),
    "response/length": mask.sum(axis=1).mean(),
    "response/end_rate": recorded.ended.mean(),
    "count/tokens": mask.sum(),
  }
  for name, value in expected.items():
    total, weight = metrics[name]
    np.testing.assert_allclose(
      total / weight, value, rtol=1e-4, atol=1e-6, err_msg=name
    )


def test_rows_that_fill_a_batch_up_are_no_episodes(run, prompts):
  run, state = run
  half = toys.B // 2
  index = np.where(np.arange(toys.B) < half, prompts["index"], -1)
  filled = prompts | {"index": index.astype(np.int32)}
  generation = episodes.sample(
    run.ctx, state.params["policy"], filled, jax.random.key(2)
  )
  rows = episodes.score(run.ctx, state.params, state.frozen, filled, generation)
  _, metrics = ppo.minibatches(
    run.ctx, rows, jnp.float32(0.1), {}, jax.random.key(0)
  )
  real = np.asarray(generation.is_response)[:half]
  kl = np.asarray(rows.logprobs - rows.ref_logprobs)[:half]
  for name, values in {
    "response/length": real.sum(axis=1),
    "response/end_rate": generation.ended[:half],
    "objective/score": rows.scores[:half],
    "objective/kl": (kl * real).sum(axis=1),
  }.items():
    total, weight = metrics[name]
    assert weight == half
    np.testing.assert_allclose(
      total, np.sum(values), rtol=1e-4, atol=1e-5, err_msg=name
    )
