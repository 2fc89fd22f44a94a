"""Where lines of progress appear: a terminal, or a file.

There is one display at a time, and it shows the line that was begun last; the
one before comes back when that ends. Whatever else is printed or logged stands
above it.
"""

import logging
import math
import sys
import threading
from collections.abc import Callable
from typing import IO, Protocol

import jax
import rich.live
import rich.text

from instruct_jax.base import terminal

_REFRESHES = 4  # a second, in a terminal


class Line(Protocol):
  """What a display shows."""

  @property
  def counts(self) -> bool:
    """Whether it counts steps, or only says that something lasts."""
    ...

  @property
  def step(self) -> int:
    """How many are done."""
    ...

  @property
  def is_done(self) -> bool:
    """Whether they all are."""
    ...

  def text(self, width: float = math.inf) -> str:
    """The line, as it is now."""
    ...


_displays: list["_Display"] = []  # at most one


def current() -> Line | None:
  """The line that is shown."""
  return _displays[-1].top if _displays else None


def show(
  line: Line,
  stream: IO[str] | None,
  clock: Callable[[], float],
  interval: float,
) -> "_Display":
  """Begins to show a line, above those that are there."""
  if _displays:
    _displays[-1].add(line)
    return _displays[-1]
  stream = sys.stderr if stream is None else stream
  silent = stream is None or jax.process_index() != 0
  console = None if silent else terminal.console_of(stream)
  if console is None:
    display = _Display(line, clock)
  elif terminal.is_drawn(console) and stream.isatty():  # FORCE_COLOR is none
    display = _Drawn(line, clock, stream, console)
  else:
    display = _Written(line, clock, stream, interval)
  _displays.append(display)
  display.start()
  return display


class _Display:
  """Shows nothing: for the processes that do not write."""

  def __init__(self, line: Line, clock: Callable[[], float]):
    self._lines, self._clock = [line], clock
    self._lock = threading.RLock()

  @property
  def top(self) -> Line | None:
    """The line that was begun last."""
    return self._lines[-1] if self._lines else None

  def add(self, line: Line) -> None:
    """Shows another line, until it is removed."""
    with self._lock:
      self._lines.append(line)

  def remove(self, line: Line) -> None:
    """Ends a line; the display ends with the last one."""
    with self._lock:
      if line not in self._lines:
        return
      last = len(self._lines) == 1
      if not last:
        self.ended(line)
      self._lines.remove(line)
    if last:  # not under the lock, which a thread that ends may wait for
      self.stop()
      self.ended(line)
      _displays.remove(self)

  def start(self) -> None:
    """Begins."""

  def changed(self, line: Line) -> None:
    """After a step."""

  def ended(self, line: Line) -> None:
    """When a line goes away."""

  def stop(self) -> None:
    """Ends."""


class _Drawn(_Display):
  """A terminal's last line, refreshed by a thread of rich's."""

  def __init__(self, line, clock, stream, console):
    super().__init__(line, clock)
    self._stream, self._console = stream, console
    self._live = rich.live.Live(
      get_renderable=self._render,
      console=console,
      refresh_per_second=_REFRESHES,
      transient=True,
      # A pipe gets its lines untouched.
      redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
    self._handlers: list[logging.StreamHandler] = []

  def start(self) -> None:
    self._live.start()
    # It stays where it is if the process is killed.
    self._console.show_cursor(True)
    for name in (None, "instruct_jax"):
      for handler in logging.getLogger(name).handlers:
        if not isinstance(handler, logging.StreamHandler):
          continue
        if handler.stream is self._stream:
          handler.setStream(sys.stderr)  # rich's, which writes above the line
          self._handlers.append(handler)

  def ended(self, line: Line) -> None:
    if line.counts:
      self._console.print(self._fitting(line))

  def stop(self) -> None:
    self._live.stop()
    for handler in self._handlers:
      handler.setStream(self._stream)

  def _render(self) -> rich.text.Text:
    line = self.top
    return rich.text.Text() if line is None else self._fitting(line)

  def _fitting(self, line: Line) -> rich.text.Text:
    # The last column stays free: some terminals break the line after it.
    text = line.text(max(1, terminal.width_of(self._stream) - 1))
    text = terminal.encodable(text, self._stream)
    return rich.text.Text(text, no_wrap=True, overflow="crop")


class _Written(_Display):
  """A line now and then, also while nothing is counted."""

  def __init__(self, line, clock, stream, interval):
    super().__init__(line, clock)
    self._stream, self._interval = stream, interval
    self._printed = clock()
    self._shown: tuple[Line, int] | None = None
    self._end = threading.Event()
    self._thread = threading.Thread(
      target=self._beat, name="progress", daemon=True
    )

  def start(self) -> None:
    self._thread.start()

  def changed(self, line: Line) -> None:
    with self._lock:
      first = self._shown is None or self._shown[0] is not line
      if first or line.is_done or self._is_due():
        self._print(line)

  def ended(self, line: Line) -> None:
    if line.counts and self._shown != (line, line.step):
      self._print(line)

  def stop(self) -> None:
    self._end.set()
    self._thread.join()

  def _beat(self) -> None:
    while not self._end.wait(min(1.0, self._interval)):
      with self._lock:
        if self.top is not None and self._is_due():
          self._print(self.top)

  def _is_due(self) -> bool:
    return self._clock() - self._printed >= self._interval

  def _print(self, line: Line) -> None:
    self._printed, self._shown = self._clock(), (line, line.step)
    text = line.text(terminal.width_of(self._stream))
    try:
      print(
        terminal.encodable(text, self._stream), file=self._stream, flush=True
      )
    except (OSError, ValueError):  # nobody reads it any more
      self._end.set()
