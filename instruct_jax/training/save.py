"""After a step: a checkpoint where one is due, and the end if asked for."""

import time
from collections.abc import Callable
from typing import Any

from instruct_jax.base import interrupt
from instruct_jax.data.batch import loader
from instruct_jax.parallel import checkpoint
from instruct_jax.training import step


class Saver:
  """Saves when it is due, at the ends of kept epochs, last, and on SIGTERM.

  `earlier` are the seconds of earlier starts, `bases` what the checkpoints
  lack (`step.bases_of`); `flush` is called before a state
  is saved, and raises where it is not worth it.
  """

  def __init__(
    self,
    run: step.Run,
    checkpointer: checkpoint.Checkpointer,
    data: loader.Batches,
    *,
    keep_every: int,
    earlier: float,
    bases: dict[str, Any],
    flush: Callable[[], None],
  ):
    self._run = run
    self._every = run.ctx.config.save_every, keep_every
    self._checkpointer, self._data, self._flush = checkpointer, data, flush
    self._bases = bases
    self._start = time.monotonic() - earlier

  def seconds(self) -> float:
    """Seconds in the loop, those of earlier starts included."""
    return time.monotonic() - self._start

  def __call__(self, done: step.Done) -> None:
    """Raises Interrupted, after saving, where the process is to stop."""
    self._checkpointer.check()
    stop = interrupt.requested()
    if stop or any(done.is_due(every) for every in self._every):
      self._flush()
      extra = {
        "batches": self._data.get_state(),
        "seconds": self.seconds(),
        "bases": self._bases,
      }
      items = step.items_of(self._run, done.state)
      self._checkpointer.save(done.number, items, extra)
    if stop and not done.is_last:
      raise interrupt.Interrupted
