"""Tasks from contents: checked, named by what they ask, added once.

A task's content is an object: of ranking and comparison `prompt`, `responses`
and optionally `models` and `ended`; of demonstration `prompt`; of writing
`form`, `hint` and `number`. Whatever else a line of a file had stands under
`record` and is exported again. `gold` makes a task of the screening.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy

from instruct_jax.base import errors
from instruct_jax.collecting import kinds, settings, tables
from instruct_jax.data.read import records

EVERYBODY = 10**9  # how many do a task of the screening
_CHUNK = 500  # tasks of one transaction: others may write in between
_OURS = {
  "demonstration": ("prompt", "record"),
  "ranking": ("prompt", "responses", "models", "ended", "record"),
  "comparison": ("prompt", "responses", "models", "ended", "record"),
  "writing": ("form", "hint", "number", "record"),
}


@dataclasses.dataclass(frozen=True)
class Added:
  """What became of contents that were to be tasks."""

  added: int
  repeated: int  # were tasks already


def add(
  database: tables.Database,
  given: settings.Settings,
  kind: str,
  rows: Iterable[Mapping[str, Any]],
  *,
  source: str,
  golds: Iterable[Mapping[str, Any]] | None,
  now: float,
) -> Added:
  """Adds tasks; one that is there already, by prompt and responses, is not.

  Each is durable when this returns, some hundred at a time. Raises UserError
  for a content that is none of its kind.
  """
  if kind not in kinds.KINDS:
    raise errors.unknown("kind of task", kind, kinds.KINDS)
  pairs = zip(rows, itertools.repeat(None) if golds is None else golds)
  added = total = 0
  while chunk := list(itertools.islice(pairs, _CHUNK)):
    values = [_row(given, kind, c, g, source, now) for c, g in chunk]
    with database.writing() as connection:
      before = _count(connection)
      insert = tables.TASKS.insert().prefix_with("OR IGNORE")
      connection.execute(insert, values)
      added += _count(connection) - before
    total += len(chunk)
  return Added(added, total - added)


def digest(
  kind: str, content: Mapping[str, Any], *, is_gold: bool = False
) -> str:
  """What makes two tasks the same: kind, prompt, responses in any order.

  The same prompt may be screened with and asked for besides.
  """
  if kind == "writing":
    parts = [content["form"], content.get("hint"), content.get("number")]
  else:
    parts = [content["prompt"], *sorted(content.get("responses", ()))]
  name = hashlib.sha256(kinds.as_json([kind, *parts]).encode()).hexdigest()
  return f"gold/{name}" if is_gold else name


def wanted(given: settings.Settings, digest_of_task: str) -> int:
  """How many labelers a task is for: one, or several of the overlap share.

  A hash of the seed and the task decides, so that it is the same wherever
  and whenever the task is added.
  """
  is_shared = drawn(given, "overlap", digest_of_task) < given.overlap.share
  return given.overlap.labelers if is_shared else 1


def drawn(given: settings.Settings, purpose: str, name: str) -> float:
  """A number from 0 to 1 that the seed, a purpose and a name determine."""
  seeded = f"{given.tasks.seed}/{purpose}/{name}".encode()
  return int.from_bytes(hashlib.sha256(seeded).digest()[:8]) / 2**64


def check_content(kind: str, content: Any) -> None:
  """UserError for a content that is none of its kind."""
  if not isinstance(content, Mapping):
    raise errors.UserError("a task must be an object")
  for key in content:
    if key not in _OURS[kind]:
      raise errors.unknown(f"key of a {kind} task", str(key), _OURS[kind])
  if kind == "writing":
    if content.get("form") not in kinds.FORMS:
      raise errors.unknown("form", str(content.get("form")), kinds.FORMS)
    return
  _check_text("prompt", content.get("prompt"))
  if kind in ("ranking", "comparison"):
    _check_responses(kind, content)


def check_lists(content: Mapping[str, Any]) -> None:
  """UserError for lists that are not as long as that of the responses."""
  k = len(content["responses"])
  for field, each, said in (
    ("models", str, "a name"),
    ("ended", bool, "true or false"),
  ):
    values = content.get(field)
    if values is None:
      continue
    if not isinstance(values, list) or [type(x) for x in values] != [each] * k:
      raise errors.UserError(
        f"{field}: must be a list of {k}, {said} for each response"
      )


def _row(given, kind, content, gold, source, now):
  check_content(kind, content)
  is_screening = gold is not None
  name = digest(kind, content, is_gold=is_screening)
  return {
    "kind": kind,
    "content": kinds.as_json(content),
    "gold": kinds.as_json(gold) if is_screening else None,
    "is_screening": int(is_screening),
    "wanted": EVERYBODY if is_screening else wanted(given, name),
    "source": source,
    "created_at": now,
    "digest": name,
  }


def _count(connection):
  return connection.scalar(
    sqlalchemy.select(sqlalchemy.func.count()).select_from(tables.TASKS)
  )


def _check_text(field, value):
  if not isinstance(value, str) or records.is_blank(value):
    raise errors.UserError(f"{field}: must be text that is not empty")
  try:
    value.encode("utf-8")
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{field}: has half a character (a lone surrogate)"
    ) from None


def _check_responses(kind, content):
  responses = content.get("responses")
  if not isinstance(responses, list):
    raise errors.UserError("responses: must be a list of texts")
  check_lists(content)
  ended = content.get("ended")
  for number, response in enumerate(responses):
    if response == "" and ended and ended[number:][:1] == [True]:
      continue  # A model that ends at once has said nothing, and is ranked so.
    _check_text(f"responses[{number}]", response)
  if len(set(responses)) < len(responses):
    raise errors.UserError("responses: the same one stands there twice")
  least, most = (2, 2) if kind == "comparison" else (2, 9)
  if not least <= len(responses) <= most:
    raise errors.UserError(
      f"responses: {len(responses)} of them; a {kind} is of"
      f" {least if least == most else f'{least} to {most}'}"
    )
