"""Jobs that say in a small file beside a run that they work with it.

The file names the job: host, process, since when. The job touches it every few
seconds; one that was killed is told by its process being gone (on the same
machine) or by a file that is no longer touched (on another).
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import math
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping

from etils import epath

from instruct_jax.base import errors, storage

_log = logging.getLogger(__name__)

TOUCH = 10.0  # seconds between a holder's touches
PATIENCE = 120.0  # seconds without a touch after which a holder is gone
POLL, _SAY = 0.5, 5.0  # seconds between looks, and between lines that say so


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who holds a file."""

  host: str
  machine: str  # boot and process namespace: within it, process ids mean us
  process: int
  started: str  # of the process, by the system's clock: ids are used again
  since: str  # when the file was made, for people
  token: str  # of this holding
  # Of a job: the digests of the stages that its command needs, by name.
  stages: dict[str, str] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    return f"process {self.process} on {self.host} since {self.since}"

  @property
  def is_me(self) -> bool:
    """Whether it is this process."""
    return (self.machine, self.process) == (machine(), os.getpid())

  @property
  def text(self) -> str:
    """What stands in the file."""
    tree = dataclasses.asdict(self)
    return json.dumps({k: v for k, v in tree.items() if k != "stages" or v})

  @property
  def seconds(self) -> float:
    """For how long it has held the file; 0 where nobody can tell."""
    with contextlib.suppress(ValueError, TypeError):
      since = datetime.datetime.fromisoformat(self.since)
      now = datetime.datetime.now().astimezone()
      return max(0.0, (now - since).total_seconds())
    return 0.0


def here(stages: Mapping[str, str] | None = None) -> Holder:
  """This process, as the holder of a new file."""
  now = datetime.datetime.now().astimezone()
  return Holder(
    host=socket.gethostname(),
    machine=machine(),
    process=os.getpid(),
    started=_started(os.getpid()),
    since=now.isoformat(sep=" ", timespec="seconds"),
    token=uuid.uuid4().hex,
    stages=dict(stages or {}),
  )


def machine() -> str:
  """What names this machine, and the process ids that hold on it."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:  # no Linux
    return socket.gethostname()


def read(path: epath.Path) -> tuple[Holder | None, float]:
  """Who holds a file and when it was last touched; (None, 0) if nobody.

  Raises UserError for a file that is none of a holder.
  """
  try:
    last = path.stat().mtime
    return Holder(**json.loads(path.read_text())), float(last)
  except FileNotFoundError:
    return None, 0.0
  except (ValueError, TypeError):
    raise errors.UserError(
      f"{path}: not a lock that can be read. Delete it if no job works there."
    ) from None


def gone(path: epath.Path, other: Holder, last: float) -> str:
  """Why the holder of a file counts as gone; '' while it does not."""
  if other.machine == machine():
    now = _started(other.process)
    if pathlib.Path("/proc").is_dir():
      is_gone = now != other.started
    else:
      is_gone = not _is_process(other.process)
    return f"{other} has ended without giving it back" if is_gone else ""
  # By our clock alone where we watched it; clocks may differ by minutes.
  unchanged = _unchanged(path, other, last)
  if unchanged > PATIENCE or time.time() - last > 10 * PATIENCE:
    return f"{other} has given no sign for {PATIENCE:.0f} s"
  return ""


@contextlib.contextmanager
def touching(
  path: epath.Path, mine: Holder, is_writer: bool = True
) -> Iterator[None]:
  """Gives the sign that the holder of a file lives."""
  stop = threading.Event()
  if is_writer:
    threading.Thread(
      target=_keep_touching, args=(path, mine, stop), daemon=True
    ).start()
  try:
    yield
  finally:
    stop.set()


def say(line: str) -> None:
  """Logs what is waited for, every few seconds."""
  now = time.monotonic()
  if now - _said.get(line, -math.inf) >= _SAY:
    _said[line] = now
    _log.info("%s", line)


_seen: dict[str, tuple[tuple[Holder, float], float]] = {}
_said: dict[str, float] = {}


def _unchanged(path: epath.Path, holder: Holder, last: float) -> float:
  """For how long a file has not been touched, by our clock."""
  before, since = _seen.get(str(path), (None, 0.0))
  if before != (holder, last):
    since = time.monotonic()
    _seen[str(path)] = ((holder, last), since)
  return time.monotonic() - since


def _started(process: int) -> str:
  """When a process started; '' where there is none, or no way to know."""
  try:
    text = pathlib.Path(f"/proc/{process}/stat").read_text()
  except OSError:
    return ""
  state, *fields = text.rpartition(")")[2].split()
  return "" if state in "ZX" else fields[18]  # 22nd of all: ticks since boot


def _is_process(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _keep_touching(
  path: epath.Path, mine: Holder, stop: threading.Event
) -> None:
  while not stop.wait(TOUCH):
    with contextlib.suppress(OSError, errors.UserError):
      if read(path)[0] != mine:
        _log.error("%s was taken over while this job held it", path.name)
        return
      if "://" in os.fspath(path):
        storage.write(path, mine.text)
      else:
        os.utime(path)
