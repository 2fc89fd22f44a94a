"""Parts of a large file of lines, from all over it: what starts in windows.

A record belongs to the window that it starts in, so a long one is as likely to
be seen as a short one.
"""

import random
from collections.abc import Iterator
from typing import IO

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import pieces

Span = tuple[int, int]  # the first byte, and the one behind the last
_MOST = 64  # windows of a file
_LEAST = 1 << 16  # bytes of a window


def spans(size: int, share: int) -> list[Span]:
  """Windows of about `share` bytes together, one in each stretch of a file.

  Always the same of the same size.
  """
  count = max(1, min(_MOST, share // _LEAST))
  stretch, width = size // count, max(1, share // count)
  if stretch <= width:
    return [(0, size)]
  rng = random.Random(size)
  starts = (n * stretch + rng.randrange(stretch - width) for n in range(count))
  return [(start, start + width) for start in starts]


def lines(path: epath.Path, span: Span) -> Iterator[tuple[str, str]]:
  """(its place, line) of the lines that start in a span."""
  with path.open("rb") as file:
    for at, line in _from(file, path, span[0]):
      if at >= span[1]:
        return
      yield _place(at), line


def documents(path: epath.Path, span: Span) -> Iterator[tuple[str, str]]:
  """(where, document) of what starts in a span behind a blank line.

  A document that starts just where the span does belongs to none.
  """
  with path.open("rb") as file:
    held: list[str] = []
    is_behind_blank = span[0] == 0
    start = size = 0
    for at, line in _from(file, path, span[0]):
      if not line.strip():
        if held:
          yield f"{path}:{_place(start)}", "\n".join(held)
        held, size, is_behind_blank = [], 0, True
      elif is_behind_blank and (held or at < span[1]):
        start = start if held else at
        held.append(line)
        size += len(line)
        if size > pieces.LONGEST:
          raise pieces.too_long(f"{path}:{_place(start)}", "a document")
      if at >= span[1] and not held:
        return
    if held:
      yield f"{path}:{_place(start)}", "\n".join(held)


def _from(
  file: IO[bytes], path: epath.Path, start: int
) -> Iterator[tuple[int, str]]:
  """(its first byte, line without its end) from the first that starts there."""
  file.seek(max(start - 1, 0))
  if start:
    file.readline(pieces.LONGEST)
  at = file.tell()
  while line := file.readline(pieces.LONGEST + 1):
    if len(line) > pieces.LONGEST:
      raise pieces.too_long(f"{path}:{_place(at)}", "a line")
    yield at, _text(line, f"{path}:{_place(at)}", is_first=at == 0)
    at += len(line)


def _place(at: int) -> str:
  return f"byte {at + 1}"


def _text(line: bytes, where: str, *, is_first: bool) -> str:
  try:
    text = line.decode("utf-8-sig" if is_first else "utf-8")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{where}: not UTF-8 (byte {error.start + 1} of the line); convert the"
      " file to UTF-8"
    ) from None
  if "\0" in text:
    raise errors.UserError(f"{where}: a NUL byte; this is no text file")
  return text.rstrip("\r\n")
