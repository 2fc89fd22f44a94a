"""When an effect is shown: margins, and what an interval beside them means.

A criterion is written down before anything is measured. It is held against the
95 % interval of an effect over seeds, Student's t (of a ratio: Fieller's).

- shown: the interval lies beyond the margin, on the claim's side.
- reversed: the interval lies on the other side of no effect altogether. No
  margin is asked for there: a claim is contradicted sooner than it is shown.
- not shown: anything between.
- not measured: seeds or metrics are missing.
"""

import dataclasses
import math
from collections.abc import Sequence

SHOWN, NOT_SHOWN, REVERSED = "shown", "not shown", "reversed"
NOT_MEASURED = "not measured"

_Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Unit:
  """How the numbers of an effect are written."""

  words: str  # behind a number
  factor: float = 1.0
  decimals: int = 1
  signed: bool = False

  def number(self, value: float, *, bare: bool = False) -> str:
    """'57.2 %', '+3.1 points'; `bare`: without the words."""
    if not math.isfinite(value):
      return "–" if math.isnan(value) else f"{'-' if value < 0 else ''}∞"
    text = (
      f"{self.factor * value:{'+' if self.signed else ''}.{self.decimals}f}"
    )
    if float(text) == 0:
      text = text.lstrip("+-")
    return text if bare else f"{text}{self.words}"

  def margin(self, value: float) -> str:
    """A margin, without decimals that say nothing."""
    text = f"{self.factor * value:.3g}"
    return (
      f"{text}{self.words.removesuffix('s') if text == '1' else self.words}"
    )


SHARE = Unit(" %", 100)
POINTS = Unit(" points", 100, signed=True)
TIMES = Unit("×", decimals=2)
LIKERT = Unit(" Likert points", decimals=2, signed=True)
BITS = Unit(" bits", decimals=3, signed=True)
NATS = Unit(" nats", decimals=3, signed=True)
SCORE = Unit("", decimals=3, signed=True)


@dataclasses.dataclass(frozen=True)
class Criterion:
  """Where the interval of an effect must lie.

  Attributes:
    shown: the open range that it must lie in.
    contrary: the ranges of which it must lie in one to be the reverse.
    words: of `shown`, with {} for each of its finite ends.
  """

  shown: _Range
  contrary: tuple[_Range, ...]
  words: str

  def outcome(self, low: float, high: float) -> str:
    """SHOWN, REVERSED or NOT_SHOWN for an interval."""
    if _lies_in(low, high, self.shown):
      return SHOWN
    if any(_lies_in(low, high, one) for one in self.contrary):
      return REVERSED
    return NOT_SHOWN

  def points_to(self, value: float) -> str:
    """The same of a number alone: what one run has, and does not show."""
    return self.outcome(value, value)

  def described(self, unit: Unit) -> str:
    """'above 52 %'."""
    ends = [abs(end) for end in self.shown if math.isfinite(end)]
    signs = ["-" if end < 0 else "" for end in self.shown if math.isfinite(end)]
    if len(ends) == 2:
      return self.words.format(unit.margin(ends[1]))
    return self.words.format(f"{signs[0]}{unit.margin(ends[0])}")


def _lies_in(low: float, high: float, within: _Range) -> bool:
  return within[0] < low <= high < within[1]


def above(margin: float, *, nothing: float | None = None) -> Criterion:
  """The effect is more than `margin`; `nothing` is no effect (the margin)."""
  none = margin if nothing is None else nothing
  _check(none <= margin)
  return Criterion((margin, math.inf), ((-math.inf, none),), "above {}")


def below(margin: float, *, nothing: float | None = None) -> Criterion:
  """The effect is less than `margin`; `nothing` is no effect (the margin)."""
  none = margin if nothing is None else nothing
  _check(margin <= none)
  return Criterion((-math.inf, margin), ((none, math.inf),), "below {}")


def within(margin: float, *, contrary: Sequence[str] = ("-", "+")) -> Criterion:
  """No effect: less than `margin` > 0 either way.

  `contrary` are the sides that contradict the claim; altogether beyond the
  margin on another side it is not shown.
  """
  _check(margin > 0)
  sides = {"-": (-math.inf, -margin), "+": (margin, math.inf)}
  ranges = tuple(sides[side] for side in contrary)
  return Criterion((-margin, margin), ranges, "within ± {}")


def _check(is_right: bool) -> None:
  if not is_right:
    raise ValueError("no effect must lie on the other side of the margin")


def together(outcomes: Sequence[tuple[str, bool]]) -> str:
  """The word for a claim from its parts: (outcome, whether it is a guard).

  Shown where every part is: each holds its own 95 %, so the chance that all do
  where the claim is false is no greater. What is not measured leaves it not
  measured, one part that is reversed reverses it; a guard can do neither but
  keep it from being shown.
  """
  every = [outcome for outcome, _ in outcomes]
  if NOT_MEASURED in every:
    return NOT_MEASURED
  if any(x == REVERSED and not is_guard for x, is_guard in outcomes):
    return REVERSED
  return SHOWN if set(every) == {SHOWN} else NOT_SHOWN
