"""Preferences: the K-wise ranking loss, agreement and win rates.

Axes: B prompts, K completions, L labelers, N comparisons. Ranks are int32,
1 is best, equal ranks are ties; `beats` [B, K, K] is True where completion i
was preferred to j, from ranks (`pairs`) or as labelers said it, who need not be
consistent. Prompts with fewer than K completions are padded; `is_completion` is
True at the real ones, and what stands elsewhere reaches neither a value nor a
gradient.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

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
  beats = _real(beats, is_completion)
  losses = -jax.nn.log_sigmoid(_margins(scores, is_completion))
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


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean with its 95 % interval: low <= value <= high."""

  value: float
  low: float
  high: float
  n: int  # how many values the mean is over
  clusters: int  # how many independent groups they come in

  def excludes(self, value: float) -> bool:
    """True if `value` lies outside the interval."""
    return value < self.low or value > self.high


def mean_interval(
  values: np.ndarray,
  clusters: np.ndarray,
  *,
  bounds: tuple[float, float] | None = None,
) -> Interval:
  """Returns the mean of values [N] with its 95 % interval.

  Values of one cluster (the answers to one prompt, say) may depend on each
  other; clusters [N] holds any labels that tell them apart. With u_g the sum
  of the residuals of cluster g, G clusters and t the 97.5 % quantile of
  Student's t with G - 1 degrees of freedom:

      se² = G / (G - 1) · Σ_g u_g² / N²;   mean ± t se

  `bounds`, where given, are the least and the greatest value there can be: the
  interval is cut to them. Where se says nothing (one cluster, or no variation
  between clusters) the interval is Wilson's for G trials, scaled to the bounds;
  without bounds it is then infinite for one cluster, and the mean alone
  otherwise.

  Raises UserError for no values, lengths that differ, values that are not
  finite or out of bounds.
  """
  values = np.asarray(values, np.float64)
  clusters = np.asarray(clusters)
  _check_values(values, clusters, bounds)
  mean = float(values.mean())
  _, group = np.unique(clusters, return_inverse=True)
  count = int(group.max()) + 1
  residuals = np.bincount(group.ravel(), values - mean)
  half = math.inf
  if count > 1:
    variance = count / (count - 1) * np.square(residuals).sum()
    error = math.sqrt(variance) / len(values)
    half = float(special.stdtrit(count - 1, 0.975)) * error
  low, high = mean - half, mean + half
  if bounds is not None:
    least, greatest = bounds
    scale = greatest - least
    # Rounding leaves residuals of 1e-17 where there is nothing to see.
    if count == 1 or half <= 1e-12 * scale:
      low, high = _wilson((mean - least) / scale, count)
      low, high = least + scale * low, least + scale * high
    low, high = max(low, least), min(high, greatest)
  low, high = min(low, mean), max(high, mean)
  return Interval(mean, low, high, len(values), count)


def _check_values(
  values: np.ndarray,
  clusters: np.ndarray,
  bounds: tuple[float, float] | None,
) -> None:
  if values.ndim != 1 or values.shape != clusters.shape:
    raise errors.UserError(
      "an interval needs one cluster a value:"
      f" got shapes {values.shape} and {clusters.shape}."
    )
  if not len(values):
    raise errors.UserError("there is nothing to average: no values.")
  if not np.isfinite(values).all():
    raise errors.UserError("an interval needs finite values.")
  if bounds is not None:
    least, greatest = bounds
    if not least < greatest:
      raise errors.UserError(f"bounds must be (low, high), got {bounds}.")
    if values.min() < least or values.max() > greatest:
      raise errors.UserError(
        f"values from {values.min()} to {values.max()} leave {bounds}."
      )


def _wilson(rate: float, trials: int) -> tuple[float, float]:
  """Returns Wilson's (1927) 95 % interval of a rate seen in `trials`."""
  z = 1.959963984540054
  shrink = 1 + z * z / trials
  centre = (rate + z * z / (2 * trials)) / shrink
  spread = rate * (1 - rate) / trials + z * z / (4 * trials * trials)
  half = z * math.sqrt(max(spread, 0.0)) / shrink
  return centre - half, centre + half


def win_rate(wins: np.ndarray, clusters: np.ndarray) -> Interval:
  """Returns the share of comparisons won, with its 95 % interval.

  Wins [N] are 1 for a win, 0 for a loss, 0.5 for a tie; clusters [N] name the
  prompt of each comparison. See `mean_interval`, also for the errors.
  """
  return mean_interval(wins, clusters, bounds=(0.0, 1.0))


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
