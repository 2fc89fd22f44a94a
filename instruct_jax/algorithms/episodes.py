"""Prompts become scored episodes: generate, then score by all networks.

B episodes, P prompt, R response. All floats are float32.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from instruct_jax.inference import context, generate, respond, rewards
from instruct_jax.models import forward, packed
from instruct_jax.parallel import sharding


@flax.struct.dataclass
class Episodes:
  """One episode a row: a prompt, its response and what was measured on it."""

  prompt: jax.Array  # [B, P] int32
  is_prompt: jax.Array  # [B, P] bool
  response: jax.Array  # [B, R] int32
  is_response: jax.Array  # [B, R] bool, up to and including the end
  ended: jax.Array  # [B] bool
  logprobs: jax.Array  # [B, R] of the policy that sampled
  ref_logprobs: jax.Array  # [B, R] of the SFT model
  scores: jax.Array  # [B] of the reward, before shaping
  terms: dict[str, jax.Array]  # [B] each, what the scores are the sum of
  values: jax.Array | None = None  # [B, R], where there is a value network
  # (sum, weight): slots that scoring computed for no token, and all of them.
  padding: tuple[jax.Array, jax.Array] | None = None

  @property
  def sequences(self) -> dict[str, jax.Array]:
    """The fields that a model reads."""
    return {
      "prompt": self.prompt,
      "is_prompt": self.is_prompt,
      "response": self.response,
      "is_response": self.is_response,
    }


def sample(
  ctx: context.Context,
  policy: dict,
  prompts: dict[str, jax.Array],
  key: jax.Array,
) -> generate.Generation:
  """One response a prompt at the rollout temperature (README, detail 3).

  An episode's id is its row of the iteration's global batch; `key` is the
  iteration's own.
  """
  temperature = ctx.config.rl.temperature
  rows = {
    "prompt": prompts["prompt"],
    "is_prompt": prompts["is_prompt"],
    "episode": jnp.arange(len(prompts["prompt"]), dtype=jnp.int32),
  }
  return respond.respond_to_rows(
    respond.policy_of(ctx, policy, temperature=temperature), rows, key
  )


@functools.partial(jax.jit, static_argnums=1)
def repeated(prompts: dict[str, jax.Array], count: int) -> dict[str, jax.Array]:
  """Every row so many times, one after the other: a group of [N, ...].

  The rows of a device, and of a process, remain its own; each copy is an
  episode with an id, and so with draws, of its own (see `sample`).
  """

  def one(x):
    x = jnp.broadcast_to(x[:, None], (len(x), count, *x.shape[1:]))
    return sharding.constrain(x.reshape(-1, *x.shape[2:]), sharding.BATCH)

  return jax.tree.map(one, prompts)


def score(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  prompts: dict[str, jax.Array],
  generation: generate.Generation,
) -> Episodes:
  """Episodes from responses: logprobs of policy and reference, values, scores.

  There are values where `params` has a value network.

  The logprobs come from the same forward path that the update uses (README,
  detail 14), at the rollout's temperature. Judge and reward model see the
  same final token whichever of the stop tokens was sampled. A row that only
  fills a batch up (its index is -1) becomes a response without a token.
  Networks read as many rows at a time as an update does.
  """
  sequences, judged = _sequences(prompts, generation)
  terms = rewards.scores(
    ctx, frozen.get("reward"), judged, slices=slices_of(ctx)
  )
  return Episodes(
    **sequences,
    ended=generation.ended,
    **_measure(
      ctx, params["policy"], frozen["reference"], params.get("value"), sequences
    ),
    scores=_total(ctx, terms),
    terms=terms,
  )


# Compiled, so that no number of theirs is moved to the devices in every step.
@jax.jit
def _sequences(prompts, generation):
  """What the networks read, and what judges do."""
  is_real = prompts["index"] >= 0
  sequences = {
    "prompt": prompts["prompt"],
    "is_prompt": prompts["is_prompt"],
    "response": generation.tokens,
    "is_response": generation.is_response & is_real[:, None],
  }
  return sequences, sequences | {"response": generation.judged}


@functools.partial(jax.jit, static_argnums=0)
def _total(ctx, terms):
  return rewards.total(ctx.config.reward, terms)


def slices_of(ctx: context.Context) -> int:
  """In how many slices an iteration's rows are scored: updates' microbatches.

  What fits into memory there does so here; and on a CPU few rows at a time are
  scored a quarter faster than all 512 of an iteration.
  """
  return ctx.config.rl.minibatches * ctx.config.microbatches


@functools.partial(jax.jit, static_argnums=0)
def _measure(ctx, policy, reference, value, sequences):
  """What the networks say of every token, [B, R] each; what was padding."""

  def said(rows):
    found = {
      "logprobs": response_logprobs(ctx, policy, rows),
      "ref_logprobs": response_logprobs(ctx, reference, rows),
    }
    if value is not None:
      found["values"] = forward.response_values(ctx.scalar, value, rows)
    return found

  found, padding = packed.mapped(said, sequences, parts=slices_of(ctx))
  return found | {"padding": padding}


def response_logprobs(
  ctx: context.Context, policy: dict, sequences: dict[str, jax.Array]
) -> jax.Array:
  """log π(response token | before) [B, R] at the rollout's temperature.

  There is no dropout, as in no network of RL (README, detail 1).
  """
  logprobs = forward.response_logprobs(
    ctx.policy, policy, sequences, temperature=ctx.config.rl.temperature
  )
  return jnp.where(sequences["is_response"], logprobs, 0.0)
