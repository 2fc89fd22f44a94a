"""Requests that no browser of an honest labeler sends, as bytes.

Each is a name and what goes over the wire, one connection each. `Known` is what
an attacker may know at best: an invitation of his own, somebody else's
assignment, a form that was sent already. None of them may be answered with
anything but 4xx, nor leave anything behind.
"""

import dataclasses
import json
from collections.abc import Iterator

from instruct_jax import paper

Request = tuple[str, bytes]
HOST = b"Host: 127.0.0.1"
_PAGES = ("/work", "/task.json", "/survey", "/instructions", "/history")
_FORMS = ("/answer", "/skip", "/undo", "/survey")
_OF_ADMINS = (
  "/admin",
  "/admin/state.json",
  "/admin/plots/agreement.svg",
  "/admin/export",
  "/admin/backup",
)
_ADMINS_FORMS = tuple(
  f"/admin/{what}"
  for what in ("invite", "revoke", "reopen", "close", "grade", "pass")
)
SQL = (
  "'; DROP TABLE answers; --",
  '" OR ""="',
  "1); DELETE FROM labelers WHERE (1=1",
  "' UNION SELECT token_hash FROM labelers --",
  "1 OR 1=1",
)
# What is no whole number above 0 that an assignment has.
NO_NUMBERS = (
  *(None, True, False, -1, 0, 1.5, 1e300, 10**30, 2**63, -(2**63)),
  *("", "1e", "one", "\0", "\ud800", [], [1], {}, {"id": 1}),
)
# What is no text that means something as a submission.
NO_NAMES = (None, True, 7, "", "a", "a b c d e f", "x" * 101, "\0" * 12, [], {})


@dataclasses.dataclass(frozen=True)
class Known:
  """What the sender has to begin with.

  Attributes:
    cookie: his own, "labeler=...".
    csrf: his own token.
    assignment: his open ranking, of `count` responses.
    theirs: an open assignment of another labeler, who has `their_cookie` and
      `their_csrf`.
    revoked: the cookie of a labeler who was revoked.
  """

  cookie: str
  csrf: str
  assignment: int
  count: int
  theirs: int
  their_cookie: str
  their_csrf: str
  revoked: str


def requests(known: Known) -> Iterator[Request]:
  """All of them."""
  yield from methods()
  yield from paths()
  yield from strangers(known)
  yield from forged(known)
  yield from fields(known)
  yield from answers(known)
  yield from bodies(known)
  yield from headers(known)
  yield from not_http()


def raw(
  method: str, path: str, *lines: str, body: bytes = b"", cookie: str = ""
) -> bytes:
  """A request as bytes; latin-1 of what is beyond ASCII."""
  head = [f"{method} {path} HTTP/1.1", HOST.decode(), "Connection: close"]
  head += [f"Cookie: {cookie}"] if cookie else []
  return "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body


def post(
  path: str,
  body: bytes,
  *lines: str,
  cookie: str = "",
  kind: str = "application/json",
) -> bytes:
  """A form with its length."""
  lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines)
  return raw("POST", path, *lines, body=body, cookie=cookie)


def good(known: Known, **changed: object) -> dict:
  """What would be stored, but for what is `changed`."""
  return {
    "assignment": known.assignment,
    "submission": "malformed-request",
    "csrf": known.csrf,
    "seconds": 3.0,
    "sensitive": False,
    "answer": ranking(known.count),
  } | changed


def ranking(count: int) -> dict:
  """A ranking of so many."""
  return {
    "ranks": list(range(1, count + 1)),
    "ratings": [4] * count,
    "metadata": [dict.fromkeys(paper.METADATA, False) for _ in range(count)],
  }


def as_bytes(tree: object) -> bytes:
  """JSON, with NaN and half characters as Python writes them."""
  return json.dumps(tree).encode()


def methods() -> Iterator[Request]:
  """Verbs that no page has."""
  for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
    for path in ("/", *_PAGES, *_FORMS[:3], "/admin", "/static/x.css"):
      yield f"{method} {path}", raw(method, path)
  for path in _FORMS[:3]:
    yield f"GET {path}", raw("GET", path)
  for path in ("/", "/work", "/task.json", "/history", "/instructions"):
    yield f"POST {path}", post(path, b"{}")


def paths() -> Iterator[Request]:
  """Ways out of the folder of static files, and into other doors."""
  secrets = ("labels.sqlite", "etc/passwd", "settings.toml", "app.py")
  ups = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%252e%252e/")
  for up in ups:
    for secret in secrets:
      path = f"/static/{up * 6}{secret}"
      yield f"path {path}", raw("GET", path)
  for path in (
    *("/labels.sqlite", "/settings.toml", "/.git/config", "//etc/passwd"),
    *("/static//etc/passwd", "/static/%00", "/static/app.js%00.css"),
    *("/static/", "/static", "/static/no_such.css", "/%ff%fe", "/static/%ff"),
    *("/%", "/%zz", "/work%00", "/work/../admin", "/WORK", "/work/1"),
    *("/invite", "/invite/", "/invite/x", "/invite/a/b", "/invite/%00"),
    *("/invite/%ff", f"/invite/{'a' * 43}", f"/invite/{'a' * 5000}"),
    *("/admin/enter", "/admin/enter/", f"/admin/enter/{'a' * 43}"),
    *("/admin/enter/%00", "/admin/plots/..%2f..%2flabels.sqlite"),
    *("/admin/../labels.sqlite", "/docs", "/openapi.json", "/metrics"),
    *(f"/{'a' * 9000}", "/a" * 3000, "/?" + "a=b&" * 5000),
  ):
    yield f"path {path[:60]}", raw("GET", path)
  for text in SQL:
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    for door in ("/invite/", "/admin/enter/", "/static/", "/admin/plots/"):
      yield f"path {door}{text}", raw("GET", door + quoted)


def strangers(known: Known) -> Iterator[Request]:
  """Pages without a cookie, or with one that opens nothing."""
  cookies = {
    "no cookie": "",
    "forged": "labeler=" + "A" * 43,
    "empty": "labeler=",
    "revoked": known.revoked,
    "SQL": "labeler=' OR '1'='1",
    "long": "labeler=" + "A" * 10_000,
    "latin": "labeler=\xe9\xff",
    "of an admin": known.cookie.replace("labeler=", "admin="),
  }
  for name, cookie in cookies.items():
    for path in _PAGES[:3]:
      yield f"{name}: {path}", raw("GET", path, cookie=cookie)
    body = as_bytes(good(known))
    yield f"{name}: answer", post("/answer", body, cookie=cookie)
  for path in _OF_ADMINS:
    for name in ("", known.cookie, "admin=forged", cookies["of an admin"]):
      yield f"{path} as {name[:12]}", raw("GET", path, cookie=name)
  for path in _ADMINS_FORMS:
    for name in ("", known.cookie, "admin=forged", cookies["of an admin"]):
      body = as_bytes({"id": 1, "name": "mallory", "csrf": known.csrf})
      yield f"POST {path} as {name[:12]}", post(path, body, cookie=name)


def forged(known: Known) -> Iterator[Request]:
  """Other people's assignments and tokens."""
  own, theirs = known.cookie, known.theirs
  tokens = {
    "none": None,
    "empty": "",
    "theirs": known.their_csrf,
    "cut": known.csrf[:-1],
    "longer": known.csrf + "A",
    "case": known.csrf.swapcase(),
    "number": 7,
    "list": [known.csrf],
    "half a character": "\ud800",
    "not ASCII": "é" * 20,
  }
  for name, token in tokens.items():
    for path in _FORMS[:3]:
      body = as_bytes(good(known, csrf=token, reason="none"))
      yield f"csrf {name}: {path}", post(path, body, cookie=own)
    body = as_bytes({k: v for k, v in good(known).items() if k != "csrf"})
    text = token if isinstance(token, str) and token.isascii() else "x"
    line = f"X-CSRF-Token: {text}"
    yield f"csrf header {name}", post("/answer", body, line, cookie=own)
  for path in _FORMS[:2]:
    body = as_bytes(good(known, assignment=theirs, reason="none"))
    yield f"theirs: {path}", post(path, body, cookie=own)
    body = as_bytes(good(known, reason="none"))
    stolen = known.their_cookie
    yield f"their cookie: {path}", post(path, body, cookie=stolen)
  yield "nothing to undo", post("/undo", as_bytes(good(known)), cookie=own)


def fields(known: Known) -> Iterator[Request]:
  """Every field of a form with what does not belong there."""
  wrong: dict[str, tuple] = {
    "assignment": (*NO_NUMBERS, *SQL, 10**9),
    "submission": (*NO_NAMES, *SQL),
    "answer": (None, 7, "text", [], [[]], True, {}),
    "seconds": (
      *(-1, -1e-9, 1e7, 1e308, float("nan"), float("inf"), float("-inf")),
      *("soon", [], {}, 10**400, True, *SQL),
    ),
    "sensitive": (7, "perhaps", [], {"a": 1}, *SQL),
  }
  for field, values in wrong.items():
    for value in values:
      body = as_bytes(good(known, **{field: value}))
      name = f"{field}={str(value)[:30]!r}"
      yield name, post("/answer", body, cookie=known.cookie)
  for field in ("assignment", "submission", "answer"):
    body = as_bytes({k: v for k, v in good(known).items() if k != field})
    yield f"no {field}", post("/answer", body, cookie=known.cookie)
  for reason in (None, 7, [], {}, "", " ", "x" * 5000, "\ud800"):
    body = as_bytes(good(known, reason=reason))
    name = f"skip for {str(reason)[:20]!r}"
    yield name, post("/skip", body, cookie=known.cookie)


def answers(known: Known) -> Iterator[Request]:
  """Rankings that are none, and answers to tasks of other kinds."""
  count, whole = known.count, ranking(known.count)
  longer = {key: [*value, value[0]] for key, value in whole.items()}
  shorter = {key: value[:-1] for key, value in whole.items()}
  odd = (0, -1, 10, 1.5, "1", None, True, [], {}, 1e300, float("nan"))
  changed: list[tuple[str, object]] = [
    *((f"rank {x!r}", {"ranks": [x, *whole["ranks"][1:]]}) for x in odd),
    *((f"rating {x!r}", {"ratings": [x] * count}) for x in (*odd, 8)),
    *((f"flags {x!r}", {"metadata": [x] * count}) for x in (*odd[3:7], "no")),
    *(
      (f"flag {x!r}", {"metadata": [{"violent": x}] * count})
      for x in (0, 1, "yes", None, [], "'; --")
    ),
    ("unknown flag", {"metadata": [{"constructor": True}] * count}),
    ("prototype", {"__proto__": {"ranks": [1]}}),
    *((f"longer {key}", {key: value}) for key, value in longer.items()),
    *((f"shorter {key}", {key: value}) for key, value in shorter.items()),
    *((f"no {key}", {key: None}) for key in whole),
    *((f"text as {key}", {key: "1" * count}) for key in whole),
    *((f"map as {key}", {key: {"0": 1}}) for key in whole),
    ("other field", {"choice": "a"}),
    ("huge", {"ranks": list(range(100_000))}),
  ]
  for name, more in changed:
    body = as_bytes(good(known, answer=whole | more))
    yield f"ranking: {name}", post("/answer", body, cookie=known.cookie)
  for other in (
    {"choice": "a"},
    {"response": "text"},
    {"prompt": "text"},
    {"skipped": "no"},
    {"instruction": "x", "examples": []},
  ):
    body = as_bytes(good(known, answer=other))
    name = f"of another kind: {next(iter(other))}"
    yield name, post("/answer", body, cookie=known.cookie)


def bodies(known: Known) -> Iterator[Request]:
  """What is no JSON, no form, or too much of either."""
  whole = as_bytes(good(known))
  texts = {
    "nothing": b"",
    "cut": whole[:-5],
    "more behind": whole + b"}",
    "twice": whole + whole,
    "a list": b"[" + whole + b"]",
    "null": b"null",
    "a number": b"17",
    "text": b'"answer"',
    "NaN": b"NaN",
    "not UTF-8": whole.replace(b"malformed", b"\xff\xfe\xfa"),
    "UTF-16": whole.decode().encode("utf-16"),
    "overlong": whole.replace(b"malformed", b"\xc0\xaf\xc0\xae"),
    "surrogates": whole.replace(b"malformed", b"\xed\xa0\x80"),
    "NUL": whole.replace(b"malformed", b"\0"),
    "deep lists": b"[" * 100_000,
    "deep and closed": b"[" * 50_000 + b"]" * 50_000,
    "deep maps": b'{"a":' * 50_000,
    "long number": b'{"assignment": ' + b"9" * 100_000 + b"}",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd">',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "much": b'{"a": "' + b"x" * (8 << 20) + b'"}',
  }
  for name, body in texts.items():
    for path in _FORMS[:3]:
      yield f"body {name}: {path}", post(path, body, cookie=known.cookie)
  for kind in (
    *("", "text/plain", "application/xml", "image/png", "application/json2"),
    *("multipart/form-data", "multipart/form-data; boundary=", "a" * 2000),
  ):
    name = f"kind {kind[:30]!r}"
    yield name, post("/answer", whole, cookie=known.cookie, kind=kind)
  form = "application/x-www-form-urlencoded"
  for body in (
    *(b"", b"&&&&", b"=", b"%zz=%ff", b"assignment", b"assignment=%00"),
    *(b"csrf=" + known.csrf.encode(), b"a=b&" * 20_000, b"\xff\xfe=\x00"),
    f"csrf={known.csrf}&assignment={known.assignment}".encode(),
    f"csrf={known.csrf}&assignment=1&assignment=2&submission=a".encode(),
  ):
    name = f"form {body[:30]!r}"
    yield name, post("/answer", body, cookie=known.cookie, kind=form)


def headers(known: Known) -> Iterator[Request]:
  """Lengths that lie, lines that are too long, tricks of proxies."""
  whole, cookie = as_bytes(good(known)), f"Cookie: {known.cookie}"
  for name, lines in {
    "negative length": ("Content-Length: -1",),
    "length of words": ("Content-Length: many",),
    "two lengths": ("Content-Length: 5", f"Content-Length: {len(whole)}"),
    "length and chunks": (
      *("Content-Length: 5", "Transfer-Encoding: chunked"),
    ),
    "unknown coding": ("Transfer-Encoding: gzip",),
    "huge length": ("Content-Length: 99999999999999",),
  }.items():
    lines = (cookie, "Content-Type: application/json", *lines)
    yield name, raw("POST", "/answer", *lines, body=whole + b"\r\n")
  chunks = "Transfer-Encoding: chunked"
  kind = "Content-Type: application/json"
  for name, body in {
    "no number of a chunk": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": b"-5\r\n{}\r\n0\r\n\r\n",
    "much in chunks": b"800000\r\n" + b" " * 0x800000 + b"\r\n0\r\n\r\n",
  }.items():
    lines = (cookie, kind, chunks)
    yield name, raw("POST", "/answer", *lines, body=body)
  gzip = "Content-Encoding: gzip"
  yield "says gzip", post("/answer", b"\x1f\x8b", gzip, cookie=known.cookie)
  for name, line in {
    "long header": "X-Long: " + "a" * 1_000_000,
    "header without a name": ": empty",
    "space in a name": "X Y: 1",
    "NUL in a header": "X-Nul: a\0b",
    "folded": "X-Fold: a\r\n\tb\0",
  }.items():
    yield name, raw("GET", "/work", line, cookie=known.cookie)
  for line in (
    *("X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Admin: 1"),
    *("X-Forwarded-For: 127.0.0.1", "X-Forwarded-User: admin"),
    *("X-HTTP-Method-Override: POST", "Authorization: Basic YWRtaW46YQ=="),
  ):
    yield f"{line} for an admin's page", raw("GET", "/admin", line)


def not_http() -> Iterator[Request]:
  """What is no request of HTTP 1.1 at all."""
  host = HOST
  yield from {
    "no host": b"GET /work HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + host + b"\r\n" + host + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\n" + host + b"\r\n\r\n",
    "words": b"hello, are you there?\r\n\r\n",
    "zeros": b"\0" * 200 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    "raw bytes in a path": b"GET /\xff\xfe HTTP/1.1\r\n" + host + b"\r\n\r\n",
    "space in a path": b"GET /a b HTTP/1.1\r\n" + host + b"\r\n\r\n",
    "no slash": b"GET work HTTP/1.1\r\n" + host + b"\r\n\r\n",
    "long verb": b"A" * 70_000 + b" / HTTP/1.1\r\n" + host + b"\r\n\r\n",
  }.items()
