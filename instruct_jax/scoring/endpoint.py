"""A model behind an OpenAI-compatible endpoint: asked once, with patience.

POST {url}/chat/completions, by the standard library. What may pass (no answer
in time, 408, 409, 425, 429, 5xx, a broken or foreign answer) is tried again
with growing pauses; what the server says of all that is asked (a wrong key, no
such model) is a UserError; what it refuses of one question is that question's
failure. The key comes from an environment variable and is written nowhere.
"""

import dataclasses
import email.utils
import http.client
import ipaddress
import json
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors

_AGAIN = (408, 409, 425, 429)  # and 5xx
_FOR_ALL = (401, 402, 403, 404, 405)  # would be said of every question
_LONGEST_PAUSE = 60.0  # seconds
_MOST_BYTES = 1 << 24  # of an answer
_PIECE = 1 << 16

Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where to ask, and how.

  Attributes:
    url: up to the version, as https://api.openai.com/v1.
    model: as the server calls it.
    key_variable: the environment variable that holds the key; '': no key.
    options: what else the request says, as {"temperature": 0}.
    timeout: seconds for one whole answer.
    retries: how often a question is asked again.
    pause: seconds before the first time; each time twice as many, at most 60,
      unless the server says how many.
  """

  url: str
  model: str
  key_variable: str = ""
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  timeout: float = 60.0
  retries: int = 5
  pause: float = 1.0


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model said, and what it cost."""

  text: str
  prompt_tokens: int | None  # as the server counts; None where it does not
  completion_tokens: int | None
  retries: int


class Failed(Exception):
  """One question has no answer: refused, or after all retries."""


class _Passing(Exception):
  """What may be otherwise next time; `pause`: the server's own seconds."""

  def __init__(self, reason: str, pause: float | None = None):
    super().__init__(reason)
    self.pause = pause


class _NoRedirects(urllib.request.HTTPRedirectHandler):
  """A key goes nowhere but where it was meant for."""

  def redirect_request(self, *_, **__):
    return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def check(endpoint: Endpoint) -> None:
  """UserError for what cannot be asked; asks nothing."""
  parts = urllib.parse.urlsplit(endpoint.url)
  if parts.scheme not in ("http", "https") or not parts.hostname:
    raise errors.UserError(
      f"the endpoint {endpoint.url!r} is no address: https://HOST/v1 is right"
    )
  if parts.username or parts.password or parts.query:
    raise errors.UserError(
      f"the endpoint of {parts.hostname} holds a name, a password or a query:"
      " give its address alone, and the key in an environment variable"
    )
  if not endpoint.model:
    raise errors.UserError(
      f"the endpoint {endpoint.url} has no model: name the one to be asked"
    )
  if not endpoint.key_variable:
    return
  if not _key(endpoint):
    raise errors.UserError(
      f"the environment variable {endpoint.key_variable} is not set: it should"
      f" hold the key for {endpoint.url}"
    )
  if parts.scheme == "http" and not _is_near(parts.hostname):
    raise errors.UserError(
      f"the endpoint {endpoint.url} would get the key unencrypted: https:// is"
      " right, or no key"
    )


def _key(endpoint: Endpoint) -> str:
  return os.environ.get(endpoint.key_variable, "").strip()


def _is_near(host: str) -> bool:
  """Whether a host is this machine or of a private network."""
  try:
    return ipaddress.ip_address(host).is_private
  except ValueError:
    return host == "localhost"


def ask(
  endpoint: Endpoint,
  messages: Messages,
  *,
  stop: threading.Event | None = None,
) -> Answer:
  """The model's answer to `messages`; may be called by several threads.

  Raises Failed where this question has no answer, also where `stop` is set
  while it waits; UserError where no question would have one.
  """
  stop = stop or threading.Event()
  for tried in range(endpoint.retries + 1):
    try:
      return _ask_once(endpoint, messages, tried)
    except _Passing as error:
      reason = str(error)
      pause = endpoint.pause * 2**tried * random.uniform(0.5, 1.5)
      pause = pause if error.pause is None else error.pause
      if tried == endpoint.retries or stop.wait(min(pause, _LONGEST_PAUSE)):
        break
  raise Failed(reason)


def _ask_once(endpoint: Endpoint, messages: Messages, tried: int) -> Answer:
  try:
    return _answer(_sent(endpoint, messages), tried)
  except urllib.error.HTTPError as error:
    raise _refused(endpoint, error) from None
  except (OSError, http.client.HTTPException) as error:
    reason = getattr(error, "reason", None) or error
    said = str(reason) or type(error).__name__
    raise _Passing(f"{endpoint.url}: {said}"[:300]) from None
  except (ValueError, TypeError, LookupError, AttributeError) as error:
    said = f"{type(error).__name__}: {error}"[:200]
    raise _Passing(
      f"{endpoint.url}: its answer is no chat completion ({said})"
    ) from None


def _sent(endpoint: Endpoint, messages: Messages) -> Any:
  """The JSON that the server answers with."""
  body = {"model": endpoint.model, "messages": list(messages)}
  body |= endpoint.options
  headers = {"Content-Type": "application/json", "Accept": "application/json"}
  if endpoint.key_variable:
    headers["Authorization"] = f"Bearer {_key(endpoint)}"
  request = urllib.request.Request(
    f"{endpoint.url.rstrip('/')}/chat/completions",
    json.dumps({k: v for k, v in body.items() if v is not None}).encode(),
    headers,
    method="POST",
  )
  deadline = time.monotonic() + endpoint.timeout
  with _OPENER.open(request, timeout=endpoint.timeout) as response:
    return json.loads(_read(response.read1, deadline))


def _read(read: Callable[[int], bytes], deadline: float) -> bytes:
  """All of an answer; a server that sends a byte now and then is late, too."""
  content = b""
  while piece := read(_PIECE):
    content += piece
    if len(content) > _MOST_BYTES:
      raise ValueError("it is longer than 16 MiB")
    if time.monotonic() > deadline:
      raise TimeoutError("timed out")
  return content


def _answer(said: Any, tried: int) -> Answer:
  message = said["choices"][0]["message"]
  text = message["content"]
  if text is None:  # it would not say anything
    text = ""
  if not isinstance(text, str):
    raise ValueError('"content" is no text')
  usage = said.get("usage") or {}
  return Answer(
    text,
    _count(usage.get("prompt_tokens")),
    _count(usage.get("completion_tokens")),
    tried,
  )


def _count(value: Any) -> int | None:
  is_whole = isinstance(value, int) and not isinstance(value, bool)
  return value if is_whole and value >= 0 else None


def _refused(endpoint: Endpoint, error: urllib.error.HTTPError) -> Exception:
  """What an answer of another status than 200 means."""
  with error:
    said = _message(error)
  if endpoint.key_variable:  # A server may say again what it was sent.
    said = said.replace(_key(endpoint), "...")
  what = f"{endpoint.url}: {error.code} {error.reason}{said}"
  if error.code in _AGAIN or error.code >= 500:
    return _Passing(what, _own_pause(error.headers.get("Retry-After", "")))
  if error.code in _FOR_ALL or error.code < 400:
    key = endpoint.key_variable or "no key"
    return errors.UserError(
      f"{what}. Asked for the model {endpoint.model!r} with the key of {key}:"
      " is the address, the model or the key another?"
    )
  return Failed(what)


def _message(error: urllib.error.HTTPError) -> str:
  """The words of a refusal, in a line."""
  try:
    text = error.read(_PIECE).decode("utf-8", "replace")
    try:
      tree = json.loads(text)
      text = str(tree["error"]["message"])
    except (ValueError, TypeError, LookupError):
      pass
  except (OSError, http.client.HTTPException):
    return ""
  line = " ".join(text.split())[:300]
  return f" ({line})" if line else ""


def _own_pause(text: str) -> float | None:
  """The seconds of a Retry-After: a number or a date; None for neither."""
  if text.strip().isdecimal():
    return float(text)
  try:
    until = email.utils.parsedate_to_datetime(text).timestamp()
  except (ValueError, TypeError):
    return None
  return max(0.0, until - time.time())
