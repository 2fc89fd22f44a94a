"""Text that grows, written to a terminal as far as it will stay.

What tokens spell so far may be taken back by the next one: half a character, a
space before a full stop, the word that goes on. So the last word waits until
there is another, and no more than a few characters of a text without spaces.
"""

import os
import re
import shutil
from typing import IO

import rich.cells

_HELD = 16  # characters at the end of a text that has no spaces
_LAST_WORD = re.compile(r"\s*\S*\s*\Z")
_PIECES = re.compile(r"\n|[^\S\n]+|\S+")
# What moves a cursor or rings a bell is shown as what it is: no text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def staying(text: str) -> str:
  """The beginning of a text that more tokens do not change."""
  whole = text.rstrip("\ufffd")
  last = _LAST_WORD.search(whole)
  words = last.start() if last else 0
  return whole[: max(words, len(whole) - _HELD)]


def printable(text: str) -> str:
  """The text without what would steer a terminal."""
  return _CONTROL.sub("\ufffd", text.replace("\t", "    "))


class Typewriter:
  """Writes one text on a stream; lines break between words."""

  def __init__(
    self, stream: IO[str], *, start: str = "", width: int = 0, hang: int = 0
  ):
    """`start` stands before the text; `width` in columns, 0: the window's.

    A line that goes on is indented by `hang` columns; by two where that would
    leave less than a third of the width.
    """
    self._stream, self._width, self._hang = stream, width, hang
    self._shown, self._gap, self._column = "", "", 0
    self._type(start)

  def show(self, text: str) -> None:
    """Writes what is new in the text so far and will not change."""
    self._go_on(staying(text))

  def finish(self, text: str, end: str = "\n") -> None:
    """Writes the rest of the text, and what stands behind it.

    Where the text is not what it began as, it is written again, whole.
    """
    if not text.startswith(self._shown):
      self._type("\n")
      self._shown = ""
    self._go_on(text)
    self._type(end)
    self._stream.flush()

  def _go_on(self, text: str) -> None:
    if text.startswith(self._shown):
      self._type(text[len(self._shown) :])
      self._shown = text
      self._stream.flush()

  def _type(self, text: str) -> None:
    width = self._width or window_width(self._stream)
    for piece in _PIECES.findall(printable(text)):
      if piece == "\n":
        self._stream.write("\n")
        self._gap, self._column = "", 0
      elif piece.isspace():
        self._gap += piece
      else:
        self._word(piece, width)

  def _word(self, word: str, width: int) -> None:
    size = rich.cells.cell_len(word)
    gap = rich.cells.cell_len(self._gap)
    if self._column and gap and self._column + gap + size > width:
      hang = self._hang if 3 * self._hang <= 2 * width else 2
      self._stream.write("\n" + " " * hang)
      self._gap, gap, self._column = "", 0, hang
    self._stream.write(self._gap + word)
    # A full line is left by what follows it.
    self._column = (self._column + gap + size - 1) % max(1, width) + 1
    self._gap = ""


def window_width(stream: IO[str]) -> int:
  """The columns of the window that a stream is shown in; 80 without one."""
  try:
    return os.get_terminal_size(stream.fileno()).columns or 80
  except (OSError, ValueError, AttributeError):
    return shutil.get_terminal_size((80, 24)).columns
