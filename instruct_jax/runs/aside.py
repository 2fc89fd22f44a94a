"""Runs whose place is needed: moved aside, and how many of them are kept.

A finished run stays, and gets its name back where it fits again, or where what
it gave way to came to nothing. Of those that were broken off the newest few
stay, and any that another run was built on or that another job reads.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Collection, Iterator

from etils import epath

from instruct_jax.base import errors, interrupt, run_folder, storage
from instruct_jax.parallel import checkpoint, hosts
from instruct_jax.runs import marks, records

_log = logging.getLogger(__name__)

KEEP = 3
# A second Ctrl-C gives back in another thread.
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def room(folder: epath.Path, *, why: str, keep: int) -> Iterator[None]:
  """The place of a run that is built, under its lock, by all processes.

  What is there gives way where `why` says that it does not fit. Where the first
  start of the new one fails before anything was saved, what gave way has its
  name again; of the new one nothing stays after bad input or for the disk.

  Args:
    folder: of the run.
    why: what is there gives way; '' where nothing does.
    keep: how many runs of this name that were broken off stay.
  """
  is_new = hosts.once("is it new", lambda: bool(why) or _is_empty(folder))
  gave_way: list[epath.Path] = []
  undo = functools.partial(_give_back, folder, gave_way)
  with interrupt.deferred(), interrupt.undone_by(undo):
    try:
      if why and hosts.is_writer():
        gave_way.append(run_folder.free(folder))
        move(folder)
        name, there = folder.name, gave_way[0].name
        _log.warning(
          "%s: built again, because %s. The earlier run is now %s",
          *(name, why, there),
        )
      with interrupt.allowed():
        yield
    except BaseException as error:
      if hosts.is_writer():
        is_input = isinstance(error, errors.UserError | OSError)
        if is_input and is_new and not is_of_use(folder):
          _remove(folder)
        undo()
      raise
  if gave_way:  # Only now: until then it may be needed again.
    prune(folder, keep=keep)


def move(folder: epath.Path) -> epath.Path:
  """Moves a run aside, under its lock; where it is now."""
  target = run_folder.free(folder)
  folder.rename(target)
  return target


def fitting(
  folder: epath.Path, digest: str, but: Collection[str]
) -> epath.Path | None:
  """The newest finished run of a digest that was moved aside from a folder.

  None of those in `but`, nor one that another job reads.
  """
  for path in reversed(run_folder.all_earlier(folder)):
    files = run_folder.files(path)
    if not (files.config.exists() and files.results.exists()):
      continue
    try:
      fits = storage.read_json(files.config).get("digest") == digest
      storage.read_json(files.results)
    except errors.UserError:  # damaged: it is built again
      continue
    if fits and str(path.resolve()) not in but and not marks.users(path):
      return path
  return None


def prune(folder: epath.Path, *, keep: int) -> None:
  """Of the runs of this name that were broken off, the newest `keep` stay.

  What is deleted is said.
  """
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


def _give_back(folder: epath.Path, gave_way: list[epath.Path]) -> None:
  """Gives what was moved aside its name again, if the new one is of no use."""
  with _one_at_a_time:
    if not gave_way or not gave_way[0].exists() or is_of_use(folder):
      return
    metrics = run_folder.files(folder).metrics
    try:
      if not metrics.exists() or not metrics.stat().length:
        _remove(folder)
      if folder.exists():  # People may want to see how far it came.
        move(folder)
      gave_way.pop().rename(folder)
    except OSError as error:
      _log.error("%s keeps its new name: %s", folder.name, error)
    else:
      _log.warning("%s: the earlier run has its name again", folder.name)


def _remove(folder: epath.Path) -> None:
  with contextlib.suppress(OSError):
    folder.rmtree(missing_ok=True)


def _is_empty(folder: epath.Path) -> bool:
  return not folder.exists() or not any(folder.iterdir())


def is_of_use(folder: epath.Path) -> bool:
  """Whether a run has finished, or holds what a later start goes on from."""
  files = run_folder.files(folder)
  saved = files.checkpoints.is_dir() and checkpoint.numbers(files.checkpoints)
  parts = [*files.chunks.glob("*"), *folder.glob("microworld/*/[0-9]*")]
  parts += _of_files(folder)
  return bool(files.results.exists() or saved or parts)


def _of_files(folder: epath.Path) -> list[epath.Path]:
  """What is complete of a data set of people's files: shards, a tokenizer."""
  begun = run_folder.files(folder).begun
  try:
    text = storage.read_json(begun).get("tokenizer_text")
  except errors.UserError:
    return []  # Without it nothing can be gone on from.
  is_trained = isinstance(text, dict) and text.get("documents")
  return [*folder.glob("*/pieces/*.json"), *([begun] if is_trained else [])]


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
