"""Tasks in the database: taken back, closed, reopened; how many have them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy

from instruct_jax.base import errors
from instruct_jax.collecting import people, tables


def reopen(
  connection: sqlalchemy.Connection,
  task_id: int,
  labeler_id: int | None,
  now: float,
) -> None:
  """Sets aside what was answered to a task, so that it is asked again.

  Of one labeler, who gets it again next, or (None) of all, so that it goes to
  whoever comes. Answers stay in the table, as undone; grades of them go. Raises
  UserError where there is no such task, or that labeler never had it or is not
  let in.
  """
  task = _one(connection, task_id)
  rows = _assignments(connection, task_id, labeler_id)
  if labeler_id is not None and not rows:
    raise errors.UserError(
      f"task {task_id}: labeler {labeler_id} has never had it"
    )
  if labeler_id is not None:
    people.check_is_let_in(connection, labeler_id)
  answers, assignments = tables.ANSWERS, tables.ASSIGNMENTS
  chosen = [row.id for row in rows if row.state != "open"]
  state = "released" if labeler_id is None else "open"
  connection.execute(
    answers.update()
    .where(answers.c.assignment_id.in_(chosen), answers.c.undone_at.is_(None))
    .values(undone_at=now)
  )
  connection.execute(
    assignments.update()
    .where(assignments.c.id.in_(chosen))
    .values(state=state, opened_at=now, done_at=None)
  )
  connection.execute(
    tables.TASKS.update().where(tables.TASKS.c.id == task_id).values(closed=0)
  )
  forget_grades(connection, chosen)
  recount(connection, [task_id])
  if task.is_screening:
    for row in rows:
      people.screened(connection, row.labeler_id, at=None, passed=None)
  detail = {"task": task_id, "labeler": labeler_id}
  people.log(connection, now, "admin", "reopen", detail)


def close(connection: sqlalchemy.Connection, task_id: int, now: float) -> None:
  """Hands a task out no more; what was answered to it stays."""
  _one(connection, task_id)
  release(connection, tables.ASSIGNMENTS.c.task_id == task_id)
  tasks = tables.TASKS
  connection.execute(
    tasks.update().where(tasks.c.id == task_id).values(closed=1)
  )
  people.log(connection, now, "admin", "close", {"task": task_id})


def keep_screening(
  connection: sqlalchemy.Connection, digests: Sequence[str], now: float
) -> None:
  """The screening is of these tasks: others are closed, these open."""
  tasks = tables.TASKS
  rows = connection.execute(
    sqlalchemy.select(tasks.c.id, tasks.c.digest, tasks.c.closed).where(
      tasks.c.is_screening == 1
    )
  ).all()
  for row in rows:
    if row.digest not in digests and not row.closed:
      close(connection, row.id, now)
    elif row.digest in digests and row.closed:
      connection.execute(
        tasks.update().where(tasks.c.id == row.id).values(closed=0)
      )


def release(connection: sqlalchemy.Connection, which: Any) -> int:
  """Takes open assignments (of those `which` is true of) back; how many."""
  assignments = tables.ASSIGNMENTS
  rows = connection.execute(
    assignments.update()
    .where(sqlalchemy.text(tables.IS_OPEN), which)
    .values(state="released")
    .returning(assignments.c.task_id)
  )
  found = [row.task_id for row in rows]
  recount(connection, found)
  return len(found)


def forget_grades(
  connection: sqlalchemy.Connection, assignment_ids: Sequence[int]
) -> None:
  """Removes an admin's grades of answers that do not count any more."""
  grades = tables.GRADES
  connection.execute(
    grades.delete().where(grades.c.assignment_id.in_(assignment_ids))
  )


def recount(connection: sqlalchemy.Connection, task_ids: list[int]) -> None:
  """Sets `taken` of tasks to how many have them open or have answered them."""
  tasks, assignments = tables.TASKS, tables.ASSIGNMENTS
  holding = (
    sqlalchemy.select(sqlalchemy.func.count())
    .select_from(assignments)
    .where(
      assignments.c.task_id == tasks.c.id,
      assignments.c.state.in_(("open", "answered")),
    )
    .scalar_subquery()
  )
  for task_id in task_ids:
    connection.execute(
      tasks.update().where(tasks.c.id == task_id).values(taken=holding)
    )


def _one(connection, task_id):
  tasks = tables.TASKS
  row = connection.execute(
    sqlalchemy.select(tasks).where(tasks.c.id == task_id)
  ).one_or_none()
  if row is None:
    raise errors.UserError(f"task {task_id}: there is none")
  return row


def _assignments(connection, task_id, labeler_id):
  assignments = tables.ASSIGNMENTS
  chosen = sqlalchemy.select(assignments).where(
    assignments.c.task_id == task_id
  )
  if labeler_id is not None:
    chosen = chosen.where(assignments.c.labeler_id == labeler_id)
  return connection.execute(chosen).all()
