"""SIGTERM asks a run to save what it has and to stop (exit code 75)."""

import signal
import threading

EXIT_CODE = 75  # EX_TEMPFAIL: run the same command again to continue

_requested = threading.Event()


class Interrupted(Exception):
  """Raised by a run that has saved its work after SIGTERM."""


def install() -> None:
  """Makes SIGTERM set the flag that `requested` reads. Main thread only."""
  _requested.clear()
  signal.signal(signal.SIGTERM, lambda *_: _requested.set())


def requested() -> bool:
  """True once SIGTERM has come."""
  return _requested.is_set()


def check() -> None:
  """Raises Interrupted once SIGTERM has come; call it where work is saved."""
  if requested():
    raise Interrupted
