"""Says in words what a plot shows, of whatever results it is drawn from."""

from collections.abc import Iterable, Iterator, Sequence

from instruct_jax.figures import plots, style, values

Pair = tuple[str, str]
HIGHER, LOWER = "higher in", "lower in"
ALIKE = "no difference that can be told in"
UNSAID = "without intervals to tell by in"
_CHANGE = {
  HIGHER: "a rise",
  LOWER: "a fall",
  ALIKE: "no change that can be told",
  UNSAID: "without intervals to tell by",
}


def found(plot: plots.Plot, pairs: Sequence[Pair] = ()) -> str:
  """What these runs found: who had what, and whether they can be told apart.

  `pairs` are the methods to compare, of those that the plot has; values beside
  a line where neither side is ahead are held against it, and lines are
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


def compared(
  one: values.Value, other: values.Value, panel: plots.Panel
) -> tuple[str, str]:
  """HIGHER, LOWER, ALIKE or UNSAID, and why that is said.

  Of seeds in common the difference counts, by seed; of one seed, whether the
  intervals overlap.
  """
  unit = " points" if panel.unit == " %" else panel.unit
  less = values.difference(one, other)
  if less is not None:
    middle, low, high = (
      _number(x, panel.decimals, sign=True)
      for x in (less.value, less.low, less.high)
    )
    why = f"{middle}{unit} [{low}, {high}]"
    return (HIGHER if less.low > 0 else LOWER if less.high < 0 else ALIKE), why
  if values.NOTHING in (one.over, other.over):
    return UNSAID, ""
  apart = one.low > other.high or one.high < other.low
  if not apart:
    return ALIKE, "intervals overlap"
  return (HIGHER if one.low > other.high else LOWER), "intervals lie apart"


def _of_bars(panel: plots.Panel, pairs: Sequence[Pair]) -> Iterator[str]:
  drawn = [pair for pair in pairs if set(pair) <= set(panel.series)]
  title = _capital(panel.called or panel.title or panel.y)
  if panel.even is not None or not drawn:
    for x in panel.xs:
      names = [name for name, line in panel.series.items() if x in line]
      clauses = [_alone(panel, name, x) for name in names]
      if clauses:
        where = f", {_flat(x)}" if x else ""
        yield f"{title}{where}: {'; '.join(clauses)}."
    return
  for a, b in drawn:
    by_verdict: dict[str, list[str]] = {}
    for x in panel.xs:
      if x in panel.series[a] and x in panel.series[b]:
        verdict, clause = _pair(panel, a, b, x)
        by_verdict.setdefault(verdict, []).append(clause)
    parts = [
      f"{verdict} {listed(by_verdict[verdict])}".replace(" in (", " (")
      for verdict in (HIGHER, LOWER, ALIKE, UNSAID)
      if verdict in by_verdict
    ]
    if parts:
      names = f"{_name(panel, a)} beside {_name(panel, b)}"
      yield f"{title}, {names}: {'; '.join(parts)}."


def _pair(panel: plots.Panel, a: str, b: str, x: plots.X) -> tuple[str, str]:
  """The verdict on a pair, and its clause: 'reading (61.0 % against ...)'."""
  one, other = panel.series[a][x], panel.series[b][x]
  verdict, why = compared(one, other, panel)
  if values.difference(one, other) is not None:  # has the interval that counts
    ends = [f"{_number(v.value, panel.decimals)}{panel.unit}"
            for v in (one, other)]  # fmt: skip
  else:
    ends = [said(value, panel) for value in (one, other)]
  first, second = (
    f"{text}{_papers(panel, name, x)}" for text, name in zip(ends, (a, b))
  )
  inside = ", ".join(
    part for part in (f"{first} against {second}", why) if part
  )
  return verdict, f"{_flat(x)} ({inside})" if x else f"({inside})"


def _alone(panel: plots.Panel, name: str, x: plots.X) -> str:
  """A value with the paper's beside it, and on which side of even it lies."""
  value = panel.series[name][x]
  text = f"{_name(panel, name)} {said(value, panel)}{_papers(panel, name, x)}"
  if panel.even is None or value.over == values.NOTHING:
    return text
  even = f"{panel.even:g}{panel.unit}"
  if not value.excludes(panel.even):
    return f"{text}, not told apart from {even}"
  return f"{text}, {'above' if value.value > panel.even else 'below'} {even}"


def _of_lines(panel: plots.Panel) -> Iterator[str]:
  for name, line in panel.series.items():
    points = [(x, line[x]) for x in panel.xs if x in line]
    if not points:
      continue
    (first, start), (last, end) = points[0], points[-1]
    highest, most = max(points, key=lambda point: point[1].value)
    text = f"{_capital(panel.called or panel.y)}, {_name(panel, name)}"
    if len({value.value for _, value in points}) == 1:
      yield f"{text}: {said(start, panel)}."
      continue
    verdict, why = compared(end, start, panel)
    change = ", ".join(part for part in (_CHANGE[verdict], why) if part)
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


def _papers(panel: plots.Panel, name: str, x: plots.X) -> str:
  """The paper's number, where it states one."""
  for one in panel.reported:
    if (one.x, one.series) == (x, name):
      margin = f" ± {one.result.margin:g}" if one.result.margin else ""
      return f" (the paper: {one.result.value:g}{margin} %)"
  return ""


def _flat(x: plots.X) -> str:
  return str(x).replace("\n", " ")


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
