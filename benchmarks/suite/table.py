"""The table of the README, from the results file."""

import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.suite import rows

COLUMNS = (
  "workload",
  "peer",
  "ours by theirs [spread]",
  "at least",
  "seconds, ours / theirs",
  "CPU seconds",
  "share of the matmul peak",
  "peak GB",
)
START, STOP = "<!-- benchmarks.run: begin -->", "<!-- benchmarks.run: end -->"
Result = dict[str, Any]


def lines(results: dict[str, Result]) -> list[list[str]]:
  """A line a row that was measured, in the order of the rows."""
  known = [row.name for row in (*rows.ROWS, *rows.SMOKE)]
  names = [*known, *(name for name in results if name not in known)]
  return [line(results[name]) for name in names if name in results]


def line(result: Result) -> list[str]:
  """The cells of one row."""
  sides = list(result["sides"].values())
  peer = result.get("peer", "–")
  chosen = sides[1].get("chosen") if len(sides) > 1 else None
  return [
    result["title"],
    f"{peer} ({chosen})" if chosen else peer,
    _ratio(result),
    _goal(result),
    _cells(sides, "median_s", "{:.3g}"),
    _cells(sides, "cpu_s", "{:.3g}"),
    _cells(sides, "share_of_peak", "{:.0%}"),
    _cells(sides, "peak_GB", "{:.2f}"),
  ]


def _ratio(result):
  if "ratio" in result:
    ratio = result["ratio"]
    numbers = [_number(ratio[key]) for key in ("median", "low", "high")]
    return "{} [{}, {}]".format(*numbers)
  return "; ".join(result.get("problems", ())) or "–"


def _number(value):
  return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _goal(result):
  goal = result["goal"]
  if not goal:
    return "–"
  sign = "" if result["measure"] == "faster" else "≤ "
  return f"{sign}{goal:g}"


def _cells(sides, key, form):
  cells = [form.format(x[key]) if key in x else "–" for x in sides]
  return " / ".join(cells) or "–"


def markdown(table: Sequence[Sequence[str]]) -> str:
  """The table as the README has it."""
  head = [list(COLUMNS), ["---"] * len(COLUMNS)]
  made = [[cell.replace("|", "\\|") for cell in row] for row in (*head, *table)]
  return "\n".join("| " + " | ".join(row) + " |" for row in made)


def loads(results: dict[str, Result]) -> str:
  """How loaded the machine was beside the rows' own work, in words."""
  before = [result["load"][0] for result in results.values()]
  if not before:
    return ""
  low, high = min(before), max(before)
  return f"load average before a row: {low:.1f} to {high:.1f}"


def refresh(readme: pathlib.Path, results: dict[str, Result]) -> bool:
  """Puts the table between the two marks; False where they are not."""
  text = readme.read_text()
  before, start, rest = text.partition(START)
  _, stop, after = rest.partition(STOP)
  if not start or not stop:
    return False
  middle = f"\n{markdown(lines(results))}\n\n({loads(results)})\n"
  readme.write_text(f"{before}{START}{middle}{STOP}{after}")
  return True
