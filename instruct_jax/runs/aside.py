"""Runs whose place is needed: moved aside, and how many of them are kept.

A finished run stays. Of those that were broken off the newest few do, and any
that another run was built on or that another job reads.
"""

import logging

from etils import epath

from instruct_jax.base import errors, run_folder, storage
from instruct_jax.parallel import checkpoint
from instruct_jax.runs import marks, records

_log = logging.getLogger(__name__)

KEEP = 3


def move(folder: epath.Path, *, keep: int) -> epath.Path:
  """Moves a run aside, under its lock; where it is now.

  Of the runs of this name that were broken off, the newest `keep` stay; what
  is deleted is said.
  """
  target = run_folder.free(folder)
  folder.rename(target)
  earlier = run_folder.all_earlier(folder)
  broken_off = [path for path in earlier if _is_broken_off(path)]
  needed = None
  for path in broken_off[: max(len(broken_off) - keep, 0)]:
    needed = _needed_beside(folder) if needed is None else needed
    if str(path.resolve()) in needed or marks.users(path):
      continue
    path.rmtree()
    _log.warning(
      "%s: deleted, it was broken off (--keep_old=%d)", path.name, keep
    )
  return target


def is_of_use(folder: epath.Path) -> bool:
  """Whether a run that was broken off holds what a later start goes on from."""
  files = run_folder.files(folder)
  saved = files.checkpoints.is_dir() and checkpoint.numbers(files.checkpoints)
  parts = [*files.chunks.glob("*"), *folder.glob("microworld/*/[0-9]*")]
  return bool(saved or parts)


def _is_broken_off(folder: epath.Path) -> bool:
  files = run_folder.files(folder)
  return files.config.exists() and not files.results.exists()


def _needed_beside(folder: epath.Path) -> set[str]:
  """What the runs beside a folder were built on; all, if one cannot tell."""
  needed = set()
  for run in folder.parent.iterdir():
    config = run_folder.files(run).config
    try:
      if config.exists() and "needs" in storage.read_json(config):
        needed |= {str(x.resolve()) for x in records.read_needs(run).values()}
    except errors.UserError as error:
      _log.warning("nothing is deleted: %s", error)
      return {str(path.resolve()) for path in run_folder.all_earlier(folder)}
  return needed
