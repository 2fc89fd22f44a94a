"""Says in words what a plot shows, of whatever results it is drawn from."""

from collections.abc import Iterable, Iterator, Sequence

from instruct_jax.figures import plots, style, values

Pair = tuple[str, str]


def found(plot: plots.Plot, pairs: Sequence[Pair] = ()) -> str:
  """What these runs found: who had what, and whether they can be told apart.

  `pairs` are the methods to compare, of those that the plot has; lines are
  described from end to end.
  """
  sentences = [plot.about] if plot.about else []
  for panel in plot.panels:
    of_panel = (
      _of_bars(panel, pairs) if panel.kind == plots.BARS else _of_lines(panel)
    )
    sentences += of_panel
  return " ".join(sentences)


def said(value: values.Value, panel: plots.Panel) -> str:
  """A value with its unit and interval: '57.2 % [55.0, 59.4]'."""
  text = f"{_number(value.value, panel.decimals)}{panel.unit}"
  if value.over == values.NOTHING:
    return text
  low, high = (_number(x, panel.decimals) for x in panel.ends(value))
  return f"{text} [{low}, {high}]"


def compared(one: values.Value, other: values.Value, panel: plots.Panel) -> str:
  """Whether two values can be told apart, and by how much they differ."""
  unit = " points" if panel.unit == " %" else panel.unit
  less = values.difference(one, other)
  if less is not None:
    difference = _number(less.value, panel.decimals, sign=True)
    low, high = (
      _number(x, panel.decimals, sign=True) for x in (less.low, less.high)
    )
    interval = f"{difference}{unit} [{low}, {high}]"
    if less.low > 0 or less.high < 0:
      return f"a difference of {interval}"
    return f"no difference that the seeds show, {interval}"
  if values.NOTHING in (one.over, other.over):
    return "without an interval, which says little"
  if one.low > other.high or one.high < other.low:
    return "their intervals do not overlap"
  return "their intervals overlap"


def _of_bars(panel: plots.Panel, pairs: Sequence[Pair]) -> Iterator[str]:
  about = panel.title or panel.y
  drawn = [pair for pair in pairs if set(pair) <= set(panel.series)]
  for x in panel.xs:
    where = str(x).replace("\n", " ")
    clauses = [
      f"{_name(panel, a)} {_with_paper(panel, a, x)}, {_name(panel, b)}"
      f" {_with_paper(panel, b, x)} ("
      f"{compared(panel.series[a][x], panel.series[b][x], panel)})"
      for a, b in drawn
      if x in panel.series[a] and x in panel.series[b]
    ]
    if not clauses:
      clauses = [
        f"{_name(panel, name)} {_with_paper(panel, name, x)}"
        for name, line in panel.series.items()
        if x in line
      ]
    if clauses:
      start = f"{where} ({about})" if where else about
      yield f"{_capital(start)}: {'; '.join(clauses)}."


def _of_lines(panel: plots.Panel) -> Iterator[str]:
  for name, line in panel.series.items():
    points = [(x, line[x]) for x in panel.xs if x in line]
    if not points:
      continue
    (first, start), (last, end) = points[0], points[-1]
    highest, most = max(points, key=lambda point: point[1].value)
    text = f"{_capital(panel.y)}, {_name(panel, name)}"
    if len({value.value for _, value in points}) == 1:
      yield f"{text}: {said(start, panel)}."
      continue
    change = compared(end, start, panel)
    text += (
      f": {said(start, panel)} at {_at(panel, first)},"
      f" {said(end, panel)} at {_at(panel, last)} ({change})"
    )
    if highest not in (first, last):
      text += f"; highest at {_at(panel, highest)}, {said(most, panel)}"
    yield f"{text}."


def _at(panel: plots.Panel, x: plots.X) -> str:
  short = panel.x.rpartition(" ")[2] if panel.scale == plots.STEPS else panel.x
  name = "" if not short else f"{short} "
  if isinstance(x, str):
    return x.replace("\n", " ")
  if panel.scale == plots.LOG:
    return f"{x:,.0f} parameters"
  if panel.scale == plots.ROOT:
    return f"{x:.2f} nats"
  return f"{name}{x:g}"


def _with_paper(panel: plots.Panel, name: str, x: plots.X) -> str:
  text = said(panel.series[name][x], panel)
  for one in panel.reported:
    if (one.x, one.series) == (x, name):
      margin = f" ± {one.result.margin:g}" if one.result.margin else ""
      text += f" (the paper: {one.result.value:g}{margin} %)"
  return text


def _name(panel: plots.Panel, name: str) -> str:
  return panel.labels.get(name, style.label(name))


def _number(value: float, decimals: int, *, sign: bool = False) -> str:
  text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
  if float(text) == 0:
    text = text.lstrip("+-")
  return text.replace("-", "−")


def _capital(text: str) -> str:
  return text[:1].upper() + text[1:]


def listed(items: Iterable[str]) -> str:
  """'a, b and c'."""
  *most, last = [*items]
  return f"{', '.join(most)} and {last}" if most else last
