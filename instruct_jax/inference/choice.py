"""How the next token is chosen: temperature, top-k, top-p, and one draw.

B rows, V vocabulary. A row's token depends on its own logits and draw alone.
"""

import dataclasses

import jax
import jax.numpy as jnp

from instruct_jax.base import errors


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to choose tokens, and when to stop."""

  max_tokens: int  # R
  stop_ids: tuple[int, ...]  # each of them ends a response
  pad_id: int  # fills what follows the end; is never chosen
  temperature: float = 1.0  # 0 takes the likeliest token
  top_k: int = 0  # only the k likeliest; 0 is all of them
  top_p: float = 1.0  # only the likeliest that together reach p
  slots: int = 0  # responses that grow at a time, 0: all; changes no sample

  def __post_init__(self):
    for good, what in (
      (self.max_tokens >= 1, "max_tokens must be at least 1"),
      (self.temperature >= 0, "temperature must not be negative"),
      (self.top_k >= 0, "top_k must not be negative"),
      (0 < self.top_p <= 1, "top_p must be in (0, 1]"),
      (self.slots >= 0, "slots must not be negative"),
      (self.pad_id not in self.stop_ids, "pad_id must not be a stop token"),
    ):
      if not good:
        raise errors.UserError(f"sampling: {what}; got {self}.")


def draws(
  key: jax.Array, episodes: jax.Array, position: jax.Array | int
) -> jax.Array:
  """Draws [B] of [0, 1) for the response tokens at `position` (from 0).

  A draw depends on the key, its episode and the position alone.
  """

  def draw(episode):
    token_key = jax.random.fold_in(jax.random.fold_in(key, episode), position)
    return jax.random.uniform(token_key)

  return jax.vmap(draw)(episodes)


def all_draws(key: jax.Array, episodes: jax.Array, count: int) -> jax.Array:
  """The draws [B, count] of the first positions."""
  positions = jnp.arange(count, dtype=jnp.int32)
  return jax.vmap(draws, (None, None, 0), 1)(key, episodes, positions)


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
  """Where `tokens` are any of `stop_ids`: bool, the shape of `tokens`."""
  return jnp.isin(tokens, jnp.asarray(stop_ids, jnp.int32))


def choose(
  logits: jax.Array,
  uniforms: jax.Array,
  sampling: Sampling,
  *,
  temperature: jax.Array | float,
) -> jax.Array:
  """The next tokens [B] int32, from logits [B, V] and a draw of [0, 1) each.

  Temperature first, then top-k, then top-p; tokens that tie with the last one
  kept are kept. At temperature 0 it is the likeliest, the first of equals. All
  temperatures are one program: that of `sampling` plays no part.
  """
  is_greedy = jnp.asarray(temperature == 0)
  logits = logits.astype(jnp.float32).at[:, sampling.pad_id].set(-jnp.inf)
  logits /= jnp.where(is_greedy, 1.0, temperature)
  if 0 < sampling.top_k < logits.shape[-1]:
    least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  logits -= logits.max(axis=-1, keepdims=True)
  weights = jnp.where(is_greedy, logits >= 0, jnp.exp(logits))
  if sampling.top_p < 1:
    weights = _nucleus(weights, sampling.top_p)
  return invert_cdf(weights, jnp.where(is_greedy, 0.0, uniforms))


def _nucleus(weights: jax.Array, top_p: float) -> jax.Array:
  """Zero for all but the largest weights [B, V] that reach `top_p` of all."""
  down = -jnp.sort(-weights, axis=-1)
  total = jnp.cumsum(down, axis=-1)
  needed = total - down < top_p * total[:, -1:]
  least = jnp.where(needed, down, jnp.inf).min(axis=-1, keepdims=True)
  return jnp.where(weights < least, 0.0, weights)


def invert_cdf(weights: jax.Array, uniforms: jax.Array) -> jax.Array:
  """Draws an index [B] int32 in proportion to weights [B, V] >= 0.

  `uniforms` [B] in [0, 1) picks a block of about sqrt(V) indices first, then
  an index in it: one random number a row and two short cumulative sums,
  where Gumbel noise takes V random numbers. A weight of 0 is never drawn.
  """
  B, V = weights.shape
  size = int(V**0.5) or 1
  blocks = jnp.pad(weights, ((0, 0), (0, -V % size))).reshape(B, -1, size)
  sums = blocks.sum(axis=-1)
  target = uniforms * sums.sum(axis=-1)
  block, target = _first_above(sums, target)
  inner = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  index, _ = _first_above(inner, target)
  return (block * size + index).astype(jnp.int32)


def _first_above(weights, target):
  """The first index whose cumulative weight passes target [B], and the rest.

  Rounding may leave none: then the last index with a weight.
  """
  total = jnp.cumsum(weights, axis=-1)
  positive = weights > 0
  hit = positive & (total > target[:, None])
  last = weights.shape[-1] - 1 - jnp.argmax(positive[:, ::-1], axis=-1)
  index = jnp.where(hit.any(axis=-1), jnp.argmax(hit, axis=-1), last)
  before = jnp.take_along_axis(total - weights, index[:, None], axis=-1)[:, 0]
  return index, target - before
