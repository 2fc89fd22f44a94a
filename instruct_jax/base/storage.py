"""Files that are whole or not there, and JSON read with errors for people.

A file is written beside its place, as `.NAME.partial`, and renamed when it is
complete. Paths go through epath, so `gs://` works wherever a rename is whole.

What a command writes where its user points is claimed first and signed when it
is complete: `.written.json`, in the folder around it, then holds the size and
the time of all its files, and what still has them may be written anew.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from etils import epath

from instruct_jax.base import errors, pointers

_PARTIAL = ".{}.partial"
_OF_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
  *(errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
)
LEDGER = ".written.json"
PARTIAL = ".partial"  # in a folder that is there, what will be in it


@contextlib.contextmanager
def writing(path: epath.PathLike, mode: str = "w") -> Iterator[IO]:
  """A file to write that gets its name when the block ends without an error.

  Text is UTF-8. After an error nothing is left behind and what stood under
  the name before still stands there. Raises UserError where another process
  is writing the same file.
  """
  path = epath.Path(path)
  partial = path.parent / _PARTIAL.format(path.name)
  encoding = {} if "b" in mode else {"encoding": "utf-8"}
  with alone(partial, path), naming(path):
    try:
      with partial.open(mode, **encoding) as file:
        yield file
      partial.replace(path)
    except BaseException:
      with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
      raise


def write(path: epath.PathLike, content: str | bytes) -> None:
  """Writes a file, text as UTF-8: whole or not at all."""
  with writing(path, "w" if isinstance(content, str) else "wb") as file:
    file.write(content)


def append(path: epath.PathLike, content: bytes) -> None:
  """Appends to a file, which is made: all of it or nothing."""
  path = epath.Path(path)
  if _is_remote(path):
    with path.open("ab") as file:
      file.write(content)
    return
  with naming(path), open(path, "ab", buffering=0) as file:
    before, rest = file.seek(0, os.SEEK_END), memoryview(content)
    try:
      while rest:
        rest = rest[file.write(rest) :]
    except BaseException:
      file.truncate(before)
      raise


@contextlib.contextmanager
def naming(path: epath.PathLike) -> Iterator[None]:
  """What the disk says while `path` is written is an OSError that names it.

  Libraries say it in errors of their own, with the system's words in them.
  """
  try:
    yield
    return
  except OSError as error:
    if error.errno and error.filename is None:
      error.filename = os.fspath(path)
    raise
  except (errors.UserError, errors.Diverged):
    raise
  except Exception as error:
    said = next((c for c in _OF_DISK if os.strerror(c) in str(error)), None)
    if said is None:
      raise
  # Out here, so that the library's error and all that it holds can go.
  raise OSError(said, os.strerror(said), os.fspath(path))


def write_lines(path: epath.PathLike, lines: Iterable[str]) -> None:
  """Writes lines, to each of which a newline is added."""
  with writing(path) as file:
    file.writelines(line + "\n" for line in lines)


def write_json(path: epath.PathLike, tree: Any) -> None:
  """Writes indented JSON; what JSON cannot hold is written as its text."""
  write(path, json.dumps(tree, indent=2, default=str) + "\n")


def read_json(
  path: epath.PathLike, *, most_bytes: int = 1 << 30
) -> dict[str, Any]:
  """The object that a JSON file holds.

  Raises UserError, naming the file, where it is missing, too large, no JSON,
  no object, or has a key twice.
  """
  path = epath.Path(path)
  try:
    if path.stat().length > most_bytes:
      raise errors.UserError(f"{path}: too large for a JSON file of its kind.")
    content = path.read_bytes()
    pointers.check(path, content)
    text = content.decode("utf-8-sig")
    tree = json.loads(text, object_pairs_hook=keys_once)
  except FileNotFoundError:
    raise errors.UserError(f"{path}: no such file.") from None
  except (OSError, ValueError, RecursionError) as error:
    raise errors.UserError(f"{path}: not readable JSON ({error}).") from None
  if not isinstance(tree, dict):
    raise errors.UserError(f"{path}: a JSON object should stand here.")
  return tree


def keys_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  """A dict of pairs; ValueError where a key stands twice."""
  tree = dict(pairs)
  if len(tree) < len(pairs):
    seen = set()
    for key, _ in pairs:
      if key in seen:
        raise ValueError(f"the key {key[:60]!r} stands twice")
      seen.add(key)
  return tree


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
  is_file = path.exists() if _is_remote(path) else os.path.isfile(path)
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
    with contextlib.suppress(OSError), alone(path.parent, path, wait=True):
      ledger = _read_ledger(path.parent)
      kept = {n: e for n, e in ledger.items() if (path.parent / n).exists()}
      write_json(path.parent / LEDGER, {**kept, path.name: dict(_stamps(path))})


def is_signed(path: epath.PathLike) -> bool:
  """Whether all that stands there is as a command of ours has written it."""
  path = epath.Path(path)
  signed = _read_ledger(path.parent).get(path.name, {})
  return all(signed.get(name) == stamp for name, stamp in _stamps(path))


def remove_empty(folders: Iterable[epath.Path]) -> None:
  """Removes folders, innermost first, until one that something is in."""
  with contextlib.suppress(OSError):
    for folder in folders:
      if not _is_remote(folder):  # A bucket has no empty ones.
        os.rmdir(folder)


def _read_ledger(folder: epath.Path) -> dict[str, Any]:
  try:
    return read_json(folder / LEDGER)
  except errors.UserError:
    return {}


def _stamps(path: epath.Path) -> Iterator[tuple[str, list[int]]]:
  """(name within, [bytes, time]) of a file, '.', or of a folder's files."""
  for file in _files(path):
    if _is_remote(file):
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


def _is_remote(path: epath.PathLike) -> bool:
  return "://" in os.fspath(path)


def _matches(pattern: str) -> list[str]:
  """What a pattern names; a file with a star in its name is itself."""
  if _is_remote(pattern) or os.path.exists(pattern):
    return [pattern]
  return glob.glob(pattern, recursive=True)


def _check_apart(target: epath.Path, source: str) -> None:
  if _is_remote(target) or _is_remote(source):
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
  if _is_remote(path):
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
  if not _is_remote(folder) and not os.access(folder, os.W_OK | os.X_OK):
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


@contextlib.contextmanager
def alone(
  lock: epath.Path, path: epath.Path, *, wait: bool = False
) -> Iterator[None]:
  """No other process of this machine that asks so writes `path` meanwhile.

  `lock` is what is locked: a folder, or a file that is made for it. Raises
  UserError where it is locked, unless `wait`.
  """
  descriptor = None
  while descriptor is None and not _is_remote(path):
    flags = os.O_RDONLY if lock.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(lock, flags, 0o666)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      os.close(descriptor)
      raise errors.UserError(
        f"{path}: another process is writing it just now."
      ) from None
    except OSError:  # a file system that cannot do it
      pass
    if not _is_same_file(descriptor, lock):  # It has just got its name.
      os.close(descriptor)
      descriptor = None
  try:
    yield
  finally:
    if descriptor is not None:
      os.close(descriptor)


def _is_same_file(descriptor: int, path: epath.Path) -> bool:
  with contextlib.suppress(OSError):
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  return False
