"""What an admin does: invites, revokes, grades, reopens, takes files away.

Each POST carries the admin's CSRF token, which `visits` has checked.
"""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from starlette import background, responses

from instruct_jax.base import errors
from instruct_jax.collecting import desk, exporting, looking, visits
from instruct_jax.data.read import answers


def invite(visit: visits.Visit) -> responses.Response:
  """A new labeler, whose link is shown this once."""
  name = desk.text_of(visit, "name")
  token = visit.store.invite(name, desk.text_of(visit, "group"))
  who = visit.store.labeler_of(token)
  assert who is not None
  return _invited(visit, who.id, token)


def renew(visit: visits.Visit) -> responses.Response:
  """A new link for a labeler, whose old one is void."""
  number = desk.whole_of(visit, "labeler")
  return _invited(visit, number, visit.store.renew(number))


def _invited(
  visit: visits.Visit, number: int, token: str
) -> responses.Response:
  link = f"{str(visit.request.base_url).rstrip('/')}/invite/{token}"
  if not visit.is_form:
    return responses.JSONResponse({"labeler": number, "link": link})
  return looking.labeler_page(visit, number, link)


def revoke(visit: visits.Visit) -> responses.Response:
  """Ends a labeler's link; what they answered stays."""
  number = desk.whole_of(visit, "labeler")
  visit.store.revoke(number)
  return desk.done(visit, f"/admin/labelers/{number}")


def overrule(visit: visits.Visit) -> responses.Response:
  """An admin's word on whether a labeler has passed the screening."""
  number = desk.whole_of(visit, "labeler")
  said = visit.body.get("passed")
  if said not in (True, False, "yes", "no"):
    raise errors.UserError("passed: yes or no is right")
  visit.store.overrule(number, said in (True, "yes"))
  return desk.done(visit, f"/admin/labelers/{number}")


def grade(visit: visits.Visit) -> responses.Response:
  """An admin's grade of a demonstration of the screening."""
  visit.store.grade(
    desk.whole_of(visit, "assignment"), desk.whole_of(visit, "grade")
  )
  number = desk.whole_of(visit, "labeler") if "labeler" in visit.body else None
  return desk.done(visit, f"/admin/labelers/{number}" if number else "/admin")


def reopen(visit: visits.Visit) -> responses.Response:
  """Sets aside what one labeler, or everybody, answered to a task."""
  number = desk.whole_of(visit, "task")
  who = desk.whole_of(visit, "labeler") if visit.body.get("labeler") else None
  visit.store.reopen(number, who)
  return desk.done(visit, f"/admin/tasks/{number}")


def close(visit: visits.Visit) -> responses.Response:
  """Hands a task out no more."""
  number = desk.whole_of(visit, "task")
  visit.store.close(number)
  return desk.done(visit, f"/admin/tasks/{number}")


def export(visit: visits.Visit) -> responses.Response:
  """What the chain reads, in a zip archive; groups apart where it is asked."""
  apart = visit.request.query_params.get("groups") == "apart"
  archive = exporting.zipped(desk.of(visit).path, split_by_group=apart)
  return _file(archive, "zip", "application/zip")


def backup(visit: visits.Visit) -> responses.Response:
  """The database as it is at this moment."""
  with tempfile.TemporaryDirectory() as name:
    path = pathlib.Path(name) / answers.NAME
    visit.store.backup(path)
    # It stays readable until it is closed, without a name.
    copy = open(path, "rb")  # noqa: SIM115
  return _file(copy, "sqlite", "application/vnd.sqlite3")


def _file(file: IO[bytes], ending: str, kind: str) -> responses.Response:
  stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
  headers = {
    "content-disposition": f'attachment; filename="labels-{stamp}.{ending}"',
    "content-length": str(file.seek(0, os.SEEK_END)),
  }
  file.seek(0)
  return responses.StreamingResponse(
    _blocks(file),
    media_type=kind,
    headers=headers,
    background=background.BackgroundTask(file.close),
  )


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
  while block := file.read(1 << 18):
    yield block
