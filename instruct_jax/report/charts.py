"""The report's pictures, each an inline SVG without anything from outside."""

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib import figure, ticker

matplotlib.use("Agg")

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's
MARKERS = "osD^"
GREY = "#777777"
POINTS = 300  # of a curve; more are thinned out
_STYLE = {
  "svg.hashsalt": "instruct_jax",  # names do not depend on the day
  "svg.fonttype": "none",  # text stays text: small, searchable
  "font.family": "sans-serif",
  "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
  "font.size": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": GREY,
  "axes.linewidth": 0.8,
  "axes.grid": True,
  "grid.color": "#e6e6e6",
  "grid.linewidth": 0.6,
  "lines.linewidth": 1.4,
  "legend.frameon": False,
}

Line = tuple[Sequence[float], Sequence[float]]  # steps, values


@dataclasses.dataclass(frozen=True)
class Point:
  """A mean with its interval."""

  value: float
  low: float
  high: float


def curves(title: str, lines: Mapping[str, Line]) -> str:
  """One small panel: a metric against the step, a line a name."""
  with matplotlib.rc_context(_STYLE):
    fig = figure.Figure(figsize=(3.1, 2.0))
    axes = fig.add_axes((0.15, 0.13, 0.83, 0.70))
    for n, (name, line) in enumerate(lines.items()):
      steps, values = _thinned(line)
      few = len(steps) < 30
      axes.plot(
        steps,
        values,
        color=COLORS[n % len(COLORS)],
        marker=MARKERS[n % len(MARKERS)] if few else None,
        markersize=2.5,
        label=name,
      )
    fig.text(0.01, 0.985, title, fontsize=9, va="top")
    axes.locator_params(axis="y", nbins=5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(7)
    if len(lines) > 1:
      axes.legend(fontsize=7, handlelength=1.2)
    return _svg(fig, title)


def win_rates(
  groups: Mapping[str, Mapping[str, Point]], baseline: str, title: str
) -> str:
  """Win rates over `baseline` with error bars, and the line of 50 %.

  `groups` maps who judges to subjects to shares in [0, 1]; the paper's main
  figure, with models where that has sizes.
  """
  subjects = list(dict.fromkeys(s for rows in groups.values() for s in rows))
  with matplotlib.rc_context(_STYLE):
    width = max(4.2, 1.2 + 1.0 * len(subjects))
    fig = figure.Figure(figsize=(width, 3.0), layout="constrained")
    axes = fig.subplots()
    axes.axhline(50, color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.annotate(
      f"50 %: as good as {baseline}",
      (0.995, 50),
      xycoords=("axes fraction", "data"),
      xytext=(0, 3),
      textcoords="offset points",
      ha="right",
      fontsize=7.5,
      color=GREY,
    )
    for n, (name, rows) in enumerate(groups.items()):
      shift = 0.16 * (n - (len(groups) - 1) / 2)
      points = [p for s in subjects if (p := rows.get(s)) is not None]
      axes.errorbar(
        [i + shift for i, s in enumerate(subjects) if s in rows],
        [100 * p.value for p in points],
        yerr=[
          [100 * (p.value - p.low) for p in points],
          [100 * (p.high - p.value) for p in points],
        ],
        fmt=MARKERS[n % len(MARKERS)],
        color=COLORS[n % len(COLORS)],
        markersize=5,
        capsize=3,
        label=name,
      )
    axes.set_xticks(range(len(subjects)), subjects)
    axes.set_xlim(-0.6, len(subjects) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"win rate against {baseline}, %")
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize=8, loc="upper left")
    return _svg(fig, title)


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
  text = re.sub(r"\n\s*", "\n", text)
  label = re.sub(r"[<>&\"]", "", title)
  return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
