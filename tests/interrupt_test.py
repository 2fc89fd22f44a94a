"""Ctrl-C: raised where nothing is left half-done, and answered in any case."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import doors, processes, terminals

START = """
import os, signal, sys, time
from instruct_jax.base import command, errors, interrupt

def press(): os.kill(os.getpid(), signal.SIGINT)
def say(*words): print(*words, flush=True)
"""
PROGRAMS = {
  "now": """
def main():
  try:
    press(); time.sleep(9)
  finally:
    say("unwound")
""",
  "a finalizer": """
class Thing:
  def __del__(self):
    press()
    say("finalized")
def main():
  thing = Thing()
  del thing
  time.sleep(9)
""",
  "what Python swallows": """
import weakref
class Thing: pass
def main():
  def callback(_):
    press()
    for _ in range(9): pass
  thing = Thing()
  held = weakref.ref(thing, callback)
  del thing
  time.sleep(9)
""",
  "a deferred block": """
def main():
  with interrupt.deferred():
    press(); time.sleep(0.3); say("whole")
  say("never")
""",
  "allowed in a deferred block": """
def main():
  with interrupt.deferred():
    press()
    try:
      with interrupt.allowed():
        say("never")
    finally:
      say("given back")
""",
  "checked in a deferred block": """
def main():
  with interrupt.deferred():
    press(); say("waits"); interrupt.check(); say("never")
""",
}
SAID = {
  "now": "unwound",
  "a finalizer": "finalized",
  "what Python swallows": "",
  "a deferred block": "whole",
  "allowed in a deferred block": "given back",
  "checked in a deferred block": "waits",
}


def start(program, **more):
  return subprocess.Popen(
    [sys.executable, "-c", f"{START}{program}\ncommand.run(main, **{more})"],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"PYTHONPATH": str(doors.ROOT)},
  )


@pytest.mark.parametrize("name", PROGRAMS)
def test_where_it_comes(name):
  begun = time.monotonic()
  out, err = start(PROGRAMS[name]).communicate(timeout=60)
  assert out.split("\n")[0] == SAID[name]
  assert "never" not in out
  assert err == (
    "error: interrupted; the same command starts from the beginning\n"
  )
  assert time.monotonic() - begun < 8


def test_the_words_are_the_command_s():
  for more, words in (
    ({"resumes": "it goes on"}, "interrupted; it goes on"),
    ({"stopped": "it is above"}, "interrupted; it is above"),
  ):
    process = start(PROGRAMS["now"], **more)
    assert words in process.communicate(timeout=60)[1]
    assert process.returncode == 130


def test_while_nothing_of_python_runs_the_second_ends_at_once(tmp_path):
  """As in a compilation: what it would have given back is given back."""
  left = tmp_path / "lock"
  process = start(f"""
import ctypes, pathlib
def main():
  lock = ctypes.CDLL(None).pthread_mutex_lock
  mutex = ctypes.create_string_buffer(64)
  left = pathlib.Path({str(left)!r})
  left.touch()
  with interrupt.undone_by(left.unlink):
    say("begins")
    lock(mutex)
    lock(mutex)  # waits for itself, and no signal wakes it
""")
  process.stdout.readline()
  time.sleep(0.2)
  process.send_signal(signal.SIGINT)
  line = process.stderr.readline()
  assert "is waited for. Ctrl-C again ends at once" in line
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=20) == 130
  assert "twice" in process.stderr.read()
  assert not left.exists()


def test_in_a_terminal_what_is_said_has_lines_of_its_own():
  program = f"""{START}
os.write(2, b"note: compiling ...")
interrupt._say("note: one two three-four\\n")
"""
  terminal = terminals.Terminal(sys.executable, "-c", program, columns=20)
  try:
    assert terminal.wait_for_end() == 0
  finally:
    terminal.close()
  lines = terminal.seen.split("\r\n")
  assert lines == ["note: compiling ...", "note: one two", "three-four", ""]


@pytest.mark.parametrize(
  ("more", "code", "words"),
  [({}, 75, "stopped by SIGTERM; the same command starts"),
   ({"resumes": "x"}, 75, "what was done is saved")],
)  # fmt: skip
def test_sigterm(more, code, words):
  process = start(
    """
def main():
  import atexit
  atexit.register(say, "taken down")
  say("begins")
  for _ in range(900):
    time.sleep(0.01)
    interrupt.check()
""",
    **more,
  )
  process.stdout.readline()
  process.terminate()
  printed, said = process.communicate(timeout=60)
  assert words in said
  assert process.returncode == code
  # What was broken off while it compiled would crash as it is taken down.
  assert ("taken down" in printed) == bool(more)


def test_a_command_is_ended_at_once_while_it_imports():
  """Nobody sees a traceback, and no library is broken off in the middle."""
  process = subprocess.Popen(
    [sys.executable, "-X", "importtime", "-m", "instruct_jax.main"],
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"PYTHONPATH": str(doors.ROOT)},
  )
  for line in process.stderr:
    if "jaxlib" in line:
      break
  process.send_signal(signal.SIGINT)
  said = process.stderr.read()
  assert process.wait(timeout=60) == 130
  assert "Traceback" not in said
  assert "error: interrupted\n" in said


@pytest.mark.slow
@pytest.mark.parametrize(
  "seconds",
  [1.0, 4.0, *(pytest.param(x, marks=pytest.mark.long) for x in (0.3, 2.0))],
)
def test_a_chain_that_compiles(seconds, tmp_path):
  """Wherever that is: no crash, nothing half-done, and it can go on."""
  process = subprocess.Popen(
    [sys.executable, "-m", "instruct_jax.main", "--workdir=runs",
     f"--config={doors.ROOT}/experiments/pretrain.py:test"],
    stderr=subprocess.PIPE,
    text=True,
    cwd=tmp_path,
    env=processes.environment(
      INSTRUCT_JAX_CACHE=str(tmp_path / "cache"),
      JAX_COMPILATION_CACHE_DIR="",
      XLA_FLAGS="",  # as long as it takes people
    ),
  )  # fmt: skip
  for line in process.stderr:
    if "pretrain-test: starts" in line:
      break
  time.sleep(seconds)
  process.send_signal(signal.SIGINT)
  said = process.stderr.read()
  assert process.wait(timeout=120) == 130, said
  assert said.endswith(
    "error: interrupted; the same command goes on from the last save\n"
  )
  for word in ("Traceback", "Exception ignored", "Fatal Python error"):
    assert word not in said
  left = [path.name for path in (tmp_path / "runs").rglob(".*")]
  assert not [x for x in left if x.endswith((".lock", ".partial"))]


def test_nohup_and_jobs_in_the_background_go_on():
  process = subprocess.Popen(
    ["bash", "-c", "trap '' INT; exec \"$@\"", "-", sys.executable, "-c",
     f"{START}\ndef main():\n  press(); say('goes on')\ncommand.run(main)"],
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | {"PYTHONPATH": str(doors.ROOT)},
  )  # fmt: skip
  assert process.communicate(timeout=60)[0] == "goes on\n"
  assert process.returncode == 0
