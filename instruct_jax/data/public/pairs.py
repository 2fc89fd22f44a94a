"""Any comparisons of two responses, by the keys that hold them.

Rows are read twice: first what everybody said of which two responses, of which
no text is kept (some 40 bytes a comparison), then the texts, each written when
it comes. A labeler's verdicts on the same two responses, in whichever order
they were shown, become one ranking.
"""

import array
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.public import comparisons, formats, labels
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record

_AGAIN = "merged: the same two responses again"
_TURNED = "merged: the same two responses in the other order"
_CONTRARY = "dropped: one labeler said different things of the same two"
_UNNAMED = (
  "dropped: rows that say different things of the same two (people? then"
  " --labeler=KEY tells them apart; --separate keeps every row)"
)
_TIES = "of these, ties"
_PARTS = "kept as pairs: not every two of the responses were compared"
_CIRCLE = "kept as pairs: the verdicts are no weak order"
_JOINED = "joined: rankings of more than two responses"
_COULD = "prompts of which one labeler compared several two (--join)"
_MOST_LABELS = 10_000  # different ones, more are no labels
_CHANGED = "the files changed while they were read; the same command again"


@dataclasses.dataclass(frozen=True)
class _Seen:
  """What the first pass found, an entry a comparison; no texts."""

  pair: np.ndarray  # [N, 2] uint64, who compared which two, to what
  group: np.ndarray  # [N, 2] uint64, who, to what
  turned: np.ndarray  # [N] bool, the texts are not in their alphabet's order
  verdict: np.ndarray  # [N] int8, of a over b; DROP


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What the second pass writes, an entry a comparison."""

  writes: np.ndarray  # [N] bool, a ranking starts here
  verdict: np.ndarray  # [N] int8, of a over b, merged
  group: np.ndarray  # [N] int64, the ranking that it is of
  size: np.ndarray  # [groups] int64, how many pairs a ranking has


def rankings(
  opened: Callable[[], files.Rows],
  counts: Counts,
  *,
  labels: str = "",
  join: bool = False,
  separate: bool = False,
  **keys: Any,
) -> Iterator[Record]:
  """A ranking for each two responses that a labeler compared.

  `join` makes one of all that a labeler compared for a prompt, as "pairs" where
  that is no weak order of all of them; `separate` merges nothing. `labels` says
  what labels mean (`labels.parse`); other keywords are those of `Columns`.
  """
  columns = comparisons.Columns(**keys)
  columns.check()
  if join and separate:
    raise errors.UserError("pairs: --join merges, --separate does not")
  seen = _seen(columns, opened(), counts, labels)
  of_whom = columns.labeler or len(columns.label) > 1
  contrary = _CONTRARY if of_whom else _UNNAMED
  plan = _planned(seen, counts, contrary, join=join, separate=separate)
  again = columns.comparisons(opened(), Counts())
  yield from _written(again, plan, counts, join=join)


def _seen(
  columns: comparisons.Columns,
  rows: files.Rows,
  counts: Counts,
  said: str,
) -> _Seen:
  pairs, groups = bytearray(), bytearray()
  turned, codes = bytearray(), array.array("i")
  verdicts = _Verdicts(said, columns)
  for one in columns.comparisons(rows, counts):
    codes.append(verdicts.code(one))
    is_turned = one.a > one.b
    turned.append(is_turned)
    low, high = (one.b, one.a) if is_turned else (one.a, one.b)
    pairs += _digest(one.labeler, one.prompt, low, high)
    groups += _digest(one.labeler, one.prompt)
  return _Seen(
    np.frombuffer(pairs, np.uint64).reshape(-1, 2),
    np.frombuffer(groups, np.uint64).reshape(-1, 2),
    np.frombuffer(turned, bool),
    verdicts.table()[np.frombuffer(codes, np.int32)],
  )


class _Verdicts:
  """The labels that were seen, numbered, until it is known what they say."""

  def __init__(self, said: str, columns: comparisons.Columns):
    self._by_text = said == labels.TEXT
    self._mapped = labels.parse(said) if said and not self._by_text else None
    self._keys: Mapping[str, int] = {}
    if columns.label and not said:
      self._keys = labels.of_keys(columns.a, columns.b)
    self._codes: dict[tuple[str, str | int], int] = {}
    self._counts: list[int] = []
    self._first: list[str] = []  # where

  def code(self, one: comparisons.Comparison) -> int:
    """The number of what a comparison's label says."""
    label = one.label
    if self._by_text or label == one.a or label == one.b:
      label = self._of_text(one)
    code = self._codes.get((one.key, label))
    if code is None:
      code = self._codes[one.key, label] = len(self._codes)
      self._counts.append(0)
      self._first.append(one.where)
      if code == _MOST_LABELS:
        self.table()  # raises, unless every one of them is known
    self._counts[code] += 1
    return code

  def table(self) -> np.ndarray:
    """The verdict of every number; UserError for labels that say nothing."""
    seen: dict[str, dict[str, tuple[int, str]]] = {}
    for (key, label), code in self._codes.items():
      if isinstance(label, str):
        place = self._counts[code], self._first[code]
        seen.setdefault(key, {})[label] = place
    every = {label for of_key in seen.values() for label in of_key}
    told = {
      key: labels.resolve(
        of_key, self._mapped, f"--label={key}", self._keys, every
      )
      for key, of_key in seen.items()
    }
    found = np.zeros(max(len(self._codes), 1), np.int8)
    for (key, label), code in self._codes.items():
      found[code] = label if isinstance(label, int) else told[key][label]
    return found

  def _of_text(self, one: comparisons.Comparison) -> str | int:
    """The verdict of a label that is one of the texts, or should be."""
    label = str(one.label)
    of_text = (label == one.a) - (label == one.b)
    if self._mapped is not None or isinstance(one.label, int):
      return one.label
    if not of_text:
      raise errors.UserError(
        f"{one.where}: --label={one.key} is {label[:60]!r}, the text of neither"
        " response, where --labels=text wants one of them"
      )
    if self._by_text or labels.usual(label) in (None, of_text):
      return of_text
    raise errors.UserError(
      f"{one.where}: --label={one.key} is {label[:60]!r}, the text of one"
      " response and a usual name of the other; say which: --labels=text or"
      f" {labels.EXAMPLE}"
    )


def _planned(
  seen: _Seen, counts: Counts, reason: str, *, join: bool, separate: bool
) -> _Plan:
  """What is merged, dropped (contradictions for a `reason`) and written."""
  count = len(seen.verdict)
  used = np.flatnonzero(seen.verdict != labels.DROP)
  dropped = count - len(used)
  if dropped:
    counts["dropped: by its label"] += dropped
  sign = np.where(seen.turned[used], -1, 1).astype(np.int8)
  verdict = seen.verdict[used] * sign  # of the first text over the second
  names = seen.pair[used]
  if separate:
    names = np.arange(len(used), dtype=np.uint64)[:, None]
  first, pair = _groups(names)
  # Of every pair, whether all said the same.
  differ = np.zeros(len(first), bool)
  np.logical_or.at(differ, pair, verdict != verdict[first][pair])
  contrary = int(differ[pair].sum())
  again = np.ones(len(used), bool)
  again[first] = False
  again &= ~differ[pair]
  turned = int((sign != sign[first][pair])[again].sum())
  for name, number in (
    (reason, contrary),
    (_TURNED, turned),
    (_AGAIN, int(again.sum()) - turned),
  ):
    if number:
      counts[name] += number
  kept = first[~differ]
  writes, merged = np.zeros(count, bool), np.zeros(count, np.int8)
  writes[used[kept]] = True
  merged[used] = verdict * sign
  _, group = _groups(seen.group)
  size = np.bincount(group[used[kept]], minlength=group.max(initial=0) + 1)
  several = int((size > 1).sum())
  if several and not join and not separate:
    counts[_COULD] += several
  return _Plan(writes, merged, group, size)


def _groups(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where each name is first, and which of those the names [N, ...] are."""
  order = np.lexsort(names.T)  # equal ones stay in their order
  starts = np.ones(len(names), bool)
  starts[1:] = (names[order[1:]] != names[order[:-1]]).any(axis=1)
  which = np.empty(len(names), np.int64)
  which[order] = np.cumsum(starts) - 1
  return order[starts], which


def _written(
  again: Iterable[comparisons.Comparison],
  plan: _Plan,
  counts: Counts,
  *,
  join: bool,
) -> Iterator[Record]:
  """The rankings, in the order in which they are complete."""
  held: dict[int, list[tuple[comparisons.Comparison, int]]] = {}
  number = -1
  for number, one in enumerate(again):
    if number >= len(plan.writes):
      raise errors.UserError(f"{one.where}: {_CHANGED}")
    if not plan.writes[number]:
      continue
    verdict = int(plan.verdict[number])
    if not join:
      yield from _of_pair(one, verdict, counts)
      continue
    group = int(plan.group[number])
    held.setdefault(group, []).append((one, verdict))
    if len(held[group]) == plan.size[group]:
      yield from _joined(held.pop(group), counts)
  if number + 1 < len(plan.writes):
    raise errors.UserError(_CHANGED)


def _of_pair(
  one: comparisons.Comparison, verdict: int, counts: Counts
) -> Iterator[Record]:
  ranks = {labels.A: [1, 2], labels.B: [2, 1], labels.TIE: [1, 1]}[verdict]
  for record in formats.ranking(one.prompt, [one.a, one.b], ranks, counts):
    counts[_TIES] += verdict == labels.TIE
    yield _signed(record, one) | formats.of_models(one.names)


def _joined(
  judged: Sequence[tuple[comparisons.Comparison, int]], counts: Counts
) -> Iterator[Record]:
  """One ranking of all that a labeler compared for a prompt."""
  one = judged[0][0]
  texts = list(dict.fromkeys(x for c, _ in judged for x in (c.a, c.b)))
  place = {text: n for n, text in enumerate(texts)}
  order = {(place[c.a], place[c.b]): verdict for c, verdict in judged}
  won = [
    [i, j] if v == labels.A else [j, i] for (i, j), v in order.items() if v
  ]
  ranks = _ranks(len(texts), order)
  if len(texts) == 2 or (ranks is None and not won):
    for each, verdict in judged:
      yield from _of_pair(each, verdict, counts)
    return
  names = {
    text: name
    for c, _ in reversed(judged)
    for text, name in zip((c.a, c.b), c.names)
  }
  record = {"prompt": one.prompt, **formats.listed(texts)}
  record |= formats.of_models([names[text] for text in texts])
  if ranks is None:
    every = len(order) == len(texts) * (len(texts) - 1) // 2
    counts[_CIRCLE if every else _PARTS] += 1
    yield _signed(record | {"pairs": won}, one)
    return
  counts[_JOINED] += 1
  yield _signed(record | {"ranks": ranks}, one)


def _ranks(count: int, order: dict[tuple[int, int], int]) -> list[int] | None:
  """Ranks that give all the verdicts back; None where there are none."""
  if len(order) < count * (count - 1) // 2:
    return None
  ranks = [1] * count
  for (i, j), verdict in order.items():
    ranks[j] += verdict == labels.A
    ranks[i] += verdict == labels.B
  for (i, j), verdict in order.items():
    if (ranks[i] < ranks[j]) - (ranks[i] > ranks[j]) != verdict:
      return None
  return ranks


def _signed(record: Record, one: comparisons.Comparison) -> Record:
  return record | ({"labeler": one.labeler} if one.labeler else {})


def _digest(who: str, prompt: str, low: str = "", high: str = "") -> bytes:
  """16 bytes that no other texts have, by all that chance allows."""
  whole = f"{len(who)} {len(prompt)} {len(low)} {who}{prompt}{low}{high}"
  content = whole.encode("utf-8", "surrogatepass")
  return hashlib.blake2b(content, digest_size=16).digest()


FORMAT = formats.Format(
  "two responses, by the keys you name",
  {"rankings": rankings},
  options=(
    *("a", "b", "prompt", "label", "labels", "labeler", "score_a", "score_b"),
    *("name_a", "name_b", "better", "join", "separate", "turns"),
  ),
  of_all=True,
)
