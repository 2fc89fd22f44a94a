"""The labelling server as a process: started, killed, started again."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
_PATIENCE = 180.0  # seconds that a start may take, on a busy machine
_EVERY = 0.05


def free_port() -> int:
  """A port of this machine that nobody listens on."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


class Server:
  """`python -m instruct_jax.label` of a folder; its log is `log`.

  `seconds` is what the last start took until the first page.
  """

  def __init__(self, folder: pathlib.Path, log: pathlib.Path, *arguments: str):
    self.port, self.seconds = free_port(), 0.0
    self.url = f"http://127.0.0.1:{self.port}"
    self._log, self._process = log, None
    self._command = [
      *(sys.executable, "-m", "instruct_jax.label", f"--dir={folder}"),
      *(f"--port={self.port}", *arguments),
    ]
    self.start()

  @property
  def pid(self) -> int:
    """Its process."""
    return self._process.pid

  def start(self) -> None:
    """Starts it and waits for its first page; RuntimeError without one."""
    began = time.monotonic()
    with open(self._log, "ab") as log:
      self._process = subprocess.Popen(
        self._command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
      )
    while not self._answers():
      if self._process.poll() is not None:
        raise RuntimeError(f"it ended: {self.said()[-2000:]}")
      if time.monotonic() - began > _PATIENCE:
        self.kill()
        raise RuntimeError(f"no page in {_PATIENCE:g} s: {self.said()[-2000:]}")
      time.sleep(_EVERY)
    self.seconds = time.monotonic() - began

  def kill(self) -> None:
    """kill -9: nothing of it has a chance to end well."""
    self._end(signal.SIGKILL)

  def stop(self) -> int:
    """SIGTERM; its exit code."""
    return self._end(signal.SIGTERM)

  def said(self) -> str:
    """All that it has logged, over all starts."""
    return self._log.read_text(errors="replace")

  def cpu_seconds(self) -> float:
    """What of the processor this process of it has had."""
    told = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
    ticks = told.rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

  def __enter__(self) -> "Server":
    return self

  def __exit__(self, *_) -> None:
    self.kill()

  def _end(self, number: int) -> int:
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.pid, number)
    return self._process.wait(timeout=30)

  def _answers(self) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
    try:
      connection.request("GET", "/")
      return connection.getresponse().status == 401
    except OSError:
      return False
    finally:
      connection.close()
