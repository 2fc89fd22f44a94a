"""How the parts are wired: an iteration of PPO in which nothing is a default.

The policy is not the reference, the reward model not the value network, the
temperature not 1, dropout not 0, prompts and responses ragged: whatever takes
the wrong one of two arguments comes out different here. See episodes_test too.
"""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import algorithms, tokenizers
from instruct_jax.algorithms import episodes, ppo, rm
from instruct_jax.evals import bench, select
from instruct_jax.evals import loss as eval_loss
from instruct_jax.evals import reward as eval_reward
from instruct_jax.inference import choice, context
from instruct_jax.models import forward
from instruct_jax.parallel import sharding
from instruct_jax.training import gradient, loop, validate
from instruct_jax.training import step as step_lib
from tests import toys

TEMPERATURE, BETA, DROPOUT = 0.6, 0.3, 0.5
LOGITS = jax.jit(forward.response_logits, static_argnums=0)
LOSS = jax.jit(ppo.loss, static_argnums=0)
RL = {"temperature": TEMPERATURE, "minibatches": 2, "kl_target": 2.0}


class Ends(tokenizers.ByteTokenizer):
  """Many tokens end a response, so that some do and some don't."""

  stop_ids = tuple(range(3, 15))


def params_of(ctx, role, seed):
  """Parameters whose outputs differ from seed to seed by far."""
  params = toys.checkpoints(ctx, seed)[role]
  return jax.tree.map(lambda x: 2 * x if x.ndim > 1 else x, params)


def context_of(config, **model):
  ctx = toys.make_context(config, **model)
  return dataclasses.replace(ctx, tokenizer=Ends())


class Iteration:
  """One iteration, and the same models without dropout."""

  def __init__(self):
    config = toys.config_of("ppo", rl=RL)
    self.ctx = context_of(config, dropout=DROPOUT)
    self.plain = context_of(config)
    self.params = {
      "policy": params_of(self.plain, "policy", 0),
      "value": params_of(self.plain, "reward", 1),
    }
    self.frozen = {
      "reference": params_of(self.plain, "policy", 2),
      "reward": params_of(self.plain, "reward", 3),
    }
    self.state = algorithms.State(
      step=jnp.int32(0),
      params=self.params,
      optimizer={},
      ema={},
      frozen=self.frozen,
      extra={"kl_coef": jnp.float32(BETA)},
      counters={},
    )
    self.batch = sharding.global_batch(toys.batch("ppo", 0), self.ctx.mesh)
    self.minibatches, self.metrics = ppo.collect(
      self.ctx, self.state, self.batch, jax.random.key(5)
    )
    self.rows, self.values = (
      {k: np.concatenate(x) for k, x in self.minibatches[part].items()}
      for part in ("policy", "value")
    )

  def metric(self, name):
    total, weight = self.metrics[name]
    return float(total) / float(weight)

  def logprobs(self, params):
    """[B, R, V] of the full forward pass, at the rollout's temperature."""
    logits = LOGITS(self.plain.policy, params, self.rows)
    return np.asarray(jax.nn.log_softmax(logits / TEMPERATURE))

  def of_tokens(self, params):
    """[B, R], 0 where there is no response."""
    picked = np.take_along_axis(
      self.logprobs(params), self.rows["response"][..., None], axis=-1
    )
    return np.where(self.rows["is_response"], picked[..., 0], 0)


@pytest.fixture(scope="module")
def ran():
  iteration = Iteration()
  lengths = iteration.rows["is_response"].sum(axis=1)
  assert 0 < (lengths < toys.R).sum() < len(lengths)
  return iteration


def test_what_was_sampled_is_chosen_again_by_the_full_forward_pass(ran):
  """Positions, cache, temperature, draws: each would choose other tokens."""
  key, prompts = jax.random.key(7), ran.batch["prompts"]
  out = episodes.sample(ran.ctx, ran.params["policy"], prompts, key)
  sequences = {
    "prompt": prompts["prompt"],
    "is_prompt": prompts["is_prompt"],
    "response": out.tokens,
    "is_response": out.is_response,
  }
  logits = LOGITS(ran.plain.policy, ran.params["policy"], sequences)
  ids = jnp.arange(toys.B, dtype=jnp.int32)
  for t in range(toys.R):
    again = choice.choose(
      logits[:, t],
      choice.draws(key, ids, t),
      ran.ctx.sampling(),
      temperature=TEMPERATURE,
    )
    here = np.asarray(out.is_response[:, t])
    np.testing.assert_array_equal(out.tokens[here, t], again[here])
  assert len(np.unique(out.tokens[out.is_response])) > 5


def test_scores_are_the_reward_model_s_and_values_the_value_network_s(ran):
  stop_ids = ran.ctx.stop_ids
  response = ran.rows["response"]
  judged = np.where(np.isin(response, stop_ids), stop_ids[0], response)
  scores = np.asarray(
    jax.jit(forward.scores, static_argnums=0)(
      *(ran.plain.scalar, ran.frozen["reward"]),
      ran.rows | {"response": judged},
    )
  )
  np.testing.assert_allclose(
    ran.metric("objective/score"), scores.mean(), rtol=1e-3
  )
  values = jax.jit(forward.response_values, static_argnums=0)(
    ran.plain.scalar, ran.params["value"], ran.values
  )
  is_response = np.asarray(ran.values["is_response"])
  old = np.asarray(ran.values["old_values"])
  np.testing.assert_allclose(
    old[is_response], np.asarray(values)[is_response], atol=2e-4
  )
  # Return: the score, -1 without an end, and the KL at the state's β.
  last = np.take_along_axis(
    ran.rows["response"],
    ran.rows["is_response"].sum(axis=1, keepdims=True) - 1,
    axis=1,
  )[:, 0]
  ended = np.isin(last, stop_ids)
  shaped = np.where(ended, scores, -1.0)
  kl = ran.of_tokens(ran.params["policy"])
  kl -= ran.of_tokens(ran.frozen["reference"])
  expected = shaped - BETA * kl.sum(axis=1)
  np.testing.assert_allclose(
    ran.metric("objective/return"), expected.mean(), rtol=1e-3
  )
  np.testing.assert_allclose(ran.metric("response/end_rate"), ended.mean())
  np.testing.assert_allclose(
    ran.metric("response/length"),
    ran.rows["is_response"].sum(axis=1).mean(),
    rtol=1e-6,
  )
  assert ran.metric("objective/kl_coef") == pytest.approx(BETA)


def test_parts_are_the_same_episodes_in_the_same_order(ran):
  for name in ("prompt", "is_prompt", "response", "is_response"):
    np.testing.assert_array_equal(ran.rows[name], ran.values[name])
  text = np.concatenate(ran.minibatches["ptx"]["tokens"])
  np.testing.assert_array_equal(text, ran.batch["pretraining"]["tokens"])


def test_the_terms_of_an_update_and_their_weights(ran):
  first = jax.tree.map(lambda x: x[0], ran.minibatches)
  terms, _ = LOSS(ran.ctx, ran.params, ran.frozen, first, None)
  rl = ran.ctx.config.rl
  coefficients = {part: term[2] for part, term in terms.items()}
  assert coefficients == {
    "policy": 1.0,
    "value": rl.value_coef,
    "ptx": rl.ptx_coef,
  }
  tokens = first["policy"]["is_response"].sum()
  assert terms["policy"][1] == terms["value"][1] == tokens


def test_value_and_policy_are_clipped_by_their_own_epsilons(ran):
  config = toys.config_of("ppo", rl=RL | {"clip": 0.01, "value_clip": 9e9})
  ctx = toys.make_context(config)
  first = jax.tree.map(lambda x: x[0], ran.minibatches)
  moved = {
    "policy": ran.frozen["reference"],
    "value": ran.frozen["reward"],
  }
  _, metrics = LOSS(ctx, moved, {}, first, None)
  assert float(metrics["policy/clip_fraction"][0]) > 0
  assert float(metrics["value/clip_fraction"][0]) == 0


def test_what_stands_after_the_end_reaches_no_metric_and_no_advantage():
  ctx = toys.make_context(toys.config_of("ppo", rl=RL))
  clean = toys.recorded(0)
  noise = np.random.default_rng(1).normal(size=clean.values.shape)
  outside = np.where(clean.is_response, 0, 50 * noise).astype(np.float32)
  dirty = clean.replace(
    logprobs=clean.logprobs + outside,
    ref_logprobs=clean.ref_logprobs - outside,
    values=clean.values + outside,
  )
  (left, one), (right, other) = (
    ppo.minibatches(ctx, x, jnp.float32(BETA), {}, jax.random.key(0))
    for x in (clean, dirty)
  )
  for name in one:
    np.testing.assert_allclose(one[name], other[name], rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(
    left["policy"]["advantages"], right["policy"]["advantages"], atol=1e-5
  )


def test_ppo_starts_each_network_from_its_own_run():
  ctx = toys.make_context(toys.config_of("ppo"))
  checkpoints = {
    "policy": params_of(ctx, "policy", 0),
    "reward": params_of(ctx, "reward", 1),
  }
  params, frozen, extra = ppo.init(ctx, jax.random.key(0), checkpoints)
  for tree, role in (
    (params["policy"], "policy"),
    (frozen["reference"], "policy"),
    (params["value"], "reward"),
    (frozen["reward"], "reward"),
  ):
    jax.tree.map(np.testing.assert_array_equal, tree, checkpoints[role])
  assert float(extra["kl_coef"]) == pytest.approx(ctx.config.rl.kl_coef)


def test_rm_starts_from_the_policy_s_trunk_with_a_fresh_head():
  ctx = toys.make_context(toys.config_of("rm"))
  policy = params_of(ctx, "policy", 0)
  init = jax.jit(rm.init, static_argnums=0)
  params, frozen, extra = init(ctx, jax.random.key(0), {"policy": policy})
  jax.tree.map(
    np.testing.assert_array_equal,
    params["reward"]["decoder"],
    policy["decoder"],
  )
  assert float(jnp.abs(params["reward"]["head"]["kernel"]).sum()) > 0
  assert (frozen, extra) == ({}, {})


def test_adaptive_kl_by_hand(ran):
  """KL 8 / 2 = 4 of target 2: e = 0.2 (clipped), n episodes of the horizon."""
  config = ran.ctx.config
  extra = {"kl_coef": jnp.float32(0.1)}
  after = ppo.adapt(ran.ctx, extra, {"objective/kl": (jnp.float32(8.0), 2.0)})
  factor = 1 + 0.2 * config.batch.prompts / config.rl.kl_horizon
  np.testing.assert_allclose(after["kl_coef"], 0.1 * factor, rtol=1e-6)


def test_dropout_draws_anew_for_every_update():
  """The key of an update reaches the loss, also through microbatches."""
  ctx = toys.make_context(
    toys.config_of("sft", microbatches=2), dropout=DROPOUT
  )
  run, state = step_lib.setup(
    ctx, algorithms.named("sft"), 3, toys.checkpoints(ctx)
  )
  gradients = jax.jit(
    functools.partial(gradient.of_minibatch, run.ctx, run.algorithm)
  )
  rows = toys.batch("sft", 0)
  losses = []
  for seed in (0, 1, 1):
    _, metrics = gradients(state.params, {}, rows, jax.random.key(seed))
    losses.append(float(metrics["demonstrations/loss"][0]))
  assert losses[0] != losses[1] == losses[2]


def test_the_reward_model_trains_with_dropout():
  ctx = toys.make_context(toys.config_of("rm"), dropout=DROPOUT)
  params, rows = toys.checkpoints(ctx), toys.batch("rm", 0)
  loss = jax.jit(rm.loss, static_argnums=0)
  totals = [
    float(loss(ctx, params, {}, rows, key)[0]["rankings"][0])
    for key in (None, None, jax.random.key(0), jax.random.key(1))
  ]
  assert totals[0] == totals[1]
  assert len({*totals}) == 3


class Asked(Exception):
  """For rows: of a kind, of a split."""


READERS = {
  "training": (
    lambda ctx: loop.open_batches(ctx, {}),
    ("demonstrations", "train"),
  ),
  "validation": (
    lambda ctx: validate.Validation(
      types.SimpleNamespace(ctx=ctx, root=jax.random.key(0), algorithm=None),
      *(None, {}),
    ).metrics(None),
    ("demonstrations", "validation"),
  ),
  "the reward model's zero": (
    lambda ctx: rm.finish(
      ctx, types.SimpleNamespace(params={"reward": {"head": {}}})
    ),
    ("demonstrations", "train"),
  ),
  "evaluation": (
    lambda ctx: bench.make(ctx, [], {}),
    ("prompts", "test"),
  ),
  "the loss on demonstrations": (
    lambda ctx: eval_loss.demonstrations(ctx, ctx.config.evaluation.split),
    ("demonstrations", "test"),
  ),
  "the reward model's accuracy": (
    lambda ctx: eval_reward.measure_accuracy(ctx, {}),
    ("rankings", "test"),
  ),
  "the choice of an epoch": (
    lambda ctx: select.select_epoch(ctx, [(1, dict)], {}),
    ("prompts", "validation"),
  ),
}


@pytest.mark.parametrize("name", READERS)
def test_the_split_that_each_part_reads(name, monkeypatch):
  """Nothing learns from what it is judged by."""
  read, expected = READERS[name]

  def rows(self, kind, split, *, packed=False):
    raise Asked(kind, split)

  config = toys.config_of("sft").unlock()
  config.batch = {"demonstrations": 8, "rankings": 8}
  config.selection = {"prompts": 8, "batch": 8, "temperature": 1.0}
  ctx = toys.make_context(config.lock())
  monkeypatch.setattr(context.Context, "rows", rows)
  with pytest.raises(Asked) as asked:
    read(ctx)
  assert asked.value.args == expected
