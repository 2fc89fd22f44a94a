"""Text in UTF-8, by lines or documents: files of any size."""

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from etils import epath

from instruct_jax.data.read import compressed, disguised, pieces

_END = "\n"
_RETURNS = re.compile(r"\r+\n")
# The end of a line, and lines with white space alone behind it.
_BLANKS = re.compile(r"\n(?:[^\S\n]*\n)+")
is_header, suffix, head = disguised.is_header, pieces.suffix, pieces.head


def lines(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number, line without its end) of a UTF-8 file, compressed or not."""
  for number, text in pieces.of_lines(path):
    rows = text.split("\n")
    if not rows[-1]:
      rows.pop()
    if "\r" in text:
      rows = [row.rstrip("\r") for row in rows]
    yield from enumerate(rows, number)


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
      while line := text.readline(pieces.LONGEST + 1):
        number += 1
        if "\0" in line:
          raise pieces.nul(path, number)
        if len(line) > pieces.LONGEST:
          raise pieces.too_long(f"{path}:{number}", "a line")
        yield line
  except UnicodeDecodeError:
    for _ in pieces.of_any(path):  # raises with the place
      pass
    raise
  except (*compressed.ERRORS, ImportError, OSError) as error:
    raise pieces.unreadable(path, number + 1, error) from None


class Where(NamedTuple):
  """Where a document begins; its line is counted when it is to be said."""

  path: str
  number: int  # of the line that `text` begins behind the end of
  text: str
  at: int

  def __str__(self) -> str:
    return f"{self.path}:{self.number + self.text.count(_END, 1, self.at)}"


def blocks(path: epath.Path) -> Iterator[tuple[Where, str]]:
  """(where, document) of plain text: what stands between blank lines.

  Raises UserError for records by another name, as `disguised` tells them, and
  for a document that is too long.
  """
  documents = _documents(path)
  for where, document in documents:
    disguised.check(str(where), suffix(path), document.split("\n"))
    yield where, document
    yield from documents


def _documents(path: epath.Path) -> Iterator[tuple[Where, str]]:
  """What stands between blank lines, and where that begins."""
  held: list[str] = []  # what there is of the document that goes on
  name, size = str(path), 0
  where = Where(name, 1, "", 0)
  for number, text in pieces.of_lines(path):
    text = f"\n{text}" if text.endswith("\n") else f"\n{text}\n"
    if "\r" in text:
      text = _RETURNS.sub("\n", text)
    at = 1  # where the next document starts
    for start, stop in _blanks(text):
      if held:
        if start > at:
          held.append(text[at:start])
        yield where, "\n".join(held)
        held, size = [], 0
      elif start > at:
        yield Where(name, number, text, at), text[at:start]
      at = stop
    if at < len(text):
      if not held:
        where = Where(name, number, text, at)
      held.append(text[at:-1])
      size += len(held[-1])
    if size > pieces.LONGEST:
      raise pieces.too_long(str(where), "a document")
  if held:
    yield where, "\n".join(held)


def _blanks(text: str) -> Iterator[tuple[int, int]]:
  """The spans of `_BLANKS`; in ASCII in half the time."""
  if not text.isascii():
    yield from (blank.span() for blank in _BLANKS.finditer(text))
    return
  content = np.frombuffer(text.encode("ascii"), np.uint8)
  ends = np.flatnonzero(content[:-1] == ord(_END))
  stop = 0
  for start in ends[content[ends + 1] <= ord(" ")].tolist():
    if start >= stop and (blank := _BLANKS.match(text, start)):
      stop = blank.end()
      yield start, stop
