"""Which side of the split a record is on, so that nothing is on two.

Customers' prompts are split by user. The other kinds are split by what they are
known by: to where the record itself says, to the side that the customers'
prompts have the prompt on, else by hash. All of it is said of columns of
hashes (`facts`), by their kind.
"""

import bisect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.clean import facts as facts_lib
from instruct_jax.data.read import kinds

Facts = facts_lib.Facts
BySplit = dict[str, list[kinds.Record]]
TRAIN = kinds.SPLITS.index("train")  # the least strict: they are in that order
# (kind, number) -> the record, for what an error says of it.
Fetch = Callable[[str, int], kinds.Record]


class Table(NamedTuple):
  """A value for each of some hashes."""

  keys: np.ndarray  # [N] uint64, ascending, each once
  values: np.ndarray  # [N] uint8

  def of(self, hashes: np.ndarray, missing: int | np.ndarray) -> np.ndarray:
    """The values of hashes, `missing` where there is none."""
    if not len(self.keys):
      return np.broadcast_to(np.asarray(missing, np.uint8), hashes.shape)
    at = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
    return np.where(self.keys[at] == hashes, self.values[at], missing)

  def one(self, hashed: int) -> int | None:
    """The value of one hash, None where there is none."""
    keys = self.keys.data
    at = bisect.bisect_left(keys, hashed)
    is_there = at < len(keys) and keys[at] == hashed
    return int(self.values[at]) if is_there else None

  def with_others(self, others: "Table") -> "Table":
    """Those of another table too, which go before."""
    joined = (np.concatenate(pair) for pair in zip(self, others))
    return last(*joined)


EMPTY = Table(np.zeros(0, np.uint64), np.zeros(0, np.uint8))


def highest(hashes: np.ndarray, values: np.ndarray) -> Table:
  """The highest of the values that stand beside each hash."""
  order = np.argsort(hashes, kind="stable")
  keys, first = np.unique(hashes[order], return_index=True)
  if not len(keys):
    return EMPTY
  return Table(keys, np.maximum.reduceat(values[order], first))


def last(hashes: np.ndarray, values: np.ndarray) -> Table:
  """The last of the values that stand beside each hash."""
  keys, first = np.unique(hashes[::-1], return_index=True)
  return Table(keys, values[::-1][first])


def with_marks(facts: Mapping[str, Facts], fetch: Fetch) -> dict[str, Facts]:
  """Puts a prompt that is marked as held out on that side in every kind.

  Only customers' prompts, where they are of a user, have it where the user is.

  Raises UserError where records mark one prompt with different splits.
  """
  asked = _with_prompts(facts)
  names = _joined([facts[kind].name for kind in asked], np.uint64)
  marks = _joined([facts[kind].mark for kind in asked], np.uint8)
  places = np.flatnonzero(marks)
  wrong = _contradiction(names[places], marks[places])
  if wrong is not None:
    raise _two_splits(facts, fetch, *places[list(wrong)])
  held_out = places[marks[places] > 1 + TRAIN]
  table = highest(names[held_out], marks[held_out])

  def marked(kind):
    own = facts[kind]
    mark = table.of(own.name, own.mark)
    if kinds.KINDS[kind].of_users:
      mark = np.where(own.user == facts_lib.NOTHING, mark, own.mark)
    return own.with_marks(mark)

  return dict(facts) | {kind: marked(kind) for kind in asked}


def sides_of(
  facts: Facts,
  kind: str,
  fetch: Fetch,
  *,
  side_of: Table = EMPTY,
) -> np.ndarray:
  """The split of each record, [N] uint8, places in `kinds.SPLITS`.

  A user goes where one of the records says. `side_of` has the side of prompts
  that other kinds' go to.

  Raises UserError where records say different things of a user.
  """
  if not kinds.KINDS[kind].of_users:
    side = side_of.of(facts.name, facts.side)
    return np.where(facts.mark, facts.mark - 1, side).astype(np.uint8)
  places = np.flatnonzero((facts.user != facts_lib.NOTHING) & (facts.mark > 0))
  users, marks = facts.user[places], facts.mark[places]
  wrong = _contradiction(users, marks)
  if wrong is not None:
    first, other = (fetch(kind, n) for n in places[list(wrong)])
    raise errors.UserError(
      f"the user {other['user'][:60]!r} has prompts in the {first['split']}"
      f" split and in the {other['split']} split; give all of a user's prompts"
      ' one "split", or leave "split" out'
    )
  mark = highest(users, marks).of(facts.user, 0)
  mark = np.where(facts.user == facts_lib.NOTHING, facts.mark, mark)
  return np.where(mark, mark - 1, facts.side).astype(np.uint8)


def sides_of_all(facts: Facts, sides: np.ndarray, is_kept: np.ndarray) -> Table:
  """The side of every customers' prompt, those that were dropped included.

  A dropped one goes where its user went, or what it was a duplicate of.
  """
  held = np.flatnonzero(is_kept & (sides != TRAIN))
  side = sides[held]
  users = facts.user[held]
  has_user = users != facts_lib.NOTHING
  bare = facts.bare[held]
  has_bare = bare != facts_lib.NOTHING
  heads = np.concatenate([facts.head[held], bare[has_bare]])
  of_head = highest(heads, np.concatenate([side, side[has_bare]]))
  where = highest(users[has_user], side[has_user]).of(facts.user, TRAIN)
  where = of_head.of(facts.bare, where)
  where = of_head.of(facts.head, where)
  where = highest(facts.name[held], side).of(facts.name, where)
  return last(facts.name, where)


def kept_apart(
  facts: Mapping[str, Facts],
  sides: Mapping[str, np.ndarray],
  is_kept: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Which of the records that are kept are on their prompt's strictest side.

  What is tested on goes before what is validated on, and that before training.
  """
  asked = _with_prompts(facts)
  names = [facts[kind].name[is_kept[kind]] for kind in asked]
  strictest = highest(
    _joined(names, np.uint64),
    _joined([sides[kind][is_kept[kind]] for kind in asked], np.uint8),
  )
  return dict(is_kept) | {
    kind: is_kept[kind] & (strictest.of(facts[kind].name, 0) == sides[kind])
    for kind in asked
  }


def _with_prompts(some: Mapping[str, Facts]) -> list[str]:
  return [kind for kind in some if not kinds.KINDS[kind].is_stream]


def _joined(columns: list[np.ndarray], dtype: type) -> np.ndarray:
  return np.concatenate([np.zeros(0, dtype), *columns])


def _contradiction(
  hashes: np.ndarray, marks: np.ndarray
) -> tuple[int, int] | None:
  """The first entry whose mark is not that of its hash's first, after that."""
  order = np.argsort(hashes, kind="stable")
  keys, start, group = np.unique(
    hashes[order], return_index=True, return_inverse=True
  )
  if not len(keys):
    return None
  first = order[start][group]  # of each entry of `order`
  wrong = np.flatnonzero(marks[first] != marks[order])
  if not len(wrong):
    return None
  at = wrong[np.argmin(order[wrong])]
  return int(first[at]), int(order[at])


def _two_splits(
  facts: Mapping[str, Facts], fetch: Fetch, first: int, other: int
) -> errors.UserError:
  """The error about two records, numbered through all kinds with prompts."""
  asked = _with_prompts(facts)
  stops = np.cumsum([len(facts[kind]) for kind in asked])

  def find(place):
    n = int(np.searchsorted(stops, place, side="right"))
    kind = asked[n]
    return kind, fetch(kind, int(place - stops[n] + len(facts[kind])))

  (kind, marked), (other_kind, record) = find(first), find(other)
  prompt = record[kinds.KINDS[other_kind].key]
  return errors.UserError(
    f"the prompt {prompt[:60]!r} is in the {marked['split']} split of "
    f"data.{kind} and in the {record['split']} split of "
    f'data.{other_kind}; give it one "split" everywhere, or leave "split" out'
  )
