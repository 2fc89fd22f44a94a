"""A line of progress, in a terminal and elsewhere."""

import io
import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest

from instruct_jax.base import progress


class Clock:
  """Time that passes when told to."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def test_progress_in_a_file_is_a_line_now_and_then():
  clock, stream = Clock(), io.StringIO()
  with progress.Progress(
    "sft", 100, start=10, show=["loss"], stream=stream, clock=clock
  ) as line:
    clock.now = 60.0  # compiling is no rate
    line.update(11, {"loss": 1.23456, "other": 1.0})
    for step in range(12, 51):
      clock.now += 0.5
      line.update(step)
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3
  assert lines[0].startswith("sft  11/100  11 %")
  assert lines[-1] == "sft  50/100  50 %  2/s  0:25 left  loss 1.235"
  assert "\x1b" not in stream.getvalue()


def test_progress_ends_with_the_end():
  clock, stream = Clock(), io.StringIO()
  line = progress.Progress("ppo", 3, stream=stream, clock=clock)
  for step in (1, 2, 3):
    clock.now += 4
    line.update(step)
  line.close()
  lines = stream.getvalue().splitlines()
  assert lines[-1] == "ppo  3/3  100 %  4 s each"
  assert len(lines) == 2
  empty = progress.Progress("none", 0, stream=stream, clock=clock)
  empty.update(0)
  empty.close()
  assert stream.getvalue().splitlines()[-1] == "none  0/0"


TERMINAL = """
import sys, time, logging
from instruct_jax.base import progress
from instruct_jax.base import journal
from instruct_jax.base import means
with progress.Progress("a long name", 30, show=["m"]) as line:
  for step in range(1, 31):
    time.sleep(0.01)
    line.update(step, {"m": step / 7})
    if step == 15:
      logging.getLogger("x").warning("A WARNING")
print("RESULT")
"""


@pytest.mark.parametrize("columns", [10, 200])
def test_progress_in_a_terminal_is_one_line(columns):
  primary, secondary = pty.openpty()
  env = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
  root = pathlib.Path(progress.__file__).parents[2]
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
