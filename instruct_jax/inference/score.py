"""What networks say of given responses: log-probabilities and rewards.

N sequences, P prompt, R response. The programs are shared by all evaluations:
parameters are arguments, and every batch has the same shape.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.inference import (
  batching,
  context,
  encode,
  respond,
  rewards,
)
from instruct_jax.maths import rl
from instruct_jax.models import forward, heads

Sequences = dict[str, np.ndarray]  # prompt, is_prompt, response, is_response


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(
  model: heads.LanguageModel, params: dict, sequences: dict
) -> jax.Array:
  logits = forward.response_logits(model, params, sequences)
  by_token = rl.logprobs(logits, sequences["response"])
  return jnp.where(sequences["is_response"], by_token, 0.0).sum(axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _scores(reward: rewards.Reward, params: dict, sequences: dict) -> jax.Array:
  return reward(params, sequences)


def logprobs(
  ctx: context.Context, policy: dict, sequences: Sequences, *, rows: int
) -> np.ndarray:
  """log π(response | prompt) [N] in nats, at temperature 1."""
  function = functools.partial(_logprobs, ctx.policy, policy)
  return batching.in_batches(function, sequences, ctx.mesh, rows=rows)


def scores(
  ctx: context.Context, reward: dict, sequences: Sequences, *, rows: int
) -> np.ndarray:
  """The reward's scores [N] of sequences that end as in training."""
  function = functools.partial(_scores, rewards.of(ctx), reward)
  return batching.in_batches(function, sequences, ctx.mesh, rows=rows)


def rewards_of(
  ctx: context.Context,
  reward: dict,
  prompts: Sequence[str],
  responses: respond.Responses,
  *,
  rows: int,
) -> np.ndarray:
  """Scores [N] of responses to the plain prompts, whatever they were sampled
  through: the reward model is shown what a labeler is shown."""
  template = ctx.config.data.template
  width = encode.width_of(ctx, template)
  sequences = encode.prompts(prompts, ctx.tokenizer, template, width) | {
    "response": responses.judged,
    "is_response": responses.is_response,
  }
  return scores(ctx, reward, sequences, rows=rows)
