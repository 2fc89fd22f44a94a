"""Who does what next: tasks handed out, resumed, released, undone.

A labeler has at most a few open assignments: one, and those that undoing has
brought back. A task is handed out while fewer have it open or answered than
want it (`taken < wanted`), which the writer's transaction makes true among
threads and processes. Of 33,000 tasks the next is found by an index of those
that still want somebody, without counting.
"""

import dataclasses
import json
import random
from typing import Any

import sqlalchemy
from sqlalchemy import select

from instruct_jax.collecting import kinds, people, screening, settings, tables
from instruct_jax.collecting import tasks as tasks_

_MOMENT = 0.001  # seconds


class Refused(Exception):
  """What a labeler asks for is not to be had; says why, for them to read."""


@dataclasses.dataclass(frozen=True)
class Assignment:
  """A task in the hands of a labeler."""

  id: int
  task_id: int
  kind: str
  content: dict[str, Any]
  display: list[int]  # display[i]: the index of the response at place i
  opened_at: float
  is_screening: bool
  state: str = "open"


JOINED = select(
  tables.ASSIGNMENTS,
  *(tables.TASKS.c.kind, tables.TASKS.c.content, tables.TASKS.c.is_screening),
).join(tables.TASKS, tables.ASSIGNMENTS.c.task_id == tables.TASKS.c.id)


def opened(
  connection: sqlalchemy.Connection, labeler_id: int
) -> Assignment | None:
  """Their open assignment, the newest of several."""
  row = connection.exec_driver_sql(_OPENED, (labeler_id,)).one_or_none()
  return None if row is None else assignment_of(row)


def one(
  connection: sqlalchemy.Connection, labeler_id: int, assignment_id: int
) -> Assignment:
  """An assignment of theirs; Refused where there is none."""
  row = connection.exec_driver_sql(
    _ONE, (assignment_id, labeler_id)
  ).one_or_none()
  if row is None:
    raise Refused("this task was not given to you")
  return assignment_of(row)


def assignment_of(row: Any) -> Assignment:
  """Of a row of `JOINED`, or of one that has its columns."""
  return Assignment(
    id=row.id,
    task_id=row.task_id,
    kind=row.kind,
    content=json.loads(row.content),
    display=json.loads(row.display),
    opened_at=row.opened_at,
    is_screening=bool(row.is_screening),
    state=row.state,
  )


def give(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  labeler: people.Labeler,
  now: float,
) -> Assignment | None:
  """Hands the next task to a labeler; None where nothing is left for them."""
  state = screening.state(connection, given, labeler)
  if state in ("waiting", "failed"):
    return None
  release_stale(connection, given, now)
  # Who has passed gets no task of the screening that was added later.
  ask = {"labeler": labeler.id, "screening": int(state == "open")}
  row = connection.exec_driver_sql(_NEXT, ask).one_or_none()
  if row is None:
    if state == "open" and screening.finish(connection, given, labeler, now):
      return give(connection, given, people.by_id(connection, labeler.id), now)
    return None
  connection.exec_driver_sql(_TAKE, (row.id,))
  id_ = _open(connection, given, row, labeler.id, now)
  return one(connection, labeler.id, id_)


def touch(
  connection: sqlalchemy.Connection, assignment_id: int, now: float
) -> None:
  """Notes that an open assignment is looked at, so that it is not released."""
  assignments = tables.ASSIGNMENTS
  connection.execute(
    assignments.update()
    .where(assignments.c.id == assignment_id)
    .values(opened_at=now)
  )


def release_stale(
  connection: sqlalchemy.Connection, given: settings.Settings, now: float
) -> int:
  """Takes back what was opened `tasks.hours` ago or longer; how many."""
  oldest = now - given.tasks.hours * 3600
  if connection.exec_driver_sql(_STALE, (oldest,)).one_or_none() is None:
    return 0
  return tasks_.release(connection, tables.ASSIGNMENTS.c.opened_at < oldest)


def undo(
  connection: sqlalchemy.Connection,
  labeler_id: int,
  now: float,
  *,
  seen: int | None,
) -> Assignment | None:
  """Undoes a labeler's last answer or skip; its assignment, open again.

  `seen` is the assignment that was open on the page which asks, 0 for none:
  where another is open by now nothing is undone (a second click would undo
  another answer), and that one is returned. None: whatever was on the page.

  None where there is nothing to undo. Raises Refused where the screening that
  it belongs to has been handed in, or somebody else has the skipped task now.
  """
  is_open = opened(connection, labeler_id)
  if seen is not None and is_open is not None and is_open.id != seen:
    return is_open
  if seen and is_open is None:
    raise Refused("the task of this page has been answered meanwhile")
  answers, assignments = tables.ANSWERS, tables.ASSIGNMENTS
  tasks = tables.TASKS
  row = connection.execute(
    select(
      answers.c.id,
      answers.c.assignment_id,
      *(assignments.c.state, assignments.c.task_id),
      *(tasks.c.is_screening, tasks.c.taken, tasks.c.wanted),
    )
    .join(assignments, answers.c.assignment_id == assignments.c.id)
    .join(tasks, assignments.c.task_id == tasks.c.id)
    .where(
      assignments.c.labeler_id == labeler_id,
      assignments.c.state.in_(("answered", "skipped")),
      answers.c.undone_at.is_(None),
    )
    .order_by(answers.c.id.desc())
    .limit(1)
  ).one_or_none()
  if row is None:
    return None
  labeler = people.by_id(connection, labeler_id)
  if row.is_screening and labeler.screened_at is not None:
    raise Refused("the screening has been handed in")
  if row.state == "skipped" and row.taken >= row.wanted:
    raise Refused("somebody else has the task that you skipped by now")
  connection.execute(
    answers.update().where(answers.c.id == row.id).values(undone_at=now)
  )
  if is_open is not None:
    # It comes before what is open, also by a clock that was set back.
    now = max(now, is_open.opened_at + _MOMENT)
  connection.execute(
    assignments.update()
    .where(assignments.c.id == row.assignment_id)
    .values(state="open", opened_at=now, done_at=None)
  )
  tasks_.forget_grades(connection, [row.assignment_id])
  tasks_.recount(connection, [row.task_id])
  return one(connection, labeler_id, row.assignment_id)


# As text, without the cost of building them: a page asks each of these.
_JOIN = (
  "SELECT a.*, t.kind, t.content, t.is_screening FROM assignments a"
  " JOIN tasks t ON a.task_id = t.id"
)
_OPENED = (
  f"{_JOIN} WHERE a.labeler_id = ? AND a.state = 'open'"
  " ORDER BY a.opened_at DESC, a.id DESC LIMIT 1"
)
_ONE = f"{_JOIN} WHERE a.id = ? AND a.labeler_id = ?"
_NEXT = (
  f"SELECT id, content FROM tasks WHERE {tables.TO_GIVE}"
  " AND is_screening = :screening AND NOT EXISTS (SELECT 1 FROM assignments"
  " WHERE task_id = tasks.id AND labeler_id = :labeler"
  " AND state <> 'released') ORDER BY id LIMIT 1"
)
_TAKE = "UPDATE tasks SET taken = taken + 1 WHERE id = ?"
_STALE = (
  f"SELECT 1 FROM assignments WHERE {tables.IS_OPEN} AND opened_at < ? LIMIT 1"
)
_HAND = (
  "INSERT INTO assignments (task_id, labeler_id, display, state, opened_at)"
  " VALUES (:task, :labeler, :display, 'open', :now)"
  " ON CONFLICT (task_id, labeler_id) DO UPDATE"
  " SET state = 'open', opened_at = :now RETURNING id"
)


def _open(connection, given, task, labeler_id, now):
  """The id of a labeler's assignment to a task: new, or a released one's."""
  k = len(json.loads(task.content).get("responses", ()))
  # Nobody who knows a task's place in its file knows this order.
  drawn = random.Random(f"{given.tasks.seed}/{task.id}/{labeler_id}")
  display = drawn.sample(range(k), k)
  row = {
    "task": task.id,
    "labeler": labeler_id,
    "display": kinds.as_json(display),
    "now": now,
  }
  return connection.exec_driver_sql(_HAND, row).scalar_one()
