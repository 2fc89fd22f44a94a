"""What stands before every page: headers, methods, rates, sizes, CSRF tokens.

Nothing here knows of tasks. A page may load nothing but this server's own
scripts, styles and pictures, is never framed, never cached, and says nobody
where the reader came from (OWASP's secure headers).
"""

import collections
import dataclasses
import hashlib
import hmac
import threading
from collections.abc import Callable

from starlette import datastructures, requests, responses, types

from instruct_jax.collecting import settings

COOKIE_DAYS = 90
STATIC = "/static/"
_METHODS = ("GET", "POST")
_HEADERS = {
  "content-security-policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
  ),
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_PRIVATE = "no-store"
_MOST_BUCKETS = 10_000
_MOST_DIGITS = 12  # of a length


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much one visitor may ask for; a bucket holds `burst` requests."""

  body: int  # bytes of a POST
  burst: int  # requests with one token
  per_second: float
  wrong_burst: int = 30  # tokens that nobody has, from one address
  wrong_per_second: float = 0.2


def limits_of(server: settings.Server) -> Limits:
  """Those of a project: in one minute's rush as many as in a minute."""
  a_minute = server.requests_a_minute
  return Limits(server.body_kilobytes * 1024, a_minute, a_minute / 60)


class Buckets:
  """Token buckets by key, filled by the clock; safe among threads."""

  def __init__(self, burst: int, per_second: float, clock: Callable[[], float]):
    self._burst, self._per_second, self._clock = burst, per_second, clock
    self._lock = threading.Lock()
    self._held: collections.OrderedDict[str, tuple[float, float]] = (
      collections.OrderedDict()  # {key: (what is left, at what time)}
    )

  def wait(self, key: str) -> float:
    """0 where a request may pass, and it is counted; else seconds to wait."""
    with self._lock:
      now = self._clock()
      left, at = self._held.pop(key, (float(self._burst), now))
      # A clock that was set back fills nothing.
      left = min(self._burst, left + max(now - at, 0.0) * self._per_second)
      waits = max(1.0 - left, 0.0) / self._per_second
      if not waits:
        left -= 1.0
      self._held[key] = (left, now)
      while len(self._held) > _MOST_BUCKETS:  # the longest unused is full again
        self._held.popitem(last=False)
      return waits


class Guard:
  """ASGI middleware: the headers of every answer, and methods that are none."""

  def __init__(self, app: types.ASGIApp):
    self._app = app

  async def __call__(
    self, scope: types.Scope, receive: types.Receive, send: types.Send
  ) -> None:
    """As ASGI has it."""
    if scope["type"] != "http":
      if scope["type"] == "lifespan":
        await self._app(scope, receive, send)
      return  # There are no websockets here.
    is_static = scope["path"].startswith(STATIC)

    async def guarded(message: types.Message) -> None:
      if message["type"] == "http.response.start":
        headers = datastructures.MutableHeaders(scope=message)
        for name, value in _HEADERS.items():
          headers.setdefault(name, value)
        if not is_static or message["status"] != 200:
          headers["cache-control"] = _PRIVATE
      await send(message)

    if scope["method"] not in _METHODS:
      refused = responses.PlainTextResponse(
        "Only GET and POST are answered here.\n",
        405,
        {"allow": ", ".join(_METHODS)},
      )
      await refused(scope, receive, guarded)
    else:
      await self._app(scope, receive, guarded)


async def body_of(request: requests.Request, most: int) -> bytes | None:
  """What was sent, or None where it is more than `most` bytes."""
  told = request.headers.get("content-length", "")
  digits = told if told.isdecimal() else "0"
  if len(digits) > _MOST_DIGITS or int(digits) > most:
    return None
  parts, size = [], 0
  async for part in request.stream():
    size += len(part)
    if size > most:
      return None
    parts.append(part)
  return b"".join(parts)


def csrf(secret: str, token: str) -> str:
  """The token that a form of this visitor carries; other sites cannot know it.

  Bound to the cookie: of a labeler's form nobody else can make use.
  """
  digest = hmac.new(secret.encode(), f"csrf:{token}".encode(), hashlib.sha256)
  return digest.hexdigest()


def is_csrf(secret: str, token: str, given: object) -> bool:
  """Whether a form is of this visitor; compared in constant time."""
  if not isinstance(given, str) or not given.isascii():
    return False
  return hmac.compare_digest(csrf(secret, token), given)


def session_of(secret: str, visitor: str) -> str:
  """A name of a visitor for what the browser keeps; nobody knows another's."""
  digest = hmac.new(secret.encode(), f"keep:{visitor}".encode(), hashlib.sha256)
  return digest.hexdigest()[:16]


def set_cookie(
  response: responses.Response, request: requests.Request, name: str, token: str
) -> None:
  """Lets the browser keep a token, out of the reach of scripts and sites."""
  response.set_cookie(
    name,
    token,
    max_age=COOKIE_DAYS * 24 * 3600,
    path="/",
    secure=request.url.scheme == "https",
    httponly=True,
    samesite="strict",
  )
