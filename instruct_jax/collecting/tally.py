"""What labelers have done so far, counted as it comes in: the admin's numbers.

An answer never changes, so each is read once, and what the numbers need of it
is kept (a few hundred bytes). Everything is counted anew when something has
been answered or undone, but never for more than a tenth of a core's time.
"""

import collections
import dataclasses
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from instruct_jax.collecting import kinds, statistics
from instruct_jax.data.read import answers
from instruct_jax.maths import agreement as agreement_lib
from instruct_jax.maths import statistics as maths

SHORTEST = 2.0  # seconds between two countings
_REST = 9  # times as long as a counting kept a core, nothing is counted
_KEY = """
  SELECT (SELECT max(id) FROM answers),
    (SELECT count(*) FROM answers WHERE undone_at IS NOT NULL),
    (SELECT max(id) FROM tasks), (SELECT max(id) FROM assignments),
    (SELECT count(*) FROM assignments WHERE state = 'open'),
    (SELECT max(id) FROM events)
"""
_TASKS = "SELECT id, kind, is_screening FROM tasks WHERE id > ?"
_TO_GIVE = """
  SELECT id FROM tasks
  WHERE closed = 0 AND taken < wanted AND is_screening = 0
"""
_OPEN = "SELECT task_id FROM assignments WHERE state = 'open'"
SCREENING = "screening"  # stands for a kind where numbers are by kind


@dataclasses.dataclass(frozen=True)
class Entry:
  """What is kept of an answer."""

  kind: str  # of its task, or SCREENING
  labeler: str
  seconds: float
  saved_at: float
  is_skipped: bool
  sensitive: bool
  judged: statistics.Judged | None
  ratings: tuple[int, ...]


def entry_of(answer: answers.Answer) -> Entry:
  """What is kept of an answer or a skip."""
  judged = None
  if "ranks" in answer.said:
    places = [0] * len(answer.display)
    for place, response in enumerate(answer.display):
      places[response] = place
    judged = statistics.Judged(
      answer.task,
      answer.labeler,
      tuple(answer.said["ranks"]),
      tuple(len(text) for text in answer.content["responses"]),
      tuple(places),
      tuple((answer.gold or {}).get("ranks", ())),
    )
  return Entry(
    SCREENING if answer.is_screening else answer.kind,
    answer.labeler,
    answer.seconds,
    answer.saved_at,
    answer.is_skipped,
    answer.sensitive,
    judged,
    tuple(answer.said.get("ratings", ())),
  )


class Tally:
  """The numbers of one folder of labels; safe among threads.

  Args:
    path: of the database.
    clock: seconds that only grow.
    spent: seconds of a core that this thread has had.
  """

  def __init__(
    self,
    path: os.PathLike | str,
    *,
    clock: Callable[[], float] = time.monotonic,
    spent: Callable[[], float] = time.thread_time,
  ):
    self._path, self._clock, self._spent = path, clock, spent
    self._lock = threading.Lock()
    self._entries: dict[int, Entry] = {}
    self._kinds: dict[int, str] = {}  # of tasks
    self._last_answer = self._last_task = 0
    self._key: tuple | None = None
    self._state: dict[str, Any] = {}
    self._again_at = 0.0

  def state(self) -> dict[str, Any]:
    """The numbers, as `numbers`, and "version", which grows with each change.

    They may be a few seconds old. Raises UserError where the database cannot
    be read.
    """
    # Who comes while another counts takes what there is.
    if not self._lock.acquire(blocking=not self._state):
      return self._state
    try:
      if self._clock() >= self._again_at:
        self._count()
      return self._state
    finally:
      self._lock.release()

  def _count(self) -> None:
    began = self._spent()
    with answers.opened(self._path) as connection:
      key = connection.execute(_KEY).fetchone()
      if key != self._key:
        found = self._numbers(connection)
        version = self._state.get("version", 0) + 1
        self._state, self._key = {"version": version, **found}, key
    took = self._spent() - began
    self._again_at = self._clock() + max(SHORTEST, _REST * took)

  def _numbers(self, connection: sqlite3.Connection) -> dict[str, Any]:
    self._read(connection)
    counting = answers.counted(self._path, connection)
    return numbers(
      [entry for n, entry in self._entries.items() if n in counting],
      self._kinds,
      [number for (number,) in connection.execute(_TO_GIVE)],
      [number for (number,) in connection.execute(_OPEN)],
    )

  def _read(self, connection: sqlite3.Connection) -> None:
    """What is new."""
    for number, kind, is_screening in connection.execute(
      _TASKS, (self._last_task,)
    ):
      self._kinds[number] = SCREENING if is_screening else kind
      self._last_task = max(self._last_task, number)
    for answer in answers.since(connection, self._last_answer):
      self._entries[answer.id] = entry_of(answer)
      self._last_answer = answer.id


def numbers(
  entries: Iterable[Entry],
  kinds_of_tasks: Mapping[int, str],
  to_give: Iterable[int],
  opened: Iterable[int],
) -> dict[str, Any]:
  """All that the admin page counts, as JSON.

  Args:
    entries: of the answers that count.
    kinds_of_tasks: {a task's number: its kind, or SCREENING}.
    to_give: the tasks that wait for somebody.
    opened: the tasks of open assignments.
  """
  entries = list(entries)
  ours = [x for x in entries if x.kind != SCREENING and x.judged is not None]
  pairs = statistics.pairs_of(x.judged for x in ours if x.judged)
  gold = statistics.pairs_of(
    x.judged for x in entries if x.judged and x.judged.gold
  )
  longer, others_longer = statistics.longer_preferred(pairs)
  of_labelers = {
    "others": statistics.against_others(pairs),
    "gold": statistics.against_gold(gold),
    "longer": longer,
    "earlier": statistics.earlier_preferred(pairs),
  }
  by_labeler = collections.defaultdict(list)
  for entry in entries:
    by_labeler[entry.labeler].append(entry)
  return {
    "answers": sum(not x.is_skipped for x in entries),
    "progress": _progress(entries, kinds_of_tasks, to_give, opened),
    "labelers": {
      name: _labeler(some)
      | {key: _interval(of.get(name)) for key, of in of_labelers.items()}
      | {"others_longer": others_longer.get(name)}
      for name, some in sorted(by_labeler.items())
    },
    "agreement": _agreement(statistics.agreement(pairs)),
    "times": _times(entries),
  }


def _progress(entries, kinds_of_tasks, to_give, opened):
  """A row a kind: tasks, those that wait, are open, answers, and seconds."""
  tasks = collections.Counter(kinds_of_tasks.values())
  left = collections.Counter(kinds_of_tasks.get(n) for n in to_give)
  busy = collections.Counter(kinds_of_tasks.get(n) for n in opened)
  rows = []
  for kind in (*kinds.KINDS, SCREENING):
    if not tasks[kind]:
      continue
    mine = [x for x in entries if x.kind == kind]
    done = [x for x in mine if not x.is_skipped]
    rows.append(
      {
        "kind": kind,
        "tasks": tasks[kind],
        "waiting": left[kind],
        "open": busy[kind],
        "answers": len(done),
        "skipped": len(mine) - len(done),
        "sensitive": sum(x.sensitive for x in mine),
        "seconds": statistics.median(x.seconds for x in done),
      }
    )
  return rows


def _labeler(entries: list[Entry]) -> dict[str, Any]:
  """What one labeler has done; medians of seconds by kind."""
  done = [x for x in entries if not x.is_skipped]
  counts = collections.Counter(x.kind for x in done)
  spread = statistics.spread(
    rating for x in done if x.kind != SCREENING for rating in x.ratings
  )
  return {
    "answers": dict(sorted(counts.items())),
    "skipped": len(entries) - len(done),
    "sensitive": sum(x.sensitive for x in entries),
    "seconds": {
      kind: statistics.median(x.seconds for x in done if x.kind == kind)
      for kind in sorted(counts)
    },
    "last_at": max((x.saved_at for x in entries), default=None),
    "ratings": dataclasses.asdict(spread) if spread else None,
  }


def _times(entries: list[Entry]) -> dict[str, dict[str, Any]]:
  """When every "step"-th answer of a kind came, "at", some 200; and how many.

  "first" and "last" are when those came.
  """
  times = collections.defaultdict(list)
  for entry in entries:
    if not entry.is_skipped:
      times[entry.kind].append(entry.saved_at)
  found = {}
  for kind, of in sorted(times.items()):
    of.sort()
    step = max(1, len(of) // 200)
    found[kind] = {
      "step": step,
      "at": of[step - 1 :: step],
      "first": of[0],
      "last": of[-1],
      "count": len(of),
    }
  return found


def _agreement(found: statistics.Agreement) -> dict[str, Any]:
  return {
    "tasks": found.tasks,
    "of_tasks": found.of_tasks,
    "pairwise": _interval(found.pairwise),
    "alpha": _alpha(found.alpha),
    "by_two": [
      {"labelers": list(one.labelers), **(_interval(one.share) or {})}
      for one in found.by_two
    ],
  }


def _interval(one: maths.Interval | None) -> dict[str, Any] | None:
  return None if one is None else dataclasses.asdict(one)


def _alpha(one: agreement_lib.Alpha | None) -> dict[str, Any] | None:
  return None if one is None else dataclasses.asdict(one)
