"""What keeps the devices busy, phase by phase, and how long nothing does.

Programs are dispatched and run on by themselves. While a `Watch` is open, a
thread of its own waits for what each phase made, so that nobody who dispatches
has to: measuring costs a step nothing.
"""

import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from instruct_jax.base import compilation

COMPILING, IDLE = "compiling", "idle"
Seconds = concurrent.futures.Future[dict[str, float]]  # by phase
_Made = Callable[[Any], None]
_watches: list["Watch"] = []  # the open ones; the last one measures


@contextlib.contextmanager
def phase(name: str) -> Iterator[_Made]:
  """Books what the devices do in here on `name`, where a watch is open.

  Yields a function that is to be called with what was made (a tree of arrays
  that nobody takes over). Of phases inside of one another each has its own; the
  outer one has the rest.
  """
  watch = _watches[-1] if _watches else None
  begun, compiled = time.monotonic(), compilation.program_seconds()
  last: list[Any] = []
  with jax.profiler.TraceAnnotation(name):  # free while nobody traces
    yield last.append
  if watch is not None:
    compiled = compilation.program_seconds() - compiled
    watch.put(name, begun, compiled, last)


@contextlib.contextmanager
def whole(name: str) -> Iterator[_Made]:
  """As `phase`, for what has phases inside that are not to be booked."""
  with phase(name) as made:
    before, _watches[:] = list(_watches), []
    try:
      yield made
    finally:
      _watches[:] = before


class Watch:
  """Seconds by phase, from `put` to `step` a step, of one process's devices.

  Time in which they have nothing to do is `idle` between phases, and
  `compiling` where a program is made that they wait for.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    self._clock = clock
    self._queue: queue.SimpleQueue = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._wait, daemon=True)

  def __enter__(self) -> "Watch":
    self._free = self._clock()  # since when the devices have nothing to do
    self._thread.start()
    _watches.append(self)
    return self

  def __exit__(self, *_: object) -> None:
    _watches.remove(self)
    self._queue.put(None)
    self._thread.join()

  def put(self, name: str, begun: float, compiled: float, made: Any) -> None:
    """A phase `begun` then, with so many seconds of making programs in it."""
    self._queue.put((name, begun, compiled, made))

  def step(self) -> Seconds:
    """Ends a step: its seconds by phase, known when all of it is done."""
    seconds: Seconds = concurrent.futures.Future()
    self._queue.put(seconds)
    return seconds

  def _wait(self):
    """Runs in the thread."""
    booked: dict[str, float] = {}
    while (item := self._queue.get()) is not None:
      if isinstance(item, concurrent.futures.Future):
        item.set_result(booked)
        booked = {}
      else:
        self._book(booked, *item)
      item = None  # Nothing is kept alive until the next one comes.

  def _book(self, booked, name, begun, compiled, made):
    with contextlib.suppress(Exception):  # Who reads the array raises it.
      jax.block_until_ready(made)
    now = self._clock()
    waited = max(0.0, begun - self._free)
    since = max(begun, self._free)
    making = min(max(0.0, begun + compiled - since), now - since)
    parts = {IDLE: waited, COMPILING: making, name: now - since - making}
    for part, seconds in parts.items():
      booked[part] = booked.get(part, 0.0) + max(0.0, seconds)
    self._free = now


def shares(seconds: dict[str, float]) -> str:
  """'update 52 %, generate 31 %, idle 3 %', the longest first, idle last."""
  total = sum(seconds.values())
  if not total:
    return ""
  ordered = sorted(seconds, key=lambda name: (name == IDLE, -seconds[name]))
  shown = [n for n in ordered if n == IDLE or seconds[n] >= total / 200]
  return ", ".join(f"{n} {100 * seconds[n] / total:.0f} %" for n in shown)
