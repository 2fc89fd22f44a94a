"""Preferences: losses of K-wise rankings, their accuracy, and agreement.

Axes: B prompts, K completions, L labelers. Ranks are int32,
1 is best, equal ranks are ties; `beats` [B, K, K] is True where completion i
was preferred to j, from ranks (`pairs`) or as labelers said it, who need not be
consistent. Prompts with fewer than K completions are padded; `is_completion` is
True at the real ones, and what stands elsewhere reaches neither a value nor a
gradient.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.base import errors


def pairs(ranks: jax.Array, is_completion: jax.Array) -> jax.Array:
  """Returns a bool [B, K, K] that is True where completion i beats j.

  Ties, and pairs with a padded completion, are False both ways.
  """
  chex.assert_rank([ranks, is_completion], 2)
  return _real(ranks[:, :, None] < ranks[:, None, :], is_completion)


def _real(beats: jax.Array, is_completion: jax.Array) -> jax.Array:
  """Those pairs [B, K, K] of which both are completions."""
  chex.assert_rank([beats, is_completion], [3, 2])
  return beats & is_completion[:, :, None] & is_completion[:, None, :]


def _margins(scores: jax.Array, is_completion: jax.Array) -> jax.Array:
  """Returns r_i - r_j, [B, K, K] float32, 0 where either is padding."""
  chex.assert_rank(scores, 2)
  scores = jnp.asarray(scores, jnp.float32)
  scores = jnp.where(is_completion, scores, jnp.float32(0))
  return scores[:, :, None] - scores[:, None, :]


def ranking_loss(
  scores: jax.Array, beats: jax.Array, is_completion: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the reward model's loss (eq. 1) as (sum, weight).

  L = Σ_prompts 1 / C(K, 2) Σ_{i beats j} - log σ(r_i - r_j)

  for scores and is_completion [B, K] and beats [B, K, K]. K counts a prompt's
  own completions, tied ones too; a tied pair adds nothing to the sum. The
  weight is the number of prompts with at least two completions.
  """
  losses = -jax.nn.log_sigmoid(_margins(scores, is_completion))
  return _over_prompts(losses, beats, is_completion)


def dpo_loss(
  log_ratios: jax.Array,
  beats: jax.Array,
  is_completion: jax.Array,
  *,
  beta: float,
  label_smoothing: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss of direct preference optimisation as (sum, weight).

  For h = (log π - log π_ref)(winner) - (log π - log π_ref)(loser), a pair's is

    - (1 - ε) log σ(β h) - ε log σ(-β h)

  (Rafailov et al. 2023, equation 7; with ε > 0, the share of labels that are
  wrong, Mitchell 2023, "A note on DPO with noisy preferences", equation 3).
  Pairs are weighed as in `ranking_loss`, which this is for rewards β (log π -
  log π_ref) and ε = 0. log_ratios [B, K] in nats; ε in [0, 0.5].
  """
  h = beta * _margins(log_ratios, is_completion)
  right, wrong = -jax.nn.log_sigmoid(h), -jax.nn.log_sigmoid(-h)
  losses = (1 - label_smoothing) * right + label_smoothing * wrong
  return _over_prompts(losses, beats, is_completion)


def ipo_loss(
  log_ratios: jax.Array,
  beats: jax.Array,
  is_completion: jax.Array,
  *,
  beta: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss of identity preference optimisation as (sum, weight).

  For h as in `dpo_loss`, a pair's is

    (h - 1 / (2 β))²

  (Azar et al. 2023, equation 17, whose τ is β): pairs that are always ordered
  the same way are not driven apart without end. Pairs are weighed as in
  `ranking_loss`. TRL takes means over tokens for h, not sums.
  """
  h = _margins(log_ratios, is_completion)
  return _over_prompts((h - 1 / (2 * beta)) ** 2, beats, is_completion)


def _over_prompts(losses, beats, is_completion):
  """(Σ_prompts 1 / C(K, 2) Σ_{i beats j} of losses [B, K, K], prompts)."""
  beats = _real(beats, is_completion)
  losses = jnp.where(beats, losses, jnp.float32(0)).sum(axis=(1, 2))
  count = is_completion.sum(axis=1, dtype=jnp.float32)
  combinations = jnp.maximum(count * (count - 1) / 2, jnp.float32(1))
  weight = (count >= 2).sum(dtype=jnp.float32)
  return (losses / combinations).sum(), weight


def ranking_accuracy(
  scores: jax.Array, beats: jax.Array, is_completion: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns (pairs that the scores order as the labelers did, untied pairs).

  Two float32. Equal scores are worth half a pair.
  """
  beats = _real(beats, is_completion)
  margins = _margins(scores, is_completion)
  right = (jnp.sign(margins) + 1) / 2
  correct = jnp.where(beats, right, jnp.float32(0)).sum()
  return correct, beats.sum(dtype=jnp.float32)


def ranking_log_loss(
  scores: jax.Array, beats: jax.Array, is_completion: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns (Σ - log σ(r_i - r_j) in nats, untied pairs); chance is log 2.

  Every pair counts the same, whereas `ranking_loss` weighs prompts the same.
  """
  beats = _real(beats, is_completion)
  losses = -jax.nn.log_sigmoid(_margins(scores, is_completion))
  total = jnp.where(beats, losses, jnp.float32(0)).sum()
  return total, beats.sum(dtype=jnp.float32)


def of_pairs(
  values: jax.Array, beats: jax.Array, is_completion: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns (Σ of winners' values, Σ of losers', untied pairs), float32.

  For values [B, K], each as often as it is in a pair.
  """
  beats = _real(beats, is_completion).astype(jnp.float32)
  values = jnp.where(is_completion, values, jnp.float32(0))
  winners = (values * beats.sum(axis=2)).sum()
  return winners, (values * beats.sum(axis=1)).sum(), beats.sum()


def agreement(ranks_by_labeler: np.ndarray) -> tuple[int, int]:
  """Returns (agreeing pairs, pairs) over all pairs of labelers.

  Ranks [L, K] are each labeler's, of the same K completions of one prompt. A
  pair of completions counts for two labelers who both order it; one that
  either of them ties is left out (section 3.4).
  """
  ranks = np.asarray(ranks_by_labeler)
  if ranks.ndim != 2:
    raise errors.UserError(
      f"agreement needs ranks [labelers, completions], got {ranks.shape}."
    )
  first, second = np.triu_indices(ranks.shape[1], k=1)
  order = np.sign(
    ranks[:, first].astype(np.int64) - ranks[:, second].astype(np.int64)
  )
  one, other = np.triu_indices(ranks.shape[0], k=1)
  product = order[one] * order[other]
  return int((product > 0).sum()), int((product != 0).sum())
