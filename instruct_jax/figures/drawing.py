"""Draws a Plot with matplotlib: bars or lines with intervals.

Nothing is drawn over data: whose numbers these are stands under the title, keys
and notes below the axes.
"""

import contextlib
import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib import (
  figure,
  layout_engine,
  legend,
  lines,
  patches,
)
from matplotlib.backends import backend_agg

from instruct_jax.figures import marks, plots, style

_STYLE = {
  "font.family": "DejaVu Sans",
  "font.size": style.FONT,
  "text.color": style.INK,
  "axes.labelcolor": style.INK,
  "axes.titlesize": style.FONT + 0.5,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#888888",
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": "#e4e4e4",
  "hatch.linewidth": 0.6,
  "svg.fonttype": "none",
  "svg.hashsalt": "instruct_jax",
  "figure.facecolor": "white",
}
_CHARACTERS = 140  # of a line of small print
_LINE = 0.145  # inches of a line of small print
_TITLE = 92  # characters of a line of the title


def styled() -> contextlib.AbstractContextManager[None]:
  """The style of all figures, while one is drawn."""
  return matplotlib.rc_context(_STYLE)


def wrapped(text: str, characters: int) -> str:
  """A text in lines of at most so many characters."""
  return "\n".join(textwrap.wrap(text, characters)) or text


def draw(plot: plots.Plot) -> figure.Figure:
  """The figure of a plot."""
  rows = math.ceil(len(plot.panels) / plot.columns)
  names = _names(plot.panels)
  with styled():
    fig = figure.Figure(layout="constrained")
    grid = fig.subplots(rows, plot.columns, squeeze=False)
    for axes, panel in zip(grid.flat, plot.panels):
      marks.draw(axes, panel, names)
    for axes in grid.flat[len(plot.panels) :]:
      axes.remove()
    keys = _keys(plot.panels, names)
    finish(fig, plot, rows * plot.height, keys)
  return fig


def finish(
  fig: figure.Figure,
  plot: plots.Plot,
  height: float,
  keys: Sequence[tuple[Any, str]] = (),
) -> tuple[float, float]:
  """Title and whose it is above, keys and notes below `height` inches of axes.

  Returns where the axes begin, and the height of all, in inches.
  """
  about = textwrap.wrap(plot.about, _CHARACTERS)
  notes = [x for text in plot.notes for x in textwrap.wrap(text, _CHARACTERS)]
  title = textwrap.wrap(plot.title, _TITLE)
  columns = _columns(fig, keys) if keys else 1
  above = 0.1 + 0.2 * len(title) + _LINE * len(about)
  print_ = 0.06 + _LINE * len(notes)
  below = print_ + (0.2 * math.ceil(len(keys) / columns) + 0.08 if keys else 0)
  total = height + below + above
  fig.set_size_inches(style.WIDTH, total)
  fig.text(
    *(0.008, 1 - 0.05 / total, "\n".join(title)),
    ha="left", va="top", weight="bold", size=style.FONT + 1.5,
  )  # fmt: skip
  small = {
    "ha": "left",
    "size": style.FONT - 1.8,
    "color": "#555555",
    "linespacing": 1.2,
  }
  top = 1 - (0.07 + 0.2 * len(title)) / total
  fig.text(0.008, top, "\n".join(about), va="top", **small)
  fig.text(0.008, 0.03 / total, "\n".join(notes), va="bottom", **small)
  if keys:
    drawn = _legend(fig, keys, columns)
    drawn.set_bbox_to_anchor((0, print_ / total), fig.transFigure)
    drawn.set_in_layout(False)
  engine = fig.get_layout_engine()
  if isinstance(engine, layout_engine.ConstrainedLayoutEngine):
    engine.set(rect=(0, below / total, 1, height / total))
  fig.draw_without_rendering()  # lays out while the style is there
  return below, total


def _legend(
  fig: figure.Figure, keys: Sequence[tuple[Any, str]], columns: int
) -> legend.Legend:
  return fig.legend(
    [handle for handle, _ in keys],
    [text for _, text in keys],
    loc="lower left",
    ncols=columns,
    frameon=False,
    handlelength=1.6,
    columnspacing=1.4,
    borderpad=0.2,
    borderaxespad=0.2,
  )


def _columns(fig: figure.Figure, keys: Sequence[tuple[Any, str]]) -> int:
  """How many keys fit beside each other."""
  fig.set_size_inches(style.WIDTH, style.WIDTH)
  renderer = backend_agg.FigureCanvasAgg(fig).get_renderer()
  for columns in range(len(keys), 1, -1):
    tried = _legend(fig, keys, columns)
    tried.set_in_layout(False)
    width = tried.get_window_extent(renderer).width
    tried.remove()
    if width <= fig.bbox.width:
      return columns
  return 1


def png(fig: figure.Figure) -> bytes:
  """A figure as PNG, as wide as a README's column."""
  return _saved(fig, "png", dpi=style.DOTS)


def svg(fig: figure.Figure) -> bytes:
  """A figure as SVG, with text that can be searched."""
  return _saved(fig, "svg", metadata={"Date": None})


def _saved(fig: figure.Figure, kind: str, **options: Any) -> bytes:
  with styled():
    file = io.BytesIO()
    fig.savefig(file, format=kind, **options)
  return file.getvalue()


def _names(panels: Sequence[plots.Panel]) -> list[str]:
  """All series, each once."""
  found = dict.fromkeys(
    name for panel in panels for name in (*panel.series, *panel.ghosts)
  )
  return [*found]


# Keys


def _keys(
  panels: Sequence[plots.Panel], names: list[str]
) -> list[tuple[Any, str]]:
  labels = {key: text for panel in panels for key, text in panel.labels.items()}
  keys = [
    (_handle(panels, name, n), labels.get(name, style.label(name)))
    for n, name in enumerate(names)
  ]
  keys += [*_more(panels)]
  return keys


def _handle(panels: Sequence[plots.Panel], name: str, place: int) -> Any:
  color, marker = style.look(name, place)
  panel = next(p for p in panels if name in p.series or name in p.ghosts)
  if panel.kind == plots.BARS:
    hatch = marks.hatch_of(name)
    edge = style.INK if hatch else color
    return patches.Patch(fc=color, ec=edge, hatch=hatch, linewidth=0.4)
  return lines.Line2D([], [], color=color, marker=marker, ms=5.5)


def _more(panels: Sequence[plots.Panel]) -> Iterator[tuple[Any, str]]:
  sources = {one.source for panel in panels for one in panel.reported}
  if sources:
    handle = lines.Line2D(
      [], [], color="black", marker="D", ms=5, mec="white", linestyle="none"
    )
    yield handle, f"the paper ({', '.join(sorted(sources))})"
