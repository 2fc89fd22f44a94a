"""The database of a labelling project: tables, transactions, what disks say.

SQLite in WAL mode: readers never wait for the one that writes. Whoever writes
begins with BEGIN IMMEDIATE, so that nothing it has read can change before it
commits, and a commit returns when the disk has it (synchronous=FULL). What
threads want to write while another commits goes into one transaction behind it,
so that forty labelers wait for two commits, not for forty. Other processes wait
for the database's own lock, which polls.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy
from sqlalchemy import (
  Column,
  Float,
  ForeignKey,
  Index,
  Integer,
  MetaData,
  Table,
  Text,
  UniqueConstraint,
)

from instruct_jax.base import errors
from instruct_jax.collecting import queueing

SCHEMA = "1"
NAME = "labels.sqlite"
_BUSY_SECONDS = 30  # how long a writer waits for one of another process
# As text, since SQLite takes a partial index for these very words alone.
TO_GIVE = "closed = 0 AND taken < wanted"
IS_OPEN = "state = 'open'"

METADATA = MetaData()
META = Table(
  "meta",
  METADATA,
  Column("key", Text, primary_key=True),
  Column("value", Text, nullable=False),
)
LABELERS = Table(
  "labelers",
  METADATA,
  Column("id", Integer, primary_key=True),
  Column("name", Text, nullable=False, unique=True),
  Column("grp", Text, nullable=False),
  Column("token_hash", Text, nullable=False, unique=True),
  Column("invited_at", Float, nullable=False),
  Column("revoked_at", Float),
  Column("screened_at", Float),
  Column("passed", Integer),
)
TASKS = Table(
  "tasks",
  METADATA,
  Column("id", Integer, primary_key=True),
  Column("kind", Text, nullable=False),
  Column("content", Text, nullable=False),
  Column("gold", Text),
  Column("is_screening", Integer, nullable=False),
  Column("wanted", Integer, nullable=False),
  # How many labelers have it open or have answered it.
  Column("taken", Integer, nullable=False, server_default="0"),
  Column("source", Text, nullable=False),
  Column("created_at", Float, nullable=False),
  Column("closed", Integer, nullable=False, server_default="0"),
  Column("digest", Text, nullable=False, unique=True),
)
ASSIGNMENTS = Table(
  "assignments",
  METADATA,
  Column("id", Integer, primary_key=True),
  Column("task_id", ForeignKey("tasks.id"), nullable=False),
  Column("labeler_id", ForeignKey("labelers.id"), nullable=False),
  Column("display", Text, nullable=False),
  Column("state", Text, nullable=False),
  Column("opened_at", Float, nullable=False),
  Column("done_at", Float),
  UniqueConstraint("task_id", "labeler_id"),
)
ANSWERS = Table(
  "answers",
  METADATA,
  Column("id", Integer, primary_key=True),
  Column("assignment_id", ForeignKey("assignments.id"), nullable=False),
  Column("submission", Text, nullable=False, unique=True),
  Column("answer", Text, nullable=False),
  Column("seconds", Float, nullable=False),
  Column("sensitive", Integer, nullable=False, server_default="0"),
  Column("saved_at", Float, nullable=False),
  Column("undone_at", Float),
)
GRADES = Table(  # of screening demonstrations, by an admin: 1 to 7
  "grades",
  METADATA,
  Column("assignment_id", ForeignKey("assignments.id"), primary_key=True),
  Column("grade", Integer, nullable=False),
  Column("saved_at", Float, nullable=False),
)
SURVEYS = Table(
  "surveys",
  METADATA,
  Column("labeler_id", ForeignKey("labelers.id"), primary_key=True),
  Column("answer", Text, nullable=False),
  Column("saved_at", Float, nullable=False),
)
EVENTS = Table(
  "events",
  METADATA,
  Column("id", Integer, primary_key=True),
  Column("at", Float, nullable=False),
  Column("who", Text, nullable=False),
  Column("what", Text, nullable=False),
  Column("detail", Text, nullable=False),
)
Index(
  "tasks_to_give",
  TASKS.c.is_screening,
  TASKS.c.id,
  sqlite_where=sqlalchemy.text(TO_GIVE),
)
Index("assignments_of", ASSIGNMENTS.c.labeler_id, ASSIGNMENTS.c.state)
Index(
  "assignments_open",
  ASSIGNMENTS.c.opened_at,
  sqlite_where=sqlalchemy.text(IS_OPEN),
)
Index("answers_to", ANSWERS.c.assignment_id)


@dataclasses.dataclass(frozen=True)
class Database:
  """One SQLite file, for the threads of a process."""

  path: pathlib.Path
  engine: sqlalchemy.Engine
  lock: threading.Lock
  queue: queueing.Queue

  @contextlib.contextmanager
  def reading(self) -> Iterator[sqlalchemy.Connection]:
    """A connection that sees the database as it is now until the block ends."""
    with said_by_disk(self.path), self.engine.connect() as connection:
      yield connection

  @contextlib.contextmanager
  def writing(self) -> Iterator[sqlalchemy.Connection]:
    """A connection that alone writes; what it wrote is on disk at the end.

    After an error nothing of it is. Raises UserError where another process
    writes for longer than half a minute.
    """
    writer = self.engine.execution_options(writes=True)
    with self.lock, said_by_disk(self.path), writer.begin() as connection:
      yield connection

  def write(
    self, work: Callable[[sqlalchemy.Connection], queueing.T]
  ) -> queueing.T:
    """What `work` returns; what it wrote is on disk by then.

    After an error nothing of it is, and the error is raised. What others want
    to write at the same time may share the transaction, each by itself.
    """
    with said_by_disk(self.path):
      return self.queue.do(work, self._together)

  def _together(self, jobs: Sequence[queueing.Job]) -> None:
    """Does jobs in one transaction, each between savepoints."""
    with self.writing() as connection:
      for job in jobs:
        connection.exec_driver_sql("SAVEPOINT job")
        job.run(connection)
        if job.error is not None:
          # After some errors, as of a full disk, SQLite has undone it all.
          driver = connection.connection.dbapi_connection
          if driver is None or not driver.in_transaction:
            raise job.error
          connection.exec_driver_sql("ROLLBACK TO job")
        connection.exec_driver_sql("RELEASE job")


def open_database(folder: pathlib.Path) -> Database:
  """The database of a folder, which is made where there is none.

  Raises UserError where the file is damaged, is no database, or is of another
  schema; OSError where the disk refuses.
  """
  path = folder / NAME
  engine = sqlalchemy.create_engine(
    sqlalchemy.URL.create("sqlite", database=os.fspath(path)),
    connect_args={"timeout": _BUSY_SECONDS},
    pool_size=8,
    max_overflow=56,  # as many as a server has threads, and then some
  )
  sqlalchemy.event.listen(engine, "connect", _prepare)
  sqlalchemy.event.listen(engine, "begin", _begin)
  database = Database(path, engine, threading.Lock(), queueing.Queue())
  with database.writing() as connection:
    _check_schema(connection, path)
  return database


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
  connection.isolation_level = None  # so that BEGIN is ours to say
  for pragma in (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"busy_timeout={_BUSY_SECONDS * 1000}",
  ):
    connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sqlalchemy.Connection) -> None:
  writes = connection.get_execution_options().get("writes")
  connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_schema(connection: sqlalchemy.Connection, path: pathlib.Path):
  if not sqlalchemy.inspect(connection).get_table_names():
    METADATA.create_all(connection)
    row = {"key": "schema", "value": SCHEMA}
    connection.execute(META.insert(), row)
    return
  try:
    schema = meta(connection, "schema")
  except sqlalchemy.exc.OperationalError:
    schema = None
  if schema is None:
    raise errors.UserError(
      f"{path}: is a database of something else; move it away, or name another"
      " folder"
    )
  if schema != SCHEMA:
    raise errors.UserError(
      f"{path}: was written with schema {schema}, this version reads {SCHEMA}:"
      " use the version of instruct_jax that wrote it"
    )


def meta(connection: sqlalchemy.Connection, key: str) -> str | None:
  """What the project remembers under a key."""
  return connection.scalar(
    sqlalchemy.select(META.c.value).where(META.c.key == key)
  )


def set_meta(connection: sqlalchemy.Connection, key: str, value: str) -> None:
  """Remembers a value under a key."""
  connection.execute(
    META.insert().prefix_with("OR REPLACE"), {"key": key, "value": value}
  )


@contextlib.contextmanager
def said_by_disk(path: pathlib.Path) -> Iterator[None]:
  """What SQLite says of the disk is an OSError that names the file.

  Of a damaged file, or one that stays locked, it is a UserError.
  """
  try:
    yield
    return
  except (sqlalchemy.exc.DBAPIError, sqlite3.Error) as error:
    text = str(getattr(error, "orig", None) or error)
    number = next((n for words, n in _OF_DISK.items() if words in text), None)
    sentence = next((s for words, s in _SAID.items() if words in text), None)
    if number is None and sentence is None:
      raise
  if number is not None:
    raise OSError(number, os.strerror(number), os.fspath(path))
  raise errors.UserError(f"{path}: {sentence}")


_OF_DISK = {
  "disk is full": errno.ENOSPC,
  "readonly database": errno.EACCES,
  "unable to open": errno.EACCES,
  "disk I/O error": errno.EIO,
}
_SAID = {
  "not a database": "is no SQLite database; put a backup in its place, or name"
  " another folder",
  "malformed": "is damaged: stop the server, remove labels.sqlite-wal and"
  " labels.sqlite-shm, which belong to this file alone, and put a backup in its"
  " place",
  "is locked": "another process has been writing it for half a minute",
}
