"""The order in which the parts of a mixture take turns.

Fixed by the weights alone: after any number of draws, every part has been
drawn within 1 of its share.
"""

import dataclasses
import fractions
import math
import os
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.read import specs

_LONGEST = 100_000  # draws until the order repeats


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A periodic order of draws; any stretch of it is found in one step."""

  order: np.ndarray  # [D] int32, the part of each draw of a period
  before: np.ndarray  # [D + 1, parts] int64, a part's draws before that draw

  def draws(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(part, how often it was drawn before), [count] each, from a draw on."""
    periods, place = np.divmod(
      np.arange(start, start + count, dtype=np.int64), len(self.order)
    )
    part = self.order[place]
    return part, periods * self.before[-1, part] + self.before[place, part]


def weights_of(
  data: ml_collections.ConfigDict,
  kind: str,
  folders: Mapping[str, os.PathLike | str],
) -> tuple[float, ...]:
  """The weights that `data` gives to the parts of a kind; () for none."""
  if kind in folders or not data[kind]:
    return ()
  parts = specs.parts(data[kind])
  weights = tuple(x.weight for x in parts if x.weight is not None)
  return weights if len(weights) == len(parts) else ()


def schedule(weights: Sequence[float]) -> Schedule:
  """The order of parts with these weights.

  Chairman assignment (Tijdeman 1980): of k parts that are due, the one whose
  deadline is nearest goes first, and no part is ever more than 1 - 1/(2k - 2)
  draws from its share. Weights are taken as the decimals they are written as,
  so the order repeats, and after a period every share is met exactly.

  Raises:
    UserError: a weight is not above 0, or the period is too long.
  """
  shares = _whole_shares(weights)
  period, k = sum(shares), len(shares)
  if k == 1:
    return Schedule(np.zeros(1, np.int32), np.asarray([[0], [1]]))
  scale = 2 * k - 2
  counts, order = [0] * k, np.empty(period, np.int32)
  for n in range(1, period + 1):
    best: tuple[int, int] | None = None
    for i, share in enumerate(shares):
      due = scale * (n * share - period * counts[i])
      if due >= period:
        deadline = (scale * period - period - due) // share
        if best is None or deadline < best[0]:
          best = deadline, i
    assert best is not None  # some part is always due
    order[n - 1] = best[1]
    counts[best[1]] += 1
  drawn = order[:, None] == np.arange(k)
  before = np.concatenate(
    [np.zeros((1, k), np.int64), np.cumsum(drawn, axis=0)]
  )
  return Schedule(order, before)


def _whole_shares(weights: Sequence[float]) -> list[int]:
  """The smallest whole numbers in the proportion of the weights."""
  if not all(0 < weight < math.inf for weight in weights):
    raise errors.UserError(
      f"the weights of a mixture must be above 0, not {list(weights)}; leave a "
      "part out instead"
    )
  exact = [fractions.Fraction(repr(float(weight))) for weight in weights]
  whole = math.lcm(*(x.denominator for x in exact))
  shares = [int(x * whole) for x in exact]
  divisor = math.gcd(*shares)
  shares = [share // divisor for share in shares]
  if sum(shares) > _LONGEST:
    raise errors.UserError(
      f"the weights of a mixture, {list(weights)}, only come out even after "
      f"{sum(shares):,} rows, more than {_LONGEST:,}; write them with fewer "
      "digits"
    )
  return shares


class _Run:
  """Rows that follow each other, which need no memory."""

  def __init__(self, start: int, stop: int):
    self._start, self._stop = start, stop

  def __len__(self) -> int:
    return self._stop - self._start

  def __getitem__(self, places: np.ndarray) -> np.ndarray:
    return self._start + places


def _rows_of(part: np.ndarray | None, number: int) -> np.ndarray | _Run:
  """The rows of one part, in their order; most often they stand together."""
  is_of = np.atleast_1d(part == number)
  first, count = int(np.argmax(is_of)), int(np.count_nonzero(is_of))
  if is_of[first : first + count].all():
    return _Run(first, first + count)
  return np.flatnonzero(is_of)


class Mixture:
  """The rows of each part, and when it is a part's turn.

  Args:
    weights: of the parts.
    part: the part [N] that each row is of.
  """

  def __init__(self, weights: Sequence[float], part: np.ndarray | None):
    self.weights, self.schedule = tuple(weights), schedule(weights)
    self.rows_of = [_rows_of(part, n) for n in range(len(weights))]

  def state(self) -> dict[str, list]:
    """What tells this mixture from another (JSON)."""
    counts = [len(rows) for rows in self.rows_of]
    return {"weights": list(self.weights), "rows": counts}
