"""Text in UTF-8, line by line: files compressed or not, local or remote."""

import io
import itertools
import os
from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import compressed, disguised, foreign

_HEAD = 1 << 10
is_header = disguised.is_header


def suffix(path: epath.Path) -> str:
  """The suffix of a file without that of its compression, in lower case."""
  name = path.name.lower()
  for ending in compressed.ENDINGS:
    name = name.removesuffix(ending)
  return os.path.splitext(name)[1]


def head(path: epath.Path) -> bytes:
  """The first bytes of a file's content that are no white space.

  Nothing where it is empty or cannot be read: reading it says why. Raises
  UserError for a file that is neither records nor text.
  """
  try:
    with path.open("rb") as raw, compressed.opened(raw, path) as file:
      first = file.read(_HEAD)
      foreign.check(path, suffix(path), first)
      first = first.removeprefix(b"\xef\xbb\xbf").lstrip()
      while not first and (more := file.read(1 << 16)):
        first = more.lstrip()
      return first
  except (*compressed.ERRORS, ImportError, OSError):
    return b""


def lines(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number, line without its end) of a UTF-8 file, compressed or not."""
  number = 0
  head(path)
  try:
    with path.open("rb") as raw, compressed.opened(raw, path) as file:
      for line in file:
        number += 1
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        if "\0" in text:
          raise _nul(path, number)
        yield number, text.rstrip("\r\n")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); "
      "convert the file to UTF-8"
    ) from None
  except (*compressed.ERRORS, ImportError, OSError) as error:
    raise _unreadable(path, number + 1, error) from None


def whole_lines(path: epath.Path) -> Iterator[str]:
  """The lines of a UTF-8 file with their ends, as `csv` wants them."""
  number = 0
  head(path)
  try:
    with (
      path.open("rb") as raw,
      compressed.opened(raw, path) as file,
      io.TextIOWrapper(file, "utf-8-sig", newline="") as text,
    ):
      for line in text:
        number += 1
        if "\0" in line:
          raise _nul(path, number)
        yield line
  except UnicodeDecodeError:
    for _ in lines(path):  # raises with the place
      pass
    raise
  except (*compressed.ERRORS, ImportError, OSError) as error:
    raise _unreadable(path, number + 1, error) from None


def blocks(path: epath.Path) -> Iterator[tuple[str, str]]:
  """(where, document) of plain text: what stands between blank lines.

  Raises UserError for records by another name, as `disguised` tells them.
  """
  numbered = lines(path)
  is_first = True
  for blank, group in itertools.groupby(
    numbered, lambda pair: not pair[1].strip()
  ):
    if not blank:
      numbers, texts = zip(*group)
      where = f"{path}:{numbers[0]}"
      if is_first:
        disguised.check(where, suffix(path), texts)
      is_first = False
      yield where, "\n".join(texts)


def _unreadable(
  path: epath.Path, number: int, error: Exception
) -> errors.UserError:
  is_damaged = isinstance(error, compressed.ERRORS)
  what = "a damaged compressed file" if is_damaged else "cannot be read"
  return errors.UserError(f"{path}:{number}: {what} ({error})")


def _nul(path: epath.Path, number: int) -> errors.UserError:
  return errors.UserError(f"{path}:{number}: a NUL byte; this is no text file")
