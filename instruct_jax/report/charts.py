"""The report's pictures, each an inline SVG without anything from outside.

matplotlib draws; colours become the page's CSS variables, so that a picture
follows light, dark and print. Titles and keys are the page's text, which wraps
where a picture cannot: nothing but axes and data is drawn, and nothing over
data. A picture is as wide as a phone's screen, and its text as large as the
page's small print.
"""

import dataclasses
import io
import re
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib import axes as mpl_axes
from matplotlib import figure, ticker

matplotlib.use("Agg")

MARKERS = "osD^vPX*"
SIGNS = "●■◆▲▼✚✖★"  # the same for the page's text
SERIES = len(MARKERS)
POINTS = 300  # of a curve; more are thinned out
WIDTH = 3.55  # inches: 341 pixels
# What matplotlib is told to draw in, and what the page gets in its place.
_INK, _GREY, _GRID = "#010101", "#020202", "#030303"
_COLORS = tuple(f"#0400{n:02x}" for n in range(SERIES))
_VARIABLES = {
  _INK: "currentColor",
  _GREY: "var(--soft)",
  _GRID: "var(--line)",
} | {color: f"var(--c{n})" for n, color in enumerate(_COLORS)}
_STYLE = {
  "svg.hashsalt": "instruct_jax",  # names do not depend on the day
  "svg.fonttype": "none",  # text stays text: small, searchable
  "savefig.transparent": True,
  "font.family": "sans-serif",
  "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
  "font.size": 8.5,
  "text.color": _INK,
  "axes.labelcolor": _INK,
  "axes.labelsize": 8.5,
  "xtick.color": _GREY,
  "ytick.color": _GREY,
  "xtick.labelcolor": _INK,
  "ytick.labelcolor": _INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": _GREY,
  "axes.linewidth": 0.8,
  "axes.axisbelow": True,
  "axes.grid": True,
  "grid.color": _GRID,
  "grid.linewidth": 0.7,
  "lines.linewidth": 1.4,
}

Line = tuple[Sequence[float], Sequence[float]]  # steps, values


@dataclasses.dataclass(frozen=True)
class Point:
  """A value with its interval, and what other seeds have in its place."""

  value: float
  low: float
  high: float
  others: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Key:
  """What a colour and a sign stand for."""

  color: int  # of the page's --c0, --c1, ...
  sign: str
  name: str


@dataclasses.dataclass(frozen=True)
class Chart:
  """A picture with the text that belongs to it."""

  title: str
  svg: str
  keys: tuple[Key, ...] = ()


def curves(title: str, unit: str, lines: Mapping[str, Line]) -> Chart:
  """One small panel: a metric in `unit` against the step, a line a name."""
  with matplotlib.rc_context(_STYLE):
    fig = figure.Figure(figsize=(WIDTH, 2.0))
    # Placed by hand: a report has dozens, and to lay one out takes 0.1 s.
    axes = fig.add_axes((0.18, 0.2, 0.8, 0.69))
    for n, line in enumerate(lines.values()):
      steps, values = _thinned(line)
      few = len(steps) < 30
      axes.plot(
        steps,
        values,
        color=_COLORS[n % SERIES],
        linestyle=("-", "--")[n % 2],
        marker=MARKERS[n % SERIES] if few else None,
        markersize=3,
      )
    axes.locator_params(axis="y", nbins=5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 4))
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.yaxis.set_label_coords(-0.165, 0.5)
    names = tuple(lines) if len(lines) > 1 else ()
    return Chart(title, _svg(fig, title), _keys(names))


def dots(
  title: str,
  rows: Mapping[str, Mapping[str, Point]],
  *,
  axis: str,
  limits: tuple[float, float] | None = None,
  even: float | None = None,
  series: Mapping[str, int] | None = None,
) -> Chart:
  """A band for each row, in it a point with its interval for each series.

  `axis` names what the values are. `even` draws a line where neither side is
  ahead. `series` gives the colours by name; in order of appearance otherwise.
  Values of other seeds are small rings under the point's own line.
  """
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  colors = series or {name: n for n, name in enumerate(names)}
  labels = [_wrapped(label) for label in rows]
  band = 0.17 * len(names) + 0.12  # inches
  bands = [max(band, 0.14 * (1 + len(label))) for label in labels]
  tops = [sum(bands[:n]) for n in range(len(bands))]
  with matplotlib.rc_context(_STYLE):
    height = sum(bands) + 0.5
    fig = figure.Figure(figsize=(WIDTH, height), layout="constrained")
    axes = fig.subplots()
    for top, size, row in zip(tops, bands, rows.values()):
      for n, name in enumerate(name for name in names if name in row):
        y = top + size / 2 + 0.17 * (n - (len(row) - 1) / 2)
        _dot(axes, row[name], y, colors[name])
    for edge in tops[1:]:
      axes.axhline(edge, color=_GRID, linewidth=0.8, zorder=0)
    if even is not None:
      axes.axvline(even, color=_GREY, linewidth=1, linestyle="--", zorder=1)
    for top, size, lines in zip(tops, bands, labels):
      _label(axes, lines, top + size / 2)
    axes.set_yticks([])
    axes.set_ylim(sum(bands), 0)
    if limits is not None:
      axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel(axis)
    axes.grid(visible=False, axis="y")
    return Chart(title, _svg(fig, title), _keys(names, colors))


def _dot(axes: mpl_axes.Axes, point: Point, y: float, color: int) -> None:
  paint = _COLORS[color % SERIES]
  axes.plot([point.low, point.high], [y, y], color=paint, linewidth=1.6)
  # Rings stand below their point's own line, so that neither hides the other.
  axes.plot(
    point.others,
    [y + 0.055] * len(point.others),
    linestyle="",
    marker="o",
    markersize=2.6,
    markerfacecolor="none",
    markeredgecolor=paint,
    markeredgewidth=0.7,
  )
  axes.plot(
    [point.value], [y], color=paint, marker=_sign(color), markersize=4.2
  )


def _label(axes: mpl_axes.Axes, lines: Sequence[str], y: float) -> None:
  """A row's label, line by line: the page's font has widths of its own."""
  for n, line in enumerate(lines):
    axes.text(
      -0.03,
      y + 0.14 * (n - (len(lines) - 1) / 2),
      line,
      transform=axes.get_yaxis_transform(),
      ha="right",
      va="center",
    )


def against(
  title: str,
  x_axis: str,
  panels: Mapping[str, Mapping[str, Line]],
) -> Chart:
  """Panels over one x axis: y axis's name -> {name: (x, y) in their order}.

  The way starts at the ring.
  """
  names = list(dict.fromkeys(n for lines in panels.values() for n in lines))
  with matplotlib.rc_context(_STYLE):
    size = (WIDTH, 1.55 * len(panels) + 0.4)
    fig = figure.Figure(figsize=size, layout="constrained")
    every = fig.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (y_axis, lines) in zip(every, panels.items()):
      for name, (x, y) in lines.items():
        n = names.index(name) % SERIES
        axes.plot(
          x,
          y,
          color=_COLORS[n],
          linestyle=("-", "--")[n % 2],
          marker=MARKERS[n],
          markersize=3.2,
        )
        axes.plot(
          x[:1],
          y[:1],
          color=_COLORS[n],
          marker="o",
          markersize=7,
          markerfacecolor="none",
        )
      axes.set_ylabel(y_axis)
      axes.locator_params(axis="y", nbins=5)
    every[-1].set_xlabel(x_axis)
    return Chart(title, _svg(fig, title), _keys(names))


def reliability(
  title: str, groups: Mapping[str, Sequence[tuple[float, Point]]]
) -> Chart:
  """Predicted probability, %, against how often it came true, with intervals.

  On the dashed line a model is as sure as it may be.
  """
  with matplotlib.rc_context(_STYLE):
    fig = figure.Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = fig.subplots()
    axes.plot([50, 100], [50, 100], color=_GREY, linestyle="--", linewidth=1)
    for n, points in enumerate(groups.values()):
      paint, x = _COLORS[n % SERIES], [p + 0.5 * n for p, _ in points]
      for place, (_, point) in zip(x, points):
        axes.plot([place] * 2, [point.low, point.high], color=paint)
      axes.plot(
        x,
        [point.value for _, point in points],
        color=paint,
        linestyle="",
        marker=MARKERS[n % SERIES],
        markersize=4.2,
      )
    axes.set_xlim(49, 101)
    axes.set_xlabel("predicted: the favourite is preferred, %")
    axes.set_ylabel("observed, %")
    return Chart(title, _svg(fig, title), _keys(tuple(groups)))


def _keys(
  names: Sequence[str], colors: Mapping[str, int] | None = None
) -> tuple[Key, ...]:
  colors = colors or {name: n for n, name in enumerate(names)}
  return tuple(
    Key(colors[name] % SERIES, _sign(colors[name], SIGNS), name)
    for name in names
  )


def _sign(number: int, signs: str = MARKERS) -> str:
  """A series' sign: colours come again after SERIES, with another sign."""
  return signs[(number + number // SERIES) % SERIES]


def _wrapped(label: str) -> list[str]:
  """The lines of a row's label; breaks that are there stay."""
  return [
    line
    for part in label.split("\n")
    for line in textwrap.wrap(part, 19) or [""]
  ]


def _thinned(line: Line) -> Line:
  """At most POINTS points, the last one among them."""
  steps, values = line
  every = -(-len(steps) // POINTS)
  first = (len(steps) - 1) % every if every else 0
  return steps[first::every], values[first::every]


def _svg(fig: figure.Figure, title: str) -> str:
  """The <svg> element alone, labelled, with names that are its own."""
  out = io.StringIO()
  fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
  text = out.getvalue()
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
  # Only names that are hashes of what they name are referred to.
  text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)
  text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the page's own
  for drawn, variable in _VARIABLES.items():
    text = text.replace(drawn, variable)
  text = re.sub(r"<[^>]+>", _rounded, text)
  text = re.sub(r"\n\s*", "\n", text)
  label = re.sub(r"[<>&\"]", "", title)
  return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _rounded(tag: re.Match[str]) -> str:
  """A tag with its numbers cut to a hundredth of a point."""
  return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])
