"""The ratio of two means that were measured on the same units."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from instruct_jax.base import errors
from instruct_jax.maths import statistics


def ratio_interval(
  above: Sequence[float], below: Sequence[float]
) -> statistics.Interval:
  """Returns mean(above) / mean(below) of pairs [N], with its 95 % interval.

  Fieller's (1954): all ρ for which the mean of above - ρ below is not told from
  0 by Student's t. So the interval lies beyond a number c where the mean of
  above - c below has the sign that says so, and no single ratio by a small
  `below` decides. Where mean(below) itself is not told from 0 the interval is
  infinite; value is nan where it is 0.

  Raises UserError for fewer than two pairs, lengths that differ, and numbers
  that are not finite.
  """
  pairs = _pairs(above, below)
  n = len(pairs)
  top, bottom = pairs.mean(axis=0)
  value = float(top / bottom) if bottom else math.nan
  t = float(special.stdtrit(n - 1, 0.975))
  spread = np.cov(pairs.T, ddof=1) * t * t / n
  v_top, both, v_bottom = spread[0, 0], spread[0, 1], spread[1, 1]
  # (top - ρ bottom)² <= v_top - 2 ρ both + ρ² v_bottom
  a = bottom**2 - v_bottom
  b = top * bottom - both
  c = top**2 - v_top
  if a <= 0:
    return statistics.Interval(value, -math.inf, math.inf, n, n)
  root = math.sqrt(max(b * b - a * c, 0.0))
  low, high = float((b - root) / a), float((b + root) / a)
  return statistics.Interval(value, min(low, value), max(high, value), n, n)


def _pairs(above: Sequence[float], below: Sequence[float]) -> np.ndarray:
  """[N, 2]; UserError for what has no ratio."""
  if len(above) != len(below) or len(above) < 2:
    raise errors.UserError(
      "a ratio of means needs two pairs or more:"
      f" got {len(above)} and {len(below)} numbers"
    )
  pairs = np.stack([above, below], axis=1).astype(np.float64)
  if not np.isfinite(pairs).all():
    raise errors.UserError("a ratio of means needs finite numbers")
  return pairs
