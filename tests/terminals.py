"""A process in a pseudo-terminal, and the keys that are pressed there."""

import contextlib
import fcntl
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import termios
import time

PACKAGE = pathlib.Path(__file__).parents[1]
UP, LEFT, CTRL_C, CTRL_D = b"\x1b[A", b"\x1b[D", b"\x03", b"\x04"
# Ctrl-C is for the process that the terminal controls.
_TAKES_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
  """A process in a terminal of its own."""

  def __init__(self, *command, columns=80, **environment):
    self._own, theirs = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    self.process = subprocess.Popen(
      (sys.executable, "-c", _TAKES_THE_TERMINAL, *command),
      stdin=theirs,
      stdout=theirs,
      stderr=theirs,
      env=os.environ
      | {"TERM": "xterm", "PYTHONPATH": str(PACKAGE), "INPUTRC": "/dev/null"}
      | environment,
      start_new_session=True,
    )
    os.close(theirs)
    self._bytes, self._read = b"", 0

  @property
  def seen(self):
    return self._bytes.decode(errors="replace")

  def press(self, keys):
    os.write(self._own, keys if isinstance(keys, bytes) else keys.encode())

  def wait_for(self, text, seconds=60):
    """Reads until a text has come after what was waited for before."""
    end = time.monotonic() + seconds
    while (found := self.seen.find(text, self._read)) < 0:
      ready, _, _ = select.select([self._own], [], [], 0.1)
      try:
        more = os.read(self._own, 4096) if ready else b""
      except OSError:  # the process has gone
        more, end = b"", 0.0
      self._bytes += more
      assert time.monotonic() < end, self.seen
    assert found >= 0, self.seen
    self._read = found + len(text)

  def wait_for_end(self, seconds=60):
    """Reads all that is left; the process's exit code."""
    with contextlib.suppress(OSError):  # the process has gone
      while more := os.read(self._own, 4096):
        self._bytes += more
    return self.process.wait(seconds)

  def close(self):
    self.process.kill()
    self.process.wait()
    os.close(self._own)
