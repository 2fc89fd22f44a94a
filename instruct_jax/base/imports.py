"""Imports that change, while they go on, what all threads import.

While TFDS is imported, etils puts a function of its own in the place of
`builtins.__import__`. In a thread that runs `from math import log` at that
moment, `log` is a module that nobody can call. Orbax's threads do so for every
array that they write: the step is not saved, and where several processes save
together the others wait for this one until Orbax gives up, after ten minutes.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

_waits: list[Callable[[], None]] = []


def note(wait: Callable[[], None]) -> None:
  """Threads may import from now on; `wait` returns when none does."""
  if wait not in _waits:
    _waits.append(wait)


def forget(wait: Callable[[], None]) -> None:
  """They have ended."""
  if wait in _waits:
    _waits.remove(wait)


def alone(name: str) -> Any:
  """The module of that name; where it is not there yet, threads that import
  are waited for first. Raises what their `wait` raises."""
  if name not in sys.modules:
    for wait in tuple(_waits):
      wait()
  return importlib.import_module(name)
