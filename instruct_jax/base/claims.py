"""What a command may write, and what it has written itself.

What a command writes where its user points is claimed first and signed when it
is complete: `.written.json`, in the folder around it, then holds the size and
the time of all its files, and what still has them may be written anew.
"""

import contextlib
import glob
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage

LEDGER = ".written.json"
PARTIAL = ".partial"  # in a folder that is there, what will be in it


def claim(
  target: epath.PathLike,
  *,
  reads: Iterable[epath.PathLike] = (),
  overwrite: bool = False,
  flag: str = "--overwrite",
  folder: bool = False,
) -> None:
  """Raises UserError where a command must not write what its user points at.

  That is: on, in or around something that it reads (by whatever name or link),
  where nothing can be written, and, unless `overwrite`, where something stands
  that was not signed, or has changed since. Nothing is created.

  Args:
    target: the file to write.
    reads: files, folders and patterns; what is not there is no concern here.
    overwrite: what the user said by `flag`.
    flag: how the user may say so.
    folder: the target is a folder, which may be there if it is empty.
  """
  if not os.fspath(target):
    raise errors.UserError("an empty path where a name to write is due")
  path = epath.Path(target)
  for pattern in reads:
    for source in _matches(os.fspath(pattern)):
      _check_apart(path, source)
  if not _is_there(path):
    return
  is_file = path.exists() if storage.is_remote(path) else os.path.isfile(path)
  if not (path.is_dir() if folder else is_file and not path.is_dir()):
    raise _misplaced(path, "a folder" if folder else "a file")
  if folder and not any(_inner(path)):
    return
  if not overwrite and not is_signed(path):
    raise errors.UserError(
      f"{path}: is there already, and not (or not any more) as a command of"
      f" instruct_jax wrote it. Name another, or replace it with {flag}."
    )


def check_place(folder: epath.PathLike) -> None:
  """Raises UserError where no folder is and none can be made, or written in."""
  path = epath.Path(folder)
  if not os.fspath(folder):
    raise errors.UserError("an empty path where a folder is due")
  if _is_there(path):
    if not path.is_dir():
      raise _misplaced(path, "a folder")
    _check_open(path)


def sign(*targets: epath.PathLike) -> None:
  """Notes that a command wrote what stands there, all of it."""
  for path in map(epath.Path, targets):
    # Without the note, the next time asks for --overwrite: no reason to fail.
    with (
      contextlib.suppress(OSError),
      storage.alone(path.parent, path, wait=True),
    ):
      ledger = _read_ledger(path.parent)
      kept = {n: e for n, e in ledger.items() if (path.parent / n).exists()}
      storage.write_json(
        path.parent / LEDGER, {**kept, path.name: dict(_stamps(path))}
      )


def is_signed(path: epath.PathLike) -> bool:
  """Whether all that stands there is as a command of ours has written it."""
  path = epath.Path(path)
  signed = _read_ledger(path.parent).get(path.name, {})
  return all(signed.get(name) == stamp for name, stamp in _stamps(path))


def _read_ledger(folder: epath.Path) -> dict[str, Any]:
  try:
    return storage.read_json(folder / LEDGER)
  except errors.UserError:
    return {}


def _stamps(path: epath.Path) -> Iterator[tuple[str, list[int]]]:
  """(name within, [bytes, time]) of a file, '.', or of a folder's files."""
  for file in _files(path):
    if storage.is_remote(file):
      found = [int(file.stat().length), int(file.stat().mtime)]
    else:
      status = os.lstat(file)
      found = [status.st_size, status.st_mtime_ns]
    yield str(file.relative_to(path)), found


def _files(path: epath.Path) -> Iterator[epath.Path]:
  if path.is_dir():
    for inner in _inner(path):
      yield from _files(inner)
  else:
    yield path


def _inner(folder: epath.Path) -> Iterator[epath.Path]:
  return (path for path in folder.iterdir() if path.name != PARTIAL)


def _matches(pattern: str) -> list[str]:
  """What a pattern names; a file with a star in its name is itself."""
  if storage.is_remote(pattern) or os.path.exists(pattern):
    return [pattern]
  return glob.glob(pattern, recursive=True)


def _check_apart(target: epath.Path, source: str) -> None:
  if storage.is_remote(target) or storage.is_remote(source):
    same = os.fspath(target).rstrip("/") == source.rstrip("/")
    inside = os.fspath(target).startswith(f"{source.rstrip('/')}/")
    around = source.startswith(f"{os.fspath(target).rstrip('/')}/")
  else:
    here, there = (
      pathlib.Path(os.path.realpath(x)) for x in (os.fspath(target), source)
    )
    same = _is_same(here, there)
    inside = any(_is_same(parent, there) for parent in here.parents)
    around = any(_is_same(here, parent) for parent in there.parents)
  how = "is" if same else "lies in" if inside else "holds" if around else ""
  if how:
    raise errors.UserError(
      f"{target}: {how} {source}, which is read. Name another place to write."
    )


def _is_same(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether two names are of one file: links, mounts, upper and lower case."""
  try:
    return one == other or one.samefile(other)
  except OSError:
    return False


def _is_there(path: epath.Path) -> bool:
  """Whether something stands there; UserError where nothing can be written."""
  if storage.is_remote(path):
    return path.exists()
  parents = map(epath.Path, pathlib.Path(path).absolute().parents)
  above = next(parent for parent in parents if os.path.lexists(parent))
  if not above.is_dir():
    raise _misplaced(above, "a folder")
  _check_open(above)
  try:
    os.lstat(path)
  except FileNotFoundError:
    return False
  except OSError as error:
    raise errors.UserError(f"{path}: {error.strerror}.") from None
  return True


def _check_open(folder: epath.Path) -> None:
  if not storage.is_remote(folder) and not os.access(folder, os.W_OK | os.X_OK):
    is_fixed = os.statvfs(folder).f_flag & os.ST_RDONLY
    why = "is on a read-only disk" if is_fixed else "may not be written by you"
    raise errors.UserError(f"{folder}: {why}; name another place.")


def _misplaced(path: epath.Path, due: str) -> errors.UserError:
  kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder"}
  try:
    kind = kinds.get(stat.S_IFMT(os.stat(path).st_mode), "a device or a pipe")
  except OSError:
    kind = "a link to nothing"
  return errors.UserError(f"{path}: is {kind}, where {due} is due.")
