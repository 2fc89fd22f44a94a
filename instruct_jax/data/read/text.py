"""Text in UTF-8, by lines or documents: files of any size."""

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from etils import epath

from instruct_jax.data.read import (
  bundles,
  compressed,
  disguised,
  pieces,
  spaces,
)

_END = b"\n"
_RETURNS = re.compile(rb"\r+\n")
_WHITE = [c.encode("utf-8") for c in spaces.WHITE if c != "\n"]
# The end of a line, and lines with white space alone behind it.
_BLANKS = re.compile(
  rb"\n(?:(?:" + b"|".join(map(re.escape, _WHITE)) + rb")*+\n)+"
)
_LINE = re.compile(rb"\n")
_MAY_BE_WHITE = np.isin(
  np.arange(256), [*_END, *(content[0] for content in _WHITE)]
)
is_header, suffix, head = disguised.is_header, pieces.suffix, pieces.head


def lines(
  path: epath.Path, extent: pieces.Extent | None = None
) -> Iterator[tuple[int, str]]:
  """(number, line without its end) of a UTF-8 file, compressed or not."""
  for number, text in pieces.of_lines(path, extent):
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
  number: int  # of the line that `content` begins behind the end of
  content: bytes
  at: int

  @property
  def line(self) -> int:
    """The number of the document's first line."""
    return self.number + self.content.count(_END, 1, self.at)

  def __str__(self) -> str:
    return f"{self.path}:{self.line}"


def blocks(path: epath.Path) -> Iterator[tuple[Where, str]]:
  """(where, document) of plain text: what stands between blank lines.

  Raises as `documents`.
  """
  for number, bundle in documents(path):
    for n, start in enumerate(bundle.starts.tolist()):
      yield Where(str(path), number, bundle.content, start), bundle.text(n)


def documents(
  path: epath.Path, extent: pieces.Extent | None = None
) -> Iterator[tuple[int, bundles.Bundle]]:
  """The documents of plain text, some at a time, in order.

  With each some the number of the line that its second byte lies in: the first
  is the end of the line before. An `extent` holds whole documents.

  Raises UserError for records by another name, as `disguised` tells them, and
  for a document that is too long.
  """
  every = _documents(path, extent)
  if extent is not None and extent.start:
    yield from every
    return
  for number, bundle in every:
    where = Where(str(path), number, bundle.content, int(bundle.starts[0]))
    disguised.check(str(where), suffix(path), bundle.text(0).split("\n"))
    yield number, bundle
    yield from every


def _documents(
  path: epath.Path, extent: pieces.Extent | None
) -> Iterator[tuple[int, bundles.Bundle]]:
  held: list[bytes] = []  # what there is of the document that goes on
  name, size = str(path), 0
  where = Where(name, 1, b"", 0)
  for number, content in pieces.contents(path, extent):
    content = b"".join((_END, content, b"" if _ends(content) else _END))
    if b"\r" in content:
      content = _RETURNS.sub(_END, content)
    # Between blank lines stand documents: begins[n] to ends[n], if anything.
    blank, stops = _blanks(content)
    begins, ends = np.append(1, stops), np.append(blank, len(content) - 1)
    if held and ends[0] > begins[0]:
      held.append(content[begins[0] : ends[0]])
      size += len(held[-1])
    if held and len(blank):
      yield where.line, _one(held)
    whole = slice(1 if held else 0, -1)
    is_any = ends[whole] > begins[whole]
    if is_any.any():
      yield (
        number,
        bundles.Bundle(content, begins[whole][is_any], ends[whole][is_any]),
      )
    if len(blank) or not held:
      held, where = [], Where(name, number, content, int(begins[-1]))
      if ends[-1] > begins[-1]:
        held = [content[begins[-1] : ends[-1]]]
      size = sum(map(len, held))
    if size > pieces.LONGEST:
      raise pieces.too_long(str(where), "a document")
  if held:
    yield where.line, _one(held)


def _ends(content: bytes) -> bool:
  return content.endswith(_END)


def _one(held: list[bytes]) -> bundles.Bundle:
  """The lines of one document."""
  content = _END.join((b"", *held))
  return bundles.Bundle(content, np.array([1]), np.array([len(content)]))


def border(path: epath.Path, at: int, *, of_documents: bool) -> int:
  """Where the first line, or document, begins that ends its one behind `at`.

  A byte of a file that is not compressed; its length where none begins. What
  lies between the borders of two places can be read by itself.

  Raises UserError for a line or a document that is too long.
  """
  if not at:
    return 0
  pattern, what = (_BLANKS, "document") if of_documents else (_LINE, "line")
  held = b""
  with path.open("rb") as file:
    file.seek(at - 1)
    while block := file.read(pieces.SIZE):
      held += block
      if found := pattern.search(held):
        return at - 1 + found.end()
      if len(held) > pieces.LONGEST:
        raise pieces.too_long(f"{path}, byte {at:,}", f"a {what}")
  return at - 1 + len(held)


def _blanks(content: bytes) -> tuple[np.ndarray, np.ndarray]:
  """(start, stop) [N] of each of `_BLANKS`; of most without a look at it."""
  values = np.frombuffer(content, np.uint8)
  starts = np.flatnonzero(values[:-1] == ord(_END))
  starts = starts[_MAY_BE_WHITE[values[starts + 1]]]
  behind = values[np.minimum(starts + 2, len(values) - 1)]
  is_end = starts + 2 == len(values)
  is_plain = is_end | ~_MAY_BE_WHITE[behind]  # an empty line, and then text
  is_plain &= values[starts + 1] == ord(_END)
  if is_plain.all():
    return starts, starts + 2
  spans: list[tuple[int, int]] = []
  stop = 0
  for start, plain in zip(starts.tolist(), is_plain.tolist()):
    if start < stop:
      continue
    if plain:
      stop = start + 2
    elif blank := _BLANKS.match(content, start):
      stop = blank.end()
    else:
      continue
    spans.append((start, stop))
  both = np.asarray(spans, np.int64).reshape(-1, 2)
  return both[:, 0], both[:, 1]
