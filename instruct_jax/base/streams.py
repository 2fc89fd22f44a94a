"""stdin, stdout and stderr, whatever they are: closed, full, ASCII, cut off.

Results go to stdout, so what cannot be written there is an error. Notes go to
stderr, and a run is not stopped by a note that nobody can read.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

STDOUT = "stdout"  # the file name of its errors

_closed: set[str] = set()  # the streams that were closed when we came


def prepare() -> None:
  """Makes the three streams safe; to be called first, and once is enough.

  A closed one becomes the null device, so that no file of ours gets its number
  and what libraries print does not end up in it. What a stream's encoding has
  no character for is written as an escape.
  """
  for number, name in enumerate(("stdin", "stdout", "stderr")):
    if getattr(sys, name) is None:
      _closed.add(name)
      _reopen(number, name)
  if isinstance(sys.stdin, io.TextIOWrapper):
    encoding = _wider(sys.stdin.encoding)
    sys.stdin.reconfigure(encoding=encoding, errors="strict")
  for name, kind in (("stdout", _Results), ("stderr", _Notes)):
    stream = getattr(sys, name)
    if isinstance(stream, io.TextIOWrapper) and not _is_ours(stream):
      stream.flush()
      ours = _text(kind, stream)
      setattr(sys, name, ours)
      setattr(sys, f"__{name}__", ours)


def was_closed(name: str) -> bool:
  """Whether 'stdin', 'stdout' or 'stderr' was closed when the process began."""
  return name in _closed


def finish() -> BaseException | None:
  """Writes out what is still held back; the error of stdout, if any.

  What could not be written is given up, so that the interpreter, which tries
  once more as it ends, has nothing to complain of.
  """
  problem: BaseException | None = None
  for number, stream in ((1, sys.stdout), (2, sys.stderr)):
    try:
      stream.flush()
    except (OSError, ValueError) as error:  # ValueError: closed by somebody
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, number)
      os.close(null)
      if is_of_stdout(error):
        problem = error
  return problem


def is_of_stdout(error: BaseException | None) -> bool:
  """Whether writing results failed."""
  return isinstance(error, OSError) and error.filename == STDOUT


def json_line(tree: Any) -> str:
  """A value as JSON that stdout can show; escaped where it cannot.

  The escapes of `prepare` are Python's, which JSON does not know.
  """
  text = json.dumps(tree, ensure_ascii=False)
  try:
    text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
  except UnicodeEncodeError:
    return json.dumps(tree)
  return text


class _Results(io.FileIO):
  """stdout; its errors say that they are its own."""

  number = 1

  def write(self, content) -> int:
    try:
      return super().write(content) or 0
    except OSError as error:
      error.filename = STDOUT
      raise


class _Notes(io.FileIO):
  """stderr; what cannot be written is dropped."""

  number = 2

  def write(self, content) -> int:
    try:
      return super().write(content) or len(content)
    except OSError:
      return len(content)


def _text(
  kind: type[_Results | _Notes], before: io.TextIOWrapper
) -> io.TextIOWrapper:
  raw = kind(kind.number, "w", closefd=False)
  # write_through: PYTHONUNBUFFERED
  by_line = kind is _Notes or raw.isatty() or before.write_through
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=before.encoding,
    errors="backslashreplace",
    line_buffering=by_line,
  )


def _is_ours(stream: io.TextIOWrapper) -> bool:
  raw = getattr(stream.buffer, "raw", None)
  return isinstance(raw, (_Results, _Notes))


def _reopen(number: int, name: str) -> None:
  null = os.open(os.devnull, os.O_RDWR)
  if null != number:
    os.dup2(null, number)
    os.close(null)
  mode = "r" if number == 0 else "w"
  stream = open(  # noqa: SIM115  for good
    number, mode, encoding="utf-8", closefd=False
  )
  setattr(sys, name, stream)
  setattr(sys, f"__{name}__", stream)


def _wider(encoding: str) -> str:
  """UTF-8 for ASCII, which it contains; any other encoding as it is."""
  return "utf-8" if encoding.lower() in ("ascii", "us-ascii") else encoding


@contextlib.contextmanager
def hushed(number: int = 1) -> Iterator[None]:
  """A block in which what C++ writes to stdout, or stderr (2), goes nowhere."""
  (sys.stderr if number == 2 else sys.stdout).flush()
  kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nowhere, number)
    yield
  finally:
    os.dup2(kept, number)
    os.close(kept)
    os.close(nowhere)
