"""Errors addressed to a person: what is wrong, where, what would be right."""

import difflib
import errno
import os
from collections.abc import Collection, Iterable, Iterator


class UserError(Exception):
  """Bad input. The command lines print its message alone and exit with 2."""


class Diverged(Exception):
  """Training stopped after too many non-finite updates in a row (exit 3)."""


_ELSEWHERE = "name another place"
# What the system refuses for reasons that lie outside of this program, and
# what a person can do about it.
_REMEDIES = {
  errno.ENOSPC: f"make room there, or {_ELSEWHERE}",
  errno.EDQUOT: f"make room within your quota, or {_ELSEWHERE}",
  errno.EROFS: f"it can only be read: {_ELSEWHERE}",
  errno.EACCES: f"ask for the right to it, or {_ELSEWHERE}",
  errno.EPERM: f"ask for the right to it, or {_ELSEWHERE}",
  errno.ENOTDIR: f"a file stands where a folder should: {_ELSEWHERE}",
  errno.EEXIST: f"something stands there already: {_ELSEWHERE}",
  errno.EISDIR: "a folder stands where a file should: name a file",
  errno.ENOENT: "was it moved or deleted? Name what is there",
  errno.EIO: "the disk, or the way to it, is damaged",
  errno.ENXIO: "no device answers there",
  errno.ENODEV: "no device answers there",
  errno.ESTALE: "the network file system has lost it: mount it again",
  errno.ETIMEDOUT: "the network file system does not answer",
  errno.ENAMETOOLONG: "give it a shorter name",
  errno.ELOOP: "its symbolic links lead in a circle",
  errno.EFBIG: f"the file system holds no file so large: {_ELSEWHERE}",
  errno.EMFILE: "raise the limit of open files (ulimit -n)",
  errno.ENFILE: "raise the limit of open files (ulimit -n)",
  errno.EBADF: "it is closed, or not open for this",
}
# Nothing but the disk gives these: they count also where another error came of
# them, or where a library reports them in words, under a kind of its own.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")
_SMALLER = "take smaller batches, more microbatches or a smaller model"


def of_system(error: BaseException) -> str:
  """What a disk or the memory refused, and the remedy; '' for another error.

  Looks at the error and at what it was raised from, since libraries wrap what
  the system told them.
  """
  for each, known in _chain(error):
    if isinstance(each, OSError) and (number := _number(each)) in known:
      names = [str(n) for n in (each.filename, each.filename2) if n is not None]
      where = " -> ".join(names) or "a file"
      said = f"{where}: {os.strerror(number)}" if each.errno else _short(each)
      return f"{said}; {_REMEDIES[number]}"
    if isinstance(each, MemoryError):
      return f"out of memory{f' ({each})' if str(each) else ''}; {_SMALLER}"
  for each, _ in _chain(error):
    text = str(each)
    for number in _OF_DISKS:
      if os.strerror(number) in text:
        return f"{_short(each)}; {_REMEDIES[number]}"
    if type(each).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and any(
      words in text for words in _NO_MEMORY
    ):
      return f"the device is out of memory: {_short(each)}; {_SMALLER}"
  return ""


def _chain(
  error: BaseException,
) -> Iterator[tuple[BaseException, Collection[int]]]:
  """An error and what it came of, each with the numbers that count there."""
  seen: set[int] = set()
  each: BaseException | None = error
  known: Collection[int] = _REMEDIES
  while each is not None and id(each) not in seen:
    yield each, known
    seen.add(id(each))
    if each.__cause__ is None:
      known = _OF_DISKS
    hidden = each.__suppress_context__
    each = each.__cause__ or (None if hidden else each.__context__)


def _number(error: OSError) -> int:
  """Its errno; libraries leave it out where they raise one of the kinds."""
  kinds = (
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (FileExistsError, errno.EEXIST),
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
  )
  known = (number for kind, number in kinds if isinstance(error, kind))
  return error.errno or next(known, 0)


def _short(error: object) -> str:
  """The first line of a library's message, of bounded length."""
  line = " ".join(str(error).strip().partition("\n")[0].split())
  return line if len(line) <= 300 else f"{line[:300]} …"


def unknown(
  what: str, name: str, known: Iterable[str], *, show: int = 40
) -> UserError:
  """An error for a name that does not exist, with the nearest one suggested.

  All names are listed where they are at most `show`, else the nearest.
  """
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=min(show, 5), cutoff=0.5)
  hint = f" Did you mean '{near[0]}'?" if near else ""
  label, listed = ("Known", known) if len(known) <= show else ("Near", near)
  names = f" {label}: {', '.join(listed)}." if listed else ""
  return UserError(f"unknown {what} '{name}'.{hint}{names}")
