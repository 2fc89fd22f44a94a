"""Labelers and admins: invitations, who a token is, what happened when.

Functions of a connection; `store` opens the transactions. A token is in the
link that invites, and nowhere else: the database has its hash.
"""

import dataclasses
import unicodedata

import sqlalchemy

from instruct_jax.base import errors
from instruct_jax.collecting import kinds, tables, tokens

GROUPS = ("training", "held_out")
LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Labeler:
  """Somebody who was invited."""

  id: int
  name: str
  group: str  # training or held_out
  revoked_at: float | None
  screened_at: float | None  # when the last screening answer came
  passed: bool | None  # None: not decided yet


def invite(
  connection: sqlalchemy.Connection, name: str, group: str, now: float
) -> str:
  """The token of a new labeler; UserError for a name or group that is none."""
  name = _name(name)
  if group not in GROUPS:
    raise errors.unknown("group", group, GROUPS)
  labelers, token = tables.LABELERS, tokens.new()
  taken = sqlalchemy.select(labelers.c.id).where(labelers.c.name == name)
  if connection.scalar(taken) is not None:
    raise errors.UserError(
      f"'{name}': a labeler of this name is there already; give another name,"
      " or make them a new link"
    )
  row = {"name": name, "grp": group, "invited_at": now}
  connection.execute(
    labelers.insert(), row | {"token_hash": tokens.hashed(token)}
  )
  log(connection, now, "admin", "invite", row)
  return token


def renew(
  connection: sqlalchemy.Connection, labeler_id: int, now: float
) -> str:
  """A new token for a labeler, whose old one is void; also after `revoke`."""
  token = tokens.new()
  _update(
    connection, labeler_id, token_hash=tokens.hashed(token), revoked_at=None
  )
  log(connection, now, "admin", "renew", {"labeler": labeler_id})
  return token


def revoke(
  connection: sqlalchemy.Connection, labeler_id: int, now: float
) -> None:
  """Their token is void from now on; what they answered stays."""
  _update(connection, labeler_id, revoked_at=now)
  log(connection, now, "admin", "revoke", {"labeler": labeler_id})


def by_token(connection: sqlalchemy.Connection, token: str) -> Labeler | None:
  """Whose token it is; None of nobody's, or of a revoked one."""
  hashed = tokens.hashed(token)
  row = connection.exec_driver_sql(_BY_HASH, (hashed,)).one_or_none()
  if row is None or not tokens.is_same(row.token_hash, hashed):
    return None
  return None if row.revoked_at is not None else _labeler(row)


def check_is_let_in(connection: sqlalchemy.Connection, labeler_id: int) -> None:
  """UserError for a labeler who is revoked."""
  who = by_id(connection, labeler_id)
  if who.revoked_at is not None:
    raise errors.UserError(
      f"{who.name} is revoked and cannot be asked again; make them a new link"
      " first, or reopen the task for everybody"
    )


def by_id(connection: sqlalchemy.Connection, labeler_id: int) -> Labeler:
  """A labeler; UserError where there is none of this id."""
  row = connection.exec_driver_sql(_BY_ID, (labeler_id,)).one_or_none()
  if row is None:
    raise errors.UserError(f"labeler {labeler_id}: there is none")
  return _labeler(row)


def everybody(connection: sqlalchemy.Connection) -> list[Labeler]:
  """All labelers, in the order of their invitations."""
  rows = connection.execute(_ALL.order_by(tables.LABELERS.c.id))
  return [_labeler(row) for row in rows]


def screened(
  connection: sqlalchemy.Connection,
  labeler_id: int,
  *,
  at: float | None,
  passed: bool | None,
) -> None:
  """Remembers when somebody was screened, and with what outcome."""
  outcome = None if passed is None else int(passed)
  _update(connection, labeler_id, screened_at=at, passed=outcome)


def new_admin_token(connection: sqlalchemy.Connection, now: float) -> str:
  """The token that enters the admin page from now on; the old one is void."""
  token = tokens.new()
  tables.set_meta(connection, "admin_hash", tokens.hashed(token))
  log(connection, now, "command", "new_admin_token", {})
  return token


def is_admin(connection: sqlalchemy.Connection, token: str) -> bool:
  """Whether it is the admin's token."""
  known = tables.meta(connection, "admin_hash")
  return known is not None and tokens.is_same(known, tokens.hashed(token))


def log(
  connection: sqlalchemy.Connection,
  now: float,
  who: str,
  what: str,
  detail: dict,
) -> None:
  """Adds a line to the table of events."""
  row = {"at": now, "who": who, "what": what, "detail": kinds.as_json(detail)}
  connection.execute(tables.EVENTS.insert(), row)


_ALL = sqlalchemy.select(tables.LABELERS)
# As text: these two are asked at every request.
_BY_HASH = "SELECT * FROM labelers WHERE token_hash = ?"
_BY_ID = "SELECT * FROM labelers WHERE id = ?"


def _labeler(row) -> Labeler:
  return Labeler(
    id=row.id,
    name=row.name,
    group=row.grp,
    revoked_at=row.revoked_at,
    screened_at=row.screened_at,
    passed=None if row.passed is None else bool(row.passed),
  )


def _update(connection, labeler_id, **values):
  labelers = tables.LABELERS
  change = labelers.update().where(labelers.c.id == labeler_id)
  if not connection.execute(change.values(**values)).rowcount:
    raise errors.UserError(f"labeler {labeler_id}: there is none")


def _name(name):
  name = unicodedata.normalize("NFC", " ".join(name.split()))
  if not 1 <= len(name) <= LONGEST_NAME:
    raise errors.UserError(
      f"a labeler's name must have 1 to {LONGEST_NAME} characters"
    )
  if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in name):
    raise errors.UserError(
      "a labeler's name must be without control characters"
    )
  return name
