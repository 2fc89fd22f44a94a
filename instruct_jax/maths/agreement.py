"""How far labelers agree on what they all judged.

Ratings [L, U] hold what each of L labelers said of each of U units (an answer,
a pair of answers), NaN where one said nothing. Pairwise agreement is the share
of the pairs of labelers who say the same; Krippendorff's alpha sets the
disagreement against what chance would give, 1 none, 0 as much as chance
(Krippendorff 2018, Content Analysis, chapter 12; 2011, "Computing
Krippendorff's Alpha-Reliability").
"""

import dataclasses
import itertools
import math

import numpy as np

from instruct_jax.base import errors
from instruct_jax.maths import statistics

LEVELS = ("nominal", "ordinal", "interval")
_DRAWS = 1000  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Alpha:
  """Krippendorff's alpha with its 95 % interval.

  All three are None where nobody ever said two different things: chance gives
  no disagreement then, and alpha is not defined.
  """

  value: float | None
  low: float | None
  high: float | None
  units: int  # that at least two labelers judged
  values: int  # that were said of them


def pairwise(
  ratings: np.ndarray, clusters: np.ndarray | None = None
) -> tuple[statistics.Interval | None, dict[tuple[int, int], tuple[int, int]]]:
  """(share of equal judgments, {(labeler, labeler): (equal, both judged)}).

  Over all pairs of labelers who judged the same unit of ratings [L, U].
  `clusters` [U] tell which units depend on each other, each by itself unless
  given. The share is None where no two labelers judged the same.

  Raises UserError for ratings of another shape.
  """
  ratings, clusters = _checked(ratings, clusters)
  by_two, same, of = {}, [], []
  for one, other in itertools.combinations(range(len(ratings)), 2):
    both = ~np.isnan(ratings[one]) & ~np.isnan(ratings[other])
    if both.any():
      equal = ratings[one, both] == ratings[other, both]
      by_two[one, other] = int(equal.sum()), len(equal)
      same.append(equal)
      of.append(clusters[both])
  if not same:
    return None, by_two
  votes = np.concatenate(same).astype(np.float64)
  return statistics.proportion_interval(votes, np.concatenate(of)), by_two


def alpha(
  ratings: np.ndarray,
  level: str,
  *,
  clusters: np.ndarray | None = None,
  seed: int = 0,
) -> Alpha | None:
  """Krippendorff's alpha of ratings [L, U]; None where no two judged the same.

  With o_ck how often the values c and k stand in a unit together, each ordered
  pair of a unit that m labelers judged counting 1 / (m - 1), n_c = Σ_k o_ck
  and n = Σ_c n_c:

      α = 1 - (n - 1) Σ o_ck δ²_ck / Σ n_c n_k δ²_ck

  `level` says what δ² is: 'nominal' 0 or 1, 'interval' (c - k)², 'ordinal'
  (Σ_{g=c..k} n_g - (n_c + n_k) / 2)². The interval is the bootstrap's over
  clusters [U] of units (Hayes and Krippendorff 2007 draw disagreements): 1,000
  draws, which `seed` fixes.

  Raises UserError for an unknown level and ratings of another shape.
  """
  if level not in LEVELS:
    raise errors.unknown("level of alpha", level, LEVELS)
  ratings, clusters = _checked(ratings, clusters)
  said = (~np.isnan(ratings)).sum(axis=0)
  ratings, clusters = ratings[:, said > 1], clusters[said > 1]
  if not ratings.size:
    return None
  values = np.unique(ratings[~np.isnan(ratings)])
  _, cluster = np.unique(clusters, return_inverse=True)
  tables = np.zeros((cluster.max() + 1, len(values), len(values)))
  np.add.at(tables, cluster.ravel(), _coincidences(ratings, values))
  value = float(_alphas(tables.sum(axis=0)[None], values, level)[0])
  count = len(tables)
  draws = np.random.default_rng(seed).multinomial(
    count, np.full(count, 1 / count), _DRAWS
  )
  drawn = _alphas(np.tensordot(draws, tables, 1), values, level)
  drawn = drawn[np.isfinite(drawn)]
  sizes = ratings.shape[1], int(said[said > 1].sum())
  if not math.isfinite(value):
    return Alpha(None, None, None, *sizes)
  low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (-1, 1)
  return Alpha(value, min(float(low), value), max(float(high), value), *sizes)


def _coincidences(ratings: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Each unit's table [U, V, V] of how often two values stand together."""
  counts = (ratings[None] == values[:, None, None]).sum(axis=1).T  # [U, V]
  together = counts[:, :, None] * counts[:, None, :].astype(np.float64)
  at = np.arange(len(values))
  together[:, at, at] -= counts  # nobody is paired with himself
  return together / (counts.sum(axis=1)[:, None, None] - 1)


def _alphas(tables: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
  """Alpha [D] of each table of coincidences [D, V, V]; NaN where undefined."""
  totals = tables.sum(axis=2)
  n = totals.sum(axis=1)
  distance = _distances(totals, values, level)
  observed = (tables * distance).sum(axis=(1, 2))
  pairs = totals[:, :, None] * totals[:, None, :]
  expected = (pairs * distance).sum(axis=(1, 2))
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.where(
      expected > 0, 1 - (n - 1) * observed / expected, np.float64(np.nan)
    )


def _distances(
  totals: np.ndarray, values: np.ndarray, level: str
) -> np.ndarray:
  """δ² [D, V, V] of the values, which stand in ascending order."""
  if level == "nominal":
    return 1 - np.eye(len(values))[None]
  place = np.broadcast_to(values, totals.shape)
  if level == "ordinal":
    # Σ_{g=c..k} n_g - (n_c + n_k) / 2 is the distance of the midpoints of c
    # and k on the line on which each value takes as much room as it is used.
    place = totals.cumsum(axis=1) - totals / 2
  return np.square(place[:, :, None] - place[:, None, :])


def _checked(
  ratings: np.ndarray, clusters: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
  ratings = np.asarray(ratings, np.float64)
  if ratings.ndim != 2:
    raise errors.UserError(
      f"agreement needs ratings [labelers, units], got {ratings.shape}."
    )
  count = ratings.shape[1]
  clusters = np.arange(count) if clusters is None else np.asarray(clusters)
  if clusters.shape != (count,):
    raise errors.UserError(
      f"{count} units need a cluster each, got {clusters.shape}."
    )
  return ratings, clusters
