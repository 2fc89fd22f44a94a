"""A labeler without a browser: what it does where a server is gone or wrong."""

import asyncio
import functools
import http.server
import json
import threading

import pytest

pytest.importorskip("httpx")
from benchmarks import label_server
from instruct_jax.base import errors
from instruct_jax.collecting import client


class Scripted(http.server.BaseHTTPRequestHandler):
  """Answers by the server's script, and notes what it was asked."""

  protocol_version = "HTTP/1.1"

  def do_GET(self):
    size = int(self.headers.get("content-length", 0))
    self.server.asked.append((self.path, self.rfile.read(size)))
    script = self.server.script
    reply = script.pop(0) if len(script) > 1 else script[0]
    if reply is None:  # as a process that is killed
      self.close_connection = True
      return
    status, headers, body = reply
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header("content-length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  do_POST = do_GET

  def log_message(self, *_):
    """Says nothing."""


@pytest.fixture
def scripted():
  """A server whose `script` is the replies, the last of them for ever."""
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
  server.asked, server.script = [], []
  server.url = f"http://127.0.0.1:{server.server_port}"
  serve = functools.partial(server.serve_forever, poll_interval=0.01)
  thread = threading.Thread(target=serve, daemon=True)
  thread.start()
  yield server
  server.shutdown()
  server.server_close()


def in_session(url, function, patience=5.0):
  """What an async function of a session gives."""

  async def run():
    session = client.Session(url, patience=patience)
    try:
      return await function(session), session.again
    finally:
      await session.close()

  return asyncio.run(run())


OURS = {"content-security-policy": "default-src 'none'"}


@pytest.mark.parametrize(
  "url",
  [
    *("", "127.0.0.1:8000", "ftp://a", "http://", "http://[::1", "http://a:b"),
    *("http://a:99999", "http://127.0.0.1:8000/admin", "http://a b"),
  ],
)
def test_what_is_no_address_is_said(url):
  with pytest.raises(
    errors.UserError, match=r"http://127\.0\.0\.1:8000 is right"
  ):
    client.check(url)


def test_addresses():
  for url in ("http://127.0.0.1:8000", "https://labels.example/"):
    client.check(url)


def test_nobody_there_is_said_soon():
  url = f"http://127.0.0.1:{label_server.free_port()}"
  with pytest.raises(
    errors.UserError, match=r"nobody answered .*instruct_jax\.label"
  ):
    asyncio.run(client.greet(url, patience=0.2))


@pytest.mark.parametrize("reply", [(200, {}, b"hello"), (401, {}, b"login")])
def test_another_server_is_said(scripted, reply):
  scripted.script = [reply]
  with pytest.raises(errors.UserError, match="is not the server"):
    asyncio.run(client.greet(scripted.url, patience=1))
  scripted.script = [(401, OURS, b"")]
  asyncio.run(client.greet(scripted.url, patience=1))


def test_an_invitation_of_another_folder_is_said(scripted):
  scripted.script = [(404, OURS, b"")]
  with pytest.raises(errors.UserError, match=r"--dir=here: .*another folder"):
    in_session(scripted.url, lambda session: session.enter("token", "here"))
  scripted.script = [(302, {"location": "/work"}, b"")]
  with pytest.raises(errors.UserError, match="is not the server"):
    in_session(scripted.url, lambda session: session.enter("token", "here"))


def test_the_cookie_and_the_token_of_forms_are_sent(scripted):
  cookie = {"location": "/work", "set-cookie": "labeler=abc; HttpOnly"}
  page = json.dumps({"assignment": 3, "csrf": "xyz"}).encode()
  done = json.dumps({"done": True, "csrf": "xyz"}).encode()
  scripted.script = [
    (303, cookie, b""),
    (200, {}, page),
    (200, {}, b'{"saved": true}'),
    (200, {}, done),
  ]

  async def work(session):
    await session.enter("token", "here")
    found = await session.task()
    await session.post("/answer", {"assignment": found["assignment"]})
    return await session.task()

  assert in_session(scripted.url, work) == (None, 0)
  path, body = scripted.asked[2]
  assert path == "/answer"
  assert json.loads(body) == {"assignment": 3, "csrf": "xyz"}


def test_what_was_not_answered_is_sent_again_as_it_was(scripted):
  scripted.script = [
    None,
    (503, {}, b""),
    (429, {"retry-after": "0.01"}, b""),
    (200, {}, b'{"saved": true}'),
  ]
  said, again = in_session(
    scripted.url, lambda session: session.post("/answer", {"submission": "a"})
  )
  assert (said, again) == ({"saved": True}, 3)
  assert len({body for _, body in scripted.asked}) == 1
  assert len(scripted.asked) == 4


def test_patience_ends(scripted):
  scripted.script = [(503, {}, b"")]
  with pytest.raises(errors.UserError, match=r"503 .*is saved"):
    in_session(scripted.url, lambda session: session.task(), patience=0.3)


@pytest.mark.parametrize(
  ("status", "kind"),
  [(409, client.Refused), (401, client.Stopped), (500, client.Stopped)],
)
def test_what_is_refused_is_not_sent_again(scripted, status, kind):
  scripted.script = [(status, {}, b'{"error": "why"}')]
  with pytest.raises(kind, match=f"{status}, .*why") as raised:
    in_session(scripted.url, lambda session: session.post("/answer", {}))
  assert type(raised.value) is kind
  assert len(scripted.asked) == 1
