"""What the admin page draws: answers over time, agreement, biases, ratings.

As the paper's figures are drawn (`figures.drawing`, and the colours of
`figures.style`, with a marker beside each): SVG, from the numbers of `tally`.
Labelers stand below each other, so that forty have room.
"""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import dates, figure, lines

from instruct_jax.collecting import showing
from instruct_jax.figures import drawing, plots, style

_ROW = 0.24  # inches a labeler
_DAY = 86400.0  # seconds; matplotlib counts days since 1970
_LOOKS = {
  "others": ("against the others' mean", style.BLUE, "o"),
  "gold": ("against gold", style.VERMILION, "D"),
  "longer": ("the longer answer preferred", style.PURPLE, "s"),
  "earlier": ("what stood first preferred", style.GREEN, "^"),
}
_KINDS = {
  "demonstration": (style.GREEN, "^"),
  "ranking": (style.BLUE, "v"),
  "comparison": (style.VERMILION, "o"),
  "writing": (style.ORANGE, "s"),
  "screening": (style.GREY, "h"),
}
_LONGEST = 24  # characters of a name
_INTERVALS = "Bars are 95 % intervals, clustered by task."
# Matplotlib's settings are the process's; threads draw one after another.
_LOCK = threading.Lock()
State = Mapping[str, Any]


def svg(name: str, state: State) -> bytes:
  """A plot of `PLOTS`, given `tally`'s numbers; also where there are none."""
  with _LOCK, warnings.catch_warnings():
    # A name may be in any script; the browser has fonts for it.
    warnings.filterwarnings("ignore", "Glyph .* missing")
    with drawing.styled():
      drawn = PLOTS[name](state)
    return drawing.svg(drawn)


def _agreement(state: State) -> figure.Figure:
  overall = state["agreement"]["pairwise"]
  notes = [_INTERVALS]
  if overall:
    low, high = 100 * overall["low"], 100 * overall["high"]
    notes.append(
      f"Dashed: all labelers with each other, {100 * overall['value']:.1f} %"
      f" ({low:.1f} to {high:.1f}). Pairs that somebody ties are left out."
    )
  level = overall and 100 * overall["value"]
  return _by_labeler(
    *("How often labelers order two answers alike", "pairs ordered alike (%)"),
    *(state, ("others", "gold"), level, notes),
  )


def _bias(state: State) -> figure.Figure:
  notes = (
    _INTERVALS,
    "Dashed: as often as not. The order on the page is drawn for each labeler,"
    " so an unbiased one's triangles lie there; squares may lie above it where"
    " longer answers are better.",
  )
  return _by_labeler(
    *("What sways labelers", "pairs ordered so (%)"),
    *(state, ("longer", "earlier"), 50.0, notes),
  )


def _by_labeler(
  title: str,
  x: str,
  state: State,
  series: Sequence[str],
  level: float | None,
  notes: Sequence[str],
) -> figure.Figure:
  """Shares of each labeler with their intervals, and a dashed line."""
  labelers = {
    name: of
    for name, of in state["labelers"].items()
    if any(of[key] for key in series)
  }
  fig, axes = _figure()
  keys = []
  for n, key in enumerate(series):
    text, color, marker = _LOOKS[key]
    keys.append((_handle(color, marker), text))
    offset = 0.16 * (n - (len(series) - 1) / 2)
    for place, of in enumerate(labelers.values()):
      if of[key]:
        _dot(axes, of[key], place + offset, color, marker)
  _name_rows(axes, [*labelers])
  _say_nothing(axes, bool(labelers))
  axes.set_xlim(-1, 101)  # a marker at the end is whole
  axes.set_xlabel(x)
  if level is not None:
    axes.axvline(level, color="#666666", linewidth=1, linestyle="--", zorder=1)
  return _finished(fig, title, notes, _height(labelers), keys)


def _dot(axes, share, place, color, marker):
  value = 100 * share["value"]
  ends = [[value - 100 * share["low"]], [100 * share["high"] - value]]
  axes.errorbar(
    [value], [place], xerr=ends, fmt=marker, color=color, ms=5.5,
    elinewidth=1.2, capsize=2.5,
  )  # fmt: skip


def _ratings(state: State) -> figure.Figure:
  """How often each labeler gave each rating."""
  labelers = {
    name: of["ratings"]
    for name, of in state["labelers"].items()
    if of["ratings"]
  }
  fig, axes = _figure()
  counts = np.asarray([of["counts"] for of in labelers.values()]).reshape(-1, 7)
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  most = max(shares.max(initial=0), 0.3)
  axes.imshow(
    shares, cmap="Blues", vmin=0, vmax=most, aspect="auto",
    extent=(0.5, 7.5, max(len(labelers), 1) - 0.5, -0.5),
  )  # fmt: skip
  for (place, rating), share in np.ndenumerate(shares):
    axes.text(
      *(rating + 1, place, f"{100 * share:.0f}"),
      ha="center", va="center", size=style.FONT - 1.5,
      color="white" if share > 0.6 * most else style.INK,
    )  # fmt: skip
  _name_rows(axes, [*labelers])
  _say_nothing(axes, bool(labelers))
  axes.grid(visible=False)
  axes.set_xticks(range(1, 8))
  axes.set_xlabel("rating (1 worst, 7 best)")
  notes = ("Per cent of a labeler's ratings; screening is left out.",)
  return _finished(fig, "How labelers use the scale", notes, _height(labelers))


def _answers(state: State) -> figure.Figure:
  """How many answers of each kind there were at each moment."""
  fig, axes = _figure()
  keys = []
  for kind, of in state["times"].items():
    color, marker = _KINDS[kind]
    keys.append((_handle(color, marker), kind))
    counts = [1, *(of["step"] * (n + 1) for n in range(len(of["at"])))]
    moments = np.asarray([of["first"], *of["at"], of["last"]]) / _DAY
    axes.plot(
      moments, [*counts, of["count"]], color=color, marker=marker, ms=5,
      markevery=(len(moments) - 1, len(moments)),
    )  # fmt: skip
  if state["times"]:
    first = min(of["first"] for of in state["times"].values()) / _DAY
    last = max(of["last"] for of in state["times"].values()) / _DAY
    room = max((last - first) / 30, 60 / _DAY)
    axes.set_xlim(first - room, last + room)
    locator = dates.AutoDateLocator(minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
  else:
    axes.set_xticks([])
  _say_nothing(axes, bool(state["times"]))
  axes.set_ylim(bottom=0)
  axes.set_ylabel("answers")
  axes.set_xlabel("time (UTC)")
  return _finished(fig, "Answers so far", (), 2.4, keys)


def _figure() -> tuple[figure.Figure, mpl_axes.Axes]:
  fig = figure.Figure(layout="constrained")
  return fig, fig.subplots()


def _height(labelers: Mapping[str, Any]) -> float:
  return 0.75 + _ROW * max(len(labelers), 2)


def _name_rows(axes: mpl_axes.Axes, names: Sequence[str]) -> None:
  axes.set_yticks(range(len(names)), [_short(name) for name in names])
  for label in axes.get_yticklabels():
    label.set_parse_math(False)  # a dollar in a name is a dollar
  axes.set_ylim(max(len(names), 1) - 0.5, -0.5)


def _say_nothing(axes: mpl_axes.Axes, there: bool) -> None:
  """Where there is nothing to draw yet, that."""
  if not there:
    axes.text(
      *(0.5, 0.5, "nothing yet"), transform=axes.transAxes, ha="center",
      va="center", color="#555555",
    )  # fmt: skip


def _short(name: str) -> str:
  name = showing.plain(name)
  return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _handle(color: str, marker: str) -> lines.Line2D:
  return lines.Line2D([], [], color=color, marker=marker, ms=5.5)


def _finished(fig, title, notes, height, keys=()) -> figure.Figure:
  plot = plots.Plot(title, (), notes=tuple(notes))
  drawing.finish(fig, plot, height, keys)
  return fig


PLOTS: dict[str, Callable[[State], figure.Figure]] = {
  "answers": _answers,
  "agreement": _agreement,
  "bias": _bias,
  "ratings": _ratings,
}
