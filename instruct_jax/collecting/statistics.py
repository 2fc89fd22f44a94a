"""How labelers agree with each other and with gold, and what sways them.

Everything is counted in pairs of responses, as section 3.4 does: a ranking of K
says C(K, 2) of them. Arrays have the axis U, a pair each of what one labeler
said of one task; intervals are clustered by task. Pairs that a labeler ties
count for Krippendorff's alpha alone.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from instruct_jax.maths import agreement as agreement_lib
from instruct_jax.maths import statistics

# Tasks that agreement is counted on; of more, so many are drawn. All pairs of
# 40 labelers on these take a second.
MOST_TASKS = 1000


@dataclasses.dataclass(frozen=True)
class Judged:
  """What one labeler said of the K responses to one task.

  All are in the task's order of responses, each of length K.
  """

  task: int
  labeler: str
  ranks: tuple[int, ...]
  lengths: tuple[int, ...]  # characters
  places: tuple[int, ...]  # where each was shown, 0 the first
  gold: tuple[int, ...] = ()  # the ranks that are right, if anybody says


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs of responses [U]; signs are 1 for the first of a pair, -1 for the
  second, 0 for neither."""

  labelers: tuple[str, ...]
  labeler: np.ndarray  # [U] int64, a place in `labelers`; ascending
  task: np.ndarray  # [U] int64
  pair: np.ndarray  # [U] int64, which of its task
  better: np.ndarray  # [U] int8
  longer: np.ndarray  # [U] int8
  earlier: np.ndarray  # [U] int8, on the page
  gold: np.ndarray  # [U] int8, better by gold

  def only(self, chosen: np.ndarray) -> "Pairs":
    """Those of them for which `chosen` [U] is True."""
    columns = {
      field.name: getattr(self, field.name)[chosen]
      for field in dataclasses.fields(self)
      if field.name != "labelers"
    }
    return dataclasses.replace(self, **columns)


Shares = dict[str, statistics.Interval]


def pairs_of(judged: Iterable[Judged]) -> Pairs:
  """All pairs of what labelers said, in the order of labelers and tasks."""
  judged = sorted(judged, key=lambda one: (one.labeler, one.task))
  labelers = tuple(dict.fromkeys(one.labeler for one in judged))
  place = {name: n for n, name in enumerate(labelers)}
  by_count = collections.defaultdict(list)
  for one in judged:
    by_count[len(one.ranks)].append(one)
  parts = [_of_count(some, count, place) for count, some in by_count.items()]
  if not parts:
    nothing = np.zeros(0, np.int64)
    return Pairs((), *(nothing,) * 7)
  columns = [np.concatenate(column) for column in zip(*parts)]
  order = np.lexsort(columns[2::-1])
  return Pairs(labelers, *(column[order] for column in columns))


def _of_count(
  judged: Sequence[Judged], count: int, place: Mapping[str, int]
) -> tuple[np.ndarray, ...]:
  """The columns of `Pairs` of rankings of the same K."""
  first, second = np.triu_indices(count, 1)

  def signs(values: np.ndarray) -> np.ndarray:
    """1 where the first of two has the smaller value, [U] int8."""
    found = np.sign(values[:, second] - values[:, first])
    return found.astype(np.int8).ravel()

  def column(values: Iterable[int]) -> np.ndarray:
    return np.repeat(np.fromiter(values, np.int64), len(first))

  tied = (0,) * count
  return (
    column(place[one.labeler] for one in judged),
    column(one.task for one in judged),
    np.tile(first * count + second, len(judged)),
    signs(np.asarray([one.ranks for one in judged])),
    -signs(np.asarray([one.lengths for one in judged])),
    signs(np.asarray([one.places for one in judged])),
    signs(np.asarray([one.gold or tied for one in judged])),
  )


# Agreement


@dataclasses.dataclass(frozen=True)
class OfTwo:
  """How often two labelers order a pair alike."""

  labelers: tuple[str, str]
  share: statistics.Interval


@dataclasses.dataclass(frozen=True)
class Agreement:
  """On tasks that several labelers did; None where there are none."""

  tasks: int  # that several did
  of_tasks: int  # that were counted: all of them, or a draw
  pairwise: statistics.Interval | None
  alpha: agreement_lib.Alpha | None
  by_two: tuple[OfTwo, ...]


def agreement(pairs: Pairs, *, most_tasks: int = MOST_TASKS) -> Agreement:
  """Pairwise agreement and nominal alpha, of all labelers and of each two."""
  shared = _tasks_of_several(pairs)
  counted = shared
  if len(shared) > most_tasks:
    drawn = np.random.default_rng(0).choice(
      len(shared), most_tasks, replace=False
    )
    counted = shared[np.sort(drawn)]
  chosen = pairs.only(np.isin(pairs.task, counted))
  if not len(chosen.task):
    return Agreement(0, 0, None, None, ())
  said, clusters = _table(chosen)
  ordered = np.where(said == 0, np.nan, said)
  pairwise, _ = agreement_lib.pairwise(ordered, clusters)
  # Each pair in both orders, so that which is the first makes no difference.
  alpha = agreement_lib.alpha(
    np.hstack([said, -said]), "nominal", clusters=np.tile(clusters, 2)
  )
  by_two = tuple(_by_two(pairs.labelers, ordered, clusters))
  return Agreement(len(shared), len(counted), pairwise, alpha, by_two)


def _tasks_of_several(pairs: Pairs) -> np.ndarray:
  width = len(pairs.labelers)
  both = np.unique(pairs.task * width + pairs.labeler)
  tasks, counts = np.unique(both // width, return_counts=True)
  return tasks[counts > 1]


def _units(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
  """(the number [U] of the responses that each is about, their tasks [V])."""
  width = int(pairs.pair.max(initial=0)) + 1
  keys = pairs.task * width + pairs.pair
  units, inverse = np.unique(keys, return_inverse=True)
  return inverse.ravel(), units // width


def _table(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
  """(what labelers say [L, V] of each two responses, their tasks [V])."""
  unit, tasks = _units(pairs)
  said = np.full((len(pairs.labelers), len(tasks)), np.nan)
  said[pairs.labeler, unit] = pairs.better
  return said, tasks


def _by_two(
  labelers: Sequence[str], ordered: np.ndarray, clusters: np.ndarray
) -> Iterable[OfTwo]:
  for one, other in itertools.combinations(range(len(labelers)), 2):
    both = ~np.isnan(ordered[one]) & ~np.isnan(ordered[other])
    if both.any():
      alike = ordered[one, both] == ordered[other, both]
      share = statistics.proportion_interval(
        alike.astype(np.float64), clusters[both]
      )
      yield OfTwo((labelers[one], labelers[other]), share)


# Of each labeler


def against_others(pairs: Pairs) -> Shares:
  """How often each orders a pair as the mean of all others who did the task."""
  unit, tasks = _units(pairs)
  total = np.bincount(unit, pairs.better, len(tasks))
  others = np.sign(total[unit] - pairs.better)
  said = (pairs.better != 0) & (others != 0)
  return _by_labeler(pairs, pairs.better == others, said)


def against_gold(pairs: Pairs) -> Shares:
  """How often each orders a pair as gold does."""
  said = (pairs.better != 0) & (pairs.gold != 0)
  return _by_labeler(pairs, pairs.better == pairs.gold, said)


def longer_preferred(pairs: Pairs) -> tuple[Shares, dict[str, float]]:
  """How often each prefers the longer of two responses; how often others do.

  The others' share is of all that they judged, on these tasks or not.
  """
  said = (pairs.better != 0) & (pairs.longer != 0)
  own = _by_labeler(pairs, pairs.better == pairs.longer, said)
  count = sum(share.n for share in own.values())
  longer = sum(share.value * share.n for share in own.values())
  others = {
    name: (longer - share.value * share.n) / (count - share.n)
    for name, share in own.items()
    if count > share.n
  }
  return own, others


def earlier_preferred(pairs: Pairs) -> Shares:
  """How often each prefers what stood first of two on the page.

  Half is no bias, since the order on the page is drawn for each labeler.
  """
  said = (pairs.better != 0) & (pairs.earlier != 0)
  return _by_labeler(pairs, pairs.better == pairs.earlier, said)


def _by_labeler(pairs: Pairs, values: np.ndarray, chosen: np.ndarray) -> Shares:
  """The share of `values` [U] that is True, of each labeler's `chosen` [U]."""
  found = {}
  ends = np.searchsorted(pairs.labeler, np.arange(len(pairs.labelers) + 1))
  for name, start, stop in zip(pairs.labelers, ends, ends[1:]):
    mine = chosen[start:stop]
    if mine.any():
      found[name] = statistics.proportion_interval(
        values[start:stop][mine].astype(np.float64),
        pairs.task[start:stop][mine],
      )
  return found


@dataclasses.dataclass(frozen=True)
class Spread:
  """How a labeler uses the scale from 1 to 7."""

  mean: float
  deviation: float  # the standard deviation of single ratings
  counts: tuple[int, ...]  # of 1, 2, ... 7


def spread(ratings: Iterable[int]) -> Spread | None:
  """Of whole ratings from 1 to 7; None of none."""
  values = np.fromiter(ratings, np.int64)
  if not len(values):
    return None
  counts = np.bincount(values, minlength=8)[1:8]
  return Spread(
    float(values.mean()), float(values.std()), tuple(counts.tolist())
  )


def median(seconds: Iterable[float]) -> float | None:
  """The median; None of nothing."""
  values = np.fromiter(seconds, np.float64)
  return float(np.median(values)) if len(values) else None
