"""What networks say of given responses: log-probabilities and rewards.

N sequences, P prompt, R response. The programs are shared by all evaluations:
parameters are arguments, and every batch has the same shape.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.inference import candidates, context, generate, rewards
from instruct_jax.maths import rl
from instruct_jax.models import forward, heads
from instruct_jax.parallel import hosts

Sequences = dict[str, np.ndarray]  # prompt, is_prompt, response, is_response


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(
  model: heads.LanguageModel, params: dict, sequences: dict
) -> jax.Array:
  logits = forward.response_logits(model, params, sequences)
  found = rl.logprobs(logits, sequences["response"])
  return jnp.where(sequences["is_response"], found, 0.0).sum(axis=1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _scores(
  reward: rewards.Reward, params: dict, sequences: dict, stop_ids: tuple
) -> jax.Array:
  ends = generate.canonical_end(sequences["response"], stop_ids)
  return reward(params, {**sequences, "response": ends})


def logprobs(
  ctx: context.Context, policy: dict, sequences: Sequences, *, rows: int
) -> np.ndarray:
  """log π(response | prompt) [N] in nats, at temperature 1."""
  return _all(
    ctx, functools.partial(_logprobs, ctx.policy, policy), sequences, rows
  )


def scores(
  ctx: context.Context, reward: dict, sequences: Sequences, *, rows: int
) -> np.ndarray:
  """The reward's scores [N]; it sees one end token, whichever it was."""
  scorer = rewards.of(ctx)

  def score(batch):
    stop_ids = ctx.stop_ids
    return _scores(scorer, reward, batch, stop_ids)

  return _all(ctx, score, sequences, rows)


def _all(ctx, function, sequences, rows):
  pending = [
    (function(candidates.place(ctx, batch)), real)
    for batch, real in candidates.in_batches(sequences, rows)
  ]
  parts = [hosts.fetch(found)[:real] for found, real in pending]
  return np.concatenate([np.zeros(0, np.float32), *parts])


def rewards_of(
  ctx: context.Context,
  reward: dict,
  prompts: list[str] | tuple[str, ...],
  responses: candidates.Responses,
  *,
  rows: int,
) -> np.ndarray:
  """Scores [N] of responses to the plain prompts, whatever they were sampled
  through: the reward model is shown what a labeler is shown."""
  plain = candidates.encode_prompts(ctx, prompts, ctx.config.data.template)
  said = {
    "response": responses.response,
    "is_response": responses.is_response,
  }
  return scores(ctx, reward, plain | said, rows=rows)
