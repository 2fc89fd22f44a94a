"""Rewards by a rule: the words themselves, and through the whole of PPO."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.algorithms import episodes, ppo
from instruct_jax.base import errors
from instruct_jax.inference import rewards
from instruct_jax.models import forward
from tests import toys

WORDS = ("happy", "Hug")


def config_of(**changes):
  config = toys.config_of("ppo").unlock()
  config.reward.kind, config.reward.words = "words", WORDS
  config.reward.update(changes)
  return config.lock()


def sequences(ctx, texts, width=32):
  """The texts as responses to the prompt 'x', right-padded."""
  rows = [ctx.tokenizer.encode(text) for text in texts]
  response = np.zeros((len(rows), width), np.int32)
  for row, ids in zip(response, rows):
    row[: len(ids)] = ids
  lengths = np.asarray([len(ids) for ids in rows])
  prompt = np.asarray([ctx.tokenizer.encode("x")] * len(rows), np.int32)
  return {
    "prompt": prompt,
    "is_prompt": np.ones(prompt.shape, bool),
    "response": response,
    "is_response": np.arange(width) < lengths[:, None],
  }


TEXTS = (
  "a HAPPY dog",
  "happy happy happy",
  "unhappy hugs",
  "hug, then: happy!",
  "",
)


@pytest.mark.parametrize("jit", [False, True])
def test_each_listed_word_counts_once(jit):
  ctx = toys.make_context(config_of())
  reward = rewards.of(ctx)
  score = jax.jit(reward) if jit else reward
  found = score({}, sequences(ctx, TEXTS))
  np.testing.assert_array_equal(found, [1, 1, 0, 2, 0])
  assert found.dtype == jnp.float32


def test_what_is_masked_is_not_read():
  ctx = toys.make_context(config_of())
  batch = sequences(ctx, ["sad happy"])
  batch["is_response"] = np.arange(32)[None] < 4
  assert float(rewards.of(ctx)({}, batch)[0]) == 0


def test_the_model_is_the_usual_reward():
  ctx = toys.make_context(toys.config_of("ppo"))
  params = forward.init_params(ctx.scalar, jax.random.key(0))
  batch = toys.prompts(0) | toys.responses(1, toys.B)
  np.testing.assert_array_equal(
    rewards.of(ctx)(params, batch), forward.scores(ctx.scalar, params, batch)
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"kind": "wordz"}, "Did you mean 'words'"),
    ({"words": ()}, r"config\.reward\.words is empty"),
  ],
)
def test_a_reward_that_is_none_is_named(changes, message):
  with pytest.raises(errors.UserError, match=message):
    rewards.check(config_of(**changes).reward)


def test_ppo_starts_its_values_from_the_policy_and_scores_by_the_rule():
  ctx = toys.make_context(config_of())
  policy = forward.init_params(ctx.policy, jax.random.key(0))
  checkpoints = {"policy": policy, "reward": {}}
  params, frozen, _ = ppo.init(ctx, jax.random.key(1), checkpoints)
  jax.tree.map(
    np.testing.assert_array_equal,
    params["value"]["decoder"],
    policy["decoder"],
  )
  assert params["value"]["head"]["kernel"].shape == (16, 1)
  assert frozen["reward"] == {}
  prompts = toys.batch("ppo", 0)["prompts"]
  generation = episodes.sample(ctx, policy, prompts, jax.random.key(2))
  word = jnp.asarray(ctx.tokenizer.encode("happy"), jnp.int32)[: toys.R]
  tokens = jnp.broadcast_to(word, generation.tokens.shape)
  spoken = dataclasses.replace(
    generation, tokens=tokens, is_response=jnp.ones(tokens.shape, bool)
  )
  scored = episodes.score(ctx, params, frozen, prompts, spoken)
  np.testing.assert_array_equal(scored.scores, np.ones(toys.B))
