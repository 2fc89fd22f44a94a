"""Files that are whole or not there, and JSON read with errors for people.

A file is written beside its place, as `.NAME.partial`, and renamed when it is
complete. Paths go through epath, so `gs://` works wherever a rename is whole.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from etils import epath

from instruct_jax.base import errors, pointers

_PARTIAL = ".{}.partial"
_OF_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
  *(errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
)


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


def is_half_written(path: epath.PathLike) -> bool:
  """Whether a file has not got its name yet; whoever writes it may be dead."""
  name = os.path.basename(os.fspath(path))
  return name.startswith(".") and name.endswith(".partial")


def write(path: epath.PathLike, content: str | bytes) -> None:
  """Writes a file, text as UTF-8: whole or not at all."""
  with writing(path, "w" if isinstance(content, str) else "wb") as file:
    file.write(content)


def append(path: epath.PathLike, content: bytes) -> None:
  """Appends to a file, which is made: all of it or nothing."""
  path = epath.Path(path)
  if is_remote(path):
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


def remove_empty(folders: Iterable[epath.Path]) -> None:
  """Removes folders, innermost first, until one that something is in."""
  with contextlib.suppress(OSError):
    for folder in folders:
      if not is_remote(folder):  # A bucket has no empty ones.
        os.rmdir(folder)


def blocks(path: epath.PathLike) -> Iterator[bytes]:
  """A file's content, a MiB at a time."""
  with epath.Path(path).open("rb") as file:
    while block := file.read(1 << 20):
      yield block


def digest(path: epath.PathLike) -> str:
  """The sha256 of a file's content."""
  content = hashlib.sha256()
  for block in blocks(path):
    content.update(block)
  return content.hexdigest()


def modified(path: epath.PathLike) -> float:
  """When a file was written, by the clock of its disk; 0 where it is not.

  In seconds; on a bucket in whole ones.
  """
  try:
    if is_remote(path):
      return float(epath.Path(path).stat().mtime or 0)
    return os.stat(path).st_mtime
  except FileNotFoundError:
    return 0.0


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path is a bucket's, or of another store by its address."""
  return "://" in os.fspath(path)


@contextlib.contextmanager
def alone(
  lock: epath.Path, path: epath.Path, *, wait: bool = False
) -> Iterator[None]:
  """No other process of this machine that asks so writes `path` meanwhile.

  `lock` is what is locked: a folder, or a file that is made for it. Raises
  UserError where it is locked, unless `wait`.
  """
  descriptor = None
  while descriptor is None and not is_remote(path):
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
