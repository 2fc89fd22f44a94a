"""Notes beside a run's folder: another job reads it, so it is not moved.

A job notes what it builds on until it ends; who would build that anew, with
other settings, waits. Many may read a run; its lock is for who writes.
"""

import contextlib
import functools
import time
from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors, interrupt, run_folder, storage
from instruct_jax.parallel import hosts
from instruct_jax.runs import holders


@contextlib.contextmanager
def using(folder: epath.Path) -> Iterator[None]:
  """Notes that this job reads the run in a folder, until the block ends.

  To be taken under the run's lock, so that nobody moves it just then. Where
  nothing can be written nothing is noted: nobody can move it either. Notes of
  jobs that were killed go.
  """
  mine = holders.here()
  path = run_folder.mark_of(folder, mine.token)
  if not hosts.is_writer():
    yield
    return
  with contextlib.suppress(OSError, errors.UserError):
    users(folder)
  forget = functools.partial(_forget, path)
  with interrupt.deferred(), interrupt.undone_by(forget):
    try:
      with contextlib.suppress(OSError):
        storage.write(path, mine.text)
      with holders.touching(path, mine), interrupt.allowed():
        yield
    finally:
      forget()


def users(folder: epath.Path) -> list[str]:
  """The other jobs that read the run in a folder, of those that still live."""
  found = []
  for path in run_folder.marks_of(folder):
    holder, last = holders.read(path)
    if holder is None or holder.is_me:
      continue
    if holders.gone(path, holder, last):
      _forget(path)
    else:
      found.append(str(holder))
  return found


def wait_for(folder: epath.Path, others: list[str]) -> None:
  """Says for whom, and waits a moment; Interrupted after SIGTERM."""
  interrupt.check()
  holders.say(
    f"waiting to build {folder.name} anew: {', '.join(others)} reads it"
  )
  time.sleep(holders.POLL)


def _forget(path: epath.Path) -> None:
  with contextlib.suppress(OSError):
    path.unlink(missing_ok=True)
