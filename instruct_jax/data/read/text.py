"""Text in UTF-8, by lines or documents: files of any size."""

import io
import re
from collections.abc import Iterator

from etils import epath

from instruct_jax.data.read import compressed, disguised, pieces

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


def blocks(path: epath.Path) -> Iterator[tuple[str, str]]:
  """(where, document) of plain text: what stands between blank lines.

  Raises UserError for records by another name, as `disguised` tells them, and
  for a document that is too long.
  """
  is_first, name = True, str(path)
  for number, document in _documents(path):
    where = f"{name}:{number}"
    if is_first:
      disguised.check(where, suffix(path), document.split("\n"))
    is_first = False
    yield where, document


def _documents(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number of the first line, text) of what stands between blank lines."""
  held: list[str] = []  # what there is of the document that goes on
  first = size = 0
  for number, text in pieces.of_lines(path):
    text = f"\n{text}" if text.endswith("\n") else f"\n{text}\n"
    if "\r" in text:
      text = _RETURNS.sub("\n", text)
    at = counted = 1  # where the next document starts; up to where is `number`
    for blank in _BLANKS.finditer(text):
      start, stop = blank.span()
      if start > at:
        if not held:
          number += text.count("\n", counted, at)
          first, counted = number, at
        held.append(text[at:start])
      if held:
        yield first, "\n".join(held)
      held, size, at = [], 0, stop
    if at < len(text):
      if not held:
        first = number + text.count("\n", counted, at)
      held.append(text[at:-1])
      size += len(held[-1])
    if size > pieces.LONGEST:
      raise pieces.too_long(f"{path}:{first}", "a document")
  if held:
    yield first, "\n".join(held)
