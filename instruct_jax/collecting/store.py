"""THE way to what labelers and admins do: one `Store` a process.

Each method is a transaction: what it wrote is on disk when it returns, and
after an error nothing is written. Threads may share a Store; several processes
may each have one of the same folder. Methods that a labeler's page calls raise
`Refused` (not to be had, in words for them) or `kinds.Wrong` (no answer, by
field); those for admins and commands raise UserError.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy

from instruct_jax.base import errors, storage
from instruct_jax.collecting import (
  adding,
  answering,
  assigning,
  kinds,
  people,
  screening,
  settings,
  standing,
  tables,
  tasks,
)

Assignment = assigning.Assignment
Labeler = people.Labeler
Progress = standing.Progress
Refused = assigning.Refused
Saved = answering.Saved
_OF_RUNS = "config.json"
_REVOKED = "your invitation is no longer valid"


def open_store(
  folder: str | os.PathLike, *, clock: Callable[[], float] = time.time
) -> "Store":
  """The store of a labelling project; folder and files are made if missing.

  Raises UserError for settings or a database that are none, and OSError where
  the disk refuses.
  """
  path = pathlib.Path(folder)
  if storage.is_remote(os.fspath(folder)):
    raise errors.UserError(f"{folder}: must be a folder of this machine")
  if path.exists() and not path.is_dir():
    raise errors.UserError(f"{path}: is a file, and must be a folder")
  if (path / _OF_RUNS).exists() and not (path / tables.NAME).exists():
    raise errors.UserError(
      f"{path}: is a run's folder ({_OF_RUNS}); name another for the labels,"
      " and this one as --run"
    )
  path.mkdir(parents=True, exist_ok=True)
  given = settings.read(path)
  store = Store(path, given, tables.open_database(path), clock)
  with store.writing() as connection:
    if tables.meta(connection, "secret") is None:
      tables.set_meta(connection, "secret", secrets.token_hex(32))
  return store


@dataclasses.dataclass(frozen=True)
class Done:
  """An answer of a labeler's, as their history shows it."""

  assignment: Assignment
  answer: dict[str, Any]  # in the task's order; {"skipped": reason} of a skip
  sensitive: bool
  seconds: float
  saved_at: float


@dataclasses.dataclass(frozen=True)
class Store:
  """A labelling project: its folder, its settings, its database."""

  folder: pathlib.Path
  settings: settings.Settings
  database: tables.Database
  clock: Callable[[], float]

  @contextlib.contextmanager
  def reading(self) -> Iterator[sqlalchemy.Connection]:
    """A connection to read with, which sees one moment."""
    with self.database.reading() as connection:
      yield connection

  @contextlib.contextmanager
  def writing(self) -> Iterator[sqlalchemy.Connection]:
    """A connection whose changes are all kept at the end, or none."""
    with self.database.writing() as connection:
      yield connection

  # People.

  def invite(self, name: str, group: str = "training") -> str:
    """The token of a new labeler, for their link."""
    with self.writing() as connection:
      return people.invite(connection, name, group, self.clock())

  def renew(self, labeler_id: int) -> str:
    """A new token for a labeler, also a revoked one; the old one is void."""
    with self.writing() as connection:
      return people.renew(connection, labeler_id, self.clock())

  def revoke(self, labeler_id: int) -> None:
    """Their link ends; their open tasks go to others, their answers stay."""
    with self.writing() as connection:
      now = self.clock()
      people.revoke(connection, labeler_id, now)
      tasks.release(connection, tables.ASSIGNMENTS.c.labeler_id == labeler_id)

  def labeler_of(self, token: str) -> Labeler | None:
    """Whose token it is; None of nobody's or a revoked one."""
    with self.reading() as connection:
      return people.by_token(connection, token)

  def labelers(self) -> list[Labeler]:
    """All, also revoked ones, in the order of their invitations."""
    with self.reading() as connection:
      return people.everybody(connection)

  def new_admin_token(self) -> str:
    """The token of the admin page from now on."""
    with self.writing() as connection:
      return people.new_admin_token(connection, self.clock())

  def is_admin(self, token: str) -> bool:
    """Whether it is the admin's token."""
    with self.reading() as connection:
      return people.is_admin(connection, token)

  def has_admin(self) -> bool:
    """Whether an admin's token was ever made."""
    with self.reading() as connection:
      return tables.meta(connection, "admin_hash") is not None

  def secret(self) -> str:
    """64 hexadecimal characters of this project, to sign with."""
    with self.reading() as connection:
      return str(tables.meta(connection, "secret"))

  # A labeler's work.

  def next_assignment(self, labeler_id: int) -> Assignment | None:
    """What a labeler does now: what they have open, else a new task.

    The screening comes first. None: nothing is left for them, or they have not
    passed it (`progress` tells).
    """
    now, idle = self.clock(), self.settings.tasks.hours * 3600 / 2
    with self.reading() as connection:
      self._labeler(connection, labeler_id)
      found = assigning.opened(connection, labeler_id)
      if found is not None and now - found.opened_at < idle:
        return found

    def give(connection):
      labeler = self._labeler(connection, labeler_id)
      found = assigning.opened(connection, labeler_id)
      if found is not None:
        assigning.touch(connection, found.id, now)
        return found
      return assigning.give(connection, self.settings, labeler, now)

    return self.database.write(give)

  def open_assignment(self, labeler_id: int) -> Assignment | None:
    """What they have open, the newest of several; nothing is handed out."""
    with self.reading() as connection:
      return assigning.opened(connection, labeler_id)

  def assignment(self, labeler_id: int, assignment_id: int) -> Assignment:
    """An assignment of theirs, in whatever state; Refused for another's."""
    with self.reading() as connection:
      self._labeler(connection, labeler_id)
      return assigning.one(connection, labeler_id, assignment_id)

  def save(
    self,
    labeler_id: int,
    assignment_id: int,
    submission: str,
    answer: Mapping[str, Any],
    seconds: float,
    *,
    sensitive: bool = False,
  ) -> Saved:
    """Saves an answer, in the task's order (`kinds.unshuffle`).

    The same submission again is the same answer; so is the same answer from
    another tab. Raises kinds.Wrong, and Refused for another's assignment, a
    revoked labeler, another answer under the same submission, or a task that
    is answered already.
    """
    asked = self.assignment(labeler_id, assignment_id)
    sent = answering.Sent(
      kinds.submission(submission),
      kinds.check(asked.kind, asked.content, answer),
      kinds.seconds(seconds),
      bool(sensitive),
      "answered",
    )
    return self._keep(labeler_id, assignment_id, sent)

  def skip(
    self,
    labeler_id: int,
    assignment_id: int,
    submission: str,
    reason: str,
    *,
    seconds: float = 0.0,
    sensitive: bool = False,
  ) -> Saved:
    """Leaves a task to others, and says why; otherwise as `save`.

    Raises Refused for a task of the screening, which is for everybody.
    """
    if self.assignment(labeler_id, assignment_id).is_screening:
      raise Refused(
        "a task of the screening cannot be skipped; write to whoever invited"
        " you if it is too much"
      )
    sent = answering.Sent(
      kinds.submission(submission),
      {"skipped": kinds.reason(reason)},
      kinds.seconds(seconds),
      bool(sensitive),
      "skipped",
    )
    return self._keep(labeler_id, assignment_id, sent)

  def undo(
    self, labeler_id: int, *, seen: int | None = None
  ) -> Assignment | None:
    """Undoes their last answer or skip; its assignment is open again.

    Given `seen`, the assignment that the page had open (0: none), a second
    click undoes nothing more. None where there is nothing to undo; Refused
    where it is too late.
    """

    def undo(connection):
      self._labeler(connection, labeler_id)
      return assigning.undo(connection, labeler_id, self.clock(), seen=seen)

    return self.database.write(undo)

  def progress(self, labeler_id: int) -> Progress:
    """How far a labeler is."""
    with self.reading() as connection:
      labeler = self._labeler(connection, labeler_id)
      return standing.progress(connection, self.settings, labeler)

  def history(self, labeler_id: int, most: int = 50) -> list[Done]:
    """Their last answers and skips that count, the newest first."""
    with self.reading() as connection:
      self._labeler(connection, labeler_id)
      found = standing.history(connection, labeler_id, most)
      return [
        Done(
          assignment,
          json.loads(row.answer),
          bool(row.sensitive),
          row.seconds,
          row.saved_at,
        )
        for assignment, row in found
      ]

  def save_survey(self, labeler_id: int, answer: Mapping[str, Any]) -> None:
    """Keeps the answers to the survey; a later one takes the place."""
    row = {"labeler_id": labeler_id, "answer": kinds.as_json(dict(answer))}
    with self.writing() as connection:
      self._labeler(connection, labeler_id)
      connection.execute(
        tables.SURVEYS.insert().prefix_with("OR REPLACE"),
        row | {"saved_at": self.clock()},
      )

  def survey(self, labeler_id: int) -> dict[str, Any] | None:
    """What a labeler answered to the survey."""
    surveys = tables.SURVEYS
    with self.reading() as connection:
      text = connection.scalar(
        sqlalchemy.select(surveys.c.answer).where(
          surveys.c.labeler_id == labeler_id
        )
      )
    return None if text is None else json.loads(text)

  # Tasks.

  def add_tasks(
    self,
    kind: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    source: str,
    golds: Iterable[Mapping[str, Any]] | None = None,
  ) -> adding.Added:
    """Adds tasks that are not there yet; with `golds`, of the screening."""
    return adding.add(
      self.database,
      self.settings,
      kind,
      rows,
      source=source,
      golds=golds,
      now=self.clock(),
    )

  def reopen(self, task_id: int, labeler_id: int | None = None) -> None:
    """Sets aside what one labeler, or all, answered to a task."""
    with self.writing() as connection:
      tasks.reopen(connection, task_id, labeler_id, self.clock())

  def close(self, task_id: int) -> None:
    """Hands a task out no more."""
    with self.writing() as connection:
      tasks.close(connection, task_id, self.clock())

  def keep_screening(self, digests: Sequence[str]) -> None:
    """The screening is of the tasks of these digests, and of no others."""
    with self.writing() as connection:
      tasks.keep_screening(connection, digests, self.clock())

  def release_stale(self) -> int:
    """Takes back what was opened `tasks.hours` ago or longer; how many."""
    with self.writing() as connection:
      return assigning.release_stale(connection, self.settings, self.clock())

  # The screening.

  def marks(self, labeler_id: int) -> screening.Marks:
    """What a labeler's screening comes to, as it stands."""
    with self.reading() as connection:
      return screening.marks(connection, labeler_id)

  def grade(self, assignment_id: int, grade: int) -> None:
    """An admin's grade, 1 to 7, of a demonstration of the screening."""
    with self.writing() as connection:
      now = self.clock()
      screening.grade(connection, self.settings, assignment_id, grade, now)

  def overrule(self, labeler_id: int, passed: bool) -> None:
    """An admin's word on whether a labeler has passed."""
    with self.writing() as connection:
      screening.overrule(connection, labeler_id, passed, self.clock())

  # The whole.

  def backup(self, path: str | os.PathLike) -> None:
    """Copies the database, as it is at one moment, while others use it."""
    with storage.writing(path, "wb") as file:
      self._copy(file.name)

  def shut(self) -> None:
    """Lets go of the database's files."""
    self.database.engine.dispose()

  def _labeler(self, connection, labeler_id) -> Labeler:
    labeler = people.by_id(connection, labeler_id)
    if labeler.revoked_at is not None:
      raise Refused(_REVOKED)
    return labeler

  def _keep(self, labeler_id, assignment_id, sent) -> Saved:

    def keep(connection):
      labeler = self._labeler(connection, labeler_id)
      asked = assigning.one(connection, labeler_id, assignment_id)
      return answering.keep(
        connection, self.settings, labeler, asked, sent, self.clock()
      )

    return self.database.write(keep)

  def _copy(self, path: str) -> None:
    with (
      tables.said_by_disk(self.database.path),
      contextlib.closing(sqlite3.connect(self.database.path)) as source,
      contextlib.closing(sqlite3.connect(path)) as target,
    ):
      source.backup(target)
      target.execute("PRAGMA journal_mode=DELETE")
