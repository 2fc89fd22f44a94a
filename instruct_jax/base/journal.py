"""What a run writes while it goes: metrics, samples, TensorBoard's events."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from instruct_jax.base import (
  events,
  logged,
  means,
  run_folder,
  storage,
  weights_and_biases,
)


class Log:
  """metrics.jsonl, samples.jsonl and TensorBoard events of one run.

  A line is on disk when `write` returns. Only the first process writes.
  """

  def __init__(
    self,
    folder: epath.PathLike,
    *,
    tensorboard: bool = True,
    wandb: str = weights_and_biases.OFF,
    config: Mapping[str, Any] | None = None,
  ):
    """Makes the folder; TensorBoard's events go to `<folder>/tensorboard`.

    `wandb` is one of `weights_and_biases.MODES`, `config` what that shows as
    the run's settings.
    """
    self._files = run_folder.files(folder)
    self._page: weights_and_biases.Page | None = None
    self._active = jax.process_index() == 0
    self._tensorboard = tensorboard and self._active
    self._events = None
    self._purge = None
    if self._active:
      epath.Path(folder).mkdir(parents=True, exist_ok=True)
    if self._active and wandb != weights_and_biases.OFF:
      self._page = weights_and_biases.Page(wandb, folder, config or {})

  def write(self, step: int, metrics: means.Metrics) -> dict[str, float]:
    """Appends a line, 'step' first and the rest in alphabetical order.

    Args:
      step: of the updates, as the checkpoint of the same state counts it.
      metrics: (sum, weight) pairs or numbers, on devices or not.

    Returns:
      the means written, for a progress line.
    """
    values = means.divide(metrics)
    if self._active:
      ordered = {name: values[name] for name in sorted(values)}
      _append(self._files.metrics, [{"step": int(step)} | ordered])
    if self._tensorboard:
      self._write_events(step, values)
    if self._page is not None:
      self._page.write(step, values)
    return values

  def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows to samples.jsonl, each with its step in front."""
    if self._active:
      lines = [{"step": int(step)} | dict(row) for row in rows]
      _append(self._files.samples, lines)

  def truncate(self, step: int) -> None:
    """Forgets what comes after `step`, and half-written lines; -1: everything.

    To be called before the first `write` of a run that continues at `step`, or
    starts afresh. The files are replaced whole or not at all.
    """
    self._events, self._purge = None, int(step) + 1
    if self._active:
      for path in (self._files.metrics, self._files.samples):
        _truncate(path, step)

  def close(self) -> None:
    """Ends TensorBoard's file (a later `write` opens a new one), and W&B's."""
    self._events, self._purge = None, None
    if self._page is not None:
      self._page.close()
      self._page = None

  def __enter__(self) -> "Log":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _write_events(self, step: int, values: Mapping[str, float]) -> None:
    """One event a step; what is not finite is a gap in TensorBoard's curve."""
    from tensorboardX.proto import event_pb2, summary_pb2  # late: slow

    if self._events is None:
      self._events = self._open_events()
    summary = summary_pb2.Summary(
      value=[
        summary_pb2.Summary.Value(tag=name, simple_value=value)
        for name, value in values.items()
        if math.isfinite(value)
      ]
    )
    self._events.add(event_pb2.Event(summary=summary), step)

  def _open_events(self):
    from tensorboardX.proto import event_pb2

    found = events.Events(self._files.tensorboard)
    if self._purge is not None:  # tells TensorBoard to forget what came after
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      found.add(event_pb2.Event(session_log=start), self._purge)
    return found


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
  storage.append(path, text.encode("utf-8", "backslashreplace"))


def _truncate(path: epath.Path, step: int) -> None:
  if not path.exists():
    return
  old = path.read_bytes()
  new = b"".join(
    line + b"\n"
    for line in old.split(b"\n")
    if (row := logged.parse(line)) is not None and row["step"] <= step
  )
  if new != old:
    storage.write(path, new)
