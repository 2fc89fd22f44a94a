"""Which pictures a report has: tables and logs become points and lines.

The drawing is `report.charts`', which is imported late: it takes a while.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instruct_jax import paper
from instruct_jax.report import captions, curves, exhibits, wording

if TYPE_CHECKING:
  from instruct_jax.report import charts

Log = Sequence[Mapping[str, Any]]

# Over-optimisation: y axes of the way, by metric (Gao et al. 2022, figure 1).
WAY = {
  "objective/score": "reward model's score",
  "judge/likert": "judge's Likert, 1 to 7",
}
WAY_X = "objective/kl"


def preference(rows: exhibits.Rows) -> charts.Chart | None:
  """Win rates over the baseline, a band a subject, a point a group."""
  from instruct_jax.report import charts

  baseline = exhibits.baseline_of(rows)
  bands: dict[str, dict[str, charts.Point]] = {}
  for row in rows:
    if row["baseline"] == baseline and (point := _point(row, 100)):
      size = f"n = {exhibits.size_of([row])}"
      label = f"{wording.subject(row['subject'])}\n{size}"
      bands.setdefault(label, {})[wording.words(row["labelers"])] = point
  if not bands:
    return None
  name = wording.subject(baseline or "")
  return charts.dots(
    f"Preferred to {name}, by labelers; the dashed line is 50 %: as good as"
    f" {name}",
    bands,
    axis=f"win rate against {name}, %",
    limits=(0, 100),
    even=50,
  )


def of_table(name: str, rows: exhibits.Rows) -> charts.Chart | None:
  """The picture of an evaluation's table, None where it has none."""
  from instruct_jax.report import charts

  if name == "calibration":
    return _calibration(rows)
  exhibit = captions.EXHIBITS.get(name)
  if exhibit is None or not exhibit.axis:
    return None
  factor = 100 if exhibit.percent else 1
  bands: dict[str, dict[str, charts.Point]] = {}
  lines: dict[str, list] = {}
  for row in _label_by_label(rows):
    point = _point(row, factor)
    if "subject" not in row or point is None:
      continue
    label = exhibits.label_of(row, "subject")
    if any(part in label for part in exhibit.uncharted):
      continue
    group, method = wording.parts(row["subject"])
    label = "\n".join(filter(None, (label, group)))
    bands.setdefault(label, {})[wording.subject(method)] = point
    lines.setdefault(label, []).append(row)
  if not bands:
    return None
  sized = {
    f"{label}\nn = {exhibits.size_of(lines[label])}".lstrip("\n"): points
    for label, points in bands.items()
  }
  return charts.dots(
    exhibit.title,
    sized,
    axis=exhibit.axis,
    limits=(-2, 102) if exhibit.percent else None,
    series=_colors(rows),
  )


def _label_by_label(rows: exhibits.Rows) -> list[Mapping[str, Any]]:
  """The rows, those of one label together, and of that one size after another.

  Otherwise in their order.
  """
  labels = [exhibits.label_of(row, "subject") for row in rows]
  sizes = [wording.parts(row.get("subject", ""))[0] for row in rows]
  order = {name: n for n, name in enumerate(dict.fromkeys(labels))}
  size = {name: n for n, name in enumerate(wording.SIZES)}
  places = [(order[x], size.get(s, -1)) for x, s in zip(labels, sizes)]
  return [rows[n] for n in sorted(range(len(rows)), key=places.__getitem__)]


def _calibration(rows: exhibits.Rows) -> charts.Chart | None:
  from instruct_jax.report import charts

  groups: dict[str, list[tuple[float, charts.Point]]] = {}
  for row in rows:
    point, predicted = _point(row, 100), row.get("predicted")
    if point is not None and exhibits.is_finite(predicted):
      name = wording.words(row.get("labelers", ""))
      groups.setdefault(name, []).append((100 * predicted, point))
  if not groups:
    return None
  title = "How sure the reward model is, and how often it is right"
  return charts.reliability(title, groups)


def way(log: Log) -> charts.Chart | None:
  """Reward and judge against the KL, as training went; None without a KL."""
  from instruct_jax.report import charts

  panels: dict[str, dict[str, charts.Line]] = {}
  for metric, axis in WAY.items():
    for prefix, name in (
      ("", "training prompts"),
      (curves.VALIDATION, "validation prompts"),
    ):
      x, y = _pairs(log, prefix + WAY_X, prefix + metric)
      if len(x) > 1:
        panels.setdefault(axis, {})[name] = (x, y)
  if not panels:
    return None
  return charts.against(
    "Reward and judge against the KL",
    "KL from the starting policy, nats a response",
    panels,
  )


def learning(log: Log, results: Mapping[str, Any]) -> list[charts.Chart]:
  """A panel for each metric that a run logged."""
  panels = curves.panels(log, results)
  if not panels:
    return []
  from instruct_jax.report import charts

  return [charts.curves(*panel) for panel in panels]


def _pairs(log: Log, x: str, y: str) -> tuple[list[float], list[float]]:
  found = [
    (line[x], line[y])
    for line in log
    if exhibits.is_finite(line.get(x)) and exhibits.is_finite(line.get(y))
  ]
  return [a for a, _ in found], [b for _, b in found]


def _point(row: Mapping[str, Any], factor: float) -> charts.Point | None:
  """A row's point; a value alone where its interval is not finite."""
  from instruct_jax.report import charts

  value = row.get("value")
  if not exhibits.is_finite(value):
    return None
  low, high = row.get("low"), row.get("high")
  if not (exhibits.is_finite(low) and exhibits.is_finite(high)):
    low = high = value
  elif factor == 100:  # No share lies outside of 0 to 1.
    low, high = max(low, 0.0), min(high, 1.0)
  others = tuple(factor * x for x in (row.get(exhibits.SEEDS) or ())[1:])
  return charts.Point(factor * value, factor * low, factor * high, others)


def _colors(rows: exhibits.Rows) -> dict[str, int]:
  """A method has one colour on the whole page, whoever else is there."""
  taken = {name: n for n, name in enumerate(paper.MODELS)}
  free = itertools.count(len(taken))
  every = (row["subject"] for row in rows if "subject" in row)
  names = dict.fromkeys(wording.parts(name)[1] for name in every)
  return {
    wording.subject(name): taken[name] if name in taken else next(free)
    for name in names
  }
