"""JSON values out of text: a text as it is, or a file of any size.

What `json` takes and nobody can mean is an error: a key that stands twice,
numbers that are not finite, halves of surrogate pairs.
"""

import json
import math
import re
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.read import pieces

_GAP = re.compile(r"\s*")
_OF_NUMBER = (
  2  # characters of a number's beginning, as "e-", that are no number
)


def decoded(whole: str, start: int, where: str) -> tuple[Any, int]:
  """The JSON value that comes next from a place on, and where it ends.

  Raises UserError for what is no JSON, a key that is there twice, numbers that
  are not finite and halves of surrogate pairs.
  """
  try:
    return _decoded(whole, _after_gap(whole, start), where)
  except ValueError as error:
    raise _not_json(where, str(error)) from None


def _decoded(whole: str, start: int, where: str) -> tuple[Any, int]:
  """As `decoded`, but with the decoder's own ValueError for what is no JSON."""
  try:
    value, end = _DECODER.raw_decode(whole, start)
    if whole.find("\\ud", start, end) > 0 or whole.find("\\uD", start, end) > 0:
      json.dumps(value, ensure_ascii=False).encode("utf-8")
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{where}: half of a surrogate pair (\\ud8xx) is not text; write the "
      "character itself"
    ) from None
  except RecursionError:
    raise errors.UserError(
      f"{where}: not JSON that can be read (brackets within brackets, too deep)"
    ) from None
  return value, end


def _not_json(where: str, reason: str) -> errors.UserError:
  return errors.UserError(
    f"{where}: not JSON ({reason}); one object a line is right, or one array "
    "of objects"
  )


def is_object(line: str) -> bool:
  """Whether a line is one JSON object and nothing else."""
  try:
    return isinstance(json.loads(line), dict)
  except (ValueError, RecursionError):
    return False


class Window:
  """A stretch of a file's text, and a place in it, that moves on."""

  def __init__(self, path: epath.Path):
    self.text, self.at = "", 0
    self._pieces = pieces.of_any(path)
    self._before = self._lines_before = self._column = 0  # what was left behind

  def next(self) -> str:
    """The character that is no white space and comes next; '' at the end."""
    while True:
      self.at = _after_gap(self.text, self.at)
      if self.at < len(self.text) or not self._extend():
        return self.text[self.at : self.at + 1]

  def value(self, where: str) -> Any:
    """The JSON value that comes next; raises UserError as `decoded`."""
    self.next()
    while True:
      try:
        value, end = _decoded(self.text, self.at, where)
      except ValueError as error:
        reason = self._placed(error)
        is_over = not self._extend()
        if len(self.text) - self.at > pieces.LONGEST:
          reason += f", or longer than {pieces.LONGEST >> 20} MiB"
          is_over = True
        if is_over:
          raise _not_json(where, reason) from None
        continue
      length = end - self.at
      # A number may go on.
      if len(self.text) - end > _OF_NUMBER or not self._extend():
        self.at += length
        return value

  def _extend(self) -> bool:
    """Takes more of the file in, twice what it has; whether there was more."""
    self._leave_behind()
    size, more = 0, []
    for piece in self._pieces:
      more.append(piece)
      size += len(piece)
      if size >= len(self.text):
        break
    self.text = "".join([self.text, *more])
    return bool(more)

  def _leave_behind(self):
    gone, newline = self.text[: self.at], self.text.rfind("\n", 0, self.at)
    self._before += len(gone)
    self._lines_before += gone.count("\n")
    self._column = len(gone) - newline - 1 + self._column * (newline < 0)
    self.text, self.at = self.text[self.at :], 0

  def _placed(self, error: ValueError) -> str:
    """What an error says, its place that in the file."""
    if not isinstance(error, json.JSONDecodeError):
      return str(error)
    line = self._lines_before + error.lineno
    column = error.colno + self._column * (error.lineno == 1)
    at = self._before + error.pos
    return f"{error.msg}: line {line} column {column} (char {at})"


def _after_gap(whole: str, at: int) -> int:
  gap = _GAP.match(whole, at)
  return gap.end() if gap else at


def _finite(number: str) -> float:
  value = float(number)
  if not math.isfinite(value):
    raise ValueError(f"{number[:40]} is no number that can be kept")
  return value


# Looking for keys that are there twice adds 2 to 40 % to the decoding, most
# where lines are short.
_DECODER = json.JSONDecoder(
  object_pairs_hook=storage.keys_once,
  parse_float=_finite,
  parse_constant=_finite,
)
