"""What a run reports: metrics, samples, progress, tables, memory.

Metrics are `group/name`. A mean travels as (sum, weight), so that batches,
microbatches and devices add up; the host divides, once, when it writes.
"""

import collections
import json
import math
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
import rich.console
import rich.live
import rich.table
import rich.text
from etils import epath

from instruct_jax.base import storage

Metrics = Mapping[str, Any]  # name -> (sum, weight), or a plain number


def add(first: Metrics, second: Metrics) -> dict[str, Any]:
  """Adds sums to sums and weights to weights, over the names of both.

  Plain numbers cannot be added up to a mean; they raise TypeError.
  """
  total = {}
  for name in [*first, *(name for name in second if name not in first)]:
    pairs = [each[name] for each in (first, second) if name in each]
    if not all(isinstance(pair, tuple) for pair in pairs):
      raise TypeError(f"metric '{name}' is no (sum, weight).")
    total[name] = tuple(sum(parts) for parts in zip(*pairs))
  return total


def means(metrics: Metrics) -> dict[str, float]:
  """Fetches metrics from the devices, all at once, and divides.

  Returns floats by name; a mean without weight is NaN, numbers stay.
  """
  return {
    name: _mean(*value) if isinstance(value, tuple) else float(value)
    for name, value in jax.device_get(dict(metrics)).items()
  }


def _mean(total: Any, weight: Any) -> float:
  return float(total) / float(weight) if weight else math.nan


# Files.


class Log:
  """metrics.jsonl, samples.jsonl and TensorBoard events of one run.

  A line is on disk when `write` returns. Only the first process writes.
  """

  def __init__(self, folder: epath.PathLike, *, tensorboard: bool = True):
    """Makes the folder; TensorBoard's events go to `<folder>/tensorboard`."""
    self._folder = epath.Path(folder)
    self._active = jax.process_index() == 0
    self._tensorboard = tensorboard and self._active
    self._events = None
    self._purge = None
    if self._active:
      self._folder.mkdir(parents=True, exist_ok=True)

  def write(self, step: int, metrics: Metrics) -> dict[str, float]:
    """Appends a line, 'step' first and the rest in alphabetical order.

    Args:
      step: of the updates, as the checkpoint of the same state counts it.
      metrics: (sum, weight) pairs or numbers, on devices or not.

    Returns:
      the means written, for a progress line.
    """
    values = means(metrics)
    if self._active:
      ordered = {name: values[name] for name in sorted(values)}
      _append(self._folder / "metrics.jsonl", [{"step": int(step)} | ordered])
    if self._tensorboard:
      self._write_events(step, values)
    return values

  def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows to samples.jsonl, each with its step in front."""
    if self._active:
      lines = [{"step": int(step)} | dict(row) for row in rows]
      _append(self._folder / "samples.jsonl", lines)

  def truncate(self, step: int) -> None:
    """Forgets what comes after `step`, and half-written lines; -1: everything.

    To be called before the first `write` of a run that continues at `step`, or
    starts afresh. The files are replaced whole or not at all.
    """
    if self._events is not None:
      self._events.close()
      self._events = None
    self._purge = int(step) + 1
    if self._active:
      for name in ("metrics.jsonl", "samples.jsonl"):
        _truncate(self._folder / name, step)

  def close(self) -> None:
    """Flushes TensorBoard's events; a later `write` opens a new file."""
    if self._events is not None:
      self._events.close()
      self._events, self._purge = None, None

  def __enter__(self) -> "Log":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _write_events(self, step: int, values: Mapping[str, float]) -> None:
    """One event a step; what is not finite is a gap in TensorBoard's curve."""
    from tensorboardX.proto import summary_pb2  # late: it takes a while

    if self._events is None:
      self._events = self._open_events()
    summary = summary_pb2.Summary(
      value=[
        summary_pb2.Summary.Value(tag=name, simple_value=value)
        for name, value in values.items()
        if math.isfinite(value)
      ]
    )
    self._events.add_summary(summary, int(step))

  def _open_events(self):
    import tensorboardX
    from tensorboardX.proto import event_pb2

    events = tensorboardX.FileWriter(
      os.fspath(self._folder / "tensorboard"),
      max_queue=1000,
      flush_secs=10,
      # Names differ by the second only: a quick restart would overwrite.
      filename_suffix=f".{os.getpid()}.{time.time_ns()}",
    )
    if self._purge is not None:  # tells TensorBoard to forget what came after
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      events.add_event(event_pb2.Event(session_log=start), self._purge)
    return events


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The lines of a run's metrics.jsonl, numbers as they were written.

  A line that is not whole (the run was killed while it wrote) is left out; a
  file that is not there has none.
  """
  return [
    {name: _NON_FINITE.get(value, value) for name, value in line.items()}
    for line in _read(epath.Path(folder) / "metrics.jsonl")
  ]


def read_samples(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The rows of a run's samples.jsonl; as `read_metrics`."""
  return _read(epath.Path(folder) / "samples.jsonl")


def _read(path: epath.Path) -> list[dict[str, Any]]:
  lines = path.read_bytes().split(b"\n") if path.exists() else []
  return [each for line in lines if (each := _parse(line)) is not None]


_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any) -> Any:
  """A value that strict JSON can hold: NaN and infinities become strings."""
  if isinstance(value, Mapping):
    return {str(key): to_json(each) for key, each in value.items()}
  if isinstance(value, (np.ndarray, jax.Array)):
    return to_json(np.asarray(value).tolist())
  if isinstance(value, (list, tuple)):
    return [to_json(each) for each in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    if math.isnan(value):
      return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
  return value


def _append(path: epath.Path, lines: Sequence[Mapping[str, Any]]) -> None:
  text = "".join(
    json.dumps(to_json(line), allow_nan=False, ensure_ascii=False) + "\n"
    for line in lines
  )
  # A lone surrogate, which UTF-8 has no bytes for, becomes its JSON escape.
  with path.open("ab") as file:
    file.write(text.encode("utf-8", "backslashreplace"))


def _parse(line: bytes) -> dict[str, Any] | None:
  """The object on a line, or None if it is no whole line of ours."""
  try:
    value = json.loads(line)
  except ValueError:  # also UnicodeDecodeError
    return None
  if not isinstance(value, dict) or not isinstance(value.get("step"), int):
    return None
  return value


def _truncate(path: epath.Path, step: int) -> None:
  if not path.exists():
    return
  old = path.read_bytes()
  new = b"".join(
    line + b"\n"
    for line in old.split(b"\n")
    if (found := _parse(line)) is not None and found["step"] <= step
  )
  if new != old:
    storage.write(path, new)


# The terminal.


class Progress:
  """One line that says how far a run is, how fast, and when it will be done.

  In a terminal the line is refreshed in place; elsewhere (a file, a pipe) a
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
    self._name, self._total, self._show = name, total, tuple(show)
    self._clock, self._interval = clock, interval
    self._stream = sys.stderr if stream is None else stream
    self._marks = collections.deque([(clock(), start)], maxlen=50)
    self._metrics = {}
    self._live = None
    self._printed, self._last = -math.inf, start  # when, and which step
    self._active = jax.process_index() == 0
    console = rich.console.Console(file=self._stream, highlight=False)
    if self._active and console.is_terminal and not console.is_dumb_terminal:
      self._live = rich.live.Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=sys.stdout.isatty(),  # a pipe gets its lines untouched
      )
      self._live.start()

  def update(
    self, step: int, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Says that `step` updates are done; metrics stay until they change."""
    now = self._clock()
    self._marks.append((now, step))
    self._metrics |= metrics or {}
    wait = 0.1 if self._live else self._interval
    if now - self._printed >= wait or step >= self._total:
      self._print(now)

  def line(self) -> str:
    """The line as it stands."""
    step, total = self._marks[-1][1], self._total
    parts = [self._name, f"{step}/{total}"]
    if total > 0:
      parts.append(f"{100 * step / total:.0f} %")
    if (rate := self._rate()) > 0:
      parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
      if step < total:
        parts.append(f"{duration((total - step) / rate)} left")
    for name in self._show:
      if name in self._metrics:
        parts.append(f"{name} {number(self._metrics[name])}")
    return "  ".join(parts)

  def close(self) -> None:
    """Leaves the last line standing and gives the terminal back."""
    if self._last != self._marks[-1][1]:
      self._print(self._clock())
    if self._live is not None:
      self._live.stop()
      self._live, self._active = None, False

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _rate(self) -> float:
    """Steps a second over the marks of late, the first (compiling) left out."""
    marks = list(self._marks)
    (then, before), (now, step) = marks[min(1, len(marks) - 2)], marks[-1]
    return (step - before) / (now - then) if now > then else 0.0

  def _print(self, now: float) -> None:
    self._printed, self._last = now, self._marks[-1][1]
    if not self._active:
      return
    if self._live is None:
      print(self.line(), file=self._stream, flush=True)
    else:
      text = rich.text.Text(self.line(), no_wrap=True, overflow="ellipsis")
      self._live.update(text, refresh=True)


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


def peak_memory_bytes() -> int:
  """The most memory this process has held so far, as the system counts it."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024
