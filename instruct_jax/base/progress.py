"""How far a command is: a line that a terminal refreshes, or a file gets."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

import jax
import rich.console
import rich.progress
import rich.table
import rich.text

from instruct_jax.base import terminal

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
        parts.append(f"{terminal.duration((total - step) / rate)} left")
    metrics = task.fields["metrics"]
    parts += [
      f"{n} {terminal.number(metrics[n])}" for n in self._show if n in metrics
    ]
    text = "  ".join(parts)
    return rich.text.Text(text, no_wrap=True, overflow="ellipsis")
