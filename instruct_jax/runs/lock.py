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
import dataclasses
import datetime
import fcntl
import functools
import json
import logging
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors, interrupt, run_folder, storage
from instruct_jax.parallel import hosts

_log = logging.getLogger(__name__)

TOUCH = 10.0  # seconds between a holder's touches
PATIENCE = 120.0  # seconds without a touch after which a holder is gone
_POLL, _SAY = 0.5, 5.0  # seconds between looks, and between lines that say so


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who holds a lock."""

  host: str
  machine: str  # boot and process namespace: within it, process ids mean us
  process: int
  started: str  # of the process, by the system's clock: ids are used again
  since: str  # when the lock was taken, for people
  token: str  # of this holding

  def __str__(self) -> str:
    return f"process {self.process} on {self.host} since {self.since}"


@contextlib.contextmanager
def hold(folder: epath.Path, *, wait: bool = True) -> Iterator[None]:
  """Holds the lock of a run's folder; every process of the job calls it.

  The first process takes it, the others wait for that one. Where another job
  holds it, it is waited for, and the log says for whom.

  Raises:
    UserError: it is held and `wait` is off.
    Interrupted: SIGTERM came while waiting; KeyboardInterrupt at Ctrl-C.
  """
  path = run_folder.lock_of(folder)
  mine = _here()
  release = functools.partial(_release, path, mine)
  with interrupt.deferred(), interrupt.undone_by(release):
    hosts.once(f"lock {path.name}", lambda: _take(path, mine, wait))
    stop = threading.Event()
    if hosts.is_writer():
      threading.Thread(
        target=_keep_touching, args=(path, mine, stop), daemon=True
      ).start()
    try:
      with interrupt.allowed():
        yield
        hosts.barrier(f"unlock {path.name}")
    finally:
      stop.set()
      if hosts.is_writer():
        release()


def _here() -> Holder:
  now = datetime.datetime.now().astimezone()
  return Holder(
    host=socket.gethostname(),
    machine=_machine(),
    process=os.getpid(),
    started=_started(os.getpid()),
    since=now.isoformat(sep=" ", timespec="seconds"),
    token=uuid.uuid4().hex,
  )


def _machine() -> str:
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:  # no Linux
    return socket.gethostname()


def _started(process: int) -> str:
  """When a process started; '' where there is none, or no way to know."""
  try:
    text = pathlib.Path(f"/proc/{process}/stat").read_text()
  except OSError:
    return ""
  state, *fields = text.rpartition(")")[2].split()
  return "" if state in "ZX" else fields[18]  # 22nd of all: ticks since boot


def _take(path: epath.Path, mine: Holder, wait: bool) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  touched = said = None
  while True:
    with _alone(path.parent):
      other, last = _read(path)
      if touched is None or touched[:2] != (other, last):
        touched = other, last, time.monotonic()
      if other is None:
        if _create(path, mine):
          return
        continue
      gone = _is_gone(other, last, time.monotonic() - touched[2])
      if gone:
        path.unlink(missing_ok=True)
        if _create(path, mine):
          _log.warning("%s: %s; its lock is taken over", path.name, gone)
          return
        continue
    if not wait:
      raise errors.UserError(
        f"{path}: held by {other}. Wait for it, leave --nowait out, or name"
        " another --workdir."
      )
    interrupt.check()
    if said is None or time.monotonic() - said >= _SAY:
      said = time.monotonic()
      _log.info("waiting for %s: held by %s", path.name, other)
    time.sleep(_POLL)


def _is_gone(other: Holder, last: float, unchanged: float) -> str:
  """Why the holder counts as gone; '' while it does not."""
  if other.machine == _machine():
    now = _started(other.process)
    if pathlib.Path("/proc").is_dir():
      gone = now != other.started
    else:
      gone = not _is_process(other.process)
    return f"{other} has ended without giving it back" if gone else ""
  # By our clock alone where we watched it; clocks may differ by minutes.
  if unchanged > PATIENCE or time.time() - last > 10 * PATIENCE:
    return f"{other} has given no sign for {PATIENCE:.0f} s"
  return ""


def _is_process(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _read(path: epath.Path) -> tuple[Holder | None, float]:
  """Who holds the lock and when it was last touched; (None, 0) if free."""
  try:
    last = path.stat().mtime
    return Holder(**json.loads(path.read_text())), float(last)
  except FileNotFoundError:
    return None, 0.0
  except (ValueError, TypeError):
    raise errors.UserError(
      f"{path}: not a lock that can be read. Delete it if no job works there."
    ) from None


def _create(path: epath.Path, mine: Holder) -> bool:
  """Makes the lock, whole; False where another was faster."""
  text = json.dumps(dataclasses.asdict(mine))
  if "://" in os.fspath(path):
    if path.exists():
      return False
    storage.write(path, text)
    time.sleep(2 * _POLL)  # The last writer is who holds it.
    return _read(path)[0] == mine
  beside = path.parent / f"{path.name}.{mine.token}"
  beside.write_text(text)
  try:
    os.link(beside, path)
  except FileExistsError:
    return False
  except OSError:  # a file system without links
    try:
      with open(path, "x", encoding="utf-8") as file:
        file.write(text)
    except FileExistsError:
      return False
  finally:
    beside.unlink()
  return True


def _release(path: epath.Path, mine: Holder) -> None:
  with _alone(path.parent), contextlib.suppress(errors.UserError):
    if _read(path)[0] == mine:
      path.unlink(missing_ok=True)


def _keep_touching(
  path: epath.Path, mine: Holder, stop: threading.Event
) -> None:
  while not stop.wait(TOUCH):
    with contextlib.suppress(OSError, errors.UserError):
      if _read(path)[0] != mine:
        _log.error("%s was taken over while this job held it", path.name)
        return
      if "://" in os.fspath(path):
        storage.write(path, json.dumps(dataclasses.asdict(mine)))
      else:
        os.utime(path)


@contextlib.contextmanager
def _alone(folder: epath.Path) -> Iterator[None]:
  """No other process of this machine looks at the locks in a folder."""
  try:
    descriptor = os.open(folder, os.O_RDONLY)
  except OSError:  # a bucket
    yield
    return
  try:
    with contextlib.suppress(OSError):  # a file system that cannot do it
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)
