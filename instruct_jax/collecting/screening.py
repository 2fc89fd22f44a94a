"""The screening of new labelers against gold answers (appendix B.1).

Who has done all its tasks is graded: by the share of a ranking's pairs that
they order as the gold ranking does (their tie is worth half a pair), by the
share of answers that they flag as sensitive exactly where gold does, and by
the grade that an admin gives their demonstration. The paper's soft cutoffs
are 75 %, 75 % and 6 of 7.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import text

from instruct_jax.base import errors
from instruct_jax.collecting import kinds, people, settings, tables

# Any of these flags of table 3 makes an answer sensitive.
SENSITIVE = (
  "sexual",
  "violent",
  "encourages_harm",
  "denigrates",
  "harmful_advice",
)


@dataclasses.dataclass(frozen=True)
class Marks:
  """What a labeler's screening came to; None where nothing asks for it."""

  agreement: float | None  # share of the gold rankings' untied pairs
  sensitive: float | None  # share of answers
  demonstration: float | None  # mean grade, 1 to 7, of those graded
  ungraded: int  # demonstrations that no admin has graded yet


def state(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  labeler: people.Labeler,
) -> str:
  """none (there is no screening), open, waiting, passed or failed."""
  if labeler.passed is not None:
    return "passed" if labeler.passed else "failed"
  if not given.screening.required:
    return "none"
  if labeler.screened_at is not None:
    return "waiting"
  if connection.exec_driver_sql(_ANY).scalar() is None:
    return "none"
  return "open"


def finish(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  labeler: people.Labeler,
  now: float,
) -> bool:
  """Grades a labeler who has done the last task; whether they have."""
  if connection.scalar(_LEFT, {"labeler": labeler.id}) is not None:
    return False
  passed = verdict(marks(connection, labeler.id), given)
  people.screened(connection, labeler.id, at=now, passed=passed)
  detail = {"labeler": labeler.id, "passed": passed}
  people.log(connection, now, f"labeler {labeler.id}", "screened", detail)
  return True


def verdict(found: Marks, given: settings.Settings) -> bool | None:
  """Whether marks suffice; None while a demonstration waits for its grade."""
  marks_to_pass = given.screening
  if _below(found.agreement, marks_to_pass.agreement):
    return False
  if _below(found.sensitive, marks_to_pass.sensitive):
    return False
  if not marks_to_pass.demonstration:
    return True
  if found.ungraded:
    return None
  return not _below(found.demonstration, marks_to_pass.demonstration)


def marks(connection: sqlalchemy.Connection, labeler_id: int) -> Marks:
  """What a labeler's answers to the screening come to, as they stand."""
  right, pairs, flagged, responses, grades = 0.0, 0, 0, 0, []
  for row in connection.execute(_ANSWERS, {"labeler": labeler_id}):
    gold, answer = json.loads(row.gold), json.loads(row.answer)
    if row.kind == "demonstration":
      grades.append(row.grade)
    if "ranks" in gold and "ranks" in answer:
      agreed, of = ordered(answer["ranks"], gold["ranks"])
      right, pairs = right + agreed, pairs + of
    if "sensitive" in gold and "metadata" in answer:
      for flags, expected in zip(answer["metadata"], gold["sensitive"]):
        flagged += is_sensitive(flags) == expected
        responses += 1
  given = [grade for grade in grades if grade is not None]
  return Marks(
    agreement=right / pairs if pairs else None,
    sensitive=flagged / responses if responses else None,
    demonstration=sum(given) / len(given) if given else None,
    ungraded=len(grades) - len(given),
  )


def ordered(ranks: Sequence[int], gold: Sequence[int]) -> tuple[float, int]:
  """(gold's untied pairs that `ranks` orders as gold, gold's untied pairs)."""
  agreed, of = 0.0, 0
  for i, j in itertools.combinations(range(len(gold)), 2):
    if gold[i] == gold[j]:
      continue
    of += 1
    if ranks[i] == ranks[j]:
      agreed += 0.5
    else:
      agreed += (ranks[i] < ranks[j]) == (gold[i] < gold[j])
  return agreed, of


def is_sensitive(flags: Mapping[str, bool]) -> bool:
  """Whether an answer's metadata call it sensitive."""
  return any(flags[flag] for flag in SENSITIVE)


def grade(
  connection: sqlalchemy.Connection,
  given: settings.Settings,
  assignment_id: int,
  value: int,
  now: float,
) -> None:
  """An admin's grade, 1 to 7, of a demonstration of the screening.

  With the last of a labeler's, who waits for it, they pass or fail; whom an
  admin has let pass or fail otherwise than by the marks stays so. Raises
  UserError for what is no grade, or no such demonstration.
  """
  if isinstance(value, bool) or value not in kinds.LIKERT:
    raise errors.UserError(f"grade={value}: must be a whole number, 1 to 7")
  ask = {"assignment": assignment_id}
  labeler_id = connection.scalar(_GRADED, ask)
  if labeler_id is None:
    raise errors.UserError(
      f"assignment {assignment_id}: is no demonstration of the screening that"
      " is answered"
    )
  before = verdict(marks(connection, labeler_id), given)
  connection.execute(
    tables.GRADES.insert().prefix_with("OR REPLACE"),
    {"assignment_id": assignment_id, "grade": value, "saved_at": now},
  )
  labeler = people.by_id(connection, labeler_id)
  if labeler.screened_at is not None and labeler.passed == before:
    passed = verdict(marks(connection, labeler_id), given)
    people.screened(
      connection, labeler_id, at=labeler.screened_at, passed=passed
    )
  detail = {"assignment": assignment_id, "grade": value}
  people.log(connection, now, "admin", "grade", detail)


def overrule(
  connection: sqlalchemy.Connection,
  labeler_id: int,
  passed: bool,
  now: float,
) -> None:
  """An admin's word on whether a labeler has passed, whatever the marks."""
  labeler = people.by_id(connection, labeler_id)
  at = now if labeler.screened_at is None else labeler.screened_at
  people.screened(connection, labeler_id, at=at, passed=passed)
  detail = {"labeler": labeler_id, "passed": passed}
  people.log(connection, now, "admin", "pass", detail)


def check_gold(kind: str, content: Mapping[str, Any], gold: Any) -> None:
  """UserError for a gold answer that is none to its task."""
  right = {
    "ranking": ("ranks", "sensitive"),
    "comparison": ("ranks",),
    "demonstration": ("response",),
  }.get(kind)
  if right is None:
    raise errors.UserError(f"kind: a {kind} task cannot have a gold answer")
  if not isinstance(gold, Mapping) or not gold:
    raise errors.UserError(f"gold: must be an object with {', '.join(right)}")
  for key, value in gold.items():
    if key not in right:
      raise errors.unknown("key of gold", str(key), right)
    if key == "response":
      is_right = isinstance(value, str) and bool(value.strip())
      said = "must be text that is not empty"
    else:
      k, each = len(content["responses"]), int if key == "ranks" else bool
      is_right = isinstance(value, list) and [type(x) for x in value] == (
        [each] * k
      )
      said = f"must be {k} {'ranks' if key == 'ranks' else 'of true or false'}"
    if not is_right:
      raise errors.UserError(f"gold.{key}: {said}")


# Of tasks to give, since this is the index's condition; to the screening's it
# comes down to not being closed.
_ANY = (
  f"SELECT 1 FROM tasks WHERE {tables.TO_GIVE} AND is_screening = 1 LIMIT 1"
)
_LEFT = text(
  f"SELECT 1 FROM tasks WHERE {tables.TO_GIVE} AND is_screening = 1"
  " AND NOT EXISTS (SELECT 1 FROM assignments WHERE task_id = tasks.id"
  " AND labeler_id = :labeler AND state = 'answered') LIMIT 1"
)
_ANSWERS = text(
  "SELECT t.kind, t.gold, answers.answer, grades.grade FROM assignments a"
  " JOIN tasks t ON a.task_id = t.id"
  " JOIN answers ON answers.assignment_id = a.id AND undone_at IS NULL"
  " LEFT JOIN grades ON grades.assignment_id = a.id"
  " WHERE a.labeler_id = :labeler AND t.is_screening = 1"
  " AND t.closed = 0 AND a.state = 'answered' ORDER BY t.id"
)
_GRADED = text(
  "SELECT a.labeler_id FROM assignments a JOIN tasks t ON a.task_id = t.id"
  " WHERE a.id = :assignment AND t.is_screening = 1"
  " AND t.kind = 'demonstration' AND a.state = 'answered'"
)


def _below(found: float | None, mark: float) -> bool:
  return found is not None and found < mark
