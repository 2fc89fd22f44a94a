"""What people see in a terminal or its log: progress, tables, numbers."""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
import rich.console
import rich.progress
import rich.table
import rich.text

_REMEMBERED = 3600.0  # seconds, over which the rate is a mean: steps take long


class Progress:
  """One line that says how far a run is, how fast, and when it will be done.

  In a terminal rich refreshes the line in place; elsewhere (a file, a pipe) a
  new one is written every `interval` seconds. It goes to stderr: stdout is for
  results. Only the first process writes.
  """

  def __init__(
    self,
    name: str,
    total: int,
    *,
    start: int = 0,
    show: Sequence[str] = (),
    interval: float = 10.0,
    stream: IO[str] | None = None,
    clock=time.monotonic,
  ):
    """`show` names the metrics to print; `start` is the step resumed from."""
    self._stream = sys.stderr if stream is None else stream
    console = rich.console.Console(file=self._stream, highlight=False)
    active = jax.process_index() == 0
    drawn = console.is_terminal and not console.is_dumb_terminal
    self._line = _Line(tuple(show))
    self._bar = rich.progress.Progress(
      self._line,
      console=console,
      speed_estimate_period=_REMEMBERED,
      redirect_stdout=sys.stdout.isatty(),  # a pipe gets its lines untouched
      get_time=clock,
      disable=not (active and drawn),
    )
    self._bar.add_task(name, total=total, completed=start, metrics={})
    self._prints = active and not drawn
    self._clock, self._interval = clock, interval
    # When, and which step.
    self._printed, self._last = -math.inf, float(start)
    self._bar.start()

  def update(
    self, step: int, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Says that `step` updates are done; metrics stay until they change."""
    (task,) = self._bar.tasks
    shown = task.fields["metrics"] | dict(metrics or {})
    self._bar.update(task.id, completed=step, metrics=shown)
    due = self._clock() - self._printed >= self._interval
    if due or step >= (task.total or 0):
      self._print()

  def close(self) -> None:
    """Leaves the last line standing and gives the terminal back."""
    (task,) = self._bar.tasks
    if self._last != task.completed:
      self._print()
    self._bar.stop()
    self._prints = False

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _print(self) -> None:
    (task,) = self._bar.tasks
    self._printed, self._last = self._clock(), task.completed
    if self._prints:
      print(self._line.render(task).plain, file=self._stream, flush=True)


class _Line(rich.progress.ProgressColumn):
  """The whole line, in a terminal and elsewhere."""

  def __init__(self, show: tuple[str, ...]):
    column = rich.table.Column(no_wrap=True, overflow="ellipsis")
    super().__init__(table_column=column)
    self._show = show

  def render(self, task: rich.progress.Task) -> rich.text.Text:
    """'name  11/100  11 %  2/s  0:45 left  loss 1.235'; compiling, the first
    step, is left out of the rate."""
    step, total, rate = task.completed, task.total or 0, task.speed
    parts = [task.description, f"{step}/{total}"]
    if total:
      parts.append(f"{task.percentage:.0f} %")
    if rate:
      parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
      if step < total:
        parts.append(f"{duration((total - step) / rate)} left")
    metrics = task.fields["metrics"]
    parts += [f"{n} {number(metrics[n])}" for n in self._show if n in metrics]
    text = "  ".join(parts)
    return rich.text.Text(text, no_wrap=True, overflow="ellipsis")


def number(value: Any) -> str:
  """A value for people: floats to 4 digits, None as '-'."""
  if value is None:
    return "-"
  if isinstance(value, (float, np.floating)):
    return f"{float(value):.4g}"
  return str(value)


def duration(seconds: float) -> str:
  """'1:02:03', or '2:03' below an hour."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{rest:02d}"
  return f"{minutes}:{rest:02d}"


def table(
  rows: Iterable[Sequence[Any]],
  headers: Sequence[str],
  *,
  title: str = "",
  stream: IO[str] | None = None,
) -> None:
  """Prints a table: drawn in a terminal, aligned plain text elsewhere.

  Columns of numbers only are aligned to the right.
  """
  stream = sys.stdout if stream is None else stream
  rows = [list(row) for row in rows]
  texts = [[number(value) for value in row] for row in rows]
  right = [
    bool(rows) and all(_is_numeric(row[column]) for row in rows)
    for column in range(len(headers))
  ]
  console = rich.console.Console(file=stream, highlight=False)
  if console.is_terminal and not console.is_dumb_terminal:
    drawn = rich.table.Table(title=rich.text.Text(title) if title else None)
    for header, flush in zip(headers, right):
      drawn.add_column(
        rich.text.Text(header),
        justify="right" if flush else "left",
        overflow="fold",
      )
    for row in texts:
      drawn.add_row(*map(rich.text.Text, row))
    console.print(drawn)
    return
  widths = [max(map(len, column)) for column in zip(headers, *texts)]
  lines = [title] if title else []
  for row in [list(headers), *texts]:
    cells = [
      cell.rjust(width) if flush else cell.ljust(width)
      for cell, width, flush in zip(row, widths, right)
    ]
    lines.append("  ".join(cells).rstrip())
  print("\n".join(lines), file=stream, flush=True)


def _is_numeric(value: Any) -> bool:
  return value is None or isinstance(value, (int, float, np.number))
