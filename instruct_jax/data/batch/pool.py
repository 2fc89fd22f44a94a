"""Several processes that make the pieces of a data set.

What is made, and in which shard it goes, does not depend on how many there are.
Where no process is needed yet small pieces are made right here: to start one
takes a second.
"""

import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections
from etils import epath

import instruct_jax
from instruct_jax import tokenizers
from instruct_jax.base import allocation, errors, interrupt
from instruct_jax.data.batch import pieces, shards, worker

# Bytes of pieces that are whole, or grow, while processes are at others: as
# much while the splits that are held out are short as when they are long.
HELD = 4 << 25
SMALL = 4 << 20  # bytes of a piece that is not worth a process
_TRIMMED = 32 << 20  # bytes that are handed over between two times
_LOOK = 0.2  # seconds between two looks for a signal
_PIPE = 1 << 20  # bytes: a piece goes through in few turns of two processes
_CODE = "from instruct_jax.data.batch import worker; worker.main()"

Made = tuple[pieces.Piece, pieces.Manifest]


def make(
  some: Iterable[pieces.Piece], tokenizer: tokenizers.Tokenizer, team: "Team"
) -> Iterator[Made]:
  """Makes pieces and yields each when it is there, in any order.

  At most two a process are held at once, and no more than fit into `HELD`.
  `tokenizer` lies in the team's folder, too. The team is closed where this does
  not come to its end.

  Raises what `pieces.write` raises; UserError where a process was killed;
  Interrupted and KeyboardInterrupt as `interrupt.check`.
  """
  try:
    yield from _make(some, tokenizer, team)
  except BaseException:
    team.close()
    raise


def _make(some, tokenizer, team):
  let_go = 0  # bytes
  for piece in some:
    interrupt.check()
    if piece.size <= SMALL and not team.is_started:
      yield piece, pieces.write(piece, team.data, tokenizer, team.root)
      continue
    while not team.has_room(piece):
      yield team.result()
    team.put(piece)
    let_go += piece.size
    del piece
    if let_go >= _TRIMMED:
      allocation.trim()  # What is free between pieces adds up.
      let_go = 0
    while team.has_results():
      yield team.result()
  while team.is_busy():
    yield team.result()


def _cores() -> int:
  return len(os.sched_getaffinity(0))


class Team:
  """Processes, each with a thread that hands it pieces; started when needed.

  Args:
    data: what pieces are made by.
    root: the data set's folder.
    processes: how many, 0: one a core.
  """

  def __init__(
    self,
    data: ml_collections.ConfigDict,
    root: epath.PathLike,
    *,
    processes: int = 0,
  ):
    self.data, self.root = data, os.fspath(root)
    self._size = processes or _cores()
    self._pieces: queue.SimpleQueue[pieces.Piece | None] = queue.SimpleQueue()
    self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    self._processes: list[subprocess.Popen] = []
    self._held = 0  # pieces that are waited for
    self._waiting: dict[str, int] = {}  # bytes of those no process has got

  def __enter__(self) -> "Team":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  @property
  def is_started(self) -> bool:
    """Whether there is a process."""
    return bool(self._processes)

  def start(self) -> None:
    """Starts all processes now, so that they are ready when pieces are."""
    while len(self._processes) < self._size:
      self._start()

  def has_room(self, piece: pieces.Piece) -> bool:
    """Whether `put` should be called; each process has one that waits."""
    there = sum(list(self._waiting.values())) + piece.size + piece.beside
    is_small = self._held < self._size or there <= HELD
    return self._held < 2 * self._size and is_small

  def has_results(self) -> bool:
    """Whether `result` returns at once."""
    return not self._results.empty()

  def is_busy(self) -> bool:
    """Whether there will be a result."""
    return self._held > 0

  def put(self, piece: pieces.Piece) -> None:
    """Hands in a piece; starts a process where all have something to do."""
    if len(self._processes) < self._size:
      self._start()
    self._held += 1
    self._waiting[_name(piece)] = piece.size
    self._pieces.put(piece)

  def result(self) -> Made:
    """The next piece that is made; raises what went wrong."""
    while True:
      interrupt.check()
      try:
        piece, said, what = self._results.get(timeout=_LOOK)
      except queue.Empty:
        continue
      self._held -= 1
      if said == "made":
        return piece, what
      raise _error(piece, said, what, self.root)

  def close(self) -> None:
    """Ends all processes; what they were at is not there."""
    for process in self._processes:
      self._pieces.put(None)
      process.kill()
    for process in self._processes:
      process.wait()
    self._processes = []

  def _start(self) -> None:
    process = subprocess.Popen(
      [sys.executable, "-P", "-c", _CODE, str(os.getpid())],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      pipesize=_PIPE,
      env=environment(),
      start_new_session=True,  # Ctrl-C is for this process to hear.
    )
    self._processes.append(process)
    threading.Thread(target=self._serve, args=(process,), daemon=True).start()

  def _serve(self, process: subprocess.Popen) -> None:
    """Hands a process one piece after another, in a thread."""
    assert process.stdin is not None
    assert process.stdout is not None
    is_first = True
    while (piece := self._pieces.get()) is not None:
      bare = pieces.without_records(piece)
      try:
        if is_first:
          setup = self.data.to_dict(), self.root, self.root
          worker.send(process.stdin, setup)
        is_first = False
        worker.send(process.stdin, piece)
        del self._waiting[_name(bare)]
        del piece  # It is long until the next one.
        said, what = worker.receive(process.stdout)
      except (EOFError, OSError):
        said, what = "ended", process.wait()
      self._results.put((bare, said, what))
      if said == "ended":
        return


def _name(piece: pieces.Piece) -> str:
  return f"{piece.split} {piece.number}"


def environment() -> dict[str, str]:
  """One thread a process is enough where there is a process a core."""
  package = pathlib.Path(instruct_jax.__file__).parent.parent
  paths = [str(package), os.environ.get("PYTHONPATH", "")]
  return os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    "TOKENIZERS_PARALLELISM": "false",
  }


def _error(
  piece: pieces.Piece, said: str, what: Any, root: str
) -> BaseException:
  path = shards.path(root, piece.kind, shards.ROWS, piece.split, piece.number)
  if said == "disk":
    return OSError(*what)
  if said == "refused":
    return errors.UserError(what)
  if said == "failed":
    return RuntimeError(f"{path} could not be made:\n{what}")
  is_killed = what == -signal.SIGKILL
  why = f"by signal {-what}" if what < 0 else f"with exit code {what}"
  return errors.UserError(
    f"{path}: the process that made it was ended {why}"
    f"{' (out of memory?)' if is_killed else ''}; the shards that are complete"
    " stay, and the same command goes on from there"
  )
