"""Notes beside a run's folder: another job reads it, so it is not moved.

A job notes what it builds on until it ends; who would build that anew, with
other settings, waits. Many may read a run; its lock is for who writes.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator

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
  if not hosts.is_writer():
    yield
    return
  with contextlib.suppress(OSError, errors.UserError):
    users(folder)
  with noting(run_folder.mark_of(folder, mine.token), mine):
    yield


@contextlib.contextmanager
def noting(path: epath.Path, mine: holders.Holder) -> Iterator[None]:
  """Keeps a note that this job lives, of the first process, until the end."""
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
  return [str(other) for other in others(run_folder.marks_of(folder))]


def others(paths: Iterable[epath.Path]) -> list[holders.Holder]:
  """The other jobs that keep these notes; notes of those that died go."""
  found = []
  for path in paths:
    holder, last = holders.read(path)
    if holder is None or holder.is_me:
      continue
    if holders.gone(path, holder, last):
      _forget(path)
    else:
      found.append(holder)
  return found


def _forget(path: epath.Path) -> None:
  with contextlib.suppress(OSError):
    path.unlink(missing_ok=True)
