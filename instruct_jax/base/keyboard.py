"""What a person types: lines with a history.

In a terminal lines are edited with the arrow keys and kept between sessions;
without the `readline` module they are plain lines. The history is a file of
JSON strings, a line each, that nobody else may read.
"""

import contextlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from instruct_jax.base import errors, interrupt, typewriter


def _readline() -> Any:
  """The module, None where Python was built without it."""
  try:
    import readline
  except ImportError:
    return None
  return readline


readline = _readline()

KEPT = 1000  # lines of the history
_LINE_END = re.compile("\r\n|\r|\n")


class Keyboard:
  """Lines of standard input, asked for where a person sits before it."""

  def __init__(self, history: pathlib.Path | None, words: Sequence[str] = ()):
    """`history` is its file, None for none; tab completes `words`."""
    self.is_terminal = sys.stdin.isatty()
    self._edits = (
      self.is_terminal and sys.stdout.isatty() and readline is not None
    )
    self._history = history
    self._pasted: list[str] = []  # lines that came with the last one
    if self._edits:
      _set_up(words)
      for line in _read(history):
        readline.add_history(line)

  def line(self, prompt: str) -> str | None:
    """The next line; None at the end of input.

    Ctrl-C gives up what is typed, an empty line then. Raises interrupt.Left
    where nothing was, and UserError for what is no UTF-8.
    """
    if self._pasted:
      line = self._pasted.pop(0)
      print(f"{prompt}{typewriter.printable(line)}", flush=True)
      self._keep(line)
      return line
    try:
      with interrupt.reading():
        line = self._line(prompt)
      line.encode("utf-8")
    except EOFError:
      if self.is_terminal:
        print(file=sys.stderr)
      return None
    except UnicodeError:
      raise errors.UserError("stdin: a line is not UTF-8.") from None
    except interrupt.Stopped:
      raise
    except KeyboardInterrupt:
      typed = readline.get_line_buffer() if self._edits else ""
      print(file=sys.stderr)
      if typed:
        interrupt.rearm()
        return ""
      if self.is_terminal:
        raise interrupt.Left from None
      raise
    line, *self._pasted = _LINE_END.split(line)
    self._keep(line)
    return line

  def forget_pasted(self) -> None:
    """Gives up the lines that were pasted and are not read yet."""
    self._pasted = []

  def _line(self, prompt: str) -> str:
    if self._edits:
      return input(prompt)
    if self.is_terminal:
      print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
      raise EOFError
    return line.removesuffix("\n").removesuffix("\r")

  def _keep(self, line: str) -> None:
    if not self._edits or not line.strip():
      return
    count = readline.get_current_history_length()
    if count and readline.get_history_item(count) == line:
      return
    readline.add_history(line)
    _append(self._history, line)


def _set_up(words: Sequence[str]) -> None:
  readline.set_auto_history(False)
  readline.clear_history()
  readline.set_completer_delims("\n")

  def complete(text, number):
    fitting = [word for word in words if text and word.startswith(text)]
    return fitting[number] if number < len(fitting) else None

  readline.set_completer(complete)
  if "libedit" in (readline.__doc__ or ""):
    readline.parse_and_bind("bind ^I rl_complete")
  else:
    readline.parse_and_bind("tab: complete")
    # What is pasted waits for Enter, and can be edited until then.
    readline.parse_and_bind("set enable-bracketed-paste on")


def _read(path: pathlib.Path | None) -> list[str]:
  """The last lines of the history; what cannot be read is left out."""
  try:
    content = path.read_text("utf-8", "replace") if path else ""
  except OSError:
    return []
  lines = []
  for text in content.split("\n"):
    with contextlib.suppress(ValueError):
      value = json.loads(text)
      lines += [value] if isinstance(value, str) else []
  if path and len(lines) > 2 * KEPT:
    _write(path, lines[-KEPT:], os.O_TRUNC)
  return lines[-KEPT:]


def _append(path: pathlib.Path | None, line: str) -> None:
  if path:
    _write(path, [line], os.O_APPEND)


def _write(path: pathlib.Path, lines: Sequence[str], how: int) -> None:
  """Adds lines, or puts them in the place of all; says nothing if it cannot.

  A folder that nobody can write to costs the history, not the conversation.
  """
  with contextlib.suppress(OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
      os.fchmod(file.fileno(), 0o600)
      file.writelines(json.dumps(line) + "\n" for line in lines)
