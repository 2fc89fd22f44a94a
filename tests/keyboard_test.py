"""The keyboard in a pseudo-terminal: keys as a person presses them."""

import json
import stat
import sys
import time

import pytest

from instruct_jax.base import keyboard
from tests.terminals import CTRL_C, CTRL_D, LEFT, UP, Terminal

SCRIPT = """
import pathlib, sys, time
{before}
from instruct_jax.base import errors, interrupt, keyboard
interrupt.install(saves=False)
path = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
keys = keyboard.Keyboard(path, ["/help", "/seed"])
while True:
  try:
    line = keys.line("> ")
  except errors.UserError as error:
    print("ERROR", error, flush=True)
    continue
  if line is None:
    break
  print("GOT", repr(line), flush=True)
  if line == "work":
    try:
      with interrupt.deferred():
        print("WORKING", flush=True)
        while True:
          interrupt.check()
    except KeyboardInterrupt:
      interrupt.rearm()
      keys.forget_pasted()
      print("STOPPED", flush=True)
print("END", flush=True)
"""


@pytest.fixture
def open_terminal():
  opened = []

  def start(*arguments, before=""):
    script = SCRIPT.format(before=before)
    opened.append(Terminal(sys.executable, "-c", script, *map(str, arguments)))
    opened[-1].wait_for("> ")
    return opened[-1]

  yield start
  for terminal in opened:
    terminal.close()


def answers(terminal, keys, expected):
  terminal.press(keys)
  terminal.wait_for(f"GOT {expected!r}")
  terminal.wait_for("> ")


def test_arrow_keys_edit_a_line_and_bring_lines_back(open_terminal):
  terminal = open_terminal()
  answers(terminal, b"seond" + LEFT * 3 + b"c\r", "second")
  answers(terminal, b"third\r", "third")
  answers(terminal, UP + b" again\r", "third again")
  answers(terminal, UP * 3 + b"\r", "second")
  answers(terminal, b"/he\t\r", "/help")
  # No escape sequence of a key has become text.
  assert "^[" not in terminal.seen


def test_every_line_that_is_pasted_is_a_line(open_terminal, tmp_path):
  path = tmp_path / "history"
  terminal = open_terminal(path)
  terminal.press(b"\x1b[200~one\r/seed 3\ntwo\x1b[201~ more")
  terminal.wait_for("more")
  assert "GOT" not in terminal.seen
  terminal.press(b"\r")
  for line in ("one", "/seed 3", "two more"):
    terminal.wait_for(f"GOT {line!r}")
  terminal.wait_for("> ")
  kept = path.read_text().splitlines()
  assert [json.loads(x) for x in kept] == ["one", "/seed 3", "two more"]
  answers(terminal, UP * 2 + b"\r", "/seed 3")
  answers(terminal, b"x" * 9000 + b"\r", "x" * 9000)


def test_control_c_gives_up_what_was_pasted(open_terminal):
  terminal = open_terminal()
  terminal.press(b"\x1b[200~work\none\x1b[201~\r")
  terminal.wait_for("WORKING")
  terminal.press(CTRL_C)
  terminal.wait_for("STOPPED")
  answers(terminal, b"two\r", "two")
  assert "one'" not in terminal.seen


def test_history_is_kept_for_its_owner_alone(open_terminal, tmp_path):
  path = tmp_path / "cache" / "history"
  terminal = open_terminal(path)
  for line in ("first", "first", "zwölf", "  "):
    answers(terminal, line + "\r", line)
  terminal.press(CTRL_D)
  terminal.wait_for("END")
  assert [json.loads(x) for x in path.read_text().splitlines()] == [
    "first",
    "zwölf",
  ]
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  again = open_terminal(path)
  answers(again, UP + UP + b"\r", "first")


def test_a_long_history_is_cut_and_a_damaged_one_read_as_it_can_be(
  open_terminal, tmp_path
):
  path = tmp_path / "history"
  lines = [json.dumps(f"line {n}") for n in range(2 * keyboard.KEPT + 1)]
  path.write_text("\n".join([*lines, "no JSON", "7", ""]))
  terminal = open_terminal(path)
  answers(terminal, UP + b"\r", f"line {2 * keyboard.KEPT}")
  assert len(path.read_text().splitlines()) == keyboard.KEPT
  assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["file/history", "folder"])
def test_a_history_that_cannot_be_written_costs_no_line(
  open_terminal, tmp_path, name
):
  (tmp_path / "file").write_text("")
  (tmp_path / "folder").mkdir()
  terminal = open_terminal(tmp_path / name)
  answers(terminal, b"one\r", "one")
  answers(terminal, UP + b"\r", "one")


def test_without_readline_lines_are_lines(open_terminal):
  before = "sys.modules['readline'] = None"
  terminal = open_terminal(before=before)
  answers(terminal, b"one\r", "one")
  terminal.press(CTRL_D)
  terminal.wait_for("END")


@pytest.mark.parametrize("before", ["", "sys.modules['readline'] = None"])
def test_control_c_gives_a_line_up_and_then_ends(open_terminal, before):
  terminal = open_terminal(before=before)
  if not before:
    terminal.press(b"half a li")
    terminal.wait_for("half a li")
    answers(terminal, CTRL_C, "")
  terminal.press(CTRL_C)
  terminal.wait_for("interrupt.Left")
  assert terminal.process.wait(10) != 0


def test_control_c_stops_what_is_under_way(open_terminal):
  terminal = open_terminal()
  for _ in range(3):
    terminal.press(b"work\r")
    terminal.wait_for("WORKING")
    terminal.press(CTRL_C)
    terminal.wait_for("STOPPED")
    terminal.wait_for("> ")
    time.sleep(0.7)  # later than what is one press still
  terminal.press(b"half")
  terminal.wait_for("half")
  answers(terminal, CTRL_C, "")
  answers(terminal, b"more\r", "more")


def test_a_line_that_is_no_text_is_named(open_terminal):
  terminal = open_terminal()
  terminal.press(b"\xff\xfe\r")
  terminal.wait_for("ERROR stdin: a line is not UTF-8")
  answers(terminal, b"\r", "")
