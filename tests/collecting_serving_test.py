"""The server's address, its greeting, how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

toys = pytest.importorskip("tests.collecting_toys", exc_type=ImportError)

from instruct_jax.base import errors  # noqa: E402
from instruct_jax.collecting import serving  # noqa: E402

_SERVE = """
import sys
from instruct_jax.base import command
from instruct_jax.collecting import serving, store

def main():
  serving.serve(store.open_store(sys.argv[1]), port=int(sys.argv[2]))

command.run(main)
"""


def test_a_port_that_is_taken_is_said():
  with serving.bind("127.0.0.1", 0) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(errors.UserError, match=f"--port={port}: another"):
      serving.bind("127.0.0.1", port)


def test_a_host_that_is_none_is_said():
  with pytest.raises(errors.UserError, match="is no address"):
    serving.bind("no.such.host.invalid", 0)
  with pytest.raises(errors.UserError, match="no address of this machine"):
    serving.bind("192.0.2.1", 0)


@pytest.mark.parametrize(
  ("host", "local", "address"),
  [
    ("127.0.0.1", True, "http://127.0.0.1:80"),
    ("localhost", True, "http://localhost:80"),
    ("::1", True, "http://[::1]:80"),
    ("0.0.0.0", False, f"http://{socket.gethostname()}:80"),
    ("192.168.0.2", False, "http://192.168.0.2:80"),
    ("example.org", False, "http://example.org:80"),
  ],
)
def test_addresses(host, local, address):
  assert serving.is_local(host) is local
  assert serving.address(host, 80) == address


def test_tasks_are_counted_by_kind(tmp_path):
  labels = toys.four_kinds(tmp_path)
  labels.invite("Ann")
  assert serving.tasks_of(labels) == (
    "6 tasks: 1 answers to write, 1 rankings, 1 comparisons, 3 prompts to"
    " write; 1 labeler"
  )
  labels.shut()


def _ask(port):
  """The status of / once the server is there."""
  end = time.monotonic() + 60
  while time.monotonic() < end:
    try:
      with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as reply:
        return reply.status
    except urllib.error.HTTPError as error:
      return error.code
    except OSError:
      time.sleep(0.1)
  raise TimeoutError


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)]
)
def test_a_server_says_where_it_is_and_ends_when_told(tmp_path, number, code):
  with serving.bind("127.0.0.1", 0) as free:
    port = free.getsockname()[1]
  folder = tmp_path / "labels"
  server = subprocess.Popen(
    [sys.executable, "-c", _SERVE, str(folder), str(port)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"PYTHONPATH": os.getcwd()},
  )
  try:
    assert _ask(port) == 401
  finally:
    server.send_signal(number)
  said, problems = server.communicate(timeout=60)
  assert server.returncode == code
  assert f"http://127.0.0.1:{port}/admin/enter/" in said
  assert "Traceback" not in problems
  assert (folder / "instructions.md").read_text().startswith("# Instr")
