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
from matplotlib import axes as mpl_axes
from matplotlib import (
  figure,
  layout_engine,
  legend,
  lines,
  patches,
  ticker,
)
from matplotlib.backends import backend_agg

from instruct_jax.figures import plots, style, values

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
_HATCHES = ("", "", "///", "...", "", "", "", "xxx", "\\\\\\", "+++")
_GROUP = 0.84  # of the distance of two groups of bars
_WIDEST = 0.28  # bar, in that distance
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
      _panel(axes, panel, names)
    for axes in grid.flat[len(plot.panels) :]:
      axes.remove()
    keys = _keys(plot.panels, names)
    if len(keys) < 2:  # The axes say what it is.
      keys = []
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


def _panel(axes: mpl_axes.Axes, panel: plots.Panel, names: list[str]) -> None:
  if panel.kind == plots.BARS:
    _bars(axes, panel, names)
  else:
    _lines(axes, panel, names)
  if panel.even is not None:
    axes.axhline(panel.even, color="#666666", linewidth=1, linestyle="--")
  if panel.limits is not None:
    low, high = panel.limits
    axes.set_ylim(low, high + 0.03 * (high - low))  # a ring at the top is whole
  axes.set_title(panel.title, loc="left")
  axes.set_xlabel(panel.x)
  axes.set_ylabel(panel.y)
  is_graded = panel.bounds == plots.LIKERT
  axes.yaxis.set_major_locator(
    ticker.MultipleLocator(1) if is_graded else ticker.MaxNLocator(6)
  )


# Bars


def _bars(axes: mpl_axes.Axes, panel: plots.Panel, names: list[str]) -> None:
  xs = panel.xs
  there = [name for name in names if name in panel.series]
  width = min(_GROUP / max(len(there), 1), _WIDEST)
  for n, name in enumerate(there):
    color, _ = style.look(name, names.index(name))
    for x, value in panel.series[name].items():
      at = xs.index(x) + width * (n - (len(there) - 1) / 2)
      ghost = panel.ghosts.get(name, {}).get(x)
      if ghost is not None:
        axes.bar(
          *(at, ghost.value, 0.9 * width),
          color="none", edgecolor=color, linewidth=1.3, label=f"_ghost {name}",
        )  # fmt: skip
      axes.bar(
        *(at, value.value, 0.9 * width),
        color=color,
        hatch=_hatch(name),
        edgecolor="white" if not _hatch(name) else style.INK,
        linewidth=0.4,
        label=name,
      )
      _interval(axes, at, value, name, panel)
    for one in panel.reported:
      if one.series == name:
        at = xs.index(one.x) + width * (n - (len(there) - 1) / 2)
        # At the bar's right side, so that it hides none of ours.
        _reported(axes, at + 0.3 * width, one)
  axes.set_xticks(range(len(xs)), [str(x) for x in xs])
  axes.set_xlim(-0.6, len(xs) - 0.4)
  axes.grid(visible=False, axis="x")


def _hatch(name: str) -> str:
  known = [*style.METHODS]
  if name not in known:
    return ""
  return _HATCHES[known.index(name) % len(_HATCHES)]


def _interval(
  axes: mpl_axes.Axes,
  at: float,
  value: values.Value,
  name: str,
  panel: plots.Panel,
) -> None:
  """Its error bar, and each seed's own value as a ring."""
  if value.over != values.NOTHING:
    low, high = panel.ends(value)
    ends = [[value.value - low], [high - value.value]]
    axes.errorbar(
      [at], [value.value], ends, fmt="none", ecolor=style.INK,
      elinewidth=1.1, capsize=2.5, label=f"_interval {name}",
    )  # fmt: skip
  if len(value.each) > 1:
    axes.plot(
      [at] * len(value.each), [*value.each.values()], "o", mfc="white",
      mec=style.INK, mew=0.6, ms=2.8, label=f"_seeds {name}",
    )  # fmt: skip


def _reported(axes: mpl_axes.Axes, at: float, one: plots.Reported) -> None:
  margin = one.result.margin
  axes.errorbar(
    [at], [one.result.value], None if margin is None else [margin],
    fmt="D", color="black", ms=5, mec="white", mew=0.7, capsize=3, zorder=5,
    label=f"_paper {one.series}",
  )  # fmt: skip


# Lines


def _lines(axes: mpl_axes.Axes, panel: plots.Panel, names: list[str]) -> None:
  xs, shown = panel.xs, [name for name in names if name in panel.series]
  numbers = all(isinstance(x, int | float) for x in xs)
  is_steps = panel.scale == plots.STEPS or not numbers
  at = {x: n if is_steps else float(x) for n, x in enumerate(xs)}
  for n, name in enumerate(shown):
    color, marker = style.look(name, names.index(name))
    line = sorted(panel.series[name].items(), key=lambda item: at[item[0]])
    # A little beside each other, so that no interval hides another.
    place = n - (len(shown) - 1) / 2
    dodge = 0.05 * place if is_steps else 0.0
    factor = 1.02**place if panel.scale == plots.LOG else 1.0
    places = [factor * at[x] + dodge for x, _ in line]
    middles = [value.value for _, value in line]
    ends = [
      [value.value - panel.ends(value)[0] for _, value in line],
      [panel.ends(value)[1] - value.value for _, value in line],
    ]
    axes.errorbar(
      places, middles, ends, color=color, marker=marker, ms=5.5,
      mec="white", mew=0.5, linewidth=1.6, elinewidth=1.0, capsize=2.5,
      label=name, linestyle="-" if len(line) > 1 else "none",
      clip_on=panel.scale != plots.ROOT,
    )  # fmt: skip
  if is_steps:
    axes.set_xticks(range(len(xs)), [_number(x) for x in xs])
    axes.set_xlim(-0.5, len(xs) - 0.5)
  elif panel.scale == plots.LOG:
    axes.set_xscale("log")
    axes.set_xticks(xs, [_count(x) for x in xs])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.12)
  elif panel.scale == plots.ROOT:
    axes.set_xscale(
      "function", functions=(lambda x: abs(x) ** 0.5, lambda x: x**2)
    )
    # As far apart on the axis, to two digits.
    most = max([x for x in xs if isinstance(x, int | float)], default=1.0)
    ticks = [float(f"{most * (n / 5) ** 2:.2g}") for n in range(6)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(left=0)


def _number(x: plots.X) -> str:
  return x if isinstance(x, str) else f"{x:g}"


def _count(x: plots.X) -> str:
  """A number of parameters, to two digits."""
  if isinstance(x, str):
    return x
  for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
    if x >= size:
      return f"{float(f'{x / size:.2g}'):g}{unit}"
  return f"{x:g}"


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
    hatch = _hatch(name)
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
