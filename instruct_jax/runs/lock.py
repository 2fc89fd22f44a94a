"""One job at a time works in a run's folder.

The lock stands beside the folder, as `.NAME.lock`, so that it stays where it
is when the folder is moved aside. It names its holder: host, process, since
when. A holder touches it every few seconds; one that was killed is told by its
process being gone (on the same machine) or by a lock that is no longer
touched (on another), and is taken over, which the log says.

What it promises: on a local disk, one holder. On a network file system the
same, as long as it can link or create a file exclusively; a holder on another
machine counts as gone after `PATIENCE` seconds without a touch. A bucket has
neither, so there two jobs that start within seconds may both go on.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator

from etils import epath

from instruct_jax.base import errors, interrupt, run_folder, storage
from instruct_jax.parallel import hosts
from instruct_jax.runs import holders

_log = logging.getLogger(__name__)


class Taker:
  """Takes one lock at a time, for the first process of a job."""

  def __init__(self):
    self.mine = holders.here()
    self._path: epath.Path | None = None
    self._made: list[epath.Path] = []  # folders that were made for the lock

  def attempt(self, folder: epath.Path) -> holders.Holder | None:
    """Takes the lock of a run's folder; who holds it where somebody does."""
    self.give_back()
    self.mine = holders.here()  # It holds from now on.
    self._path = path = run_folder.lock_of(folder)
    self._made = [above for above in path.parents if not above.exists()]
    while True:
      path.parent.mkdir(parents=True, exist_ok=True)
      try:
        other = _try(path, self.mine)
      except FileNotFoundError:  # Who had made the folder has removed it.
        continue
      if other is not None:
        self._path = None
      return other

  def give_back(self) -> None:
    """Gives the lock back, if it was taken, and removes empty folders."""
    path, self._path = self._path, None
    if path is not None:
      _release(path, self.mine)
      storage.remove_empty(self._made)


@contextlib.contextmanager
def hold_one(choose: Callable[[Taker], epath.Path]) -> Iterator[epath.Path]:
  """Holds the lock of the run's folder that `choose` took; yields that folder.

  Every process of the job calls it. The first one chooses, while the others
  wait for it, and Ctrl-C waits until `choose` calls `interrupt.check`. Folders
  that were made for the lock go with it if nothing else came into them.

  Raises what `choose` raises.
  """
  taker = Taker()
  with interrupt.deferred(), interrupt.undone_by(taker.give_back):
    try:
      folder = epath.Path(
        hosts.once("take a lock", lambda: os.fspath(choose(taker)))
      )
      path = run_folder.lock_of(folder)
      touching = holders.touching(path, taker.mine, hosts.is_writer())
      with touching, interrupt.allowed():
        yield folder
        hosts.barrier(f"unlock {path.name}")
    finally:
      if hosts.is_writer():
        taker.give_back()


@contextlib.contextmanager
def hold(folder: epath.Path, *, wait: bool = True) -> Iterator[None]:
  """Holds the lock of a run's folder; every process of the job calls it.

  The first process takes it, the others wait for that one. Where another job
  holds it, it is waited for, and the log says for whom.

  Raises:
    UserError: it is held and `wait` is off.
    Interrupted: SIGTERM came while waiting; KeyboardInterrupt at Ctrl-C.
  """
  with hold_one(lambda taker: _waited_for(folder, taker, wait)):
    yield


def _waited_for(folder: epath.Path, taker: Taker, wait: bool) -> epath.Path:
  while other := taker.attempt(folder):
    path = run_folder.lock_of(folder)
    if not wait:
      raise errors.UserError(refusal(path, other))
    interrupt.check()
    holders.say(f"waiting for {path.name}: held by {other}")
    time.sleep(holders.POLL)
  return folder


def refusal(path: epath.Path, other: holders.Holder) -> str:
  """What a job says that does not wait for a lock."""
  return (
    f"{path}: held by {other}. Wait for it, leave --nowait out, or name"
    " another --workdir."
  )


def _try(path: epath.Path, mine: holders.Holder) -> holders.Holder | None:
  """Takes the lock; who holds it where somebody does."""
  with alone(path.parent):
    other, last = holders.read(path)
    gone = holders.gone(path, other, last) if other is not None else ""
    if other is not None and not gone:
      return other
    if gone:
      path.unlink(missing_ok=True)
    if not _create(path, mine):  # On other machines they look, too.
      return holders.read(path)[0] or mine
    if gone:
      _log.warning("%s: %s; its lock is taken over", path.name, gone)
  return None


def _create(path: epath.Path, mine: holders.Holder) -> bool:
  """Makes the lock, whole; False where another was faster."""
  if "://" in os.fspath(path):
    if path.exists():
      return False
    storage.write(path, mine.text)
    time.sleep(2 * holders.POLL)  # The last writer is who holds it.
    return holders.read(path)[0] == mine
  beside = path.parent / f"{path.name}.{mine.token}"
  try:
    with storage.naming(beside):
      beside.write_text(mine.text)
    try:
      os.link(beside, path)
    except FileExistsError:
      return False
    except FileNotFoundError:
      raise
    except OSError:
      return _create_without_links(path, mine)
  finally:
    beside.unlink(missing_ok=True)
  return True


def _create_without_links(path: epath.Path, mine: holders.Holder) -> bool:
  try:
    with storage.naming(path), open(path, "x", encoding="utf-8") as file:
      file.write(mine.text)
  except FileExistsError:
    return False
  except OSError:
    path.unlink(missing_ok=True)  # Empty, it would be nobody's.
    raise
  return True


def _release(path: epath.Path, mine: holders.Holder) -> None:
  with contextlib.suppress(OSError, errors.UserError), alone(path.parent):
    if holders.read(path)[0] == mine:
      path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
  """No other process of this machine looks at the locks in a folder.

  Nor one of another machine where the file system's locks reach so far.
  """
  if "://" in os.fspath(folder):
    yield
    return
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # a file system that cannot do it
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)
