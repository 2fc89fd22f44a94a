"""What a figure shows, before anything is drawn: panels of series of values."""

import dataclasses
from collections.abc import Mapping, Sequence

from instruct_jax import paper
from instruct_jax.figures import values

BARS, LINES = "bars", "lines"
LINEAR, LOG, ROOT, STEPS = "linear", "log", "root", "steps"

SHARE = (0.0, 100.0)
LIKERT = (1.0, 7.0)

_STUDENTS = "Student's t"

X = str | float
Series = Mapping[X, values.Value]


@dataclasses.dataclass(frozen=True)
class Reported:
  """A number of the paper beside ours."""

  x: X
  series: str
  result: paper.Result
  source: str  # table, figure or section


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes.

  Attributes:
    y: what the values are, with their unit.
    series: {a method's name, or any text: {x: value}}.
    kind: BARS, a group for each x; or LINES.
    scale: of the x axis of lines; STEPS puts its numbers at equal distances.
    limits: of the y axis; None: what the data need.
    bounds: what values can be; intervals are cut to them.
    even: where a dashed line says that neither side is ahead.
    called: what the values are in words, where neither title nor `y` will do.
    unit: behind a value in words.
    ghosts: values, by series and x, that are drawn as outlines around the bars:
      what `series` is a part of.
  """

  y: str
  series: Mapping[str, Series]
  title: str = ""
  called: str = ""
  x: str = ""
  kind: str = BARS
  scale: str = LINEAR
  limits: tuple[float, float] | None = None
  bounds: tuple[float, float] | None = SHARE
  even: float | None = None
  unit: str = " %"
  decimals: int = 1
  reported: tuple[Reported, ...] = ()
  ghosts: Mapping[str, Series] = dataclasses.field(default_factory=dict)
  labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def ends(self, value: values.Value) -> tuple[float, float]:
    """A value's interval, cut to what values can be."""
    if self.bounds is None:
      return value.low, value.high
    least, most = self.bounds
    return (
      min(max(value.low, least), value.value),
      max(min(value.high, most), value.value),
    )

  @property
  def xs(self) -> list[X]:
    """All x, in their order; numbers rise."""
    found = [*dict.fromkeys(x for one in self.series.values() for x in one)]
    found += [one.x for one in self.reported if one.x not in found]
    if all(isinstance(x, int | float) for x in found):
      return sorted(found)
    return found


@dataclasses.dataclass(frozen=True)
class Plot:
  """A figure.

  Attributes:
    about: whose numbers these are, how many seeds and prompts, and what the
      intervals are over.
    notes: what a reader must know to read it rightly, a sentence each.
    columns: panels beside each other.
  """

  title: str
  panels: tuple[Panel, ...]
  about: str = ""
  notes: tuple[str, ...] = ()
  columns: int = 1
  height: float = 2.7  # inches of a panel


def about(panels: Sequence[Panel], whose: str) -> str:
  """A sentence on whose numbers these are, on seeds, n and intervals."""
  said = of_values(every(panels), whose)
  if any(panel.kind == BARS for panel in panels):
    return said.replace(_STUDENTS, f"{_STUDENTS}; rings: each seed")
  return said


def of_values(values_: Sequence[values.Value], whose: str) -> str:
  """The same of bare values."""
  seeds = sorted({seed for one in values_ for seed in one.each})
  sizes = sorted({one.n for one in values_ if one.n})
  kinds = {one.over for one in values_}
  said = [f"{whose}; seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)}"]
  if sizes:
    least, most = sizes[0], sizes[-1]
    many = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    said.append(f"n = {many} a seed and value")
  else:
    said.append("n not in these files")
  if values.SEEDS in kinds:
    said.append(f"95 % intervals over seeds ({_STUDENTS})")
  for kind in sorted(kinds - {values.SEEDS, values.NOTHING}):
    some = ", of values with one seed" if len(kinds) > 1 else ""
    said.append(f"95 % intervals over {kind}{some}")
  if kinds == {values.NOTHING}:
    said.append("no intervals: one seed, and its files have none")
  elif values.NOTHING in kinds:
    said.append("no interval where one seed's file has none")
  return "; ".join(said) + "."


def every(panels: Sequence[Panel]) -> list[values.Value]:
  """All values of panels."""
  return [
    value
    for panel in panels
    for of in (panel.series, panel.ghosts)
    for one in of.values()
    for value in one.values()
  ]


def _listed(seeds: Sequence[int]) -> str:
  if len(seeds) > 2 and seeds == [*range(seeds[0], seeds[-1] + 1)]:
    return f"{seeds[0]} to {seeds[-1]}"
  return ", ".join(map(str, seeds))
