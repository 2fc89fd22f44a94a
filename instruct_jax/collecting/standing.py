"""How far a labeler is, and what they answered last."""

import dataclasses
from typing import Any

import sqlalchemy
from sqlalchemy import select, text

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
  assignments = tables.ASSIGNMENTS
  state = screening.state(connection, given, labeler)
  done = connection.scalar(
    select(sqlalchemy.func.count()).where(
      assignments.c.labeler_id == labeler.id,
      assignments.c.state == "answered",
    )
  )
  is_done = state in ("waiting", "failed")
  ask = {"labeler": labeler.id, "screening": int(state == "open")}
  left = 0 if is_done else connection.scalar(_LEFT, ask)
  return Progress(done or 0, max(left or 0, 0), state)


# Those that want somebody, less those of them that this labeler has had, and
# what they have open, which may want nobody else.
_LEFT = text(
  "SELECT (SELECT count(*) FROM tasks WHERE closed = 0 AND taken < wanted"
  " AND is_screening = :screening)"
  " - (SELECT count(*) FROM assignments a JOIN tasks t ON a.task_id = t.id"
  " WHERE a.labeler_id = :labeler AND a.state <> 'released' AND t.closed = 0"
  " AND t.taken < t.wanted AND t.is_screening = :screening)"
  " + (SELECT count(*) FROM assignments WHERE labeler_id = :labeler"
  " AND state = 'open')"
)
