"""Tables of the evaluations, arranged for people.

An evaluation's rows hold labels (strings), "value" with "low" and "high", its
95 % interval, "n" and "clusters". `pivot` lays them out with a column a
subject; what it cannot lay out so is shown as it is. Nothing is computed here.
Where several seeds are shown together, a row's SEEDS are the values of all of
them (`report.seeds`), which stand under its own.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from instruct_jax.base import terminal
from instruct_jax.report import captions, wording

Rows = Sequence[Mapping[str, Any]]

SIZES = "n (independent)"  # values, and how many clusters they come in

SEEDS = "__seeds__"  # a row's values in all seeds, its own first
ZERO_SHOT = ("shots", 0)  # which a table without examples need not say
_NUMBERS = ("value", "low", "high", "n", "clusters", SEEDS)
_COLUMNS = ("subject", "model", "labelers")  # the first that all rows have
_MOST_COLUMNS = 8  # of subjects; more become lines, if labels are fewer
_COUNTS = ("n", "clusters", "pairs", "prompts", "tokens")


@dataclasses.dataclass(frozen=True)
class Cell:
  """A figure and, in smaller type, its interval."""

  text: str
  note: str = ""
  seeds: str = ""  # the mean of several seeds, and from where to where they go

  def __str__(self) -> str:
    return f"{self.text} {self.note}".rstrip()


@dataclasses.dataclass(frozen=True)
class Table:
  """Ready to be shown; the first column holds labels."""

  headers: tuple[str, ...]
  rows: tuple[tuple[str | Cell, ...], ...]
  title: str = ""
  caption: str = ""


def cell(
  row: Mapping[str, Any],
  *,
  percent: bool = False,
  style: terminal.Style | None = None,
  key: str = "value",
) -> Cell:
  """A row's value and interval, and what the seeds have together.

  `style` is that of the cells beside it; without one, the row's own.
  """
  style = style or terminal.style_of([row.get(key)], percent=percent)
  interval = style.interval(row.get("low"), row.get("high"))
  return Cell(style.number(row.get(key)), interval, _seeds(row, style))


def arrange(name: str, rows: Rows) -> Table:
  """The table `name` of an evaluation, with its title and caption."""
  unlisted = captions.Exhibit(wording.words(name).capitalize())
  exhibit = captions.EXHIBITS.get(name, unlisted)
  if name == "reward":
    rows = [_with_measure(row) for row in rows]
  if name == "calibration":
    table = plain([_with_names(row) for row in rows], exhibit)
  else:
    keys = [k for k in _COLUMNS if all({"value", k} <= r.keys() for r in rows)]
    table = pivot(rows, keys[0], exhibit) if keys else plain(rows, exhibit)
  return dataclasses.replace(
    table, title=exhibit.title, caption=exhibit.caption
  )


def pivot(rows: Rows, columns: str, exhibit: captions.Exhibit) -> Table:
  """A column for each value of the label `columns`; other labels in front.

  Numbers of a row besides its value get a line of their own. The last column
  says how much stands behind a line.
  """
  heads = list(dict.fromkeys(row[columns] for row in rows))
  if columns == "model":  # a config's keys come in no order of their own
    order = {name: n for n, name in enumerate(wording.SUBJECTS)}
    heads.sort(key=lambda name: order.get(name, len(order)))
  by_label: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    by_label.setdefault(label_of(row, columns), []).append(row)
  lines = []
  for label, of_label in by_label.items():
    percent = exhibit.percent != any(part in label for part in exhibit.but)
    size = Cell(size_of(of_label))
    lines.append((label, *_across(of_label, columns, heads, percent), size))
    extras = dict.fromkeys(
      key
      for row in of_label
      for key, value in row.items()
      if key not in _NUMBERS and is_number(value) and (key, value) != ZERO_SHOT
    )
    for key in extras:
      named = f"{label}, {wording.words(key)}".removeprefix(", ")
      there = [{columns: r[columns], "value": r.get(key)} for r in of_label]
      cells = _across(there, columns, heads, False)
      lines.append((named, *cells, Cell("")))
  names = tuple(map(wording.words, heads))
  if len(heads) > _MOST_COLUMNS and len(lines) < len(heads):
    return _turned(names, lines)
  return Table(("", *names, SIZES), tuple(lines))


def _turned(
  names: Sequence[str], lines: Sequence[tuple[str | Cell, ...]]
) -> Table:
  """A line for each of the many names, a column for each of the few labels."""
  rows = [
    (name, *(line[1 + n] for line in lines)) for n, name in enumerate(names)
  ]
  rows.append((SIZES, *(line[-1] for line in lines)))
  labels = [str(line[0]) for line in lines]
  return Table(("", *labels), tuple(rows))


def _across(
  rows: Rows, columns: str, heads: Sequence[Any], percent: bool
) -> list[Cell]:
  """The cells of a line, with as many decimals each."""
  values = [row.get("value") for row in rows]
  style = terminal.style_of(values, percent=percent)
  cells = {row[columns]: cell(row, style=style) for row in rows}
  return [cells.get(head, Cell("")) for head in heads]


def plain(rows: Rows, exhibit: captions.Exhibit) -> Table:
  """The rows as they are; an interval joins the first number before it.

  That of KEY, where it is KEY_low and KEY_high, joins KEY.
  """
  unshown = ("metric", SEEDS)
  keys = list(dict.fromkeys(k for row in rows for k in row if k not in unshown))
  hidden = ("low", "high") if {"low", "high"} <= set(keys) else ()
  own = {
    key: (f"{key}_low", f"{key}_high")
    for key in keys
    if {f"{key}_low", f"{key}_high"} <= set(keys)
  }
  shown_with = {end for ends in own.values() for end in ends}
  keys = [key for key in keys if key not in hidden and key not in shown_with]
  styles = {
    key: terminal.style_of(
      [row.get(key) for row in rows if is_number(row.get(key))],
      percent=exhibit.percent and key not in _COUNTS,
    )
    for key in keys
  }
  lines = []
  for row in rows:
    line, interval = [], hidden
    for key in keys:
      value = row.get(key)
      if not is_number(value):
        line.append(wording.words("" if value is None else value))
      elif key in own:
        ends = dict(zip(("low", "high"), map(row.get, own[key])))
        line.append(cell({**row, **ends}, style=styles[key], key=key))
      elif interval:
        line.append(cell(row, style=styles[key], key=key))
        interval = ()
      else:
        line.append(Cell(styles[key].number(value)))
    lines.append(tuple(line))
  return Table(tuple(map(wording.words, keys)), tuple(lines))


def against_each_other(rows: Rows, group: str) -> Table:
  """How often labelers of a group prefer the row's subject to the column's."""
  rows = [row for row in rows if row.get("labelers") == group]
  cells = {
    (row["subject"], row["baseline"]): cell(row, percent=True) for row in rows
  }
  names = list(dict.fromkeys([name for pair in cells for name in pair]))
  lines = tuple(
    (
      wording.subject(a),
      *(cells.get((a, b), Cell("–")) for b in names),
      Cell(size_of([row for row in rows if row["subject"] == a])),
    )
    for a in names
  )
  heads = tuple(f"over {wording.subject(b)}" for b in names)
  title = wording.words(group).capitalize()
  return Table(("", *heads, SIZES), lines, title)


def baseline_of(rows: Rows) -> str | None:
  """The subject that the others are held against: SFT, if it is there.

  Of several sizes that of the largest.
  """
  names = list(dict.fromkeys(r["baseline"] for r in rows if "baseline" in r))
  sizes = ("", *wording.SIZES)
  sft = [name for name in names if wording.parts(name)[1] == "sft"]
  sft = [name for name in sft if wording.parts(name)[0] in sizes]
  if "sft" in sft or not sft:
    return "sft" if sft else (names[-1] if names else None)
  return max(sft, key=lambda name: sizes.index(wording.parts(name)[0]))


def reference_of(rows: Rows) -> str:
  """What KL was measured from, in words; of several sizes what all are."""
  names = {r["reference"] for r in rows if "reference" in r}
  methods = {wording.parts(name)[1] for name in names} if names else {"sft"}
  if len(names) == 1:
    return wording.subject(names.pop())
  return wording.subject(methods.pop()) if len(methods) == 1 else "references"


def _with_measure(row: Mapping[str, Any]) -> dict[str, Any]:
  """The reward table's log losses differ from accuracies by metric only."""
  is_loss = "log_loss" in str(row.get("metric", ""))
  return {**row, "measure": "log loss" if is_loss else "accuracy"}


def _with_names(row: Mapping[str, Any]) -> dict[str, Any]:
  """What the numbers of a bin of the calibration are."""
  observed = {"observed": row.get("value")}
  labels = {k: v for k, v in row.items() if isinstance(v, str)}
  return labels | observed | {k: v for k, v in row.items() if k != "value"}


def label_of(row: Mapping[str, Any], columns: str) -> str:
  """A row's labels in words, but for that of its column."""
  parts = []
  for key, value in row.items():
    if key in (columns, "metric") or not isinstance(value, str):
      continue
    text = wording.words(value, key)
    before = {"baseline": "over ", "reference": "from "}.get(key, "")
    parts.append(f"{before}{text}")
  return ", ".join(parts)


def size_of(rows: Rows) -> str:
  """What stands behind a line: "1024 (806)", with "–" where it differs."""
  parts = [
    _span([row[key] for row in rows if is_number(row.get(key))])
    for key in ("n", "clusters")
  ]
  n, clusters = parts
  return f"{n} ({clusters})" if clusters and clusters != n else n


def _span(counts: Sequence[float]) -> str:
  if not counts:
    return ""
  low, high = f"{min(counts):g}", f"{max(counts):g}"
  return low if low == high else f"{low}–{high}"


def _seeds(row: Mapping[str, Any], style: terminal.Style) -> str:
  values = row.get(SEEDS) or ()
  if len(values) < 2:
    return ""
  parts = sum(values) / len(values), min(values), max(values)
  mean, low, high = (style.number(x).removesuffix(" %") for x in parts)
  return f"seeds: {mean} ({low} to {high})"


def is_finite(value: Any) -> TypeGuard[float]:
  """True for numbers that are neither NaN nor infinite."""
  return is_number(value) and math.isfinite(value)


def is_number(value: Any) -> TypeGuard[float]:
  """True for integers and floats, NaN included."""
  return isinstance(value, (int, float)) and not isinstance(value, bool)
