"""Strengths of many models from comparisons of two at a time.

Bradley and Terry (1952): P(i beats j) = σ(s_i - s_j), the reward model's
equation 1 with a number for each model. wins [M, M] holds how often i beat j,
a tie half for each. Strengths are in log-odds and add up to 0, so that 0 is
the average model.
"""

import dataclasses

import numpy as np
from scipy import special
from scipy.sparse import csgraph

from instruct_jax.base import errors

_STEPS, _SMALL = 100, 1e-10


@dataclasses.dataclass(frozen=True)
class Strengths:
  """The maximum of the likelihood."""

  values: np.ndarray  # [M]
  covariance: np.ndarray  # [M, M], of which each row adds up to 0

  @property
  def errors(self) -> np.ndarray:
    """Standard errors [M] of strengths, against the average model."""
    return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

  def difference(self, one: int, other: int) -> tuple[float, float]:
    """(s_one - s_other, its standard error)."""
    of = self.covariance
    variance = of[one, one] + of[other, other] - 2 * of[one, other]
    difference = float(self.values[one] - self.values[other])
    return difference, float(np.sqrt(max(variance, 0.0)))


def ungraspable(wins: np.ndarray) -> list[list[int]]:
  """The groups of models between which the likelihood has no maximum.

  [] where it has one: however models are split into two groups, some of each
  group beat one of the other (Ford 1957). Else groups that are each within
  themselves well compared: one of them always won or lost against another, or
  was never compared with it.
  """
  count, label = csgraph.connected_components(
    np.asarray(wins) > 0, directed=True, connection="strong"
  )
  if count == 1:
    return []
  return [np.flatnonzero(label == group).tolist() for group in range(count)]


def fit(wins: np.ndarray, *, prior: float = 0.0) -> Strengths:
  """The strengths [M] that make the table of wins [M, M] likeliest.

  `prior` > 0 adds so many ties between any two models, which gives a model
  that always wins a finite strength and draws all of them together. Errors are
  those of independent comparisons (the inverse of the observed information);
  `clustered` has those of dependent ones. By Newton's method.

  Raises UserError for what is no table of wins, and where the maximum does not
  exist (`ungraspable`) and there is no prior.
  """
  wins = _checked(wins)
  if not prior and (groups := ungraspable(wins)):
    raise errors.UserError(
      f"strengths of {len(wins)} models: the groups {groups} have never won,"
      " never lost, or never met against each other, so that no strength is the"
      " likeliest; compare more, or give a prior"
    )
  wins = wins + prior / 2 * (1 - np.eye(len(wins)))
  games, values = wins + wins.T, np.zeros(len(wins))
  for _ in range(_STEPS):
    expected = special.expit(values[:, None] - values[None, :])
    slope = (wins - games * expected).sum(axis=1)
    inverse = _inverse(games * expected * (1 - expected))
    step = inverse @ slope
    # Far from the maximum Newton's step may overshoot.
    values = values + step * min(1.0, 2.0 / max(np.abs(step).max(), _SMALL))
    if np.abs(step).max() < _SMALL:
      break
  expected = special.expit(values[:, None] - values[None, :])
  return Strengths(values, _inverse(games * expected * (1 - expected)))


def clustered(
  fitted: Strengths,
  first: np.ndarray,
  second: np.ndarray,
  won: np.ndarray,
  clusters: np.ndarray,
) -> Strengths:
  """The same strengths with errors for comparisons that depend on each other.

  Comparison n [N] is of models `first` and `second`, of which the first won
  the share `won` in 0 .. 1; those of one cluster (a prompt) may depend on each
  other. The sandwich G / (G - 1) I⁻¹ (Σ_g u_g u_gᵀ) I⁻¹ of Liang and Zeger
  (1986), with u_g the cluster's part of the likelihood's slope.
  """
  _, cluster = np.unique(clusters, return_inverse=True)
  residual = won - special.expit(fitted.values[first] - fitted.values[second])
  count = int(cluster.max()) + 1
  slopes = np.zeros((count, len(fitted.values)))
  np.add.at(slopes, (cluster.ravel(), first), residual)
  np.add.at(slopes, (cluster.ravel(), second), -residual)
  moved = slopes @ fitted.covariance
  scale = count / max(count - 1, 1)
  return Strengths(fitted.values, scale * moved.T @ moved)


def table(
  first: np.ndarray, second: np.ndarray, won: np.ndarray, models: int
) -> np.ndarray:
  """The wins [M, M] of comparisons as `clustered` takes them."""
  wins = np.zeros((models, models))
  np.add.at(wins, (first, second), won)
  np.add.at(wins, (second, first), 1 - np.asarray(won))
  return wins


def _inverse(weights: np.ndarray) -> np.ndarray:
  """The inverse, among strengths that add up to 0, of the information.

  Which is diag(Σ_j w_ij) - w for weights [M, M].
  """
  count = len(weights)
  information = np.diag(weights.sum(axis=1)) - weights
  average = np.full((count, count), 1 / count)
  return np.linalg.inv(information + average) - average


def _checked(wins: np.ndarray) -> np.ndarray:
  wins = np.array(wins, np.float64)
  if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or len(wins) < 2:
    raise errors.UserError(
      f"strengths need wins [models, models] of two or more, got {wins.shape}."
    )
  if not np.isfinite(wins).all() or wins.min() < 0 or np.diag(wins).any():
    raise errors.UserError(
      "strengths need finite wins, none negative and none against oneself."
    )
  return wins
