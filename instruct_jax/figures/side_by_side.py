"""Figures 8 and 9: what models say to the same prompt, beside each other.

Which prompts is no choice of anybody's: the first of each use case in the file.
"""

import dataclasses
from collections.abc import Sequence

from matplotlib import figure

from instruct_jax.figures import (
  drawing,
  groups,
  plots,
  read,
  style,
  subjects,
  values,
)

MOST = 8  # prompts
_COLUMNS = ("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx")
_PER_LINE = {2: 56, 3: 38, 4: 28, 5: 22, 6: 18}  # characters, by columns


@dataclasses.dataclass(frozen=True)
class Line:
  """A prompt, and what each model said to it with the judge's grade."""

  prompt: str
  answers: tuple[tuple[str, float | None], ...]


@dataclasses.dataclass(frozen=True)
class Table:
  """Prompts down, models across."""

  plot: plots.Plot
  models: tuple[str, ...]
  lines: tuple[Line, ...]


def samples(runs: groups.Runs) -> Table:
  """The first prompt of each use case."""
  run = next(
    (run for group in runs.groups for run in group.runs.values()
     if run.responses), None
  )  # fmt: skip
  rows = read.samples(run) if run else []
  rows = [row for row in rows if isinstance(row.get("responses"), dict)]
  if run is None or not rows:
    raise subjects.missing(runs, "samples (responses.jsonl)", subjects.DEFAULT)
  first = {}
  for row in rows:
    first.setdefault(row.get("use_case", row.get("prompt")), row)
  chosen = [*first.values()][:MOST]
  there = [*chosen[0]["responses"]]
  models = [name for name in _COLUMNS if name in there][:4] or there[:4]
  lines = tuple(
    Line(
      str(row.get("prompt", "")),
      tuple(_answer(row["responses"].get(name)) for name in models),
    )
    for row in chosen
  )
  grades = {
    name: values.over_seeds({run.seed: values.Found(mean, n=len(rows))})
    for name in models
    if (mean := _mean(rows, name)) is not None
  }
  panel = plots.Panel(
    y="Likert, 1 to 7",
    series=subjects.turned(grades, "responses of the file"),
    unit="",
    decimals=2,
  )
  chose = "prompt of each use case" if "use_case" in rows[0] else "prompts"
  graded = "; in brackets the judge's Likert grade, 1 to 7" if grades else ""
  about = (
    f"{subjects.whose(runs)}; {run.name}, seed {run.seed}; the first {chose}"
    f" among {len(rows):,} in its file, nobody's choice{graded}."
  )
  plot = plots.Plot(
    "What models say to the same prompts (as figures 8 and 9)", (panel,), about
  )
  return Table(plot, tuple(models), lines)


def _answer(answer) -> tuple[str, float | None]:
  if not isinstance(answer, dict):
    return "–", None
  grade = answer.get("likert")
  return str(answer.get("text", "")), grade if groups.is_finite(grade) else None


def _mean(rows: Sequence[groups.Row], name: str) -> float | None:
  grades = [
    answer["likert"]
    for row in rows
    if isinstance(answer := row["responses"].get(name), dict)
    and groups.is_finite(answer.get("likert"))
  ]
  return sum(grades) / len(grades) if grades else None


def draw(table: Table) -> figure.Figure:
  """A table whose cells wrap."""
  columns = 1 + len(table.models)
  wide = _PER_LINE[columns]
  heads = ["prompt", *map(style.label, table.models)]
  cells = [[line.prompt, *map(_cell, line.answers)] for line in table.lines]
  wrapped = [[drawing.wrapped(text, wide) for text in row] for row in cells]
  tall = [1 + max(text.count("\n") for text in row) for row in wrapped]
  per_line, gap = 0.145, 0.11  # inches
  height = sum(per_line * n + gap for n in tall) + 0.3
  fig = figure.Figure()
  with drawing.styled():
    below, total = drawing.finish(fig, table.plot, height)
    axes = fig.add_axes((0.008, below / total, 0.984, height / total))
    axes.set(xlim=(0, columns), ylim=(height, 0))
    axes.axis("off")
    for n, head in enumerate(heads):
      color = style.INK if n == 0 else style.look(table.models[n - 1], n)[0]
      axes.text(n, 0.1, head, weight="bold", va="center")
      axes.plot([n, n + 0.94], [0.24, 0.24], color=color, linewidth=2.5)
    top = 0.3
    for row, lines in zip(wrapped, tall):
      for n, text in enumerate(row):
        axes.text(
          n, top + gap / 2, text, va="top", size=style.FONT - 1.5,
          linespacing=1.15, style="italic" if n == 0 else "normal",
        )  # fmt: skip
      top += per_line * lines + gap
      axes.plot([0, columns], [top, top], color="#dddddd", linewidth=0.7)
  return fig


def _cell(answer: tuple[str, float | None]) -> str:
  text, grade = answer
  return text if grade is None else f"{text} ({grade:g})"
