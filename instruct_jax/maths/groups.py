"""Several responses to one prompt: the others are the baseline of each.

Axes: N prompts, G responses to each (a group), B = N x G episodes, R response.
Everything is float32. Losses are pairs (sum, weight) as in `rl`, and weights
come from masks alone.
"""

import chex
import jax
import jax.numpy as jnp

from instruct_jax.base import errors
from instruct_jax.maths import arrays, rl

BASELINES = ("leave_one_out", "standardised", "centred")  # of `advantages`
AGGREGATIONS = ("sequence", "response", "token", "length")  # of `aggregate`
STD_EPS = 1e-4  # TRL's; DeepSeekMath has none


def advantages(returns: jax.Array, *, baseline: str) -> jax.Array:
  """Returns the advantages [N, G] of responses with these returns [N, G].

  By `baseline`:

    leave_one_out  r_i - mean of the others' r (Kool et al. 2019; RLOO, Ahmadian
                   et al. 2024, section 2.3)
    standardised   (r_i - mean r) / (std r + 1e-4), the std of a sample (G - 1)
                   (GRPO, Shao et al. 2024, section 4.1.2)
    centred        r_i - mean r (Dr. GRPO, Liu et al. 2025, section 3.2)

  Where all returns of a group are equal, exactly 0. Raises UserError for
  another baseline, and for groups of one.
  """
  chex.assert_rank(returns, 2)
  if baseline not in BASELINES:
    raise errors.unknown("baseline of a group", baseline, BASELINES)
  count = returns.shape[1]
  if count < 2:
    raise errors.UserError(
      f"a group of {count} has no other response to be compared with; at"
      " least 2 are right"
    )
  returns = jnp.asarray(returns, jnp.float32)
  centred = returns - returns.mean(axis=1, keepdims=True)
  # What a mean of equal numbers rounds to is no reason to move.
  centred = jnp.where(is_flat(returns)[:, None], jnp.float32(0), centred)
  if baseline == "leave_one_out":
    return centred * jnp.float32(count / (count - 1))
  if baseline == "centred":
    return centred
  return centred / (std(returns)[:, None] + jnp.float32(STD_EPS))


def std(returns: jax.Array) -> jax.Array:
  """Returns the sample standard deviation (G - 1) of each group, [N]."""
  chex.assert_rank(returns, 2)
  return jnp.asarray(returns, jnp.float32).std(axis=1, ddof=1)


def is_flat(returns: jax.Array) -> jax.Array:
  """Returns [N] bool: every response of the group has the same return."""
  chex.assert_rank(returns, 2)
  return returns.max(axis=1) == returns.min(axis=1)


def kl_k3(
  logprobs: jax.Array, ref_logprobs: jax.Array, is_response: jax.Array
) -> jax.Array:
  """Returns an estimate of KL(π || π_ref) for each token, [B, R], never < 0.

  k3 = π_ref / π - log(π_ref / π) - 1   (GRPO, equation 4; Schulman 2020)

  Unbiased for tokens that π sampled, as k1 = log(π / π_ref) is.
  """
  chex.assert_equal_shape([logprobs, ref_logprobs, is_response])
  log_ratio = jnp.asarray(ref_logprobs, jnp.float32)
  log_ratio = log_ratio - jnp.asarray(logprobs, jnp.float32)
  # Masked before the exponential: an overflow in a pad would give 0 * inf.
  log_ratio = jnp.where(is_response, log_ratio, jnp.float32(0))
  return jnp.expm1(log_ratio) - log_ratio


def aggregate(
  losses: jax.Array, is_response: jax.Array, *, aggregation: str
) -> rl.Term:
  """Returns (sum, weight) of the losses of tokens [B, R].

  By `aggregation`, the mean over responses of

    sequence  the sum over their tokens: log π(y) of a whole response (RLOO)
    response  the mean over their tokens, 1 / |y| each (GRPO, equation 3)
    length    the sum over their tokens / R, one constant (Dr. GRPO)

  or, 'token', the mean over all tokens (DAPO, Yu et al. 2025, equation 12). A
  response without a token counts nothing. Raises UserError for another.
  """
  chex.assert_rank([losses, is_response], 2)
  chex.assert_equal_shape([losses, is_response])
  if aggregation == "token":
    return arrays.sum_and_weight(losses, is_response)
  tokens = is_response.sum(axis=1, dtype=jnp.float32)
  scales = {
    "sequence": jnp.ones_like(tokens),
    "response": 1 / jnp.maximum(tokens, 1),
    "length": jnp.full_like(tokens, 1 / is_response.shape[1]),
  }
  if aggregation not in scales:
    raise errors.unknown("aggregation", aggregation, AGGREGATIONS)
  kept = jnp.where(is_response, losses, jnp.float32(0))
  of_responses = kept.sum(axis=1) * scales[aggregation]
  return arrays.sum_and_weight(of_responses, tokens > 0)


def policy_loss(
  logprobs: jax.Array,
  old_logprobs: jax.Array,
  advantages: jax.Array,
  is_response: jax.Array,
  *,
  clip: float,
  aggregation: str,
) -> tuple[rl.Term, dict[str, rl.Term]]:
  """Returns the clipped policy loss and its metrics, as `rl.policy_loss`.

  logprobs [B, R], advantages [B]. Where `aggregation` is 'sequence', a response
  is one action: ρ = Π_t ρ_t is clipped as a whole, and at ρ = 1 the gradient is
  REINFORCE's, - A ∇ log π(y). Otherwise every token has its own ratio.
  """
  chex.assert_rank([logprobs, advantages], [2, 1])
  advantages = jnp.asarray(advantages, jnp.float32)[:, None]
  if aggregation == "sequence":
    logprobs, old_logprobs = (
      jnp.where(is_response, jnp.asarray(x, jnp.float32), jnp.float32(0)).sum(
        axis=1, keepdims=True
      )
      for x in (logprobs, old_logprobs)
    )
    is_response = is_response.any(axis=1, keepdims=True)
  advantages = jnp.broadcast_to(advantages, logprobs.shape)
  losses, metrics = rl.policy_losses(
    logprobs, old_logprobs, advantages, is_response, clip=clip
  )
  return aggregate(losses, is_response, aggregation=aggregation), metrics
