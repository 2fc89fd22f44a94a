"""Holds claims against results of several seeds: effects, intervals, words."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from instruct_jax.figures import claims, criteria, effects
from instruct_jax.maths import ratios, statistics

# {experiment: {seed: its results.json}}
Results = Mapping[str, Mapping[int, effects.Results]]

# What the models of the default size are called, alone and beside other sizes.
_SIZES = ("", "medium_")


@dataclasses.dataclass(frozen=True)
class Measured:
  """One part of a claim.

  Attributes:
    values: the effect by seed; of a ratio, each seed's own, nan where it
      divides by 0.
    interval: over the seeds that decide; None until all are there.
    missing: what is not there, by seed.
  """

  part: claims.Part
  values: Mapping[int, float]
  interval: statistics.Interval | None
  missing: Mapping[int, str]

  @property
  def outcome(self) -> str:
    """The word of `criteria` for it."""
    if self.interval is None:
      return criteria.NOT_MEASURED
    return self.part.criterion.outcome(self.interval.low, self.interval.high)

  @property
  def pointing(self) -> dict[int, str]:
    """What each seed's number alone would be; it shows nothing."""
    return {
      seed: self.part.criterion.points_to(value)
      for seed, value in self.values.items()
    }

  @property
  def lacking(self) -> str:
    """What is missing, in words; "" where nothing is."""
    by_what: dict[str, list[int]] = {}
    for seed, what in self.missing.items():
      by_what.setdefault(what, []).append(seed)
    return "; ".join(
      f"{what} ({'seed' if len(seeds) == 1 else 'seeds'}"
      f" {', '.join(map(str, seeds))})"
      for what, seeds in by_what.items()
    )


@dataclasses.dataclass(frozen=True)
class Verdict:
  """One claim and its word."""

  claim: claims.Claim
  parts: tuple[Measured, ...]

  @property
  def word(self) -> str:
    """Shown, not shown, reversed or not measured."""
    outcomes = [(one.outcome, one.part.is_guard) for one in self.parts]
    return criteria.together(outcomes)


def decide(
  results: Results, chosen: Sequence[claims.Claim] = claims.CLAIMS
) -> list[Verdict]:
  """The verdict on each claim."""
  return [
    Verdict(claim, tuple(measured(part, results) for part in claim.parts))
    for claim in chosen
  ]


def of_seed(part: claims.Part, results: Results, seed: int) -> float | None:
  """A part's effect in one seed, whether it decides or not; None without."""
  try:
    top, bottom = _effect(part, results, seed)
  except effects.Missing:
    return None
  return top / bottom if bottom else math.nan


def measured(part: claims.Part, results: Results) -> Measured:
  """A part's effect in each seed that decides, and over them."""
  pairs: dict[int, tuple[float, float]] = {}
  missing: dict[int, str] = {}
  for seed in part.source.seeds:
    try:
      pairs[seed] = _effect(part, results, seed)
    except effects.Missing as error:
      missing[seed] = str(error)
  values = {
    seed: top / bottom if bottom else math.nan
    for seed, (top, bottom) in pairs.items()
  }
  interval = None if missing else _interval(part, list(pairs.values()))
  return Measured(part, values, interval, missing)


def _interval(
  part: claims.Part, pairs: Sequence[tuple[float, float]]
) -> statistics.Interval:
  tops, bottoms = zip(*pairs)
  if part.by is not None:
    return ratios.ratio_interval(tops, bottoms)
  return statistics.mean_interval(np.asarray(tops), np.arange(len(tops)))


def _effect(
  part: claims.Part, results: Results, seed: int
) -> tuple[float, float]:
  """What one seed has: the effect and 1, or the two whose ratio it is."""
  first = None
  for found in _founds(part.source, results, seed):
    try:
      top = part.effect(found)
      return top, 1.0 if part.by is None else part.by(found)
    except effects.Missing as error:
      first = first or error
  raise first or effects.Missing(f"no results of the {part.source.name} run")


def _founds(
  source: claims.Source, results: Results, seed: int
) -> Iterator[effects.Found]:
  """The results of a seed in which an effect may be found, in order."""
  for names in source.runs:
    there = [
      results[name][seed] for name in names if seed in results.get(name, {})
    ]
    if len(there) == len(names):
      for size in _SIZES:
        yield effects.Found(there, size)
