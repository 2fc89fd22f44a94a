"""Tables of text in a window: what is broken, and what never is.

Widths are in cells of a terminal, of which some characters take two. A number
is never torn from its unit or its interval ('57.4 % [55.7, 59.2]'): inside of
these stand spaces that do not break, until a line is printed.
"""

import dataclasses
import re
from collections.abc import Sequence

from rich import cells

_FIRM = "\xa0"  # a space at which nothing is broken
_FIGURE = re.compile(
  r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?: %)?"
  r"(?: (?:±|\+/-) [\d.]+(?: %)?)?(?: \[[-+\d.,e% ]+\])?"
  r"|\[[-+\d.,e% ]+\]"
)
_LEAST = 14  # no text is squeezed into less
_LONGEST = 24  # of the words (paths, keys) that are not broken
_GAP = 2  # between the columns of a table without lines


@dataclasses.dataclass(frozen=True)
class Column:
  """A header and the cells below it."""

  header: str
  cells: tuple[str, ...]
  right: bool = False  # aligned to the right

  @classmethod
  def of(
    cls, header: str, texts: Sequence[str], *, right: bool = False
  ) -> "Column":
    """A column of texts as they are, tabs and what cannot be seen aside."""
    return cls(_firm(header), tuple(map(_firm, texts)), right)

  @property
  def natural(self) -> int:
    """The width at which nothing is broken."""
    return max(map(cells.cell_len, self._pieces(r"\n")))

  @property
  def least(self) -> int:
    """The width below which words would be broken."""
    words = [
      word if _is_figure(word) else word[:_LONGEST]
      for word in self._pieces(r"[ \n]")
    ]
    return max(*map(cells.cell_len, words), min(self.natural, _LEAST))

  def _pieces(self, separator: str) -> list[str]:
    return re.split(separator, "\n".join([self.header, *self.cells]))


@dataclasses.dataclass(frozen=True)
class Block:
  """Columns that stand side by side, and their widths."""

  columns: tuple[Column, ...]
  widths: tuple[int, ...]

  def lines(self, row: int) -> list[list[str]]:
    """The lines of a row (-1: of the headers), a list of texts a column."""
    return [
      wrapped(c.header if row < 0 else c.cells[row], width)
      for c, width in zip(self.columns, self.widths)
    ]


def blocks(
  columns: Sequence[Column], width: float, *, gap: int = _GAP, edge: int = 0
) -> list[Block] | None:
  """The columns in blocks no wider than `width`, the first column in each.

  `gap` stands between columns, `edge` around all. None where not even two of
  the columns fit side by side.
  """
  first, *others = columns
  groups, used = [[first]], edge + first.least
  for column in others:
    needed = gap + column.least
    if used + needed > width and len(groups[-1]) > 1:
      groups.append([first])
      used = edge + first.least
    groups[-1].append(column)
    used += needed
    if used > width:
      return None
  if used > width:
    return None
  return [_widened(g, width - edge - gap * (len(g) - 1)) for g in groups]


def _widened(columns: list[Column], width: float) -> Block:
  """What is left of the width goes to whom it suffices first."""
  widths = [column.least for column in columns]
  left = width - sum(widths)
  lacking = [column.natural - column.least for column in columns]
  for n in sorted(range(len(columns)), key=lacking.__getitem__):
    more = int(min(lacking[n], left))
    widths[n] += more
    left -= more
  return Block(tuple(columns), tuple(widths))


def aligned(block: Block, rows: int) -> list[str]:
  """The block as plain lines, columns under each other."""
  lines = []
  for row in range(-1, rows):
    by_column = block.lines(row)
    for n in range(max(map(len, by_column))):
      parts = [
        _padded(texts[n] if n < len(texts) else "", width, right=column.right)
        for texts, width, column in zip(by_column, block.widths, block.columns)
      ]
      lines.append(plain((" " * _GAP).join(parts).rstrip()))
  return lines


def listed(columns: Sequence[Column], rows: int, width: float) -> list[str]:
  """The table as a list: a row's first cell, and the others by their headers
  below it."""
  first, *others = columns
  lines = []
  for row in range(rows):
    lines += wrapped(first.cells[row], width)
    for column in others:
      cell = column.cells[row]
      if cell:
        header = f"{column.header}: " if column.header else ""
        lines += [f"  {x}" for x in wrapped(header + cell, width - 2)]
  return [plain(line) for line in lines]


def wrapped(text: str, width: float) -> list[str]:
  """The lines of a text: broken between words, and only figures are longer."""
  lines = []
  for paragraph in text.split("\n"):
    lines.append("")
    for word in paragraph.split(" "):
      line = f"{lines[-1]} {word}" if lines[-1] else word
      if cells.cell_len(line) <= width:
        lines[-1] = line
        continue
      if lines[-1]:
        lines.append("")
      while cells.cell_len(word) > width >= 2 and not _is_figure(word):
        head = cells.set_cell_size(word, int(width)).rstrip(" ")
        lines[-1:] = [head, ""]
        word = word[len(head) :]
      lines[-1] = word
  return lines


def broken(text: str, width: float) -> list[str]:
  """The lines of a text, as `wrapped`, of any text."""
  return [plain(line) for line in wrapped(_firm(text), width)]


def plain(text: str) -> str:
  """The text with spaces as they were."""
  return text.replace(_FIRM, " ")


def _firm(text: str) -> str:
  """The text with what is not seen spelled out, and its figures made firm."""
  text = "".join(
    x
    if x == "\n" or x.isprintable()
    else " "
    if x in "\t\xa0"
    else repr(x)[1:-1]
    for x in text
  )
  return _FIGURE.sub(lambda found: found[0].replace(" ", _FIRM), text)


def _is_figure(word: str) -> bool:
  return _FIRM in word or _FIGURE.fullmatch(word) is not None


def _padded(text: str, width: int, *, right: bool) -> str:
  space = " " * (width - cells.cell_len(text))
  return space + text if right else text + space
