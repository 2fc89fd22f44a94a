"""One request: read, known, checked, answered; what every page has in common.

A handler is a plain function of a `Visit`. It runs in the thread pool, in one
piece with finding out who asks, since everything it does waits for the
database. What it raises is told as a page or as JSON, never as a traceback.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy
from starlette import concurrency, requests, responses

from instruct_jax.base import errors
from instruct_jax.collecting import forms, guard, store, tokens
from instruct_jax.collecting import site as site_

_log = logging.getLogger(__name__)
_LONGEST_TOKEN = 200  # characters; those that are given out have 43
_MOMENT = "One moment"
LABELER, ADMIN = "labeler", "admin"  # who a page is for, and their cookie


class Problem(Exception):
  """What is told instead of a page: a status, a title, what to do."""

  def __init__(
    self,
    status: int,
    title: str,
    *lines: str,
    link: tuple[str, str] | None = None,
    wait: float = 0.0,
  ):
    super().__init__(title)
    self.status, self.title, self.lines = status, title, lines
    self.link, self.wait = link, wait


@dataclasses.dataclass(frozen=True)
class Visit:
  """A request, and who asks."""

  site: site_.Site
  request: requests.Request
  token: str
  labeler: store.Labeler | None  # None of an admin, and of nobody
  body: Mapping[str, Any]  # of a POST: an object, or a form's fields

  @property
  def store(self) -> store.Store:
    """The labels."""
    return self.site.store

  @property
  def path(self) -> str:
    """Of the page."""
    return self.request.url.path

  @property
  def csrf(self) -> str:
    """What this visitor's forms carry."""
    return guard.csrf(self.site.secret, self.token)

  @property
  def session(self) -> str:
    """Under what name the browser keeps this visitor's drafts.

    A labeler's is the same after a new link: what waits to be sent is sent.
    """
    who = self.token if self.labeler is None else f"labeler {self.labeler.id}"
    return guard.session_of(self.site.secret, who)

  @property
  def wants_json(self) -> bool:
    """Whether a script asks, or a browser that shows pages."""
    return _wants_json(self.request)

  @property
  def is_form(self) -> bool:
    """Whether what was sent is a form's, without a script."""
    return _type_of(self.request) == forms.FORM

  def page(
    self, template: str, status: int = 200, **context: Any
  ) -> responses.Response:
    """A page from its template."""
    return self.site.page(template, status, visit=self, **context)


Handler = Callable[[Visit], responses.Response]


def endpoint(handler: Handler, by: str = "") -> Callable[..., Any]:
  """A handler as Starlette calls it; `by`: LABELER, ADMIN or '' for anybody.

  What a labeler or an admin sends must carry their CSRF token.
  """

  @functools.wraps(handler)
  async def answer(request: requests.Request) -> responses.Response:
    site: site_.Site = request.app.state.site
    try:
      body: Mapping[str, Any] = {}
      if request.method == "POST":
        body = await _body(request, site.limits.body)
      return await concurrency.run_in_threadpool(
        _answered, site, request, handler, by, body
      )
    except Problem as problem:
      return told(site, request, problem)
    except requests.ClientDisconnect:
      return responses.Response(status_code=400)  # nobody reads it
    except Exception:  # a bug: the log has it, the page does not
      _log.exception("%s %s", request.method, _place(request))
      return told(site, request, _bug())

  return answer


def token_of(visit: Visit, token: str, *, by: str) -> store.Labeler | None:
  """Whose token it is, Problem where nobody's; None of an admin.

  Tokens that nobody has are counted by address; who has one is counted by it,
  since many labelers may share an address.
  """
  site, request = visit.site, visit.request
  address = request.client.host if request.client else ""
  name = f"{by}/{tokens.hashed(token)}"
  found = None
  if len(token) <= _LONGEST_TOKEN:
    ask = site.store.labeler_of if by == LABELER else site.store.is_admin
    found = ask(token)
  if not found:
    _wait(site.strangers, address)
    raise Problem(404, "This link is not valid", *_INVITED)
  _wait(site.visitors, name)
  return found if isinstance(found, store.Labeler) else None


def told(
  site: site_.Site, request: requests.Request, problem: Problem
) -> responses.Response:
  """A problem as a page, or as JSON for a script."""
  if _wants_json(request):
    message = " ".join((f"{problem.title}.", *problem.lines))
    response: responses.Response = responses.JSONResponse(
      {"message": message}, problem.status
    )
  else:
    moment = problem.title == _MOMENT
    response = site.page(
      "moment.html" if moment else "message.html",
      problem.status,
      visit=None,
      title=problem.title,
      lines=problem.lines,
      link=problem.link,
      path=request.url.path,
    )
  if problem.wait:
    response.headers["retry-after"] = str(int(problem.wait) + 1)
  return response


_INVITED = (
  "Work here is by invitation: whoever runs this study sends each labeler a"
  " link of their own.",
  "If you had one, open it again, just as it was sent. If it does not work any"
  " more, ask for a new one.",
)
NOBODY = Problem(401, "You need an invitation", *_INVITED)


def _bug() -> Problem:
  return Problem(
    500,
    "Something went wrong on the server",
    "It was not your doing, and nothing is lost in this browser. Please tell"
    " whoever runs this study, and at what time it was:"
    f" {time.strftime('%H:%M:%S', time.gmtime())} UTC.",
  )


def _answered(site, request, handler, by, body):
  visit = Visit(site, request, "", None, body)
  if by:
    visit = _known(visit, by)
    if request.method == "POST" and not _is_own(visit):
      raise Problem(
        403,
        "This form is not from your visit",
        "Nothing was saved. Load the page again, and send it once more.",
        link=("/work" if by == LABELER else "/admin", "Load the page"),
      )
  try:
    return handler(visit)
  except store.Refused as refused:
    raise Problem(
      409, _sentence(str(refused)), link=("/work", "Go on")
    ) from None
  except (errors.UserError, OSError, sqlalchemy.exc.OperationalError) as error:
    if by == ADMIN and isinstance(error, errors.UserError):
      raise Problem(422, _sentence(str(error))) from None
    # The disk is full, or somebody else keeps the database for too long.
    _log.error("%s: %s", _place(request), error)
    raise Problem(
      503,
      "The server cannot do this now",
      "Nothing is lost in this browser. Try again in a minute; if it stays so,"
      " tell whoever runs this study.",
      wait=5,
    ) from None


def _known(visit: Visit, by: str) -> Visit:
  token = visit.request.cookies.get(by, "")
  if not token:
    raise _stranger(visit.request)
  try:
    labeler = token_of(visit, token, by=by)
  except Problem as problem:
    raise NOBODY if problem.status == 404 else problem from None
  return dataclasses.replace(visit, token=token, labeler=labeler)


def _stranger(request: requests.Request) -> Problem:
  """What somebody without a cookie is told.

  A browser sends none with a page that a link from elsewhere opens (SameSite),
  also where the link is an invitation and has just set it: then the page loads
  itself once more, which is no longer from elsewhere.
  """
  from_elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
  if request.method == "GET" and from_elsewhere:
    return Problem(401, _MOMENT)
  return NOBODY


def _place(request: requests.Request) -> str:
  """A path for the log, without the token that a link ends with."""
  path = request.scope["path"]
  if "token" in request.path_params:
    path = f"{path.rpartition('/')[0]}/..."
  return ascii(path)


def _is_own(visit: Visit) -> bool:
  given = visit.body.get("csrf", visit.request.headers.get("x-csrf-token"))
  return guard.is_csrf(visit.site.secret, visit.token, given)


def _wait(buckets: guard.Buckets, key: str) -> None:
  if wait := buckets.wait(key):
    raise Problem(429, "Too fast", "Wait a little, and try again.", wait=wait)


async def _body(request: requests.Request, most: int) -> dict[str, Any]:
  kind = _type_of(request)
  if kind not in (forms.JSON, forms.FORM):
    raise Problem(415, f"Only {forms.JSON} and {forms.FORM} are read here")
  content = await guard.body_of(request, most)
  if content is None:
    raise Problem(413, f"More was sent than the {most:,} bytes that are read")
  try:
    return forms.read(kind, content)
  except forms.Unreadable as error:
    raise Problem(400, f"What was sent cannot be read: {error}") from None


def _type_of(request: requests.Request) -> str:
  given = request.headers.get("content-type", "")
  return given.partition(";")[0].strip().lower()


def _wants_json(request: requests.Request) -> bool:
  return (
    request.url.path.endswith(".json")
    or _type_of(request) == forms.JSON
    or forms.JSON in request.headers.get("accept", "")
  )


def _sentence(text: str) -> str:
  return text[:1].upper() + text[1:]
