"""How far a labeler is, and what they answered last."""

import dataclasses
from typing import Any

import sqlalchemy

from instruct_jax.collecting import (
  assigning,
  people,
  screening,
  settings,
  tables,
)


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a labeler is."""

  done: int  # answered, the screening included
  left: int  # tasks that would be handed to them, this moment's open one too
  screening: str  # none, open, waiting (for an admin), passed or failed


def history(
  connection: sqlalchemy.Connection, labeler_id: int, most: int
) -> list[tuple[assigning.Assignment, Any]]:
  """A labeler's last answers that count, newest first, with their rows."""
  answers, assignments = tables.ANSWERS, tables.ASSIGNMENTS
  rows = connection.execute(
    assigning.JOINED.add_columns(
      *(answers.c.answer, answers.c.sensitive, answers.c.seconds),
      *(answers.c.saved_at, answers.c.id.label("answer_id")),
    )
    .join(answers, answers.c.assignment_id == assignments.c.id)
    .where(
      assignments.c.labeler_id == labeler_id, answers.c.undone_at.is_(None)
    )
    .order_by(answers.c.id.desc())
    .limit(most)
  )
  return [(assigning.assignment_of(row), row) for row in rows]


def progress(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  labeler: people.Labeler,
) -> Progress:
  """How far a labeler is."""
  state = screening.state(connection, given, labeler)
  done = connection.exec_driver_sql(_DONE, (labeler.id,)).scalar()
  is_over = state in ("waiting", "failed")
  ask = {"labeler": labeler.id, "screening": int(state == "open")}
  left = 0 if is_over else connection.exec_driver_sql(_LEFT, ask).scalar()
  return Progress(done or 0, max(left or 0, 0), state)


# As text, without the cost of building them: every page asks both.
_DONE = (
  "SELECT count(*) FROM assignments WHERE labeler_id = ? AND state = 'answered'"
)
# Those that want somebody, less those of them that this labeler has had, and
# what they have open, which may want nobody else. By the index, which holds all
# that is asked: a task's row is long.
_LEFT = (
  f"SELECT (SELECT count(*) FROM tasks WHERE {tables.TO_GIVE}"
  " AND is_screening = :screening)"
  " - (SELECT count(*) FROM assignments a WHERE a.labeler_id = :labeler"
  " AND a.state <> 'released' AND EXISTS (SELECT 1 FROM tasks"
  f" INDEXED BY tasks_to_give WHERE {tables.TO_GIVE}"
  " AND is_screening = :screening AND tasks.id = a.task_id))"
  " + (SELECT count(*) FROM assignments WHERE labeler_id = :labeler"
  " AND state = 'open')"
)
