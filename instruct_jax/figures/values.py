"""A number as it is drawn: a mean with its 95 % interval, and over what.

Of several seeds the interval is Student's over the seeds' own values, each of
which counts once: models, samples and labels of a seed are its own. Of one seed
it is the one over prompts that the evaluation found, where it found one.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from instruct_jax.maths import statistics

SEEDS, PROMPTS, NOTHING = "seeds", "prompts", "nothing"


@dataclasses.dataclass(frozen=True)
class Found:
  """What one seed found; nan and 0 where its file does not say."""

  value: float
  low: float = math.nan
  high: float = math.nan
  n: int = 0  # prompts, items or pairs


@dataclasses.dataclass(frozen=True)
class Value:
  """A mean over seeds; low = high = value where no interval is known.

  Attributes:
    each: the seeds' own values.
    n: prompts of the seed that has the fewest; 0 where a seed does not say.
  """

  value: float
  low: float
  high: float
  each: Mapping[int, float]
  n: int = 0
  over: str = NOTHING  # of the three above: what the interval is over

  def times(self, factor: float) -> "Value":
    """In another unit (100: shares in per cent)."""
    ends = sorted((factor * self.low, factor * self.high))
    each = {seed: factor * x for seed, x in self.each.items()}
    return dataclasses.replace(
      self, value=factor * self.value, low=ends[0], high=ends[1], each=each
    )

  def plus(self, constant: float) -> "Value":
    """Moved by a constant."""
    each = {seed: x + constant for seed, x in self.each.items()}
    return dataclasses.replace(
      self,
      value=self.value + constant,
      low=self.low + constant,
      high=self.high + constant,
      each=each,
    )

  def excludes(self, value: float) -> bool:
    """True if there is an interval and `value` lies outside of it."""
    return self.over != NOTHING and not self.low <= value <= self.high


def over_seeds(found: Mapping[int, Found]) -> Value:
  """The mean over seeds {seed: what it found}, at least one."""
  each = {seed: found[seed].value for seed in sorted(found)}
  sizes = [one.n for one in found.values()]
  n = min(sizes)
  if len(each) == 1:
    (one,) = found.values()
    if math.isfinite(one.low) and math.isfinite(one.high):
      return Value(one.value, one.low, one.high, each, n, PROMPTS)
    return Value(one.value, one.value, one.value, each, n)
  values = np.asarray([*each.values()], np.float64)
  interval = statistics.mean_interval(values, np.arange(len(values)))
  return Value(interval.value, interval.low, interval.high, each, n, SEEDS)


def difference(one: Value, other: Value) -> Value | None:
  """One less the other, paired by seed; None with no two common seeds."""
  seeds = [seed for seed in one.each if seed in other.each]
  if len(seeds) < 2:
    return None
  return over_seeds({s: Found(one.each[s] - other.each[s]) for s in seeds})
