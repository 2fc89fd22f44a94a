"""Answers and skips: stored once, whatever is sent twice.

A page names each answer with a `submission` of its own making. The same one
again, with the same content, is the same answer and changes nothing: double
clicks and lost connections double nothing. Answers are only ever added; what
is undone is marked.
"""

import dataclasses
from typing import Any

import sqlalchemy
from sqlalchemy import select

from instruct_jax.collecting import (
  assigning,
  kinds,
  people,
  screening,
  settings,
  tables,
)
from instruct_jax.collecting import tasks as tasks_


@dataclasses.dataclass(frozen=True)
class Saved:
  """What became of an answer that was sent."""

  repeated: bool  # it was there already; nothing has changed


@dataclasses.dataclass(frozen=True)
class Sent:
  """An answer, or a skip, as it came and was checked."""

  submission: str
  answer: dict[str, Any]
  seconds: float
  sensitive: bool
  state: str  # answered or skipped


def keep(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  labeler: people.Labeler,
  assignment: assigning.Assignment,
  sent: Sent,
  now: float,
) -> Saved:
  """Stores what a labeler sent for an assignment of theirs.

  An assignment that was released meanwhile is still theirs to answer: what a
  person wrote offline is not thrown away, even where the task then has an
  answer more than it wanted. Raises Refused where the submission's name stands
  for something else, or the assignment has another answer.
  """
  text = kinds.as_json(sent.answer)
  earlier = connection.exec_driver_sql(
    _BY_SUBMISSION, (sent.submission,)
  ).one_or_none()
  if earlier is not None:
    if tuple(earlier) != (assignment.id, text, int(sent.sensitive)):
      raise assigning.Refused(
        "another answer to this task has been saved before; undo that one to"
        " give this"
      )
    return Saved(repeated=True)
  if assignment.state in ("answered", "skipped"):
    if sent.state == assignment.state and _current(
      connection, assignment.id
    ) == (text, int(sent.sensitive)):
      return Saved(repeated=True)
    raise assigning.Refused(
      "this task has been answered already, in another tab perhaps; undo that"
      " answer to give another"
    )
  _insert(connection, assignment, sent, text, now)
  if assignment.is_screening and labeler.passed is None:
    screening.finish(connection, given, labeler, now)
  return Saved(repeated=False)


# As text, without the cost of building them: every answer asks these.
_BY_SUBMISSION = (
  "SELECT assignment_id, answer, sensitive FROM answers WHERE submission = ?"
)
_INSERT = (
  "INSERT INTO answers"
  " (assignment_id, submission, answer, seconds, sensitive, saved_at)"
  " VALUES (?, ?, ?, ?, ?, ?)"
)
_CLOSE = "UPDATE assignments SET state = ?, done_at = ? WHERE id = ?"


def _insert(connection, assignment, sent, text, now):
  row = (sent.submission, text, sent.seconds, int(sent.sensitive), now)
  connection.exec_driver_sql(_INSERT, (assignment.id, *row))
  connection.exec_driver_sql(_CLOSE, (sent.state, now, assignment.id))
  # An open one that is answered is taken as before.
  if (assignment.state, sent.state) != ("open", "answered"):
    tasks_.recount(connection, [assignment.task_id])


def _current(connection, assignment_id):
  """(answer, sensitive) that counts of an assignment; None without."""
  answers = tables.ANSWERS
  row = connection.execute(
    select(answers.c.answer, answers.c.sensitive)
    .where(
      answers.c.assignment_id == assignment_id, answers.c.undone_at.is_(None)
    )
    .order_by(answers.c.id.desc())
    .limit(1)
  ).one_or_none()
  return None if row is None else tuple(row)
