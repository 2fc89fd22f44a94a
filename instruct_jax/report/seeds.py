"""Several seeds of one experiment together: their rows beside this run's.

Each seed has models, samples and labels of its own, so how much the seeds
differ says what an interval over prompts of one run cannot.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from instruct_jax.report import exhibits, wording


@dataclasses.dataclass(frozen=True)
class Together:
  """The seeds of a report, its own among them, and what was left out."""

  tables: Mapping[int, Mapping[str, exhibits.Rows]]  # by seed, then by name
  own: int = 0
  left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def numbers(self) -> list[int]:
    """The seeds in order."""
    return sorted(self.tables)


def joined(
  tables: Mapping[str, exhibits.Rows], together: Together
) -> dict[str, list[dict[str, Any]]]:
  """The tables with every seed's value of a row as its SEEDS, own first.

  Rows belong together that have the same labels; what a seed lacks, or has
  without a finite value, is not there.
  """
  own = {together.own: tables}
  others = {s: t for s, t in together.tables.items() if s != together.own}
  every = [_by_label(t) for t in (own | others).values()]
  return {
    name: [
      dict(row)
      | {exhibits.SEEDS: tuple(v[name, _label(row)] for v in every
                        if (name, _label(row)) in v)}
      for row in rows
    ]
    for name, rows in tables.items()
  }  # fmt: skip


def _by_label(
  tables: Mapping[str, exhibits.Rows],
) -> dict[tuple[str, tuple], float]:
  return {
    (name, _label(row)): row["value"]
    for name, rows in tables.items()
    for row in rows
    if exhibits.is_finite(row.get("value"))
  }


def _label(row: Mapping[str, Any]) -> tuple:
  return tuple(sorted((k, v) for k, v in row.items() if isinstance(v, str)))


def sentence(together: Together) -> str:
  """What the page says of its seeds; "" where it has one and knows no other."""
  parts = []
  numbers = together.numbers
  if len(numbers) > 1:
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    parts.append(
      f"Seeds {listed} of this experiment are finished, with the same settings,"
      f" data and evaluation; the page is on seed {together.own}. Rings in the"
      " charts are the other seeds, and the small line of a cell is the mean of"
      " all seeds, with the lowest and the highest."
    )
  if together.left_out:
    reasons = "; ".join(f"{k}: {v}" for k, v in together.left_out.items())
    count = len(together.left_out)
    what = "run of another seed is" if count == 1 else "runs of other seeds are"
    parts.append(f"{count} {what} left out ({reasons}).")
  return " ".join(parts)


def table(rows: exhibits.Rows, together: Together) -> exhibits.Table | None:
  """Seed by seed, how often labelers prefer a subject to the baseline."""
  numbers = together.numbers
  baseline = exhibits.baseline_of(rows)
  rows = [row for row in rows if row.get("baseline") == baseline]
  if len(numbers) < 2 or not rows:
    return None
  lines = []
  for row in rows:
    of_seeds = [_same(row, together.tables[n]) for n in numbers]
    cells = [
      exhibits.cell(r, percent=True) if r else exhibits.Cell("–")
      for r in of_seeds
    ]
    both = wording.subject(row["subject"]), wording.words(row["labelers"])
    mean = exhibits.cell(row, percent=True).seeds.removeprefix("seeds: ")
    there = [r for r in of_seeds if r]
    sizes = exhibits.Cell(mean), exhibits.Cell(exhibits.size_of(there))
    lines.append((", ".join(both), *cells, *sizes))
  seeds = [f"seed {n}" for n in numbers]
  heads = ("", *seeds, "mean (lowest to highest)", exhibits.SIZES)
  title = f"Preferred to {wording.subject(baseline or '')}, by seed"
  return exhibits.Table(heads, tuple(lines), title=title)


def _same(
  row: Mapping[str, Any], tables: Mapping[str, exhibits.Rows]
) -> Mapping[str, Any] | None:
  """The row of another seed's preferences that has the labels of `row`."""
  there = tables.get("preference", ())
  return next((r for r in there if _label(r) == _label(row)), None)
