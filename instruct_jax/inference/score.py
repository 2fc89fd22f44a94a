"""What networks say of given responses: log-probabilities and rewards.

N sequences, P prompt, R response. The programs are shared by all evaluations:
parameters are arguments, and every batch has the same shape.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from instruct_jax.inference import (
  batching,
  context,
  encode,
  respond,
  rewards,
)
from instruct_jax.models import forward, heads, packed

Sequences = dict[str, np.ndarray]  # prompt, is_prompt, response, is_response
# (prompts, responses, whether they ended by themselves) -> scores [N], NaN
# where nobody can tell
Score = Callable[[Sequence[str], Sequence[str], Sequence[bool]], np.ndarray]


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(
  model: heads.LanguageModel, params: dict, sequences: dict
) -> jax.Array:
  def of_rows(rows):
    return forward.response_logprobs(model, params, rows).sum(axis=1)

  return packed.mapped(of_rows, sequences)[0]


def logprobs(
  ctx: context.Context, policy: dict, sequences: Sequences, *, rows: int
) -> np.ndarray:
  """log π(response | prompt) [N] in nats, at temperature 1."""
  function = functools.partial(_logprobs, ctx.policy, policy)
  return batching.in_batches(function, sequences, ctx.mesh, rows=rows)


def model_scores(
  ctx: context.Context,
  reward: rewards.Models,
  sequences: Sequences,
  *,
  rows: int,
) -> np.ndarray:
  """The reward model's scores [N] of sequences that end as in training."""
  function = functools.partial(rewards.model_scores, ctx, reward)
  return batching.in_batches(function, sequences, ctx.mesh, rows=rows)


def terms_of(
  ctx: context.Context,
  reward: rewards.Models | None,
  prompts: Sequence[str],
  responses: respond.Responses,
  *,
  rows: int,
) -> dict[str, np.ndarray]:
  """{term of `config.reward`: its scores [N], unweighted} of responses to the
  plain prompts, whatever they were sampled through: the reward model is shown
  what a labeler is shown. `reward` are its parameters, None where it takes no
  part."""
  template = ctx.config.data.template
  width = encode.width_of(ctx, template)
  sequences = encode.prompts(prompts, ctx.tokenizer, template, width) | {
    "response": responses.judged,
    "is_response": responses.is_response,
  }
  if not len(prompts):
    active = rewards.active(ctx.config.reward)
    return {name: np.zeros(0, np.float32) for name in active}
  function = functools.partial(rewards.scores, ctx, reward)
  return batching.in_batches(function, sequences, ctx.mesh, rows=rows)


def rewards_of(
  ctx: context.Context,
  reward: rewards.Models | None,
  prompts: Sequence[str],
  responses: respond.Responses,
  *,
  rows: int,
) -> np.ndarray:
  """The reward [N]: the weighted sum of `terms_of`."""
  terms = terms_of(ctx, reward, prompts, responses, rows=rows)
  return rewards.total(ctx.config.reward, terms)
