"""Figures 28 and 29: tasks like the public NLP sets, with and without shots."""

from collections.abc import Iterable

from instruct_jax.figures import groups, plots, style, subjects

ZERO, FEW = "nlp", "few_shot"
_WORDS = {ZERO: "zero-shot", FEW: "few-shot"}
_FIGURE = {ZERO: "figure 29", FEW: "figure 28"}
MEAN = "mean"
_ROW = 7  # tasks beside each other


def zero_shot(runs: groups.Runs) -> plots.Plot:
  """Figure 29."""
  return _tasks(runs, ZERO)


def few_shot(runs: groups.Runs) -> plots.Plot:
  """Figure 28."""
  return _tasks(runs, FEW)


def names(found: Iterable[groups.Group], room: str) -> list[str]:
  """The tasks of a room, the mean of all first where it is there."""
  tasks = dict.fromkeys(
    name.partition("/")[0]
    for group in found
    for name in group.names(f"{room}/")
    if "/" in name
  )
  chosen = [task for task in tasks if not task.endswith("_f1")]
  return sorted(chosen, key=lambda task: task != MEAN)


def _tasks(runs: groups.Runs, room: str) -> plots.Plot:
  sized = subjects.with_sizes(runs, f"{room}/")
  if sized is not None:
    return _by_size(runs, sized, room)
  columns = {
    _label(task): found
    for task in names(runs.groups, room)
    if (found := subjects.by_method(runs, f"{room}/{task}/{{}}",
                                    style.BASELINES))
  }  # fmt: skip
  if not columns:
    raise subjects.missing(runs, f"{_WORDS[room]} tasks", subjects.DEFAULT)
  items = [*columns.items()]
  rows = -(-len(items) // _ROW)
  size = -(-len(items) // rows)
  panels = tuple(
    plots.Panel(
      y="right, %",
      series=subjects.joined(dict(items[start : start + size])),
      limits=(0.0, 100.0),
    )
    for start in range(0, len(items), size)
  )
  return plots.Plot(
    f"Tasks, {_WORDS[room]} ({_FIGURE[room]})",
    panels,
    plots.about(panels, subjects.whose(runs)),
    notes=_notes(runs.groups, room),
    height=2.2,
  )


def _by_size(runs: groups.Runs, group: groups.Group, room: str) -> plots.Plot:
  panels = tuple(
    plots.Panel(
      y="right, %",
      x="parameters",
      series=subjects.by_size(group, f"{room}/{task}/{{}}"),
      kind=plots.LINES,
      scale=plots.LOG,
      title=_label(task).replace("\n", " "),
    )
    for task in names([group], room)
  )
  return plots.Plot(
    f"Tasks by size, {_WORDS[room]} ({_FIGURE[room]})",
    panels,
    plots.about(panels, subjects.whose(runs, group)),
    notes=_notes([group], room),
    columns=3 if len(panels) > 4 else min(len(panels), 2),
    height=2.0,
  )


def _label(task: str) -> str:
  words = task.replace("_", " ")
  return "mean of\nall tasks" if task == MEAN else words.replace(" ", "\n", 1)


def _notes(found: Iterable[groups.Group], room: str) -> tuple[str, ...]:
  """How many examples stand before an item, and whom a prefix changes."""
  shots = sorted(
    {
      int(row["shots"])
      for group in found
      for run in group.runs.values()
      for metric, row in run.rows.items()
      if metric.startswith(f"{room}/") and groups.is_finite(row.get("shots"))
    }
  )
  notes = []
  if room == FEW and shots:
    listed = " or ".join(map(str, shots))
    notes.append(f"{listed} examples of the training split before each item.")
  return (*notes, "Exact match where a task has one; the paper plots its"
          " numbers without stating them.")  # fmt: skip
