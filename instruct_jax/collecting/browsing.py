"""What the admin looks at: tasks by search, one task, one labeler's answers.

Read with the standard library beside the store, each in one transaction.
"""

import dataclasses
import json
import os
from typing import Any

from instruct_jax.data.read import answers

PAGE = 50  # rows of a list
_STATES = {
  "waiting": "closed = 0 AND taken < wanted",
  "answered": (
    "EXISTS (SELECT 1 FROM assignments WHERE task_id = tasks.id"
    " AND state = 'answered')"
  ),
  "skipped": (
    "EXISTS (SELECT 1 FROM assignments WHERE task_id = tasks.id"
    " AND state = 'skipped')"
  ),
  "closed": "closed = 1",
  "screening": "is_screening = 1",
}
STATES = ("", *_STATES)
# A prompt's words, or a hint's where a prompt is to be written.
_TEXT = (
  "coalesce(json_extract(content, '$.prompt'),"
  " json_extract(content, '$.hint'), '')"
)
_ANSWERS = """
  SELECT s.id, s.task_id, l.id, l.name, s.display, s.state, a.answer, a.seconds,
    a.sensitive, a.saved_at, t.kind, t.content, t.gold, t.is_screening, g.grade
  FROM assignments s
  JOIN labelers l ON l.id = s.labeler_id
  JOIN tasks t ON t.id = s.task_id
  LEFT JOIN answers a ON a.id = (
    SELECT max(id) FROM answers
    WHERE assignment_id = s.id AND undone_at IS NULL
  )
  LEFT JOIN grades g ON g.assignment_id = s.id
"""


@dataclasses.dataclass(frozen=True)
class Task:
  """A task as a list shows it."""

  id: int
  kind: str
  content: dict[str, Any]
  gold: dict[str, Any] | None
  is_screening: bool
  wanted: int
  taken: int
  source: str
  is_closed: bool

  @property
  def title(self) -> str:
    """Its prompt; or what is to be written."""
    said = self.content.get("prompt") or self.content.get("hint")
    return said or f"a prompt: {self.content.get('form', '')}"


@dataclasses.dataclass(frozen=True)
class Given:
  """A task in the hands of a labeler, and what they answered, if they did."""

  assignment: int
  task: int
  labeler_id: int
  labeler: str
  display: list[int]
  state: str
  said: dict[str, Any] | None
  seconds: float
  sensitive: bool
  saved_at: float | None
  kind: str
  content: dict[str, Any]
  gold: dict[str, Any] | None
  is_screening: bool
  grade: int | None  # of a screening demonstration


def tasks(
  path: os.PathLike | str,
  *,
  words: str = "",
  kind: str = "",
  state: str = "",
  page: int = 0,
) -> tuple[list[Task], bool]:
  """(the tasks of a page, whether there are more), by number.

  `words` are a task's number, or stand in its prompt; `state` is of STATES.
  Raises UserError where the database cannot be read.
  """
  where, values = ["1"], []
  if kind:
    where.append("kind = ?")
    values.append(kind)
  if state:
    where.append(_STATES[state])
  if words.isascii() and words.isdecimal() and len(words) < 18:
    where.append("id = ?")
    values.append(int(words))
  elif words:
    where.append(f"instr(lower({_TEXT}), lower(?)) > 0")
    values.append(words)
  with answers.opened(path) as connection:
    rows = connection.execute(
      f"{_TASK} WHERE {' AND '.join(where)} ORDER BY id LIMIT ? OFFSET ?",
      (*values, PAGE + 1, page * PAGE),
    ).fetchall()
  return [_task(row) for row in rows[:PAGE]], len(rows) > PAGE


_TASK = (
  "SELECT id, kind, content, gold, is_screening, wanted, taken, source, closed"
  " FROM tasks"
)


def task(
  path: os.PathLike | str, number: int
) -> tuple[Task, list[Given]] | None:
  """A task, and who has had it; None where there is none."""
  with answers.opened(path) as connection:
    row = connection.execute(f"{_TASK} WHERE id = ?", (number,)).fetchone()
    if row is None:
      return None
    given = connection.execute(
      f"{_ANSWERS} WHERE s.task_id = ? ORDER BY l.id", (number,)
    )
    return _task(row), [_given(one) for one in given]


def of_labeler(
  path: os.PathLike | str, labeler_id: int, most: int = 20
) -> tuple[list[Given], list[Given]]:
  """(what a labeler said to the screening, their last other answers)."""
  answered = "WHERE s.labeler_id = ? AND a.id IS NOT NULL AND t.is_screening"
  with answers.opened(path) as connection:
    screening = connection.execute(
      f"{_ANSWERS} {answered} = 1 ORDER BY t.id", (labeler_id,)
    ).fetchall()
    last = connection.execute(
      f"{_ANSWERS} {answered} = 0 ORDER BY a.id DESC LIMIT ?",
      (labeler_id, most),
    ).fetchall()
  return [_given(one) for one in screening], [_given(one) for one in last]


def _task(row: tuple) -> Task:
  number, kind, content, gold, is_screening, wanted, taken, source, closed = row
  return Task(
    number,
    kind,
    json.loads(content),
    json.loads(gold) if gold else None,
    bool(is_screening),
    wanted,
    taken,
    source,
    bool(closed),
  )


def _given(row: tuple) -> Given:
  assignment, task_id, labeler_id, labeler, display, state, said = row[:7]
  seconds, sensitive, saved_at, kind, content, gold, is_screening = row[7:14]
  return Given(
    assignment,
    task_id,
    labeler_id,
    labeler,
    json.loads(display) if display else [],
    state,
    json.loads(said) if said else None,
    float(seconds or 0),
    bool(sensitive),
    saved_at,
    kind,
    json.loads(content),
    json.loads(gold) if gold else None,
    bool(is_screening),
    row[14],
  )
