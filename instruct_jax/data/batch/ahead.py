"""Batches that a thread makes ready while the step before is computed."""

import concurrent.futures
from collections.abc import Callable
from typing import Any

_DEPTH = 2  # batches that are ready, or in the making


class Ahead:
  """What `make` gives for one step after another, made before it is asked for.

  An error of `make` comes out where its step is asked for. Steps that nobody
  asks for, as after a jump to another, are let go of.
  """

  def __init__(self, make: Callable[[int], Any]):
    self._make = make
    self._ready: dict[int, concurrent.futures.Future] = {}
    self._thread: concurrent.futures.ThreadPoolExecutor | None = None

  def __getitem__(self, step: int) -> Any:
    """What there is for a step; those after it are begun."""
    if self._thread is None:
      self._thread = concurrent.futures.ThreadPoolExecutor(
        1, thread_name_prefix="batches"
      )
    wanted = range(step, step + 1 + _DEPTH)
    for other in self._ready.keys() - set(wanted):
      self._ready.pop(other).cancel()
    for each in wanted:
      if each not in self._ready:
        self._ready[each] = self._thread.submit(self._make, each)
    return self._ready.pop(step).result()

  def close(self) -> None:
    """Ends the thread; what it was at is waited for."""
    self._ready.clear()
    if self._thread is not None:
      self._thread.shutdown(wait=True, cancel_futures=True)
      self._thread = None
