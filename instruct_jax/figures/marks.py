"""Bars and lines of a panel, with their intervals, on a pair of axes."""

from matplotlib import axes as mpl_axes
from matplotlib import ticker

from instruct_jax.figures import plots, style, values

_HATCHES = ("", "", "///", "...", "", "", "", "xxx", "\\\\\\", "+++")
_GROUP = 0.84  # of the distance of two groups of bars
_WIDEST = 0.28  # bar, in that distance


def draw(axes: mpl_axes.Axes, panel: plots.Panel, names: list[str]) -> None:
  """Draws a panel; `names` are all series of its figure, in their order."""
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
        hatch=hatch_of(name),
        edgecolor="white" if not hatch_of(name) else style.INK,
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


def hatch_of(name: str) -> str:
  """What fills the bars of a method, beside its colour."""
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
  elif all(float(x).is_integer() for x in xs):  # there is no epoch 2.5
    axes.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))


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
