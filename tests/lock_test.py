"""One job at a time in a folder; killed holders are taken over."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from instruct_jax.base import errors, interrupt, run_folder
from instruct_jax.runs import holders, lock
from tests import processes

# Holds the lock of a folder, says so, and works for some seconds.
JOB = """
import sys, time
from etils import epath
from instruct_jax.base import command, interrupt
from instruct_jax.runs import lock
command.log_to_stderr()
interrupt.install()
folder, log, seconds = sys.argv[1:]
with lock.hold(epath.Path(folder)):
  with open(log, "a") as file:
    file.write("in\\n")
  end = time.time() + float(seconds)
  while time.time() < end:
    interrupt.check()
    time.sleep(0.02)
  with open(log, "a") as file:
    file.write("out\\n")
"""


def start(folder, log, seconds):
  return subprocess.Popen(
    [sys.executable, "-c", JOB, str(folder), str(log), str(seconds)],
    stderr=subprocess.PIPE,
    text=True,
    env=processes.environment(),
  )


def take(folder, **options):
  with lock.hold(epath.Path(folder), **options):
    pytest.fail("two at once")


def wait_for(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.05)


def test_three_at_once_go_one_after_another(tmp_path):
  folder, log = tmp_path / "runs" / "sft", tmp_path / "log"
  jobs = [start(folder, log, 0.3) for _ in range(3)]
  said = [job.communicate(timeout=120)[1] for job in jobs]
  assert [job.returncode for job in jobs] == [0, 0, 0], said
  assert log.read_text() == "in\nout\n" * 3
  assert not list(tmp_path.glob("runs/*"))


def test_a_killed_holder_is_taken_over_and_a_stopped_one_gives_back(tmp_path):
  folder, log = tmp_path / "sft", tmp_path / "log"
  path = run_folder.lock_of(folder)
  first = start(folder, log, 600)
  wait_for(log.exists)
  holder = json.loads(path.read_text())
  assert holder["process"] == first.pid
  with pytest.raises(errors.UserError, match=f"process {first.pid} on ") as no:
    take(folder, wait=False)
  assert holder["host"] in str(no.value)
  assert holder["since"] in str(no.value)
  second = start(folder, log, 600)
  line = second.stderr.readline()
  assert "waiting for .sft.lock" in line
  assert f"process {first.pid}" in line
  first.kill()
  first.wait()
  wait_for(lambda: log.read_text() == "in\nin\n")
  assert json.loads(path.read_text())["process"] == second.pid
  second.send_signal(signal.SIGTERM)
  said = second.communicate(timeout=60)[1]
  assert "ended without giving it back" in said
  assert not path.exists()


def other(**changes):
  return {
    **{"host": "elsewhere", "machine": "another", "process": 1},
    **{"started": "1", "since": "now", "token": "t"},
    **changes,
  }


def test_a_process_that_has_another_s_id_is_told_apart(tmp_path, caplog):
  path = run_folder.lock_of(tmp_path / "sft")
  path.write_text(
    json.dumps(other(machine=holders.machine(), process=os.getpid()))
  )
  with lock.hold(epath.Path(tmp_path / "sft"), wait=False):
    assert json.loads(path.read_text())["started"] != "1"
  assert "taken over" in caplog.text
  assert not path.exists()


def test_a_holder_elsewhere_is_gone_when_it_gives_no_sign(
  tmp_path, monkeypatch
):
  path = run_folder.lock_of(tmp_path / "sft")
  path.write_text(json.dumps(other()))
  with pytest.raises(errors.UserError, match="elsewhere"):
    take(tmp_path / "sft", wait=False)
  monkeypatch.setattr(holders, "PATIENCE", 0.2)
  monkeypatch.setattr(holders, "POLL", 0.05)
  start = time.monotonic()
  with lock.hold(epath.Path(tmp_path / "sft")):
    assert time.monotonic() - start >= 0.2
  assert not path.exists()


def test_sigterm_ends_the_waiting(tmp_path, monkeypatch):
  run_folder.lock_of(tmp_path / "sft").write_text(json.dumps(other()))
  monkeypatch.setattr(interrupt, "requested", lambda: True)
  with pytest.raises(interrupt.Interrupted):
    take(tmp_path / "sft")


def test_an_error_gives_it_back(tmp_path):
  with pytest.raises(KeyError), lock.hold(epath.Path(tmp_path / "sft")):
    raise KeyError
  assert list(tmp_path.iterdir()) == []
