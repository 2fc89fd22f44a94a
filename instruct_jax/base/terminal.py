"""What people see in a terminal or its log: numbers and tables."""

import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from instruct_jax.base import layout

NONE = "–"  # what is not there
_USUAL = 80  # columns of a terminal that does not say
_NARROW = 60  # columns; in fewer, lines around a table take too many of them


def number(value: Any) -> str:
  """A value alone, for people: floats to 4 digits, None as '-'."""
  if value is None:
    return "-"
  if isinstance(value, (float, np.floating)):
    is_long = 9999 < abs(value) < 1e7  # not yet a matter of powers of ten
    return f"{float(value):.0f}" if is_long else f"{float(value):.4g}"
  return str(value)


def duration(seconds: float) -> str:
  """'1:02:03', or '2:03' below an hour."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{rest:02d}"
  return f"{minutes}:{rest:02d}"


@dataclasses.dataclass(frozen=True)
class Style:
  """How the numbers of one row are written: with as many decimals each."""

  decimals: int = 2
  percent: bool = False
  scientific: bool = False

  def number(self, value: Any) -> str:
    """'57.4 %', '0.44', '1.20e-07'; what is no finite number as it is."""
    if value is None:
      return NONE
    if not is_number(value) or not math.isfinite(value):
      return str(value)
    return self._digits(value) + (" %" if self.percent else "")

  def interval(self, low: Any, high: Any) -> str:
    """'[55.7, 59.2]'; '' where an end is missing or infinite."""
    if not all(is_number(x) and math.isfinite(x) for x in (low, high)):
      return ""
    if self.percent:  # No share lies outside of 0 to 1.
      low, high = max(low, 0.0), min(high, 1.0)
    return f"[{self._digits(low)}, {self._digits(high)}]"

  def _digits(self, value: float) -> str:
    value = 100 * value if self.percent else value
    text = f"{value:.{self.decimals}{'e' if self.scientific else 'f'}}"
    return text.removeprefix("-") if float(text) == 0 else text


def style_of(values: Iterable[Any], *, percent: bool = False) -> Style:
  """The style in which all values of one row are written.

  Shares become percentages with one decimal. Of other values the greatest
  decides: whole numbers have no decimals, nor has what reaches 1000; two do
  from 0.1 on; below, as many as give it three digits, or powers of ten.
  """
  if percent:
    return Style(decimals=1, percent=True)
  finite = [float(v) for v in values if is_number(v) and math.isfinite(v)]
  greatest = max(map(abs, finite), default=0.0)
  if not any(isinstance(v, (float, np.floating)) for v in values):
    return Style(decimals=0)
  if 99 < greatest < 1e7 and all(v.is_integer() for v in finite):
    return Style(decimals=0)
  if 0.1 <= greatest < 1000 or greatest == 0:
    return Style()
  decimals = 2 - math.floor(math.log10(greatest))
  if 0 < decimals <= 6:
    return Style(decimals=decimals)
  return Style(decimals=0) if 1000 <= greatest < 1e7 else Style(scientific=True)


def is_number(value: Any) -> bool:
  """True for integers and floats, numpy's and NaN included; not for bools."""
  kinds = (int, float, np.number)
  return isinstance(value, kinds) and not isinstance(value, bool)


_ASCII = str.maketrans(
  {"–": "-", "—": "-", "±": "+/-", "…": "...", "≤": "<=", "≥": ">=", "×": "x",
   "·": "*", "→": "->", "’": "'", "“": '"', "”": '"', "β": "beta",
   "γ": "gamma", "λ": "lambda", "ε": "epsilon", "\xa0": " "}
)  # fmt: skip


def is_ascii(stream: IO[str]) -> bool:
  """Whether a stream shows ASCII alone: so its encoding, or LC_ALL=C, says."""
  encoding = getattr(stream, "encoding", None) or "utf-8"
  if not encoding.lower().startswith("utf"):
    return True
  named = (os.environ.get(n) for n in ("LC_ALL", "LC_CTYPE", "LANG"))
  return next(filter(None, named), "") in ("C", "POSIX")


def encodable(text: str, stream: IO[str]) -> str:
  """The text as the stream can show it: no character makes it fail."""
  if not is_ascii(stream):
    return text
  text = text.translate(_ASCII)
  return text.encode("ascii", "backslashreplace").decode("ascii")


def console_of(stream: IO[str]) -> rich.console.Console:
  """rich's console on a stream."""
  return rich.console.Console(file=stream, highlight=False)


def width_of(stream: IO[str]) -> float:
  """Columns of the terminal behind a stream; infinite where there is none.

  COLUMNS, where it is set, is the width of any terminal.
  """
  if not console_of(stream).is_terminal:
    return math.inf
  given = os.environ.get("COLUMNS", "")
  if given.isdecimal() and int(given):
    return int(given)
  try:
    return os.get_terminal_size(stream.fileno()).columns or _USUAL
  except (OSError, ValueError):  # no file, or none that has a size
    return _USUAL


def is_drawn(console: rich.console.Console) -> bool:
  """Whether there is a terminal that can do more than print lines."""
  return console.is_terminal and not console.is_dumb_terminal


def table(
  rows: Iterable[Sequence[Any]],
  headers: Sequence[str],
  *,
  title: str = "",
  stream: IO[str] | None = None,
) -> None:
  """Prints a table: drawn in a terminal, aligned plain text elsewhere.

  Columns of numbers only are aligned to the right; what the header says to be
  per cent has one decimal. In a terminal it fits the
  window: texts are broken between words, columns that have no room come below,
  with the first one before them, and where there is room for one column only
  the table becomes a list. A file has no width.
  """
  stream = sys.stdout if stream is None else stream
  rows = [list(row) for row in rows]

  def shown(value: Any) -> str:
    return encodable(number(value), stream)

  columns = [
    layout.Column.of(
      shown(header),
      [shown(_decimal(header, row[n])) for row in rows],
      right=bool(rows) and all(_is_numeric(row[n]) for row in rows),
    )
    for n, header in enumerate(headers)
  ]
  console = console_of(stream)
  width = width_of(stream)
  drawn = is_drawn(console) and width >= _NARROW
  if title:
    _print(layout.broken(shown(title), width), stream)
  # rich puts a line and a space beside every column, and a line at the end.
  room = {"gap": 3, "edge": 4} if drawn else {}
  blocks = layout.blocks(columns, width, **room)
  if blocks is None:
    _print(layout.listed(columns, len(rows), width), stream)
  for n, block in enumerate(blocks or ()):
    if drawn:
      drawing = _drawn(block, len(rows), ascii=is_ascii(stream))
      console.print(drawing, crop=False, overflow="ignore", no_wrap=True)
    else:
      between = [""] if n else []
      _print(between + layout.aligned(block, len(rows)), stream)


def _print(lines: Sequence[str], stream: IO[str]) -> None:
  print("\n".join(lines), file=stream, flush=True)


def _drawn(block: layout.Block, rows: int, *, ascii: bool) -> rich.table.Table:
  """The block with lines around it; its cells are broken already."""
  box = rich.box.ASCII if ascii else rich.box.HEAVY_HEAD
  drawn = rich.table.Table(box=box)

  def cells(row):
    lines = (layout.plain("\n".join(cell)) for cell in block.lines(row))
    return [rich.text.Text(line) for line in lines]

  for header, column, width in zip(cells(-1), block.columns, block.widths):
    justify = "right" if column.right else "left"
    drawn.add_column(header, justify=justify, width=width, no_wrap=True)
  for row in range(rows):
    drawn.add_row(*cells(row))
  return drawn


def _decimal(header: str, value: Any) -> Any:
  is_share = header.endswith("%") and isinstance(value, float)
  return f"{value:.1f}" if is_share else value


def _is_numeric(value: Any) -> bool:
  return value is None or is_number(value)
