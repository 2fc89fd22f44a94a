"""Malformed requests to the labelling server: 4xx, no traceback, no trace."""

import contextlib
import hashlib
import http.client
import json
import re
import socket
import sqlite3

import pytest

pytest.importorskip("uvicorn")
from benchmarks import label_server
from instruct_jax.collecting import store as store_lib
from tests import malformed

SETTINGS = """
[screening]
required = false
[server]
requests_a_minute = 1000000
"""
K = 4


def content_of(database):
  """Rows of every table, and a hash of all that stands in them."""
  found, digest = {}, hashlib.sha256()
  with contextlib.closing(sqlite3.connect(database)) as opened:
    names = opened.execute("SELECT name FROM sqlite_master WHERE type='table'")
    for (name,) in sorted(names.fetchall()):
      rows = sorted(map(repr, opened.execute(f"SELECT * FROM {name}")))
      found[name] = len(rows)
      digest.update("\n".join([name, *rows]).encode())
  return found, digest.hexdigest()


def entered(server, token):
  """The cookie of an invitation, and the open task of its labeler."""
  connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
  connection.request("GET", f"/invite/{token}")
  reply = connection.getresponse()
  reply.read()
  cookie = reply.headers["set-cookie"].partition(";")[0]
  connection.request("GET", "/task.json", headers={"Cookie": cookie})
  page = json.loads(connection.getresponse().read())
  connection.close()
  return cookie, page


def status_of(server, request):
  """The status of a reply to these bytes; None where there is none."""
  with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      connection.sendall(request)
    said = b""
    with contextlib.suppress(ConnectionResetError, TimeoutError):
      while b"\r\n" not in said and (more := connection.recv(65536)):
        said += more
  line = re.match(rb"HTTP/1\.[01] (\d{3}) ", said)
  return int(line[1]) if line else None


@pytest.fixture(scope="module")
def served(tmp_path_factory):
  """A server, its folder, and what a sender may know of it."""
  folder = tmp_path_factory.mktemp("labels")
  (folder / "settings.toml").write_text(SETTINGS)
  opened = store_lib.open_store(folder)
  opened.add_tasks(
    "ranking",
    [
      {"prompt": f"p{n}", "responses": [f"{n} {k}" for k in range(K)]}
      for n in range(20)
    ],
    source="test",
  )
  names = ("alice", "bob", "carol")
  tokens = {name: opened.invite(name) for name in names}
  with label_server.Server(folder, folder / "log.txt") as server:
    (own, page), (their, theirs), (revoked, _) = (
      entered(server, token) for token in tokens.values()
    )
    opened.revoke(opened.labeler_of(tokens["carol"]).id)
    yield (
      server,
      folder,
      malformed.Known(
        cookie=own,
        csrf=page["csrf"],
        assignment=page["assignment"],
        count=K,
        theirs=theirs["assignment"],
        their_cookie=their,
        their_csrf=theirs["csrf"],
        revoked=revoked,
      ),
    )
  opened.shut()


def test_malformed_requests_are_refused_and_leave_nothing(served):
  server, folder, known = served
  before = content_of(folder / "labels.sqlite")
  requests = dict(malformed.requests(known))
  assert len(requests) >= 300
  statuses = {
    name: status_of(server, request) for name, request in requests.items()
  }
  wrong = {
    name: status
    for name, status in statuses.items()
    if status is None or not 400 <= status < 500
  }
  assert not wrong
  # Who has an invitation was not refused for the rate alone.
  own = f"Cookie: {known.cookie}\r\n".encode()
  limited = [name for name, status in statuses.items() if status == 429]
  assert not [name for name in limited if own in requests[name]]
  assert content_of(folder / "labels.sqlite") == before
  said = server.said()
  assert "Traceback" not in said
  assert "Exception" not in said


def test_what_is_sent_well_is_stored(served):
  """Else the test above would pass with a server that refuses everything."""
  server, folder, known = served
  before = content_of(folder / "labels.sqlite")[0]
  body = malformed.as_bytes(malformed.good(known))
  request = malformed.post("/answer", body, cookie=known.cookie)
  assert status_of(server, request) == 200
  after = content_of(folder / "labels.sqlite")[0]
  assert after["answers"] == before["answers"] + 1


def test_who_hangs_up_in_the_middle_leaves_nothing(served):
  """At every hundredth byte of an answer, and before the reply to it."""
  server, folder, known = served
  before = content_of(folder / "labels.sqlite")
  body = malformed.as_bytes(malformed.good(known, assignment=10**6))
  request = malformed.post("/answer", body, cookie=known.cookie)
  for size in (*range(0, len(request), 100), len(request)):
    with socket.create_connection(("127.0.0.1", server.port), 10) as cut:
      cut.sendall(request[:size])
  assert status_of(server, malformed.raw("GET", "/")) == 401
  server.stop()  # Whatever was going on has ended.
  assert content_of(folder / "labels.sqlite") == before
  assert "Traceback" not in server.said()
  server.start()
