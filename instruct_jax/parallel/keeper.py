"""JAX's coordination service, in a process beside the first one of a job.

  python -m instruct_jax.parallel.keeper PORT PROCESSES

JAX keeps it in the first process. If that one is killed, the C++ of all others
aborts them with a stack at once, before they could say who is gone. Here it
outlives the first process for as long as the others need to end.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time

from instruct_jax.base import errors

_LINGER = 20.0  # seconds after the first process has gone
_READY, _DONE = "ready", "done"
# Who is gone is found out by `link`, sooner and in words.
HEARTBEAT = 24 * 3600  # seconds


class Keeper:
  """The service, as the first process holds it."""

  def __init__(self, count: int):
    """Starts it for so many processes, at a port that is free."""
    with socket.socket() as free:
      free.bind(("", 0))
      self.port = free.getsockname()[1]
    self._process = subprocess.Popen(
      [sys.executable, "-m", __name__, str(self.port), str(count)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      start_new_session=True,  # Ctrl-C is for the processes that it serves.
    )
    assert self._process.stdout is not None
    if self._process.stdout.readline().strip() != _READY:
      raise errors.UserError(
        f"JAX's coordination service does not start at port {self.port}"
      )

  def shutdown(self) -> None:
    """All others have left: it ends with this process, and does not linger."""
    assert self._process.stdin is not None
    with contextlib.suppress(OSError, ValueError):
      self._process.stdin.write(_DONE)
      self._process.stdin.flush()


def main(port: str, count: str) -> None:
  """Serves until the first process says that it is done, or has gone."""
  from jaxlib import _jax  # late: no version of JAX promises it

  service = _jax.get_distributed_runtime_service(
    f"[::]:{port}", int(count), heartbeat_timeout=HEARTBEAT
  )
  print(_READY, flush=True)
  if not sys.stdin.read().startswith(_DONE):
    time.sleep(_LINGER)
  del service
  os._exit(0)


if __name__ == "__main__":
  main(*sys.argv[1:])
