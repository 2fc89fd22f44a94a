"""A labeler without a browser: one session with the server, over HTTP.

What is not answered (no connection, 429, a proxy without a server) is sent
again, the same bytes under the same submission, until `patience` seconds have
passed: the server stores a submission once, so that nothing is lost nor doubled
where it is killed between storing an answer and saying so.
"""

import asyncio
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import httpx

from instruct_jax.base import errors

PATIENCE = 60.0  # seconds that a server may be away
COOKIE = "labeler"  # as `guard` names it
_START = 3.0  # seconds that the first reply may take
_POLICY = "content-security-policy"  # every page of the server has one
_FIRST, _LONGEST = 0.05, 2.0  # seconds between two tries
_TIMEOUT = 20.0  # of one request
_LATER = frozenset((429, 502, 503, 504))


class Stopped(Exception):
  """The server will have no more of this labeler: what it said."""


class Refused(Stopped):
  """It would not have this answer (409): what it said."""


def check(url: str) -> None:
  """UserError for what is no address of a server."""
  try:
    parts = urllib.parse.urlsplit(url)
    is_right = parts.scheme in ("http", "https") and bool(parts.hostname)
    is_right = is_right and parts.port != 0 and parts.path in ("", "/")
    is_right = is_right and not any(c.isspace() for c in url)
    httpx.URL(url)
  except (ValueError, httpx.InvalidURL):
    is_right = False
  if not is_right:
    raise errors.UserError(f"--url={url}: http://127.0.0.1:8000 is right")


async def greet(url: str, patience: float) -> None:
  """UserError where nobody answers, or something that is no such server.

  What is not there within a few seconds is not running.
  """
  session = Session(url, patience=min(patience, _START))
  try:
    reply = await session.sent("GET", "/")
  finally:
    await session.close()
  if reply.status_code != 401 or _POLICY not in reply.headers:
    raise _another(url, f"{reply.status_code} without an invitation")


def _another(url: str, what: str) -> errors.UserError:
  return errors.UserError(
    f"--url={url}: what answers there ({what}) is not the server of"
    " instruct_jax.label; the address that it printed as it started is right"
  )


class Session:
  """One labeler's cookie and CSRF token; `seconds` is what requests took."""

  def __init__(self, url: str, *, patience: float = PATIENCE):
    self.url, self._patience = url.rstrip("/"), patience
    self._client = httpx.AsyncClient(base_url=self.url, timeout=_TIMEOUT)
    self._csrf = ""
    self.again = 0  # requests that had to be sent again

  async def close(self) -> None:
    """Closes its connection."""
    await self._client.aclose()

  async def enter(self, token: str, folder: str) -> None:
    """Goes in by an invitation, which was written into `folder`.

    Raises UserError where nobody answers, something else than this server
    does, or it knows nothing of the invitation.
    """
    reply = await self.sent("GET", f"/invite/{token}")
    if reply.status_code in (404, 401, 403):
      raise errors.UserError(
        f"--url={self.url}: what answers there does not know an invitation"
        f" that was just written into --dir={folder}: it serves another folder."
        " The address that the server of this folder printed is right"
      )
    if not reply.is_redirect or COOKIE not in self._client.cookies:
      raise _another(self.url, f"{reply.status_code} to an invitation")

  async def task(self) -> dict[str, Any] | None:
    """The task to be answered next, as the page shows it; None: none is left.

    Raises Stopped where this labeler may not work.
    """
    page = _json(await self.sent("GET", "/task.json"))
    self._csrf = page.get("csrf", "")
    return page if "assignment" in page else None

  async def post(self, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Sends a form; what the server said, after it has stored it.

    Raises Stopped with what it said where it refused.
    """
    return _json(
      await self.sent("POST", path, json={**payload, "csrf": self._csrf})
    )

  async def sent(self, method: str, path: str, **what: Any) -> httpx.Response:
    """The reply; asked again until there is one."""
    end, pause, problem = time.monotonic() + self._patience, _FIRST, ""
    while True:
      try:
        reply = await self._client.request(method, path, **what)
      except httpx.TransportError as error:
        problem = str(error) or type(error).__name__
      else:
        if reply.status_code not in _LATER:
          return reply
        problem = f"{reply.status_code} {reply.reason_phrase}"
        pause = max(pause, _wait(reply))
      if time.monotonic() + pause > end:
        raise errors.UserError(
          f"--url={self.url}: nobody answered for {self._patience:g} s"
          f" ({problem}). Is the server running? python -m instruct_jax.label"
          " --dir=FOLDER starts it; what it said was saved is saved"
        )
      self.again += 1
      await asyncio.sleep(pause)
      pause = min(_LONGEST, 2 * pause)


def _wait(reply: httpx.Response) -> float:
  """The seconds that a server asks to be left alone for."""
  try:
    return float(reply.headers.get("retry-after", 0))
  except ValueError:
    return 0.0


def _json(reply: httpx.Response) -> dict[str, Any]:
  try:
    said = reply.json()
  except ValueError:
    said = None
  if reply.is_success and isinstance(said, dict):
    return said
  what = said if isinstance(said, dict) else reply.text[:200]
  error = Refused if reply.status_code == 409 else Stopped
  raise error(f"{reply.request.url.path}: {reply.status_code}, {what}")
