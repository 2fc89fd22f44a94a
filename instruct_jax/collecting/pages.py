"""What labelers see and send: the next task, their answers, the instructions.

Answers come and go in the order shown; `_save` turns them into the task's.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette import responses, routing

from instruct_jax import paper
from instruct_jax.collecting import (
  forms,
  guard,
  kinds,
  showing,
  store,
  survey,
  tokens,
  visits,
)

LETTERS = "ABCDEFGHI"
_TITLES = {
  "demonstration": "Write an answer",
  "ranking": "Rank answers",
  "comparison": "Compare two answers",
  "writing": "Write a prompt",
}
_EXAMPLES = 3  # empty ones that a form of few-shot prompts begins with
_ROOM = 2  # empty ones beyond those that are filled
_MOST_SECONDS = 1e6
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
    "responses": _shown(assignment, "responses"),
  }
  for name in ("prompt", "form", "hint"):
    found |= {name: content[name]} if name in content else {}
  return responses.JSONResponse(found)


def answer(visit: visits.Visit) -> responses.Response:
  """Saves an answer; it is on disk when this says so."""
  assignment = _assignment(visit)
  given = visit.body.get("answer")
  if visit.is_form:
    count = len(assignment.display)
    given = forms.answer_of(assignment.kind, visit.body, count)
  try:
    if not visit.is_form:
      _only(visit.body, ("assignment", "submission", "answer"))
    saved = _save(visit, assignment, given)
  except kinds.Wrong as wrong:
    return _wrong(visit, assignment, given, wrong)
  return _saved(visit, saved)


def skip(visit: visits.Visit) -> responses.Response:
  """Leaves a task to others."""
  assignment = _assignment(visit)
  try:
    if not visit.is_form:
      _only(visit.body, ("assignment", "submission", "reason"))
    saved = visit.store.skip(
      _me(visit).id,
      assignment.id,
      visit.body.get("submission", ""),
      visit.body.get("reason", ""),
      seconds=_seconds(visit, assignment),
      sensitive=_sensitive(visit),
    )
  except kinds.Wrong as wrong:
    return _wrong(visit, assignment, {}, wrong)
  return _saved(visit, saved)


def undo(visit: visits.Visit) -> responses.Response:
  """Opens what was answered last again."""
  if visit.store.undo(_me(visit).id) is None:
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
  rows = [_row(done) for done in visit.store.history(_me(visit).id)]
  return visit.page("history.html", rows=rows)


def ask_survey(visit: visits.Visit) -> responses.Response:
  """The questions at the end, with what was answered before."""
  return _survey(visit, visit.store.survey(_me(visit).id) or {})


def save_survey(visit: visits.Visit) -> responses.Response:
  """Keeps what was answered to them."""
  given = visit.body.get("answer")
  if visit.is_form:
    given = survey.from_form(visit.body)
  try:
    if not visit.is_form:
      _only(visit.body, ("answer",))
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
    path = visits.HERE / _INSTRUCTIONS
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


def _assignment(visit: visits.Visit) -> store.Assignment:
  given = visit.body.get("assignment")
  if isinstance(given, str) and re.fullmatch("[0-9]{1,18}", given):
    given = int(given)
  if isinstance(given, bool) or not isinstance(given, int):
    raise visits.Problem(422, "Which assignment? Its number must be there")
  if not 0 <= given < 2**63:  # what the database can count to
    raise store.Refused("this task was not given to you")
  return visit.store.assignment(_me(visit).id, given)


def _save(
  visit: visits.Visit, assignment: store.Assignment, given: Any
) -> store.Saved:
  checked = kinds.check(assignment.kind, assignment.content, given)
  return visit.store.save(
    _me(visit).id,
    assignment.id,
    visit.body.get("submission", ""),
    kinds.unshuffle(checked, assignment.display),
    _seconds(visit, assignment),
    sensitive=_sensitive(visit),
  )


def _seconds(visit: visits.Visit, assignment: store.Assignment) -> Any:
  """Of attention; of a form, which has no clock, since the task was opened."""
  if "seconds" in visit.body or not visit.is_form:
    return visit.body.get("seconds", 0.0)
  since = visit.store.clock() - assignment.opened_at
  return min(max(since, 0.0), _MOST_SECONDS)


def _sensitive(visit: visits.Visit) -> bool:
  given = visit.body.get("sensitive", False)
  if visit.is_form:
    return given is not False
  if not isinstance(given, bool):
    raise kinds.Wrong({"sensitive": "must be true or false"})
  return given


def _only(body: Mapping[str, Any], known: Sequence[str]) -> None:
  known = (*known, "csrf", "seconds", "sensitive")
  if extra := [name for name in body if name not in known]:
    name = extra[0][:60].encode("ascii", "replace").decode()
    raise kinds.Wrong({name: f"is none of {', '.join(known)}"})


def _wrong(visit, assignment, given, wrong):
  errors = {field: _lettered(said) for field, said in wrong.errors.items()}
  if not visit.is_form:
    return responses.JSONResponse({"errors": errors}, 422)
  given = given if isinstance(given, dict) else {}
  given = given | {"sensitive": _sensitive(visit)}
  return _task(visit, assignment, given, errors)


def _lettered(said: str) -> str:
  """'answer 2' is B on the page."""
  return re.sub(
    r"\banswer ([1-9])\b", lambda n: f"answer {LETTERS[int(n[1]) - 1]}", said
  )


def _task(
  visit: visits.Visit,
  assignment: store.Assignment,
  given: Mapping[str, Any] | None = None,
  errors: Mapping[str, str] | None = None,
) -> responses.Response:
  content = assignment.content
  given = given or {}
  pairs = list(given.get("examples", []))
  room = max(_EXAMPLES, min(len(pairs) + _ROOM, forms.EXAMPLES)) - len(pairs)
  task = {
    "assignment": assignment.id,
    # A page has one name for its answer, however often that is sent.
    "submission": tokens.new(),
    "kind": assignment.kind,
    "title": _TITLES[assignment.kind],
    "is_screening": assignment.is_screening,
    "prompt": showing.prompt_of(content),
    "responses": _cards(assignment, given),
    "form": content.get("form", ""),
    "hint": content.get("hint") or "",
    "examples": pairs + [{"query": "", "response": ""}] * max(room, 0),
  }
  return visit.page(
    "work.html",
    422 if errors else 200,
    task=task,
    progress=visit.store.progress(_me(visit).id),
    flags=paper.METADATA,
    given=given,
    errors=errors or {},
  )


def _shown(assignment: store.Assignment, key: str) -> list[Any]:
  """A list of the task's content in the order in which it is shown."""
  values = assignment.content.get(key)
  return [values[n] for n in assignment.display] if values else []


def _cards(assignment: store.Assignment, given: Mapping[str, Any]) -> list:
  texts = _shown(assignment, "responses")
  ended = _shown(assignment, "ended") or [None] * len(texts)

  def of(field, n, otherwise):
    values = given.get(field) or []
    return values[n] if n < len(values) else otherwise

  return [
    {
      "letter": LETTERS[n],
      "text": text,
      "ended": ended[n],
      "rating": of("ratings", n, None),
      "flags": of("metadata", n, {}),
      "rank": of("ranks", n, None),
    }
    for n, text in enumerate(texts)
  ]


def _nothing(
  visit: visits.Visit, progress: store.Progress
) -> responses.Response:
  """What a labeler is told for whom there is no task."""
  title, lines = _ENDS.get(progress.screening, _DONE)
  asked = visit.store.survey(_me(visit).id) is None and progress.done > 0
  return visit.page(
    "done.html",
    title=title,
    lines=lines,
    progress=progress,
    survey=asked and progress.screening in ("none", "passed"),
  )


_DONE = (
  "That is all for now",
  ["There is no task left for you. New ones may come: look in again."],
)
_ENDS = {
  "waiting": (
    "Thank you: your practice tasks are in",
    [
      "A person reads what you wrote before the work goes on. You need do"
      " nothing: come back to this page, tomorrow perhaps.",
    ],
  ),
  "failed": (
    "Thank you for your time",
    [
      "Your answers to the practice tasks differ from what this study looks for"
      " in more places than it can work with. That says nothing about you: such"
      " judgments are personal, and another study may look for just yours.",
      "If you think that something went wrong, write to whoever invited you:"
      " they see your answers, and may decide otherwise.",
    ],
  ),
}


def _row(done: store.Done) -> dict[str, Any]:
  """A line of the history."""
  assignment = done.assignment
  turns = showing.prompt_of(assignment.content)
  prompt = turns[-1][1] if turns else ""
  if assignment.kind == "writing":
    prompt = assignment.content.get("hint") or ""
  at = datetime.datetime.fromtimestamp(done.saved_at, datetime.UTC)
  return {
    "title": _TITLES[assignment.kind],
    "iso": at.isoformat(timespec="seconds"),
    "when": f"{at.day} {at:%B %Y, %H:%M} UTC",
    "prompt": prompt,
    "answer": _said(assignment, done.answer),
    "sensitive": done.sensitive,
  }


def _said(assignment: store.Assignment, answer: Mapping[str, Any]) -> str:
  """An answer in a line, by the letters that the page had."""
  if "skipped" in answer:
    return f"Skipped: {answer['skipped']}"
  if "ranks" not in answer:
    return next((x for x in answer.values() if isinstance(x, str)), "")
  ranks = [answer["ranks"][n] for n in assignment.display]
  tiers = [
    " = ".join(LETTERS[n] for n, rank in enumerate(ranks) if rank == each)
    for each in sorted(set(ranks))
  ]
  return " > ".join(tiers)


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
