"""The best of n responses: a policy of its own at inference, without training.

n responses to each prompt are sampled and the one is given that a reward likes
best (Stiennon et al. 2020; WebGPT, Nakano et al. 2021; Gao et al. 2022), of
equal ones the first. The k-th response to a prompt is the same whatever n is,
so the best of more is never worse, and the first is what the policy says
without a choice. How far this is from the policy itself says
`maths.best_of.kl`. N prompts.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.inference import context, respond
from instruct_jax.maths import best_of, rl

# (prompts, responses to them) -> what each is worth, a number each
Reward = Callable[[Sequence[str], respond.Responses], np.ndarray]


def answer(
  policy: respond.Policy,
  prompts: Sequence[str],
  key: jax.Array,
  *,
  n: int,
  reward: Reward,
) -> respond.Responses:
  """The best of n responses to each prompt [N]; those of `respond` for 1."""
  if n == 1:
    return respond.respond(policy, prompts, key)
  said = respond.respond(policy, prompts, key, n=n)
  return of(said, reward(respond.repeated(prompts, n), said), n=n)


def of(
  said: respond.Responses, scores: np.ndarray, *, n: int
) -> respond.Responses:
  """Of n responses to each prompt [N x n] those with the best scores [N]."""
  return taken(said, best_of.places(scores, n))


def shaped(
  ctx: context.Context, scores: np.ndarray, ended: np.ndarray
) -> np.ndarray:
  """The rewards [N] as responses are chosen by them.

  After RL, one without an end counts as it did there (`rl.missing_end`).
  """
  if "rl" not in ctx.config:
    return np.asarray(scores)
  section = ctx.config.rl
  return np.asarray(
    rl.shape_scores(
      jnp.asarray(scores),
      jnp.asarray(ended),
      mode=section.missing_end,
      value=section.missing_end_value,
    )
  )


def taken(said: respond.Responses, places: np.ndarray) -> respond.Responses:
  """The responses at these places."""
  arrays = {
    field.name: getattr(said, field.name)[places]
    for field in dataclasses.fields(said)
    if field.name != "texts"
  }
  return respond.Responses(tuple(said.texts[i] for i in places), **arrays)
