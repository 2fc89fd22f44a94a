"""What all visits of admins share: the numbers, and how a form is read."""

import threading
import time
from collections.abc import Callable

from starlette import responses

from instruct_jax.base import errors
from instruct_jax.collecting import plots, store, tally, visits
from instruct_jax.data.read import answers

BACK = ("/admin", "To the overview")
_FRESH = 30.0  # seconds that a plot is as good as a new one


class Desk:
  """What all visits of admins share: the numbers, and plots of them."""

  def __init__(
    self,
    labels: store.Store,
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    self.path = labels.folder / answers.NAME
    self.tally = tally.Tally(self.path, clock=clock)
    self._clock, self._lock = clock, threading.Lock()
    self._drawn: dict[str, tuple[int, float, bytes]] = {}

  def plot(self, name: str) -> bytes:
    """A plot as SVG, drawn anew at most every half minute."""
    state = self.tally.state()
    version = state["version"]
    with self._lock:
      of, at, content = self._drawn.get(name, (0, 0.0, b""))
      if content and (of == version or self._clock() - at < _FRESH):
        return content
      content = plots.svg(name, state)
      self._drawn[name] = (version, self._clock(), content)
      return content


def of(visit: visits.Visit) -> Desk:
  """The server's, `app.state.desk`."""
  return visit.request.app.state.desk


def to(path: str) -> responses.Response:
  """The way to another page, after a form."""
  return responses.RedirectResponse(path, 303)


def done(visit: visits.Visit, path: str) -> responses.Response:
  """What a form, or a script, is told when it is done."""
  if visit.is_form:
    return to(path)
  return responses.JSONResponse({"done": True, "next": path})


def text_of(visit: visits.Visit, name: str) -> str:
  """A text that was sent; UserError for another thing."""
  value = visit.body.get(name)
  if not isinstance(value, str):
    raise errors.UserError(f"{name}: should be text")
  return value


def whole_of(visit: visits.Visit, name: str) -> int:
  """A number that was sent, 0 or more; UserError for another thing."""
  value = visit.body.get(name)
  if isinstance(value, bool) or not isinstance(value, int | str):
    raise errors.UserError(f"{name}: should be a whole number")
  if isinstance(value, int) and 0 <= value < 2**63:
    return value
  if isinstance(value, str) and _is_number(value):
    return int(value)
  raise errors.UserError(f"{name}: should be a whole number")


def number_in(text: str, most: int = 2**63 - 1) -> int:
  """A number in an address; Problem for another."""
  if not _is_number(text) or int(text) > most:
    raise visits.Problem(404, "There is no such page", link=BACK)
  return int(text)


def _is_number(text: str) -> bool:
  return text.isascii() and text.isdecimal() and len(text) <= 18
