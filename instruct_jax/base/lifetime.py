"""How long this process has lived, and when it first did something of use."""

import os
import pathlib
import time

_IMPORTED = time.monotonic()
_is_told = False


def seconds() -> float:
  """Seconds since the process was started, all imports included.

  Where the system does not say when that was (no Linux), since this import.
  """
  try:
    text = pathlib.Path("/proc/self/stat").read_text()
    ticks = int(text.rpartition(")")[2].split()[19])  # 22nd of all: since boot
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - ticks / os.sysconf("SC_CLK_TCK")
  except (OSError, AttributeError, ValueError, IndexError):
    return time.monotonic() - _IMPORTED


def to_first_step() -> float | None:
  """`seconds` at the first call, that of the first step; None afterwards."""
  global _is_told
  if _is_told:
    return None
  _is_told = True
  return seconds()
