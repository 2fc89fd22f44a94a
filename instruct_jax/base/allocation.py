"""Memory that is freed stays with the process, for the next program to use.

A program on a CPU takes its temporary arrays anew each time it runs. glibc asks
the system for large pieces and gives each back at once, so every page of them
is cleared and mapped again in every step: of a step of the small models here
15 to 30 % of the processor's time went into that.
"""

import ctypes
import os
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT = 2**31 - 1  # bytes at the end of the heap, the most one can say
_LARGE = 2**30  # bytes; pieces from here on are still given back at once
_CORES = 8  # with more, threads would wait for each other at the one arena


def keep() -> bool:
  """Keeps what is freed; True where that is known to help, and can be told.

  To be called before there are threads: a thread that has memory of its own
  (an arena, of which there is one from here on) cannot hold large pieces.
  """
  tell = _of_glibc("mallopt")
  if tell is None or (os.cpu_count() or 1) > _CORES:
    return False
  settings = {
    _M_MMAP_THRESHOLD: _LARGE,
    _M_TRIM_THRESHOLD: _KEPT,
    _M_ARENA_MAX: 1,
  }
  return all(tell(name, value) for name, value in settings.items())


def trim() -> None:
  """Gives back what is free, as after compiling."""
  give = _of_glibc("malloc_trim")
  if give is not None:
    give(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
  """A function that glibc alone has."""
  if sys.platform != "linux":
    return None
  return getattr(ctypes.CDLL(None), name, None)
