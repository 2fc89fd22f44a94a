"""A line of progress, numbers and tables, in a terminal and elsewhere."""

import io
import os
import pathlib
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from instruct_jax.base import terminal


class Clock:
  """Time that passes when told to."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def test_progress_in_a_file_is_a_line_now_and_then():
  clock, stream = Clock(), io.StringIO()
  with terminal.Progress(
    "sft", 100, start=10, show=["loss"], stream=stream, clock=clock
  ) as progress:
    clock.now = 60.0  # compiling is no rate
    progress.update(11, {"loss": 1.23456, "other": 1.0})
    for step in range(12, 51):
      clock.now += 0.5
      progress.update(step)
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3
  assert lines[0].startswith("sft  11/100  11 %")
  assert lines[-1] == "sft  50/100  50 %  2/s  0:25 left  loss 1.235"
  assert "\x1b" not in stream.getvalue()


def test_progress_ends_with_the_end():
  clock, stream = Clock(), io.StringIO()
  progress = terminal.Progress("ppo", 3, stream=stream, clock=clock)
  for step in (1, 2, 3):
    clock.now += 4
    progress.update(step)
  progress.close()
  lines = stream.getvalue().splitlines()
  assert lines[-1] == "ppo  3/3  100 %  4 s each"
  assert len(lines) == 2
  empty = terminal.Progress("none", 0, stream=stream, clock=clock)
  empty.update(0)
  empty.close()
  assert stream.getvalue().splitlines()[-1] == "none  0/0"


TERMINAL = """
import sys, time, logging
from instruct_jax.base import terminal
from instruct_jax.base import journal
from instruct_jax.base import means
with terminal.Progress("a long name", 30, show=["m"]) as progress:
  for step in range(1, 31):
    time.sleep(0.01)
    progress.update(step, {"m": step / 7})
    if step == 15:
      logging.getLogger("x").warning("A WARNING")
print("RESULT")
"""


@pytest.mark.parametrize("columns", [10, 200])
def test_progress_in_a_terminal_is_one_line(columns):
  primary, secondary = pty.openpty()
  env = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
  root = pathlib.Path(terminal.__file__).parents[2]
  child = subprocess.Popen(
    [sys.executable, "-c", TERMINAL],
    stdout=subprocess.PIPE,
    stderr=secondary,
    env=env | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
  )
  os.close(secondary)
  seen = b""
  while True:
    try:
      part = os.read(primary, 4096)
    except OSError:  # the other end is closed
      break
    if not part:
      break
    seen += part
  assert child.wait() == 0
  assert child.stdout.read() == b"RESULT\n"
  text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
  shown = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
  assert any("A WARNING" in line for line in shown)
  assert all(len(line) <= columns for line in shown)
  if columns == 200:
    assert "30/30  100 %" in shown[-1]
  assert text.count("\n") <= 6  # refreshed, not scrolled


def test_number_and_duration():
  assert terminal.number(1.23456789) == "1.235"
  assert terminal.number(np.float32(1e-9)) == "1e-09"
  assert terminal.number(12) == "12"
  assert terminal.number(None) == "-"
  assert terminal.number("text") == "text"
  assert terminal.duration(59.6) == "1:00"
  assert terminal.duration(3723) == "1:02:03"


def test_table_without_a_terminal_is_plain_and_aligned():
  stream = io.StringIO()
  terminal.table(
    [["sft", 0.5, None], ["ppo-ptx", 12.34567, "±"]],
    ["model", "win [%]", ""],
    title="Preference",
    stream=stream,
  )
  assert stream.getvalue() == (
    "Preference\nmodel    win [%]\nsft          0.5  -\nppo-ptx    12.35  ±\n"
  )
  stream = io.StringIO()
  terminal.table([], ["a", "b"], stream=stream)
  assert stream.getvalue() == "a  b\n"


def test_table_in_a_terminal_keeps_brackets(monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "40")
  stream = io.StringIO()
  terminal.table([["[bold]", 1.0]], ["[x]", "n"], stream=stream)
  assert "[bold]" in stream.getvalue()
  assert "[x]" in stream.getvalue()
