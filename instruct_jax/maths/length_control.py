"""The win rate that two models would have if their answers were equally long.

AlpacaEval 2's length-controlled win rate (Dubois et al. 2024,
arXiv:2404.04475, section 3). For model m and baseline b on instruction x,

    P(m wins) = σ(θ + φ tanh(Δ / std Δ) + ψ γ_x)

with θ what sets the models apart, Δ the length of m's answer minus b's, and
γ_x how hard the instruction is. The rate is the mean over x of σ(θ + ψ γ_x):
the same without the length's term. Swapping m and b gives 1 minus the rate.

What is simplified: γ_x is estimated from the models at hand (`difficulties`),
not from the leaderboard, and taken as known; a small ridge stands in for the
cross-validated L1 penalty and for the anchor to artificially long and short
baselines. N comparisons.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special

from instruct_jax.base import errors
from instruct_jax.maths import statistics

RIDGE = 0.01  # of a squared coefficient / 2 beside the summed loss
# γ_x is a normal variable of variance 1: what an instruction nobody differs on
# has is 0.
_PRIOR = 1.0
_STEPS, _SMALL = 200, 1e-9
# Where fewer clusters than this won, or lost, nothing tells how they vary.
_FEWEST = 3


@dataclasses.dataclass(frozen=True)
class LengthControlled:
  """A rate with its interval, and the coefficients that it comes from."""

  rate: statistics.Interval
  theta: float
  phi: float  # above 0: the longer answer wins more often
  psi: float  # 0 without difficulties


def win_rate(
  won: np.ndarray,
  lengths: np.ndarray,
  clusters: np.ndarray,
  *,
  difficulty: np.ndarray | None = None,
) -> LengthControlled:
  """The rate at which m wins, in 0 .. 1, its lengths being those of b.

  Takes the share won [N] in 0 .. 1 (a tie is a half), lengths [N, 2] of m's
  and b's answers in any unit, what tells independent comparisons apart [N] and
  the γ_x [N] of `difficulties`, if there are. The 95 % interval is the delta
  method's on the log-odds of the rate, clustered (Liang and Zeger 1986).

  Raises UserError for shapes that differ and no comparisons.
  """
  won, lengths = np.asarray(won, np.float64), np.asarray(lengths, np.float64)
  clusters = np.asarray(clusters)
  if won.ndim != 1 or lengths.shape != (len(won), 2) or not len(won):
    raise errors.UserError(
      "a length-controlled rate needs comparisons [N] with lengths [N, 2]:"
      f" got {won.shape} and {lengths.shape}."
    )
  hard = np.zeros(len(won)) if difficulty is None else np.asarray(difficulty)
  x = np.stack([np.ones(len(won)), standardised(lengths), hard], axis=1)
  weights, inverse = _logistic(x, won)
  same = x * [1, 0, 1]
  predicted = special.expit(same @ weights)
  rate = float(predicted.mean())
  slope = (same * (predicted * (1 - predicted))[:, None]).mean(axis=0)
  residual = won - special.expit(x @ weights)
  # What each comparison moves the rate by, times N.
  moved = len(won) * residual * (x @ (inverse @ slope)) + predicted - rate
  _, cluster = np.unique(clusters, return_inverse=True)
  cluster = cluster.ravel()
  sums = np.bincount(cluster, moved)
  low, high = _interval(rate, _error(sums) / len(won), len(sums))
  sides = (np.unique(cluster[side]) for side in (won > 0.5, won < 0.5))
  if min(map(len, sides)) < _FEWEST:
    wide = statistics.wilson(rate, len(sums))
    low, high = min(low, wide[0]), max(high, wide[1])
  interval = statistics.Interval(rate, low, high, len(won), len(sums))
  return LengthControlled(interval, *(float(w) for w in weights))


def standardised(lengths: np.ndarray) -> np.ndarray:
  """tanh(Δ / std Δ) [N] of lengths [N, 2]; 0 where Δ never varies from 0.

  The standard deviation is the sample's, around its mean; where all Δ are the
  same it is that same |Δ|, so that the term is tanh(±1).
  """
  difference = np.asarray(lengths, np.float64)
  difference = difference[:, 0] - difference[:, 1]
  spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
  spread = spread if spread > _SMALL else np.abs(difference).max(initial=0.0)
  return np.tanh(difference / spread) if spread else np.zeros(len(difference))


def difficulties(
  won: Sequence[np.ndarray], lengths: Sequence[np.ndarray]
) -> np.ndarray:
  """γ_x [X] of X instructions that each of several models answered.

  won [M][X] are each model's shares against the same baseline, NaN where it
  was not compared, lengths [M][X, 2] as in `win_rate`. One regression of all
  models, ψ being 1 (as Dubois et al. estimate them), with a normal prior of
  variance 1 on γ. High is easy for the models, hard for the baseline.

  Raises UserError where shapes differ.
  """
  shares = np.asarray(won, np.float64)
  models, count = shares.shape if shares.ndim == 2 else (0, 0)
  if not models or np.shape(lengths) != (models, count, 2):
    raise errors.UserError(
      "difficulties need shares [models, instructions] and lengths"
      f" [models, instructions, 2]: got {shares.shape}, {np.shape(lengths)}."
    )
  model, place = np.nonzero(~np.isnan(shares))
  terms = np.zeros((len(model), 2 * models))
  for m in range(models):
    mine = model == m
    terms[mine, m] = 1
    terms[mine, models + m] = standardised(np.asarray(lengths[m])[place[mine]])
  return _effects(terms, place, shares[model, place], count)


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(weights, the inverse of the curvature) of a ridge regression."""
  weights, ridge = np.zeros(x.shape[1]), RIDGE * np.eye(x.shape[1])
  inverse = ridge
  for _ in range(_STEPS):
    p = special.expit(x @ weights)
    slope = x.T @ (y - p) - RIDGE * weights
    inverse = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x + ridge)
    step = _damped(inverse @ slope)
    weights = weights + step
    if np.abs(step).max() < _SMALL:
      break
  return weights, inverse


def _effects(
  x: np.ndarray, place: np.ndarray, y: np.ndarray, count: int
) -> np.ndarray:
  """γ [count] of P(y_n) = σ(x_n · w + γ[place_n]), each γ with its prior.

  The curvature in γ is diagonal, so Newton's step needs the inverse of a
  matrix as small as w only.
  """
  weights, gamma = np.zeros(x.shape[1]), np.zeros(count)
  for _ in range(_STEPS):
    p = special.expit(x @ weights + gamma[place])
    curve, residual = p * (1 - p), y - p
    own = np.bincount(place, curve, count) + 1 / _PRIOR
    slope_own = np.bincount(place, residual, count) - gamma / _PRIOR
    mixed = np.zeros((count, x.shape[1]))
    np.add.at(mixed, place, x * curve[:, None])
    left = (x * curve[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
    left = left - mixed.T @ (mixed / own[:, None])
    slope = x.T @ residual - RIDGE * weights - mixed.T @ (slope_own / own)
    step = _damped(np.linalg.solve(left, slope))
    step_own = _damped((slope_own - mixed @ step) / own)
    weights, gamma = weights + step, gamma + step_own
    if max(np.abs(step).max(), np.abs(step_own).max()) < _SMALL:
      break
  return gamma


def _damped(step: np.ndarray) -> np.ndarray:
  """A step of Newton's that moves no coefficient by more than 2."""
  return step * min(1.0, 2.0 / max(float(np.abs(step).max()), _SMALL))


def _error(sums: np.ndarray) -> float:
  """The root of G / (G - 1) Σ u²; infinite for one cluster."""
  if len(sums) < 2:
    return np.inf
  return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()))


def _interval(rate: float, error: float, clusters: int) -> tuple[float, float]:
  """95 % of a rate: the delta method's on its log-odds."""
  spread = rate * (1 - rate)
  if not np.isfinite(error) or spread < _SMALL:
    low, high = statistics.wilson(rate, clusters)
    return min(low, rate), max(high, rate)
  half = float(special.stdtrit(clusters - 1, 0.975)) * error / spread
  centre = special.logit(rate)
  return float(special.expit(centre - half)), float(
    special.expit(centre + half)
  )
