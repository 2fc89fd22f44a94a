"""What labelers see and send: the next task, their answers, the instructions.

Answers come and go in the order shown; `_save` turns them into the task's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from starlette import responses, routing

from instruct_jax.collecting import (
  forms,
  guard,
  kinds,
  sent,
  showing,
  site,
  store,
  survey,
  views,
  visits,
)

_INSTRUCTIONS = "instructions.md"


def routes() -> list[routing.Route]:
  """The labelers' pages."""
  rows = (
    ("/", "GET", home, visits.LABELER),
    ("/invite/{token}", "GET", invite, ""),
    ("/work", "GET", work, visits.LABELER),
    ("/task.json", "GET", task_json, visits.LABELER),
    ("/answer", "POST", answer, visits.LABELER),
    ("/skip", "POST", skip, visits.LABELER),
    ("/undo", "POST", undo, visits.LABELER),
    ("/instructions", "GET", instructions, visits.LABELER),
    ("/history", "GET", history, visits.LABELER),
    ("/survey", "GET", ask_survey, visits.LABELER),
    ("/survey", "POST", save_survey, visits.LABELER),
  )
  return [
    routing.Route(path, visits.endpoint(handler, by), methods=[method])
    for path, method, handler, by in rows
  ]


def home(visit: visits.Visit) -> responses.Response:
  """The way to the work."""
  del visit
  return _to("/work")


def invite(visit: visits.Visit) -> responses.Response:
  """Turns the token of a link into a cookie, out of the address bar."""
  token = visit.request.path_params["token"]
  visits.token_of(visit, token, by=visits.LABELER)
  response = _to("/work")
  guard.set_cookie(response, visit.request, visits.LABELER, token)
  return response


def work(visit: visits.Visit) -> responses.Response:
  """The page of the next task, or what stands in its place."""
  me = _me(visit)
  assignment = visit.store.next_assignment(me.id)
  if assignment is None:
    return _nothing(visit, visit.store.progress(me.id))
  return _task(visit, assignment)


def task_json(visit: visits.Visit) -> responses.Response:
  """The same for a program."""
  me = _me(visit)
  assignment = visit.store.next_assignment(me.id)
  progress = dataclasses.asdict(visit.store.progress(me.id))
  found: dict[str, Any] = {"csrf": visit.csrf, "progress": progress}
  if assignment is None:
    return responses.JSONResponse(found | {"done": True})
  content = assignment.content
  found |= {
    "assignment": assignment.id,
    "kind": assignment.kind,
    "is_screening": assignment.is_screening,
    "responses": views.in_shown_order(assignment, "responses"),
  }
  for name in ("prompt", "form", "hint"):
    found |= {name: content[name]} if name in content else {}
  return responses.JSONResponse(found)


def answer(visit: visits.Visit) -> responses.Response:
  """Saves an answer; it is on disk when this says so."""
  assignment = sent.assignment(visit)
  given = visit.body.get("answer")
  if visit.is_form:
    count = len(assignment.display)
    given = forms.answer_of(assignment.kind, visit.body, count)
  try:
    sent.check_keys(visit, ("assignment", "submission", "answer"))
    saved = _save(visit, assignment, given)
  except kinds.Wrong as wrong:
    return _wrong(visit, assignment, given, wrong)
  return _saved(visit, saved)


def skip(visit: visits.Visit) -> responses.Response:
  """Leaves a task to others."""
  assignment = sent.assignment(visit)
  try:
    sent.check_keys(visit, ("assignment", "submission", "reason"))
    saved = visit.store.skip(
      _me(visit).id,
      assignment.id,
      visit.body.get("submission", ""),
      visit.body.get("reason", ""),
      seconds=sent.seconds(visit, assignment) or 0.0,
      sensitive=sent.is_sensitive(visit),
    )
  except kinds.Wrong as wrong:
    return _wrong(visit, assignment, {}, wrong)
  return _saved(visit, saved)


def undo(visit: visits.Visit) -> responses.Response:
  """Opens what was answered last again, once of a double click."""
  if visit.store.undo(_me(visit).id, seen=sent.open_one(visit)) is None:
    raise visits.Problem(
      409, "There is nothing to undo", link=("/work", "Go on")
    )
  if visit.is_form:
    return _to("/work")
  return responses.JSONResponse({"undone": True, "next": "/work"})


def instructions(visit: visits.Visit) -> responses.Response:
  """The file beside the labels, as it is now; else the one of the package."""
  text = read_instructions(visit.store)
  return visit.page("instructions.html", content=showing.markdown(text))


def history(visit: visits.Visit) -> responses.Response:
  """Their latest answers, and the last one to be undone."""
  me = _me(visit)
  rows = [views.row(done) for done in visit.store.history(me.id)]
  is_open = visit.store.open_assignment(me.id)
  return visit.page(
    "history.html", rows=rows, open=is_open.id if is_open else 0
  )


def ask_survey(visit: visits.Visit) -> responses.Response:
  """The questions at the end, with what was answered before."""
  return _survey(visit, visit.store.survey(_me(visit).id) or {})


def save_survey(visit: visits.Visit) -> responses.Response:
  """Keeps what was answered to them."""
  given = visit.body.get("answer")
  if visit.is_form:
    given = survey.from_form(visit.body)
  try:
    sent.check_keys(visit, ("answer",))
    checked = survey.check(given)
  except kinds.Wrong as wrong:
    if visit.is_form and isinstance(given, Mapping):
      return _survey(visit, given, wrong.errors)
    return responses.JSONResponse({"errors": wrong.errors}, 422)
  visit.store.save_survey(_me(visit).id, checked)
  if not visit.is_form:
    return responses.JSONResponse({"saved": True, "next": "/work"})
  return visit.page(
    "message.html",
    title="Thank you",
    lines=["Your answers to the questions are saved."],
    link=("/work", "Back to the work"),
  )


def read_instructions(labels: store.Store) -> str:
  """The Markdown that labelers are shown."""
  path = labels.folder / _INSTRUCTIONS
  if not path.is_file():
    path = site.HERE / _INSTRUCTIONS
  return path.read_text("utf-8", errors="replace")


def _me(visit: visits.Visit) -> store.Labeler:
  assert visit.labeler is not None
  return visit.labeler


def _to(path: str) -> responses.Response:
  return responses.RedirectResponse(path, 303)


def _saved(visit: visits.Visit, saved: store.Saved) -> responses.Response:
  if visit.is_form:
    return _to("/work")
  said = {"saved": True, "repeated": saved.repeated, "next": "/work"}
  return responses.JSONResponse(said)


def _save(
  visit: visits.Visit, assignment: store.Assignment, given: Any
) -> store.Saved:
  checked = kinds.check(assignment.kind, assignment.content, given)
  return visit.store.save(
    _me(visit).id,
    assignment.id,
    visit.body.get("submission", ""),
    kinds.unshuffle(checked, assignment.display),
    sent.seconds(visit, assignment),
    sensitive=sent.is_sensitive(visit),
  )


def _wrong(visit, assignment, given, wrong):
  errors = {field: views.lettered(said) for field, said in wrong.errors.items()}
  if not visit.is_form:
    return responses.JSONResponse({"errors": errors}, 422)
  given = given if isinstance(given, dict) else {}
  given = given | {"sensitive": sent.is_sensitive(visit)}
  return _task(visit, assignment, given, errors)


def _task(
  visit: visits.Visit,
  assignment: store.Assignment,
  given: Mapping[str, Any] | None = None,
  errors: Mapping[str, str] | None = None,
) -> responses.Response:
  given = given or {}
  return visit.page(
    "work.html",
    422 if errors else 200,
    task=views.task(assignment, given),
    progress=visit.store.progress(_me(visit).id),
    given=given,
    errors=errors or {},
  )


def _nothing(
  visit: visits.Visit, progress: store.Progress
) -> responses.Response:
  """What a labeler is told for whom there is no task."""
  title, lines = views.end(progress.screening)
  asked = visit.store.survey(_me(visit).id) is None and progress.done > 0
  return visit.page(
    "done.html",
    title=title,
    lines=lines,
    progress=progress,
    survey=asked and progress.screening in ("none", "passed"),
  )


def _survey(
  visit: visits.Visit,
  given: Mapping[str, Any],
  errors: Mapping[str, str] | None = None,
) -> responses.Response:
  questions = [
    {
      "name": q.name,
      "text": q.text,
      "options": q.options,
      "many": q.many,
      "given": given.get(q.name, []) if q.many else [given.get(q.name, "")],
    }
    for q in survey.QUESTIONS
  ]
  return visit.page(
    "survey.html",
    422 if errors else 200,
    questions=questions,
    errors=errors or {},
  )
