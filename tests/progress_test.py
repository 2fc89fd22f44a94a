"""A line of progress, in a terminal and elsewhere."""

import io
import logging
import os
import pathlib
import pty
import re
import subprocess
import sys

import jax
import pytest

from instruct_jax.base import chain, compilation, progress


class Clock:
  """Time that passes when told to."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def compiled(monkeypatch):
  """Seconds in which programs were made, as a list of one number."""
  seconds = [0.0]
  monkeypatch.setattr(compilation, "program_seconds", lambda: seconds[0])
  return seconds


def test_progress_in_a_file_is_a_line_now_and_then(clock):
  stream = io.StringIO()
  with progress.Progress(
    "sft", 100, start=10, show=["loss"], stream=stream, clock=clock
  ) as line:
    clock.now = 60.0  # the first step takes longer
    line.update(11, {"loss": 1.23456, "other": 1.0})
    for step in range(12, 51):
      clock.now += 0.5
      line.update(step)
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3
  assert lines[0].startswith("sft  11/100  11 %")
  assert lines[-1] == "sft  50/100  50 %  2/s  0:25 left  loss 1.235"
  assert "\x1b" not in stream.getvalue()


def test_colors_make_no_terminal_of_a_file(clock, monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("TERM", "xterm")
  stream = io.StringIO()
  with progress.Progress("sft", 2, stream=stream, clock=clock) as line:
    line.update(2)
  assert stream.getvalue() == "sft  2/2  100 %\n"


def test_progress_ends_with_the_end(clock):
  stream = io.StringIO()
  line = progress.Progress("ppo", 3, stream=stream, clock=clock)
  for step in (1, 2, 3):
    clock.now += 4
    line.update(step)
  line.close()
  line.close()
  lines = stream.getvalue().splitlines()
  assert lines[-1] == "ppo  3/3  100 %  4 s each"
  assert len(lines) == 2
  empty = progress.Progress("none", 0, stream=stream, clock=clock)
  empty.update(0)
  empty.close()
  assert stream.getvalue().splitlines()[-1] == "none  0/0"


def test_compiling_is_no_rate_whenever_it_happens(clock, compiled):
  """In the first step, in the middle (validation), in the last, smaller one."""
  with progress.Progress("rm", 4, stream=io.StringIO(), clock=clock) as line:
    clock.now, compiled[0] = 96.0, 94.0
    line.update(1)
    assert "2 s each  0:06 left" in line.text()
    clock.now += 62  # two seconds of work
    compiled[0] += 60
    line.update(2)
    assert "2 s each  0:04 left" in line.text()
    clock.now += 40  # the next one compiles: nothing of it is done
    compiled[0] += 40
    assert "2 s each  0:04 left" in line.text()
    clock.now += 3  # a step and a half
    assert "0:01 left" in line.text()


def test_pauses_that_recur_are_in_the_rate(clock, compiled):
  """Validation of 8 s after every fourth step of 1 s: 3 s a step."""
  with progress.Progress("sft", 101, stream=io.StringIO(), clock=clock) as line:
    line.update(1)
    for step in range(2, 42):
      clock.now += 1 + 8 * (step % 4 == 1)
      line.update(step)
    assert "3 s each  3:00 left" in line.text()


def test_what_compiles_is_said(clock, monkeypatch):
  with progress.Progress("rm", 4, stream=io.StringIO(), clock=clock) as line:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 112.4)
    monkeypatch.setattr(compilation, "making_since", lambda: 100.0)
    assert "compiling, 12 s" in line.text()
    monkeypatch.setattr(compilation, "making", lambda: "update")
    assert "compiling update, 12 s" in line.text()
    monkeypatch.setattr(compilation, "making_since", lambda: 112.3)
    assert "compiling" not in line.text()


def test_jax_says_when_it_compiles():
  inside = []

  def traced(x):
    inside.append((compilation.making_since(), compilation.making()))
    return jax.jit(lambda y: y * 3)(x) + 1  # a program inside of another

  before = compilation.program_seconds()
  start = compilation.time.monotonic()
  jax.jit(traced)(1.0)
  passed = compilation.time.monotonic() - start
  assert inside[0][0] is not None
  assert inside[0][1] == "traced"
  assert compilation.making_since() is None
  assert compilation.making() == ""
  spent = compilation.program_seconds() - before
  assert 0.2 * passed < spent <= passed
  jax.jit(traced)(1.0)


def test_spans_that_overlap_count_once(monkeypatch):
  made = compilation._Making()
  for now, happens in ((1, "begin"), (2, "begin"), (4, "end"), (7, "end")):
    monkeypatch.setattr(compilation.time, "monotonic", lambda now=now: now)
    getattr(made, happens)()
  made.end()  # one that nobody saw begin
  assert made.seconds() == 6
  monkeypatch.setattr(compilation.time, "monotonic", lambda: 10)
  made.begin()
  monkeypatch.setattr(compilation.time, "monotonic", lambda: 12)
  assert made.seconds() == 8


def cost(**known):
  return lambda: chain.Cost(**known)


def chain_of(*costs):
  """Stages a, b, ... with these costs; the last is evaluated, too."""
  names = "abcdef"
  parts = [chain.Part(n, "", c) for n, c in zip(names, costs)]
  return chain.Chain([*parts, chain.Part(parts[-1].stage, "evaluation")])


def test_the_chain_s_end_by_earlier_runs(clock, compiled):
  three = chain_of(*(cost(seconds=s) for s in (5.0, 20.0, 30.0)))
  stream = io.StringIO()
  with progress.part(three, "b", title="rm", stream=stream, clock=clock):
    assert _top() == "stage 2/3 rm  0:00  0:20 left  chain at least 0:50"
    clock.now = 4.0
    assert _top() == "stage 2/3 rm  0:04  0:16 left  chain at least 0:46"
    clock.now = 44.0  # It takes longer than it did.
    assert _top() == "stage 2/3 rm  0:44  chain at least 0:30"
    with progress.Progress("rm", 4, clock=clock) as line:
      clock.now += 2
      line.update(1)
      assert line.text().startswith(
        "stage 2/3 rm  1/4  25 %  2 s each  0:06 left  chain at least 0:36"
      )
  with progress.part(three, "c", "evaluation", stream=stream, clock=clock):
    assert _top() == "stage 3/3 c evaluation  0:00"  # nothing after it
  with progress.part(three, "z", stream=stream, clock=clock):
    assert _top() == "z  0:00"
  assert progress._here == []


def test_the_chain_s_end_by_work(clock, compiled):
  """Ten units take 5 s here; programs of a part 7 s, so far."""
  parts = [chain.Part(n, "", cost(work=w)) for n, w in zip("abc", (40, 100, 6))]
  whole = chain.Chain(parts)
  with progress.part(whole, "a", stream=io.StringIO(), clock=clock):
    assert "chain" not in _top()  # Nobody knows.
    with progress.Progress("a", 4, clock=clock) as line:
      clock.now, compiled[0] = 12.0, 7.0
      line.update(1)
      left = 15 + 100 / 2 + 7 + 6 / 2 + 7
      assert f"0:15 left  chain about 1:{left - 60:02.0f}" in line.text()
  with progress.part(whole, "c", stream=io.StringIO(), clock=clock):
    assert "0:10 left" in _top()


def test_a_resumed_run_has_the_rate_of_now(clock, compiled):
  costs = chain_of(cost(seconds=100.0))
  with (
    progress.part(costs, "a", stream=io.StringIO(), clock=clock),
    progress.Progress("a", 10, start=8, clock=clock) as line,
  ):
    assert "8/10  80 %  0:20 left" in line.text()
    clock.now += 3
    line.update(9)
    assert "3 s each  0:03 left" in line.text()


def test_what_was_before_anew_is_in_no_rate(clock):
  with progress.Progress(
    "data", 100, stream=io.StringIO(), clock=clock
  ) as line:
    clock.now = 300.0  # a pass that counts nothing
    line.anew()
    assert "left" not in line.text()
    clock.now = 310.0
    line.update(20)
    assert line.text() == "data  20/100  20 %  2/s  0:40 left"
    clock.now = 320.0
    line.update(40)
    assert line.text() == "data  40/100  40 %  2/s  0:30 left"


def test_uneven_steps_have_no_rate(clock):
  with progress.Progress(
    "e", 3, even=False, stream=io.StringIO(), clock=clock
  ) as line:
    clock.now += 1
    line.update(1)
    line.say("kl")
    assert line.text() == "e  1/3  33 %  kl"


def test_a_narrow_line_keeps_stage_step_and_time(clock, compiled):
  two = chain_of(cost(seconds=1.0), cost(seconds=100.0))
  with (
    progress.part(two, "a", stream=io.StringIO(), clock=clock),
    progress.Progress("rm", 182, show=["m", "n"], clock=clock) as line,
  ):
    clock.now = 2.0
    line.update(71, {"m": 0.5, "n": 0.25})
    line.say("a note")
    every = line.text()
    shown = [line.text(width) for width in range(1, 120)]
  assert every == (
    "stage 1/2 rm  71/182  39 %  35.5/s  0:03 left  chain at least 1:43"
    "  a note  m 0.5  n 0.25"
  )
  assert all(len(text) <= width for width, text in enumerate(shown, start=1))
  assert shown[len(every) - 1] == every
  assert shown[79] == every.removesuffix("  n 0.25")[: len(shown[79])]
  assert (
    shown[63] == "stage 1/2 rm  71/182  0:03 left  chain at least 1:43  a note"
  )
  assert shown[39] == "stage 1/2 rm  71/182  0:03 left"
  assert shown[29] == "stage 1/2 rm  71/182"
  assert shown[9] == "1/2 rm"


def test_nothing_is_silent_while_nothing_is_counted():
  """A line each interval: what lasts, and for how long."""
  stream = io.StringIO()
  lasting = chain_of(cost())
  with progress.part(lasting, "a", stream=stream, interval=0.05):
    progress.say("loading")
    compilation.time.sleep(0.4)
    with progress.Progress("a", 3):
      compilation.time.sleep(0.4)
  lines = stream.getvalue().splitlines()
  assert 4 <= len(lines) <= 17
  assert lines[0] == "stage 1/1 a  0:00  loading"
  assert lines[-1] == "stage 1/1 a  0/3  0 %"
  progress.say("nobody listens")


def test_only_the_first_process_writes(monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  stream = io.StringIO()
  with progress.Progress("sft", 2, stream=stream) as line:
    line.update(2)
  assert stream.getvalue() == ""


class Gone(io.StringIO):
  """A pipe whose reader is gone."""

  def write(self, text):
    raise BrokenPipeError


def test_nobody_has_to_read_it():
  with progress.Progress("sft", 2, stream=Gone()) as line:
    line.update(2)


def _top():
  return progress.display.current().text()


TERMINAL = """
import sys, time, logging
from instruct_jax.base import chain, progress
logging.basicConfig()
whole = chain.Chain([chain.Part("a", "", lambda: chain.Cost(seconds=9.0))])
with progress.part(whole, "a"):
  time.sleep(0.3)
  with progress.Progress("a long name", 30, show=["m"]) as line:
    for step in range(1, 31):
      time.sleep(0.02)
      line.update(step, {"m": step / 7})
      if step == 15:
        logging.getLogger("x").warning("A WARNING")
print("RESULT")
"""


def screen(seen: str) -> list[str]:
  """The lines that stand in a terminal after all that was written."""
  lines, row = [""], 0
  pattern = r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]|(\r)|(\n)|([^\x1b\r\n]+)"
  column = 0
  for number, letter, back, down, text in re.findall(pattern, seen):
    if text:
      line = lines[row].ljust(column)
      lines[row] = line[:column] + text + line[column + len(text) :]
      column += len(text)
    elif back:
      column = 0
    elif down:
      row, column = row + 1, 0
      lines += [""] * (row + 1 - len(lines))
    elif letter == "A":
      row -= int(number or 1)
    elif letter == "K":
      lines[row] = lines[row][:column] if number != "2" else ""
  return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("columns", [40, 200])
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
  text = seen.decode()
  plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
  assert all(len(line) < columns for line in re.split(r"[\r\n]+", plain))
  assert "stage 1/1 a  0:00" in plain
  left = screen(text)
  assert left[0] == "WARNING:x:A WARNING"  # above the line, and nothing on it
  assert left[1].startswith("stage 1/1 a long name  30/30")
  assert len(left) == 2
  assert text.rindex("\x1b[?25h") > text.rfind("\x1b[?25l")  # a cursor again


def test_a_log_goes_on_after_the_line(capsys):
  """Handlers get their stream back."""
  handler = logging.StreamHandler(sys.stderr)
  before = handler.stream
  logging.getLogger("instruct_jax").addHandler(handler)
  try:
    with progress.Progress("a", 1) as line:
      line.update(1)
    assert handler.stream is before
  finally:
    logging.getLogger("instruct_jax").removeHandler(handler)
  assert "a  1/1  100 %" in capsys.readouterr().err


def shared_chain(others):
  """data 10 s, then a 20 s and b 5 s, then the end of 1 s."""
  needs = {"data": [], "a": ["data"], "b": ["data"], "end": ["a", "b"]}
  costs = {"data": 10.0, "a": 20.0, "b": 5.0, "end": 1.0}
  parts = [chain.Part(n, "", cost(seconds=s)) for n, s in costs.items()]
  return chain.Chain(parts, needs, lambda: others[0])


def test_what_others_do_counts(clock, compiled):
  others = [chain.Others(running={"data": 4.0}, jobs=3)]
  whole = shared_chain(others)
  whole.estimate()
  assert whole.ways() == {"data": 31.0, "a": 21.0, "b": 6.0, "end": 1.0}
  options = {"stream": io.StringIO(), "clock": clock}
  with progress.part(whole, "", title="waiting", **options):
    # 6 s of the data are left, then a, then the end
    assert _top() == "waiting  0:00  chain 0/4 by 3 jobs, about 0:27"
  others[0] = chain.Others(done=["data"], running={"a": 2.0}, jobs=3)
  with progress.part(whole, "b", **options):
    assert _top() == (
      "stage 3/4 b  0:00  0:05 left  chain 1/4 by 3 jobs, about 0:19"
    )
    others[0] = chain.Others(done=["data", "a"], jobs=1)  # They have left.
    assert _top() == "stage 3/4 b  0:00  0:05 left  chain about 0:06"
  others[0] = chain.Others(done=["data", "a"], jobs=2)
  with progress.part(whole, "end", **options):
    # Nothing comes after it.
    assert _top() == ("stage 4/4 end  0:00  0:01 left  chain 3/4 by 2 jobs")
