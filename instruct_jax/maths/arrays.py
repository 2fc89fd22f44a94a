"""Arrays with masks: means that carry their weight, whitening, positions.

Axes: B batch, K completions, P prompt, R response, T time. Masks are bool and
named for what is True. Prompts are left-padded, responses right-padded.
Whatever stands at a masked position, not-a-numbers included, never reaches a
result.
"""

import chex
import jax
import jax.numpy as jnp

from instruct_jax.base import errors


def exact_div(numerator: int, denominator: int, what: str) -> int:
  """Returns numerator / denominator, which must come out whole.

  `what` names the division in the error, for example
  'batch.prompts / minibatches'. Raises UserError where there is a remainder or
  the denominator is not positive.
  """
  if denominator <= 0:
    raise errors.UserError(
      f"{what}: cannot divide {numerator} by {denominator};"
      " the divisor must be at least 1."
    )
  quotient, remainder = divmod(numerator, denominator)
  if remainder:
    lower, upper = numerator - remainder, numerator - remainder + denominator
    near = f"{lower} or {upper}" if lower > 0 else f"{upper}"
    raise errors.UserError(
      f"{what}: {numerator} is not a multiple of {denominator};"
      f" the nearest that would be: {near}."
    )
  return quotient


def sum_and_weight(
  x: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the sum of `x` where `mask`, and how many that is: two float32.

  Sums of parts add up to the sum of the whole, so a mean that travels as this
  pair comes out the same for any split into microbatches or devices.
  """
  chex.assert_equal_shape([x, mask])
  kept = jnp.where(mask, jnp.asarray(x, jnp.float32), jnp.float32(0))
  return kept.sum(), mask.sum(dtype=jnp.float32)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns the float32 mean of `x` where `mask`; 0 if that is nowhere."""
  total, weight = sum_and_weight(x, mask)
  return total / jnp.maximum(weight, jnp.float32(1))


def masked_var(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns the float32 population variance of `x` where `mask`."""
  centred = jnp.asarray(x, jnp.float32) - masked_mean(x, mask)
  return masked_mean(jnp.square(centred), mask)


def whiten(
  x: jax.Array, mask: jax.Array, *, shift_mean: bool = True
) -> jax.Array:
  """Returns `x` with variance 1 where `mask`, and 0 elsewhere, in float32.

  y = (x - mean) / sqrt(var + 1e-8), plus the mean again unless `shift_mean`.
  As in lm-human-preferences, over all masked elements at once.
  """
  mean = masked_mean(x, mask)
  centred = jnp.asarray(x, jnp.float32) - mean
  y = centred * jax.lax.rsqrt(masked_var(x, mask) + jnp.float32(1e-8))
  y = y if shift_mean else y + mean
  return jnp.where(mask, y, jnp.float32(0))


def last_index(mask: jax.Array) -> jax.Array:
  """Returns the index [B] int32 of each row's last True; 0 in an empty row."""
  chex.assert_rank(mask, 2)
  index = jnp.arange(mask.shape[1], dtype=jnp.int32)
  return jnp.where(mask, index, jnp.int32(0)).max(axis=1)


def take_at(x: jax.Array, index: jax.Array) -> jax.Array:
  """Returns x[b, index[b]] for every row: [B, T], [B] -> [B]."""
  chex.assert_rank([x, index], [2, 1])
  return jnp.take_along_axis(x, index[:, None], axis=1)[:, 0]


def positions_of(is_token: jax.Array) -> jax.Array:
  """Returns positions [B, T] int32 that count the real tokens only.

  A pad has the position of the token before it, or 0 before the first token.
  """
  chex.assert_rank(is_token, 2)
  count = jnp.cumsum(is_token, axis=1, dtype=jnp.int32)
  return jnp.maximum(count - jnp.int32(1), jnp.int32(0))


def causal_mask(is_token: jax.Array) -> jax.Array:
  """Returns the mask [B, T, T] bool of the keys that each query may see.

  Real tokens at or before the query, and the query itself even where it is a
  pad, so that no row of a softmax is empty.
  """
  chex.assert_rank(is_token, 2)
  length = is_token.shape[1]
  causal = jnp.tril(jnp.ones((length, length), bool))
  return causal & is_token[:, None, :] | jnp.eye(length, dtype=bool)


def segment_positions(segments: jax.Array) -> jax.Array:
  """Returns positions [B, T] int32 that start again at 0 in every segment."""
  chex.assert_rank(segments, 2)
  column = jnp.arange(segments.shape[1], dtype=jnp.int32)
  is_first = segments != jnp.roll(segments, 1, axis=1)
  first = jnp.where(is_first, column, jnp.int32(0))
  return column - jax.lax.cummax(first, axis=1)


def segment_mask(segments: jax.Array) -> jax.Array:
  """Returns the mask [B, T, T] bool of rows that hold several texts.

  Segments [B, T] number the texts of a row from 1; 0 is padding. A query sees
  its own segment up to itself, and always itself.
  """
  chex.assert_rank(segments, 2)
  own = segments[:, :, None] == segments[:, None, :]
  return causal_mask(segments > 0) & own


def shared_prompt(
  is_prompt: jax.Array, is_response: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Lays out a prompt once, followed by its K responses side by side.

  Takes is_prompt [B, P] and is_response [B, K, R]; with T = P + K * R, returns
  positions [B, T] int32 and the attention mask [B, T, T] bool. Each response
  sees the prompt and itself, never another response, and its positions
  continue the prompt's: every response is computed as if it stood alone.
  """
  chex.assert_rank([is_prompt, is_response], [2, 3])
  batch, completions, width = is_response.shape
  prompt_width = is_prompt.shape[1]
  count = jnp.cumsum(is_response, axis=2, dtype=jnp.int32) - jnp.int32(1)
  length = is_prompt.sum(axis=1, dtype=jnp.int32)
  after = jnp.maximum(length[:, None, None] + count, jnp.int32(0))
  flat = (batch, completions * width)
  positions = jnp.concatenate(
    [positions_of(is_prompt), after.reshape(flat)], axis=1
  )
  # Segment 0 is the prompt, segment k >= 1 the k-th response.
  segment = jnp.concatenate(
    [
      jnp.zeros(prompt_width, jnp.int32),
      jnp.repeat(jnp.arange(1, completions + 1, dtype=jnp.int32), width),
    ]
  )
  of_key, of_query = segment[None, :], segment[:, None]
  own = (of_key == 0) | (of_key == of_query)
  is_token = jnp.concatenate([is_prompt, is_response.reshape(flat)], axis=1)
  return positions, causal_mask(is_token) & own
