"""Processes find each other, notice who has gone, and stop together."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import processes

# Without JAX: what binds the processes knows nothing of it.
PROGRAM = """
import json, os, signal, sys, threading, time
from instruct_jax.base import errors, interrupt, peers
from instruct_jax.parallel import joining, link
coordinator, count, index, limit, *rest = sys.argv[1:]
link._PATIENCE = 3.0  # a third of what it is
interrupt.install()
place = link.Place(coordinator, int(count), int(index))
code, said = 0, ""
try:
  joined = joining.join(place, float(limit))
  BODY
except errors.UserError as error:
  code, said = 2, f"error: {error}"
except (interrupt.Interrupted, interrupt.Stopped):
  code, said = 75, "stopped"
print(said, flush=True)
if peers.current:
  peers.current.ends(code, said)
os._exit(code)
"""


def start(body, indices, *, count=0, limit=20, port=None, counts=None):
  """Processes with these indices of one job."""
  address = f"localhost:{port or processes.free_port()}"
  code = PROGRAM.replace("BODY", body.strip().replace("\n", "\n  "))
  counts = counts or [count or len(indices)] * len(indices)
  return [
    subprocess.Popen(
      [sys.executable, "-c", code, address, str(n), str(index), str(limit)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=processes.environment(),
    )
    for index, n in zip(indices, counts)
  ]


def ends(started, seconds=60):
  """(exit code, stdout, stderr) of each."""
  try:
    outputs = [each.communicate(timeout=seconds) for each in started]
  finally:
    for each in started:
      each.kill()
  return [(p.returncode, *texts) for p, texts in zip(started, outputs)]


def ready(process):
  """Waits for the line that says that a process works."""
  line = process.stdout.readline()
  assert line == "ready\n", line + process.stderr.read()


def test_all_gather_and_end():
  body = """
every = joined.gather("squares", place.index ** 2, lambda values: values)
said = json.dumps([every, joined.gather("sum", 1, sum), joined.hosts])
"""
  for code, out, err in ends(start(body, [0, 1, 2])):
    assert (code, err) == (0, "")
    assert json.loads(out) == [[0, 1, 4], 3, [socket.gethostname()] * 3]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_who_is_killed_is_named_wherever_the_others_hang(victim):
  body = """
print("ready", flush=True)
time.sleep(60)
"""
  started = start(body, [0, 1, 2])
  for each in started:
    ready(each)
  began = time.monotonic()
  started[victim].kill()
  found = ends(started)
  assert time.monotonic() - began < 10
  for index, (code, out, err) in enumerate(found):
    if index != victim:
      assert (code, out) == (75, ""), err
      assert err == (
        f"error: process {victim} ({socket.gethostname()}) is gone; the same"
        " command goes on from the last save\n"
      )


@pytest.mark.parametrize("asked", [0, 1])
def test_all_stop_at_one_place_that_none_has_passed(asked):
  body = """
print("ready", flush=True)
for number in range(10_000):
  time.sleep(0.002 + 0.01 * place.index)  # One is far ahead of the others.
  if interrupt.requested():
    said = str(number)
    break
"""
  started = start(body, [0, 1, 2])
  for each in started:
    ready(each)
  time.sleep(0.5)
  started[asked].send_signal(signal.SIGTERM)
  found = ends(started)
  assert [code for code, _, _ in found] == [0, 0, 0]
  assert len({out for _, out, _ in found}) == 1
  assert int(found[0][1]) > 10


def test_a_block_of_one_process_alone_ends_at_once():
  body = """
print("ready", flush=True)
if place.index:
  time.sleep(60)
with interrupt.alone():
  while True:
    interrupt.check()
    time.sleep(0.01)
"""
  started = start(body, [0, 1])
  for each in started:
    ready(each)
  started[1].send_signal(signal.SIGTERM)
  assert started[0].stdout.readline() == "stopped\n"
  started[1].kill()
  ends(started)


@pytest.mark.parametrize("asked", [0, 1])
def test_a_command_that_saves_nothing_ends_where_one_is_asked_to(asked):
  body = """
interrupt.install(saves=False)
print("ready", flush=True)
time.sleep(60)
"""
  started = start(body, [0, 1])
  for each in started:
    ready(each)
  started[asked].send_signal(signal.SIGTERM)
  found = ends(started)
  name = f"process {asked} ({socket.gethostname()})"
  assert found[asked][:2] == (75, "stopped\n")
  assert found[1 - asked][::2] == (75, f"error: {name} has ended: stopped\n")


def test_the_first_one_closes_what_serves_them_when_all_have_left():
  body = """
joined.close = lambda: print(f"closed by {place.index}", flush=True)
time.sleep(place.index)
"""
  found = ends(start(body, [0, 1, 2]))
  assert [out.split("\n")[1] for _, out, _ in found] == ["closed by 0", "", ""]
  body += "if place.index == 2: os._exit(1)"
  (first, *_) = ends(start(body, [0, 1, 2]))
  assert first[0] == 75
  assert "closed" not in first[1]


def test_the_grace_ends_what_is_not_saved_in_time():
  body = """
interrupt.allow(0.5)
print("ready", flush=True)
time.sleep(60)
"""
  started = start(body, [0, 1])
  for each in started:
    ready(each)
  started[1].send_signal(signal.SIGTERM)
  for code, _, err in ends(started):
    assert code == 75
    assert "not saved within the time of --grace" in err or "is gone" in err


def test_an_error_of_one_ends_the_others_with_its_words():
  body = """
if place.index == 1:
  raise errors.UserError("the disk is full")
time.sleep(60)
"""
  first, second = ends(start(body, [0, 1]))
  assert second[:2] == (2, "error: the disk is full\n")
  name = f"process 1 ({socket.gethostname()})"
  assert first[0] == 2
  assert first[2] == f"error: {name} has ended: error: the disk is full\n"


def test_who_does_not_come_is_named():
  ((code, out, _),) = ends(start("", [0], count=3, limit=1))
  assert code == 2
  assert "1 came within 1 s; missing: --process=1, --process=2" in out


def test_nobody_listens():
  ((code, out, _),) = ends(start("", [1], count=2, limit=1))
  assert code == 2
  assert "nobody answers there after 1 s" in out
  assert "Is process 0 started" in out


def test_two_of_one_index():
  found = ends(start("", [0, 1, 1], count=3))
  assert [code for code, _, _ in found] == [2, 2, 2]
  for _, out, _ in found:
    assert "--process=1 is given twice" in out


def test_two_first_ones():
  with socket.create_server(("", 0)) as taken:
    port = taken.getsockname()[1]
    ((code, out, _),) = ends(start("", [0], count=2, limit=1, port=port))
  assert code == 2
  assert "Is there another process 0" in out


def test_different_numbers_of_processes():
  found = ends(start("", [0, 1], counts=[2, 3]))
  for code, out, _ in found:
    assert code == 2
    assert "--processes=3 of process 1" in out


def test_who_comes_too_late_is_sent_away():
  port = processes.free_port()
  body = """
print("ready", flush=True)
time.sleep(4)
"""
  started = start(body, [0, 1], port=port)
  for each in started:
    ready(each)
  ((code, out, _),) = ends(start("", [1], count=2, port=port))
  assert code == 2
  assert "all 2 processes are there already" in out
  assert [code for code, _, _ in ends(started)] == [0, 0]


def test_a_stranger_at_the_port_is_no_process():
  port = processes.free_port()
  (first,) = start("", [0], count=2, port=port)
  end = time.monotonic() + 20
  while time.monotonic() < end:
    try:
      with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
      break
    except OSError:
      time.sleep(0.05)
  found = ends([first, *start("", [1], count=2, port=port)])
  assert [code for code, _, _ in found] == [0, 0]
