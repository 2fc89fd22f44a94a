"""Arrays with masks: means that carry their weight, whitening.

Axes: B batch, T time. Masks are bool and named for what is True.
Whatever stands at a masked position, not-a-numbers included, never reaches a
result.
"""

import chex
import jax
import jax.numpy as jnp

from instruct_jax.base import errors

# What stands for a score or a logit of nothing. Finite: so a row of them has a
# softmax, a difference of two is a number, and 0 times it is 0.
MASKED = -1e30


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
