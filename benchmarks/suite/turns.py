"""Two workers take turns, A B B A, each in a process of its own."""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.peers import channel
from benchmarks.suite import figures

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
_OF_THREADS = (
  "OMP_NUM_THREADS",
  "OPENBLAS_NUM_THREADS",
  "MKL_NUM_THREADS",
)
_OF_ALLOCATORS = ("LD_PRELOAD", "GLIBC_TUNABLES", "XLA_FLAGS")
LOAD = 900.0  # seconds until a worker must be ready
RUN = 3600.0  # seconds that one run may take


class Failed(Exception):
  """A worker that did not do its work; the message says how."""


def environment() -> dict[str, str]:
  """A worker's: two threads, no allocator's flags, no hub.

  Both sides have the same; what this process was given beyond that stays.
  """
  given = {
    name: value
    for name, value in os.environ.items()
    if name not in _OF_ALLOCATORS and not name.startswith("MALLOC_")
  }
  return (
    given
    | dict.fromkeys(_OF_THREADS, str(channel.THREADS))
    | {
      "HF_HUB_OFFLINE": "1",
      "TOKENIZERS_PARALLELISM": "false",
      "PYTHONUNBUFFERED": "1",
    }
  )


class Worker:
  """The suite's end of a channel (`benchmarks/peers/channel.py`)."""

  def __init__(self, name: str, command: Sequence[str], log: pathlib.Path):
    """Starts it; `ready` waits for it."""
    self.name, self._log_path = name, log
    self._log = log.open("wb")
    self._process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment(),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._log,
      text=True,
    )
    self._lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def ready(self) -> dict[str, Any]:
    """What it says when its work is loaded; raises Failed."""
    return self._answer("ready", LOAD)

  def run(self) -> figures.Run:
    """One run, measured by the worker itself; raises Failed."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write("run\n")
      self._process.stdin.flush()
    return self._answer("done", RUN)

  def close(self) -> None:
    """Ends it."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._log.close()

  def _read(self):
    for line in self._process.stdout:
      self._lines.put(line)
    self._lines.put("")

  def _answer(self, event, seconds):
    try:
      line = self._lines.get(timeout=seconds)
    except queue.Empty:
      self._process.kill()
      raise Failed(f"{self.name}: no answer in {seconds:.0f} s") from None
    if not line:
      code = self._process.wait()
      raise Failed(f"{self.name}: died with exit code {code}: {self._last()}")
    try:
      said = json.loads(line)
    except ValueError:
      raise Failed(f"{self.name}: said {line[:200]!r}") from None
    if said.get("event") != event:
      raise Failed(f"{self.name}: {said.get('why', line[:200])}")
    return said

  def _last(self):
    """The end of what it printed."""
    lines = self._log_path.read_text(errors="replace").splitlines()
    return " | ".join(x.strip() for x in lines[-3:]) or "it printed nothing"


@contextlib.contextmanager
def open_worker(name: str, command: Sequence[str]) -> Iterator[Worker]:
  """A worker that is gone when the block ends, however it does."""
  with tempfile.TemporaryDirectory() as folder:
    worker = Worker(name, command, pathlib.Path(folder) / "log.txt")
    try:
      yield worker
    finally:
      worker.close()


def done(command: Sequence[str]) -> str:
  """What a command prints, run as a worker is; raises Failed."""
  ended = subprocess.run(
    command, cwd=ROOT, env=environment(), capture_output=True, text=True
  )
  if ended.returncode:
    lines = ended.stderr.splitlines()
    raise Failed(" | ".join([command[1], *lines[-3:]]))
  return ended.stdout


def ours(workload: str, spec_file: pathlib.Path) -> list[str]:
  """The command of our worker."""
  module = "benchmarks.suite.ours"
  return [sys.executable, "-m", module, workload, str(spec_file)]


def peer(
  python: pathlib.Path, script: str, workload: str, spec_file: pathlib.Path
) -> list[str]:
  """The command of a peer's worker, in its environment."""
  return [str(python), str(PEERS / script), workload, str(spec_file)]


def order(repeats: int) -> list[bool]:
  """Whether the first side is next: A B B A A B B A ..."""
  turns = []
  for i in range(repeats):
    turns += [True, False] if i % 2 == 0 else [False, True]
  return turns


def alternate(
  run_a: Callable[[], figures.Run],
  run_b: Callable[[], figures.Run],
  repeats: int,
) -> tuple[list[figures.Run], list[figures.Run]]:
  """The runs of both in turn; the i-th of one stands beside the other's."""
  first: list[figures.Run] = []
  second: list[figures.Run] = []
  for is_first in order(repeats):
    if is_first:
      first.append(run_a())
    else:
      second.append(run_b())
  return first, second
