"""Simulated labelers, who answer through the pages' own HTTP interface.

They write their invitations into the folder that the server serves, as `invite`
does, pass its screening by the gold answers that stand there, and work until
nothing is left for them or each has done as many tasks as asked. A
demonstration of the screening, which an admin grades, gets their 7 at once.
What they think of a task is `tastes`; all else goes over HTTP: cookies, CSRF
tokens, the order in which the page shows the responses.
"""

import asyncio
import dataclasses
import json
import os
import pathlib
import random
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy

from instruct_jax.base import errors, progress
from instruct_jax.collecting import (
  client,
  people,
  screening,
  store,
  tables,
  tastes,
)

_NAME = "simulated-{}"
_BEST = 7
_READING = 4.0  # words a second


@dataclasses.dataclass(frozen=True)
class Done:
  """What simulated labelers did.

  Attributes:
    answers: {labeler: tasks that the server said were saved}, the screening's
      too.
    again: requests that had to be sent more than once.
    stopped: {labeler: what the server said where it would have no more}.
  """

  answers: Mapping[str, int]
  again: int
  stopped: Mapping[str, str]


def simulate(
  url: str,
  folder: str | os.PathLike,
  *,
  labelers: int,
  group: str = "training",
  seed: int = 0,
  tasks: int | None = None,
  patience: float = client.PATIENCE,
) -> Done:
  """Has new labelers of a group answer; what they did.

  Args:
    url: the server's address.
    folder: the one that it serves.
    labelers: how many, at once.
    group: 'training' or 'held_out'.
    seed: of their taste.
    tasks: of each, at most; the screening does not count. None: all there are.
    patience: seconds that the server may be away.

  Raises:
    UserError: no such folder, nobody at the address, or another server.
  """
  if group not in people.GROUPS:
    raise errors.unknown("--group", group, people.GROUPS)
  client.check(url)
  if not (pathlib.Path(folder) / tables.NAME).is_file():
    raise errors.UserError(
      f"--dir={os.fspath(folder)}: has no {tables.NAME}; the folder that the"
      " server at --url serves is right"
    )
  opened = store.open_store(folder)
  try:
    crew = _Crew(opened, url, seed, tasks, patience)
    return asyncio.run(crew.work(labelers, group))
  finally:
    opened.shut()


class _Crew:
  """The labelers of one command."""

  def __init__(
    self,
    opened: store.Store,
    url: str,
    seed: int,
    tasks: int | None,
    patience: float,
  ):
    self._store, self._url, self._seed = opened, url, seed
    self._most, self._patience = tasks, patience
    self._answers: dict[str, int] = {}
    self._stopped: dict[str, str] = {}
    self._again = 0

  async def work(self, count: int, group: str) -> Done:
    """Invites so many, who work at the same time."""
    await client.greet(self._url, self._patience)
    there = {labeler.name for labeler in self._store.labelers()}
    free = (n for n in range(1, len(there) + count + 1))
    numbers = [n for n in free if _NAME.format(n) not in there][:count]
    total = _total(self._store, count, self._most)
    with progress.Progress("simulated labelers", total) as line:
      await asyncio.gather(
        *(
          self._one(tastes.Taste(_NAME.format(n), group, n - 1, self._seed),
                    line)
          for n in numbers
        )
      )  # fmt: skip
    return Done(self._answers, self._again, self._stopped)

  async def _one(self, taste: tastes.Taste, line: progress.Progress) -> None:
    """One labeler, from the invitation on."""
    session = client.Session(self._url, patience=self._patience)
    self._answers[taste.name] = 0
    try:
      token = self._store.invite(taste.name, taste.group)
      await self._enter(session, token)
      await self._answer(session, taste, line)
    except client.Stopped as error:
      self._stopped[taste.name] = str(error)
    finally:
      self._again += session.again
      await session.close()

  async def _enter(self, session: client.Session, token: str) -> None:
    """Goes in; who is not let in is not left invited either."""
    try:
      await session.enter(token, os.fspath(self._store.folder))
    except (errors.UserError, asyncio.CancelledError):
      if who := self._store.labeler_of(token):
        self._store.revoke(who.id)
      raise

  async def _answer(self, session, taste, line) -> None:
    """Answers what is given until there is nothing more."""
    done, refused = 0, None
    while self._most is None or done < self._most:
      page = await session.task()
      if page is None:
        return
      try:
        await session.post("/answer", self._form(taste, page))
      except client.Refused as error:
        # It was taken back meanwhile; another is next, or there is no way on.
        if refused == page["assignment"]:
          raise client.Stopped(str(error)) from None
        refused = page["assignment"]
        continue
      if page["is_screening"]:
        self._grade(page)
      else:
        done += 1
      self._answers[taste.name] += 1
      line.advance()

  def _form(self, taste: tastes.Taste, page: Mapping[str, Any]) -> dict:
    """What is sent of an answer to a page."""
    known = _known(self._store, page)
    if page["is_screening"] and known["gold"]:
      answer = _as_gold(page, known["gold"])
    else:
      answer = taste.answer(page, known["record"])
    rng = random.Random(f"{taste.seed} {taste.name} {page['assignment']}")
    words = len(json.dumps([page.get("prompt"), page.get("responses")]).split())
    return {
      "assignment": page["assignment"],
      "submission": str(uuid.uuid4()),
      "answer": answer,
      "seconds": round((3 + words / _READING) * rng.lognormvariate(0, 0.3), 1),
      "sensitive": False,
    }

  def _grade(self, page: Mapping[str, Any]) -> None:
    if page["kind"] == "demonstration":
      self._store.grade(page["assignment"], _BEST)


def _known(opened: store.Store, page: Mapping[str, Any]) -> dict[str, Any]:
  """What the database has of a page's task: record, gold in shown order."""
  tasks, assignments = tables.TASKS, tables.ASSIGNMENTS
  with opened.reading() as connection:
    row = connection.execute(
      sqlalchemy.select(tasks.c.content, tasks.c.gold, assignments.c.display)
      .join(assignments, assignments.c.task_id == tasks.c.id)
      .where(assignments.c.id == page["assignment"])
    ).one()
  content, gold = json.loads(row.content), json.loads(row.gold or "null")
  texts = content.get("responses", [])
  ended = content.get("ended") or [True] * len(texts)
  record = {**content.get("record", {}), "ended": dict(zip(texts, ended))}
  display = json.loads(row.display)
  shown = {
    key: [value[i] for i in display] if isinstance(value, list) else value
    for key, value in (gold or {}).items()
  }
  return {"record": record, "gold": shown}


def _as_gold(page: Mapping[str, Any], gold: Mapping[str, Any]) -> dict:
  """The answer that the screening's gold asks for, in the shown order."""
  if page["kind"] == "demonstration":
    return {"response": gold["response"]}
  texts = page["responses"]
  ranks = gold.get("ranks", [1] * len(texts))
  if page["kind"] == "comparison":
    return {"choice": tastes.choice(ranks)}
  sensitive = gold.get("sensitive", [False] * len(texts))
  return {
    "ranks": ranks,
    "ratings": [max(1, 8 - rank) for rank in ranks],
    "metadata": [
      tastes.flags({screening.SENSITIVE[0]: float(each)}) for each in sensitive
    ],
  }


def _total(opened: store.Store, count: int, most: int | None) -> int:
  """How many answers so many labelers have to give."""
  with opened.reading() as connection:
    left = connection.scalar(_LEFT, {"labelers": count}) or 0
    asked = connection.scalar(_SCREENING) or 0
  if not opened.settings.screening.required:
    asked = 0
  return (left if most is None else min(left, count * most)) + count * asked


_LEFT = sqlalchemy.text(
  "SELECT sum(min(wanted - taken, :labelers)) FROM tasks WHERE"
  f" {tables.TO_GIVE} AND is_screening = 0"
)
_SCREENING = sqlalchemy.text(
  f"SELECT count(*) FROM tasks WHERE {tables.TO_GIVE} AND is_screening = 1"
)
