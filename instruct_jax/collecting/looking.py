"""What an admin looks at: numbers and plots, a labeler, tasks.

What is counted comes from `tally` and may be some seconds old; lists of
labelers and of tasks are as they are.
"""

import collections
from typing import Any

from starlette import responses

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.collecting import (
  browsing,
  desk,
  kinds,
  people,
  plots,
  screening,
  store,
  survey,
  visits,
)

_MOST_ROWS = 100  # of the agreement of two labelers
# A picture by itself, whose styles are within; it loads nothing.
_SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def overview(visit: visits.Visit) -> responses.Response:
  """The page that an admin enters by."""
  found = _counted(visit)
  has_held_out = any(who.group == "held_out" for who, _ in found["labelers"])
  return visit.page(
    "admin.html", **found, groups=people.GROUPS, has_held_out=has_held_out
  )


def live(visit: visits.Visit) -> responses.Response:
  """The part of it that changes by itself."""
  return visit.page("admin_live.html", **_counted(visit))


def state_json(visit: visits.Visit) -> responses.Response:
  """The numbers, for a program; "version" grows when they change."""
  state = desk.of(visit).tally.state()
  known = [
    {"id": who.id, "name": who.name, "group": who.group, "state": said}
    for who, said in _labelers(visit)
  ]
  return responses.JSONResponse({**state, "invited": known})


def plot(visit: visits.Visit) -> responses.Response:
  """One of the plots, as SVG."""
  name = visit.request.path_params["name"].removesuffix(".svg")
  if name not in plots.PLOTS:
    raise visits.Problem(404, "There is no such plot")
  return responses.Response(
    desk.of(visit).plot(name),
    media_type="image/svg+xml",
    headers={"content-security-policy": _SVG_POLICY},
  )


def _counted(visit: visits.Visit) -> dict[str, Any]:
  state = desk.of(visit).tally.state()
  by_two = [one for one in state["agreement"]["by_two"] if one.get("n")]
  by_two.sort(key=lambda one: -one["n"])
  return {
    "state": state,
    "labelers": _labelers(visit),
    "by_two": by_two[:_MOST_ROWS],
    "more_of_two": max(0, len(by_two) - _MOST_ROWS),
    "plots": [*plots.PLOTS],
    "overlap": visit.store.settings.overlap,
  }


def _labelers(visit: visits.Visit) -> list[tuple[store.Labeler, str]]:
  """All, and of each: revoked, working, or how their screening stands."""
  found = []
  with visit.store.reading() as connection:
    for who in people.everybody(connection):
      said = screening.state(connection, visit.store.settings, who)
      said = {"none": "working", "open": "in screening"}.get(said, said)
      found.append((who, "revoked" if who.revoked_at is not None else said))
  return found


def labeler(visit: visits.Visit) -> responses.Response:
  """One labeler: what they did, their screening beside gold, their survey."""
  return labeler_page(
    visit, desk.number_in(visit.request.path_params["number"])
  )


def labeler_page(
  visit: visits.Visit, number: int, link: str = ""
) -> responses.Response:
  """A labeler's page; with a `link` that was made for them just now."""
  found = next(((w, s) for w, s in _labelers(visit) if w.id == number), None)
  if found is None:
    raise visits.Problem(404, "There is no such labeler", link=desk.BACK)
  who, said = found
  screened, last = browsing.of_labeler(desk.of(visit).path, number)
  state = desk.of(visit).tally.state()
  with visit.store.reading() as connection:
    marks = screening.marks(connection, number)
  return visit.page(
    "admin_labeler.html",
    who=who,
    said=said,
    link=link,
    counted=state["labelers"].get(who.name),
    marks=marks,
    to_pass=visit.store.settings.screening,
    screened=screened,
    last=last,
    flags=paper.METADATA,
    survey=_survey(visit, number),
    is_sensitive=screening.is_sensitive,
  )


def _survey(visit: visits.Visit, number: int) -> list[tuple[str, str]]:
  """(question, answer) of those that they answered."""
  given = visit.store.survey(number) or {}
  asked = {one.name: one.text for one in survey.QUESTIONS}
  return [
    (asked.get(name, name), ", ".join(x) if isinstance(x, list) else str(x))
    for name, x in given.items()
  ]


def tasks(visit: visits.Visit) -> responses.Response:
  """A list of tasks, by number, words, kind and state."""
  asked = visit.request.query_params
  words = asked.get("q", "").strip()[:200]
  kind, state = asked.get("kind", ""), asked.get("state", "")
  if kind and kind not in kinds.KINDS:
    raise errors.unknown("kind", kind[:40], kinds.KINDS)
  if state not in browsing.STATES:
    raise errors.unknown("state", state[:40], browsing.STATES[1:])
  page = desk.number_in(asked.get("page", "0"), most=10**6)
  found, has_more = browsing.tasks(
    desk.of(visit).path, words=words, kind=kind, state=state, page=page
  )
  return visit.page(
    "admin_tasks.html",
    found=found,
    has_more=has_more,
    asked={"q": words, "kind": kind, "state": state},
    page=page,
    kinds=kinds.KINDS,
    states=browsing.STATES,
  )


def task(visit: visits.Visit) -> responses.Response:
  """A task, its responses, and what each labeler said of them."""
  number = desk.number_in(visit.request.path_params["number"])
  found = browsing.task(desk.of(visit).path, number)
  if found is None:
    raise visits.Problem(404, "There is no such task", link=desk.BACK)
  one, given = found
  by_state = collections.Counter(each.state for each in given)
  return visit.page(
    "admin_task.html",
    task=one,
    given=given,
    by_state=by_state,
    flags=paper.METADATA,
  )
