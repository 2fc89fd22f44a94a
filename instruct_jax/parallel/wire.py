"""Messages between two processes of a job: JSON objects, a line each."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

from instruct_jax.base import errors, interrupt

Message = dict[str, Any]
_PAUSE = 0.2  # seconds between two tries
# The system asks a silent host for a sign: after so many seconds, then so often
# in so many. A process that dies closes its connection at once.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_UNHEARD = 30_000  # ms after which what was sent counts as lost


class Wire:
  """One end of a connection. Any thread may send, one receives."""

  def __init__(self, connection: socket.socket):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    more = _KEEPALIVE | {"TCP_USER_TIMEOUT": _UNHEARD}
    for name, value in more.items():
      if hasattr(socket, name):  # not every system has all of them
        option = getattr(socket, name)
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.settimeout(None)
    self._connection, self._lock = connection, threading.Lock()
    self._file = connection.makefile("r", encoding="utf-8")

  def send(self, message: Message) -> bool:
    """Whether the other end was there to take it."""
    line = (json.dumps(message) + "\n").encode()
    try:
      with self._lock:
        self._connection.sendall(line)
    except OSError:
      return False
    return True

  def receive(self, seconds: float | None = None) -> Message | None:
    """The next message; None where the other end has gone, or says nothing
    that can be read, or nothing for so many seconds."""
    try:
      self._connection.settimeout(seconds)
      line = self._file.readline()
      self._connection.settimeout(None)
      message = json.loads(line)
    except (OSError, ValueError):
      return None
    return message if isinstance(message, dict) else None

  def close(self) -> None:
    """Ends the connection."""
    with contextlib.suppress(OSError):
      self._connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
      self._connection.close()


def address(text: str) -> tuple[str, int]:
  """HOST and PORT of 'HOST:PORT'; UserError for anything else."""
  host, _, port = text.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise errors.UserError(
      f"--coordinator={text}: must be HOST:PORT, where process 0 listens, as in"
      " --coordinator=10.0.0.1:8476"
    )
  return host.strip("[]"), int(port)


def listen(coordinator: str, seconds: float) -> socket.socket:
  """A listener at the port of HOST:PORT, on every address of this machine.

  Raises UserError where something else listens there for so many seconds.
  """
  _, port = address(coordinator)
  end = time.monotonic() + seconds
  while True:
    interrupt.check()
    try:
      both = socket.has_dualstack_ipv6()
      family = socket.AF_INET6 if both else socket.AF_INET
      return socket.create_server(
        ("", port), family=family, dualstack_ipv6=both
      )
    except OSError as error:
      if time.monotonic() > end:
        raise errors.UserError(
          f"--coordinator={coordinator}: process 0 cannot listen at port {port}"
          f" of this machine ({error.strerror or error}). Is there another"
          " process 0, or does another program listen there? Name a free port"
        ) from None
      time.sleep(_PAUSE)


def connect(coordinator: str, seconds: float) -> Wire:
  """A connection to who listens at HOST:PORT.

  Raises UserError where nobody does, for so many seconds.
  """
  end = time.monotonic() + seconds
  while True:
    interrupt.check()
    try:
      return Wire(socket.create_connection(address(coordinator), timeout=5))
    except OSError as error:
      if time.monotonic() > end:
        raise errors.UserError(
          f"--coordinator={coordinator}: nobody answers there after"
          f" {seconds:.0f} s ({error.strerror or error}). Is process 0 started,"
          " on that host, with the same --coordinator?"
        ) from None
      time.sleep(_PAUSE)
