"""What people have answered: read from the database of a folder of labels.

`collecting` writes LABELS/labels.sqlite; here it is read, with nothing but the
standard library, while its server runs or not. All of a reading is of one
moment (a transaction); within `held` several are of the same.
"""

import contextlib
import dataclasses
import json
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors

NAME = "labels.sqlite"
SKIPPED = "skipped"  # the key of an answer that gives none
_NEWEST = """
  SELECT max(id) FROM answers WHERE undone_at IS NULL GROUP BY assignment_id
"""
_COLUMNS = """
  SELECT a.id, t.id, t.kind, t.content, t.gold, t.source, t.is_screening,
    l.id, l.name, l.grp, s.display, a.answer, a.seconds, a.sensitive, a.saved_at
"""
_BY_TASK = f"""{_COLUMNS}
  FROM tasks t
  CROSS JOIN assignments s ON s.task_id = t.id
  CROSS JOIN labelers l ON l.id = s.labeler_id
  CROSS JOIN answers a ON a.assignment_id = s.id
  ORDER BY t.id, l.id, a.id
"""
_SINCE = f"""{_COLUMNS}
  FROM answers a
  CROSS JOIN assignments s ON s.id = a.assignment_id
  CROSS JOIN tasks t ON t.id = s.task_id
  CROSS JOIN labelers l ON l.id = s.labeler_id
  WHERE a.id > ? ORDER BY a.id
"""


@dataclasses.dataclass(frozen=True)
class Answer:
  """One labeler's answer to one task, or that it was skipped.

  `said` is in the order of the responses in `content`; `display`[i] is the
  place there of the response that was shown as the i-th.
  """

  id: int
  task: int
  kind: str  # 'demonstration', 'ranking', 'comparison' or 'writing'
  content: dict[str, Any]
  gold: dict[str, Any] | None
  source: str
  is_screening: bool
  labeler_id: int
  labeler: str
  group: str  # 'training' or 'held_out'
  display: list[int]
  said: dict[str, Any]
  seconds: float
  sensitive: bool
  saved_at: float  # seconds since 1970

  @property
  def is_skipped(self) -> bool:
    """Whether the labeler gave a reason in place of an answer."""
    return SKIPPED in self.said


def database(folder: os.PathLike | str) -> epath.Path | None:
  """The database in a folder of labels; None for another folder."""
  path = epath.Path(folder) / NAME
  return path if path.exists() else None


def is_one(path: os.PathLike | str) -> bool:
  """Whether a file is such a database, by its name."""
  return os.path.basename(os.fspath(path)) == NAME


_held: dict[str, frozenset[int]] | None = None


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Within, every database is what it was when it was first read.

  Answers are never changed, only added, so which of them counted says it all.
  """
  global _held
  before = _held
  _held = {} if before is None else before
  try:
    yield
  finally:
    _held = before


def read(path: os.PathLike | str) -> Iterator[Answer]:
  """The answers that count, by task and labeler, skipped ones too.

  What was undone does not count, and of several answers to one assignment the
  last does. Raises UserError for what is no such database.
  """
  with opened(path) as connection:
    counting = counted(path, connection)
    for row in connection.execute(_BY_TASK):
      if row[0] in counting:
        yield _answer(row)


def since(connection: sqlite3.Connection, number: int) -> Iterator[Answer]:
  """All answers with a greater number, in their order, whether they count."""
  return map(_answer, connection.execute(_SINCE, (number,)))


def counted(
  path: os.PathLike | str, connection: sqlite3.Connection
) -> frozenset[int]:
  """The numbers of the answers that count."""
  name = os.path.realpath(path)
  if _held is not None and name in _held:
    return _held[name]
  found = frozenset(number for (number,) in connection.execute(_NEWEST))
  if _held is not None:
    _held[name] = found
  return found


@contextlib.contextmanager
def opened(path: os.PathLike | str) -> Iterator[sqlite3.Connection]:
  """A database to read, all of it of one moment; UserError for another file."""
  if "://" in os.fspath(path):
    raise errors.UserError(
      f"{path}: labels are read from a local disk; copy the folder here, or"
      " export them (python -m instruct_jax.label export) and name the files"
    )
  try:
    with contextlib.closing(_connected(path)) as connection:
      connection.execute("BEGIN")
      yield connection
  except sqlite3.Error as error:
    raise errors.UserError(
      f"{path}: cannot be read as labels ({error}); name the folder that"
      " `python -m instruct_jax.label --dir=FOLDER` writes, or a backup of it"
    ) from None


def _connected(path: os.PathLike | str) -> sqlite3.Connection:
  """A connection that writes nothing; a disk that is read-only is one, too."""
  name = urllib.parse.quote(os.path.abspath(path))
  for more in ("", "&immutable=1"):
    connection = sqlite3.connect(
      f"file:{name}?mode=ro{more}",
      uri=True,
      timeout=30,
      isolation_level=None,
      check_same_thread=False,
    )
    try:
      connection.execute("SELECT 1 FROM answers LIMIT 1")
      return connection
    except sqlite3.OperationalError:
      connection.close()
      # Beside a log of what is not in it yet it must not be read alone.
      if more or os.path.exists(f"{path}-wal"):
        raise
  raise AssertionError("not reached")


def _answer(row: tuple) -> Answer:
  number, task, kind, content, gold, source, is_screening = row[:7]
  labeler_id, labeler, group, display, said = row[7:12]
  seconds, sensitive, saved_at = row[12:]
  return Answer(
    number,
    task,
    kind,
    json.loads(content),
    json.loads(gold) if gold else None,
    source or "",
    bool(is_screening),
    labeler_id,
    labeler,
    group,
    json.loads(display) if display else [],
    json.loads(said),
    float(seconds or 0.0),
    bool(sensitive),
    float(saved_at or 0.0),
  )
