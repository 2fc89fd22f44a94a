"""The maths of reinforcement learning from a score, as pure functions.

Axes: B batch, R response, T time, V vocabulary. Everything is computed in
float32 whatever comes in. Masks are bool; what stands at a masked position
reaches neither a value nor a gradient. Losses are pairs (sum, weight), their
mean is sum / weight over the GLOBAL batch (README, detail 9).
"""

import functools

import chex
import jax
import jax.numpy as jnp

from instruct_jax.base import errors
from instruct_jax.maths import arrays

KL_ERROR = 0.2  # what the adaptive KL's relative error is clipped to
MISSING_END = ("fixed", "penalty", "none")  # `shape_scores`' modes
Term = tuple[jax.Array, jax.Array]  # (sum, weight), two float32 scalars


def _temper(logits: jax.Array, temperature: float) -> jax.Array:
  if temperature == 1:
    return logits
  return logits.astype(jnp.float32) / jnp.float32(temperature)


def logprobs(
  logits: jax.Array, tokens: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
  """Returns log π(token) [B, T] float32, in nats.

  log softmax(logits / temperature)[token], for logits [B, T, V] and tokens
  [B, T]. Of a model's tokens `models.forward` says the same, without an array
  of the logits.
  """
  chex.assert_rank([logits, tokens], [3, 2])
  chex.assert_equal_shape_prefix([logits, tokens], 2)
  logits = _temper(logits, temperature).astype(jnp.float32)
  logp = jax.nn.log_softmax(logits, axis=-1)
  return jnp.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0]


def entropy(logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
  """Returns the entropy [B, T] float32, in nats: H = - Σ_v π_v log π_v.

  A token whose logit is minus infinity has probability 0 and adds nothing.
  """
  chex.assert_rank(logits, 3)
  logits = _temper(logits, temperature).astype(jnp.float32)
  logp = jax.nn.log_softmax(logits, axis=-1)
  finite = jnp.where(jnp.isneginf(logp), jnp.float32(0), logp)
  return -(jnp.exp(logp) * finite).sum(axis=-1)


def cross_entropy(logprobs: jax.Array, mask: jax.Array) -> Term:
  """Returns (- Σ log π(token) where `mask`, number of such tokens).

  Of logprobs [B, T]. SFT, pretraining and PPO-ptx's second term (eq. 2).
  """
  chex.assert_rank([logprobs, mask], 2)
  return arrays.sum_and_weight(-logprobs, mask)


def shape_scores(
  scores: jax.Array, ended: jax.Array, *, mode: str, value: float
) -> jax.Array:
  """Returns scores [B] float32 in which responses without an end are marked.

  `ended` [B] is True where a response ended by itself. Otherwise, by `mode`:
  'fixed' gives it the score `value` (-1 in lm-human-preferences), 'penalty'
  takes `value` off its score, 'none' leaves it (README, detail 4). Raises
  UserError for another mode.
  """
  chex.assert_rank([scores, ended], [1, 1])
  scores = jnp.asarray(scores, jnp.float32)
  value = jnp.float32(value)
  unended = {
    "fixed": jnp.full_like(scores, value),
    "penalty": scores - value,
    "none": scores,
  }
  if mode not in unended:
    raise errors.unknown("mode for unended responses", mode, unended)
  return jnp.where(ended, scores, unended[mode])


def rewards(
  scores: jax.Array,
  logprobs: jax.Array,
  ref_logprobs: jax.Array,
  is_response: jax.Array,
  *,
  kl_coef: float | jax.Array,
) -> jax.Array:
  """Returns the reward of each token, [B, R] float32 (eq. 2; detail 6).

  r_t = - β (log π(y_t) - log π_ref(y_t)) + [t is the last token] score
  """
  chex.assert_rank([scores, logprobs, ref_logprobs, is_response], [1, 2, 2, 2])
  chex.assert_equal_shape([logprobs, ref_logprobs, is_response])
  kl = jnp.asarray(logprobs, jnp.float32)
  kl = kl - jnp.asarray(ref_logprobs, jnp.float32)
  index = jnp.arange(is_response.shape[1], dtype=jnp.int32)
  is_last = index[None, :] == arrays.last_index(is_response)[:, None]
  score = jnp.asarray(scores, jnp.float32)[:, None]
  score = jnp.where(is_last, score, jnp.float32(0))
  penalty = jnp.asarray(kl_coef, jnp.float32) * kl
  return jnp.where(is_response, score - penalty, jnp.float32(0))


def gae(
  rewards: jax.Array,
  values: jax.Array,
  is_response: jax.Array,
  *,
  discount: float,
  gae_lambda: float,
) -> jax.Array:
  """Returns generalised advantage estimates [B, R] float32 (detail 8).

  δ_t = r_t + γ V_{t+1} - V_t;   A_t = δ_t + γ λ A_{t+1}

  with V = A = 0 after the last token of a response: the episode ends there.
  The returns that the value function learns are A + V, before whitening.
  """
  chex.assert_rank([rewards, values, is_response], 2)
  chex.assert_equal_shape([rewards, values, is_response])

  def keep(x: jax.Array) -> jax.Array:
    x = jnp.asarray(x, jnp.float32)
    return jnp.where(is_response, x, jnp.float32(0))

  values = keep(values)
  following = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
  deltas = keep(rewards) + jnp.float32(discount) * following - values
  decay = jnp.float32(discount) * jnp.float32(gae_lambda)

  def backwards(later, delta):
    advantage = delta + decay * later
    return advantage, advantage

  start = jnp.zeros(values.shape[0], jnp.float32)
  _, advantages = jax.lax.scan(backwards, start, deltas.T, reverse=True)
  return keep(advantages.T)


def policy_losses(
  logprobs: jax.Array,
  old_logprobs: jax.Array,
  advantages: jax.Array,
  is_response: jax.Array,
  *,
  clip: float,
) -> tuple[jax.Array, dict[str, Term]]:
  """Returns PPO's clipped policy loss of each token; all are [B, R].

  ρ = π / π_old;   L = max(- A ρ, - A clip(ρ, 1 - ε, 1 + ε))

  Metrics, as in lm-human-preferences: the fraction of tokens whose clipped
  loss is the larger, approx_kl = mean of (log ρ)² / 2, and the mean ratio.
  """
  chex.assert_rank([logprobs, old_logprobs, advantages, is_response], 2)
  chex.assert_equal_shape([logprobs, old_logprobs, advantages, is_response])
  total = functools.partial(arrays.sum_and_weight, mask=is_response)
  log_ratio = jnp.asarray(logprobs, jnp.float32)
  log_ratio = log_ratio - jnp.asarray(old_logprobs, jnp.float32)
  # Masked before the exponential: an overflow in a pad would give 0 * inf.
  log_ratio = jnp.where(is_response, log_ratio, jnp.float32(0))
  ratio = jnp.exp(log_ratio)
  gain = jnp.asarray(advantages, jnp.float32)
  unclipped = -gain * ratio
  clipped = -gain * jnp.clip(ratio, 1 - clip, 1 + clip)
  return jnp.maximum(unclipped, clipped), {
    "policy/clip_fraction": total(clipped > unclipped),
    "policy/approx_kl": total(jnp.square(log_ratio) / 2),
    "policy/ratio": total(ratio),
  }


def policy_loss(
  logprobs: jax.Array,
  old_logprobs: jax.Array,
  advantages: jax.Array,
  is_response: jax.Array,
  *,
  clip: float,
) -> tuple[Term, dict[str, Term]]:
  """Returns (sum over tokens of `policy_losses`, tokens), and its metrics."""
  losses, metrics = policy_losses(
    logprobs, old_logprobs, advantages, is_response, clip=clip
  )
  return arrays.sum_and_weight(losses, is_response), metrics


def value_loss(
  values: jax.Array,
  old_values: jax.Array,
  returns: jax.Array,
  is_response: jax.Array,
  *,
  clip: float,
) -> tuple[Term, dict[str, Term]]:
  """Returns PPO's clipped value loss, and its metrics; inputs [B, R].

  V' = clip(V, V_old - ε, V_old + ε);   L = ½ Σ max((V - G)², (V' - G)²)

  (README, detail 7.) An infinite `clip` turns clipping off.
  """
  chex.assert_rank([values, old_values, returns, is_response], 2)
  chex.assert_equal_shape([values, old_values, returns, is_response])
  total = functools.partial(arrays.sum_and_weight, mask=is_response)
  # Masked first, so that what stands in pads cannot reach a gradient either.
  values, old_values, returns = (
    jnp.where(is_response, jnp.asarray(x, jnp.float32), jnp.float32(0))
    for x in (values, old_values, returns)
  )
  near = jnp.clip(values, old_values - clip, old_values + clip)
  unclipped = jnp.square(values - returns)
  clipped = jnp.square(near - returns)
  return total(jnp.maximum(unclipped, clipped) / 2), {
    "value/clip_fraction": total(clipped > unclipped),
    "value/error": total(unclipped),
  }


def explained_variance(
  values: jax.Array, returns: jax.Array, is_response: jax.Array
) -> jax.Array:
  """Returns 1 - Var(G - V) / Var(G) over the response tokens, a float32.

  1 is perfect, 0 as good as a constant, below 0 worse; 0 also where the
  returns do not vary.
  """
  chex.assert_rank([values, returns, is_response], 2)
  residual = jnp.asarray(returns, jnp.float32)
  residual = residual - jnp.asarray(values, jnp.float32)
  total = arrays.masked_var(returns, is_response)
  left = arrays.masked_var(residual, is_response)
  varies = total > 0
  share = left / jnp.where(varies, total, jnp.float32(1))
  return jnp.where(varies, jnp.float32(1) - share, jnp.float32(0))


def next_kl_coef(
  kl_coef: float | jax.Array,
  kl: float | jax.Array,
  *,
  target: float,
  horizon: float,
  episodes: int,
  limit: float = KL_ERROR,
) -> jax.Array:
  """Returns the KL coefficient of the next iteration (detail 12), a float32.

  e = clip(KL / target - 1, -limit, limit);   β' = β (1 + e n / horizon)

  `kl` is per sequence in nats, `episodes` n is the iteration's number of
  episodes, and `horizon` counts episodes too (Ziegler et al. 2019, 2.2).
  """
  error = jnp.asarray(kl, jnp.float32) / jnp.float32(target) - jnp.float32(1)
  error = jnp.clip(error, -limit, limit)
  factor = jnp.float32(1) + error * jnp.float32(episodes / horizon)
  return jnp.asarray(kl_coef, jnp.float32) * factor
