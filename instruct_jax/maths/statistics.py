"""Means and proportions with their 95 % intervals, clustered.

Values [N] come in G clusters (the answers to one prompt, say), within which
they may depend on each other; clusters [N] holds any labels that tell them
apart. A mean (Likert, reward, nats) has a symmetric interval, Student's. A
proportion (wins, accuracies, rates) has Wilson's, which never leaves 0 .. 1
and covers what it should near the ends, where a symmetric one does not.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import special

from instruct_jax.base import errors

_Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
# Fewer clusters above or below the mean than this say nothing of how much
# clusters vary.
_FEWEST = 3


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

  With u_g the sum of the residuals of cluster g and t the 97.5 % quantile of
  Student's t with G - 1 degrees of freedom (Liang and Zeger 1986; Cameron and
  Miller 2015, equation 11):

      se² = G / (G - 1) · Σ_g u_g² / N²;   mean ± t se

  `bounds`, where given, are the least and the greatest value there can be: the
  interval is cut to them. Where se says nothing (one cluster, or no variation
  between clusters) the interval is Wilson's for G trials, scaled to the bounds;
  without bounds it is then infinite for one cluster, and the mean alone
  otherwise. Shares are `proportion_interval`'s.

  Raises UserError for no values, lengths that differ, values that are not
  finite or out of bounds.
  """
  values = np.asarray(values, np.float64)
  clusters = np.asarray(clusters)
  _check_values(values, clusters, bounds)
  mean = float(values.mean())
  sums = _by_cluster(values - mean, clusters)
  count = len(sums)
  half = math.inf
  if count > 1:
    error = math.sqrt(_between(sums)) / len(values)
    half = _quantile(count - 1) * error
  low, high = mean - half, mean + half
  if bounds is not None:
    least, greatest = bounds
    scale = greatest - least
    # Rounding leaves residuals of 1e-17 where there is nothing to see.
    if count == 1 or half <= 1e-12 * scale:
      low, high = wilson((mean - least) / scale, count)
      low, high = least + scale * low, least + scale * high
    low, high = max(low, least), min(high, greatest)
  low, high = min(low, mean), max(high, mean)
  return Interval(mean, low, high, len(values), count)


def standard_error(
  values: np.ndarray, clusters: Sequence[Hashable]
) -> float | None:
  """Returns the clustered standard error of the mean of values [N].

  That of `mean_interval`, √(G / (G - 1) · Σ_g u_g²) / N; where each value is a
  cluster of its own, the sample standard deviation by √N. None for one cluster,
  which says nothing of it.
  """
  values = np.asarray(values, np.float64)
  places: dict[Hashable, int] = {}
  labels = [places.setdefault(one, len(places)) for one in clusters]
  _check_values(values, np.asarray(labels), None)
  if len(places) < 2:
    return None
  sums = _by_cluster(values - values.mean(), np.asarray(labels))
  return math.sqrt(_between(sums)) / len(values)


def proportion_interval(
  values: np.ndarray,
  clusters: np.ndarray,
  *,
  weights: np.ndarray | None = None,
) -> Interval:
  """Returns the share that values [N] in 0 .. 1 amount to, with its interval.

  A value is 1 or 0, or in between where it is a share itself: a tie, a panel's
  vote. The interval is Wilson's with the effective number n* of independent
  trials (Korn and Graubard 1998; among the best in Dean and Pagano 2015 and in
  Franco et al. 2019). With e the residuals, u_g their sums by cluster, t_n the
  97.5 % quantile of Student's t with n degrees of freedom:

      v  = max(G / (G - 1) Σ_g u_g², N / (N - 1) Σ e²) / N²
      n* = p (1 - p) N / (N - 1) / v · (t_{N-1} / t_{G-1})²

  So it is the plain Wilson interval where every value is 0 or 1 and a cluster
  of its own; clusters make it wider, never narrower. Where fewer than three
  clusters lie above p, or below it (all won, say), nothing tells how much
  clusters vary: then n* is at most G, as if all of a cluster were one trial.

  `weights` [N] > 0 make it a weighted share, e = w (x - p) with the mean of w
  being 1.

  Raises UserError for no values, lengths that differ, values outside 0 .. 1
  and weights that are not positive.
  """
  values = np.asarray(values, np.float64)
  clusters = np.asarray(clusters)
  _check_values(values, clusters, (0.0, 1.0))
  weights = _mean_one(weights, len(values))
  share = min(1.0, max(0.0, float((weights * values).mean())))
  residuals = weights * (values - share)
  sums = _by_cluster(residuals, clusters)
  n, count = len(values), len(sums)
  trials = float(count)
  # Rounding leaves residuals of 1e-17 where there is nothing to see.
  if count > 1 and np.abs(residuals).max() > 1e-12:
    alone = n / (n - 1) * float(np.square(residuals).sum())
    variance = max(_between(sums), alone) / n**2
    trials = share * (1 - share) * n / (n - 1) / variance
    trials *= (_quantile(n - 1) / _quantile(count - 1)) ** 2
    if min((sums > 1e-12).sum(), (sums < -1e-12).sum()) < _FEWEST:
      trials = min(trials, count)
  low, high = wilson(share, trials)
  return Interval(share, min(low, share), max(high, share), n, count)


def wilson(rate: float, trials: float) -> tuple[float, float]:
  """Returns (low, high), Wilson's (1927) 95 % interval of a rate in 0 .. 1.

  `trials` > 0 need not be whole. Both ends lie within 0 .. 1: they are where
  (p - rate)² = z² p (1 - p) / trials.
  """
  shrink = 1 + _Z * _Z / trials
  centre = (rate + _Z * _Z / (2 * trials)) / shrink
  spread = rate * (1 - rate) / trials + _Z * _Z / (4 * trials * trials)
  half = _Z * math.sqrt(max(spread, 0.0)) / shrink
  return max(0.0, centre - half), min(1.0, centre + half)


def _quantile(degrees: int) -> float:
  """The 97.5 % quantile of Student's t."""
  return float(special.stdtrit(degrees, 0.975))


def _by_cluster(residuals: np.ndarray, clusters: np.ndarray) -> np.ndarray:
  """The sums [G] of the residuals [N] of each cluster."""
  _, group = np.unique(clusters, return_inverse=True)
  return np.bincount(group.ravel(), residuals)


def _between(sums: np.ndarray) -> float:
  """G / (G - 1) Σ u², the variance of a sum over at least two clusters."""
  return len(sums) / (len(sums) - 1) * float(np.square(sums).sum())


def _mean_one(weights: np.ndarray | None, n: int) -> np.ndarray:
  """The weights [N], scaled to a mean of 1; UserError for impossible ones."""
  if weights is None:
    return np.ones(n)
  weights = np.asarray(weights, np.float64)
  if weights.shape != (n,) or not np.isfinite(weights).all():
    raise errors.UserError(
      f"{n} values need {n} finite weights: got shape {weights.shape}."
    )
  if weights.min() <= 0:
    raise errors.UserError(f"a weight is not positive: {weights.min()}.")
  return weights / weights.mean()


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
