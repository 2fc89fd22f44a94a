"""The one way in which people's records are cleaned and split, of all kinds.

In this order: marks are spread, duplicates go, few of a user stay, what says
nothing goes, the splits are made, a prompt stays on one side of them in all
kinds, and personal data goes from the training split. Every step counts what it
did.

Records are never held: `scan` reads them once and notes hashes (`facts`), from
which it decides what becomes of each, a byte; `stream` reads them again. Where
that is a function of the record alone, as of text, it is read once.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.clean import facts as facts_lib
from instruct_jax.data.clean import hygiene, splits
from instruct_jax.data.read import bundles as bundles_lib
from instruct_jax.data.read import kinds, sources

Record = kinds.Record
# What becomes of a record: its place in `kinds.SPLITS`, or why it goes.
_GONE = ("duplicates", "over_per_user", "says_nothing", "held_out_elsewhere")
_CODES = {name: len(kinds.SPLITS) + n for n, name in enumerate(_GONE)}
_DUPLICATE, _OVER, _SAYS_NOTHING, _ELSEWHERE = _CODES.values()


@dataclasses.dataclass(frozen=True)
class Cleaned:
  """What is left, and what was done, by kind."""

  by_split: dict[str, splits.BySplit]
  counts: dict[str, dict[str, int]]


class Verdicts(NamedTuple):
  """What becomes of each record of a kind."""

  code: np.ndarray  # [N] uint8, of SPLITS or why it goes
  mark: np.ndarray  # [N] uint8, the "split" that it gets, or UNMARKED
  name: np.ndarray  # [N] uint64, of what it is known by


@dataclasses.dataclass(frozen=True)
class Plan:
  """What `stream` does with the records of each kind.

  `counts` of a kind are complete when its stream has ended.
  """

  records: Mapping[str, Iterable[Record]]
  settings: hygiene.Settings
  verdicts: Mapping[str, Verdicts]  # of kinds whose records hang together
  side_of: splits.Table  # of customers' prompts, by what they are known by
  counts: dict[str, dict[str, int]]


def scan(
  records: Mapping[str, Iterable[Record]], settings: hygiene.Settings
) -> Plan:
  """What is to become of the records of every kind.

  `records` can be read as often as wanted, always the same. A prompt that is
  held out in one kind is trained on in none. What has been cleaned, each record
  with the "split" that it got, stays as it is when it is cleaned again.

  Memory: about 120 bytes a record while it decides, 10 after that.

  Raises:
    UserError: a user, or a prompt, is marked with two splits; or a prompt or a
      user is no string.
  """
  found = {
    kind: facts_lib.gather(of_kind, kind, settings)
    for kind, of_kind in records.items()
    if hangs_together(kind, settings)
  }
  return decide(records, found, settings)


def hangs_together(kind: str, settings: hygiene.Settings) -> bool:
  """Whether what becomes of a record of a kind depends on others."""
  return settings.cleans(kind) or not kinds.KINDS[kind].is_stream


def decide(
  records: Mapping[str, Iterable[Record]],
  found: Mapping[str, facts_lib.Facts],
  settings: hygiene.Settings,
) -> Plan:
  """`scan` of records whose facts are there, of kinds that hang together.

  Of `records` only those are read that an error is about.
  """

  def fetch(kind, number):
    return next(x for n, x in enumerate(records[kind]) if n == number)

  found = splits.with_marks(found, fetch)
  codes, counts, sides, is_kept = {}, {}, {}, {}
  side_of = splits.EMPTY
  # Customers' prompts first: the others go where those went.
  for kind in sorted(found, key=lambda kind: not kinds.KINDS[kind].of_users):
    facts = found[kind]
    codes[kind] = _gone(facts, kind, settings)
    is_kept[kind] = codes[kind] == splits.TRAIN
    sides[kind] = splits.sides_of(facts, kind, fetch, side_of=side_of)
    if kinds.KINDS[kind].of_users and len(records) > 1:
      side_of = side_of.with_others(
        splits.sides_of_all(facts, sides[kind], is_kept[kind])
      )
  stays = splits.kept_apart(found, sides, is_kept)
  for kind, facts in found.items():
    codes[kind][is_kept[kind] & ~stays[kind]] = _ELSEWHERE
    codes[kind][stays[kind]] = sides[kind][stays[kind]]
    counts[kind] = _counts(facts, kind, codes[kind])
  verdicts = {
    kind: Verdicts(codes[kind], facts.mark, facts.name)
    for kind, facts in found.items()
  }
  return Plan(records, settings, verdicts, side_of, counts)


def stream(plan: Plan, kind: str) -> Iterator[tuple[str, Record]]:
  """(split, record) of all that stay of a kind, in their order.

  Raises UserError where the records are no longer those that were scanned.
  """
  records, pii = plan.records[kind], collections.Counter()
  counts = plan.counts.get(kind, {})
  if kind in plan.verdicts:
    chosen = with_verdicts(records, plan.verdicts[kind], kind)
  else:
    counts = counts_of_text(0)
    chosen = _split(records, kind, plan, counts)
  for split, record in chosen:
    yield split, bare(record, kind, split, plan.settings, pii)
  plan.counts[kind] = counts | {name: pii[name] for name in sorted(pii)}


def bare(
  record: Record,
  kind: str,
  split: str,
  settings: hygiene.Settings,
  pii: collections.Counter,
) -> Record:
  """A record that stays, as it is trained on; counts what that took out."""
  if settings.remove_pii and settings.cleans(kind) and split == "train":
    return hygiene.plain(record, pii)
  return record


def counts_of_text(number: int) -> dict[str, int]:
  """What was done to so many texts, of which each is decided by itself."""
  names = ("read", "duplicates", *_GONE[-1:], "kept")
  return dict.fromkeys(names, 0) | {"read": number, "kept": number}


def bundles(
  plan: Plan, kind: str
) -> Iterator[tuple[np.ndarray, bundles_lib.Bundle]]:
  """`stream` of a kind of text, many at a time: (side, text) of each.

  Sides are [N] uint8, places in `kinds.SPLITS`.
  """
  key = kinds.KINDS[kind].key
  if kind in plan.verdicts or plan.settings.cleans(kind):
    kept = (x | {"split": split} for split, x in stream(plan, kind))
    for bundle in bundles_lib.of_records(kept, key):
      yield np.asarray(bundle.marks, np.uint8), bundle
    return
  counts = counts_of_text(0)
  source = plan.records[kind]
  is_source = isinstance(source, sources.Source)
  every = source.bundles() if is_source else bundles_lib.of_records(source, key)
  for bundle in every:
    counts["read"] += len(bundle)
    counts["kept"] += len(bundle)
    yield sides_of(bundle, plan.settings, plan.side_of), bundle
  plan.counts[kind] = counts


def sides_of(
  bundle: bundles_lib.Bundle, settings: hygiene.Settings, side_of: splits.Table
) -> np.ndarray:
  """Where each text goes by itself, [N] uint8; `side_of` as a plan has it."""
  sides, names = kinds.hashed_splits(bundle, **settings.fractions)
  sides = side_of.of(np.maximum(names, np.uint64(1)), sides)
  if bundle.marks is None:
    return sides
  return np.where(bundle.marks < 0, sides, bundle.marks).astype(np.uint8)


def clean(
  records: Mapping[str, Sequence[Record]], settings: hygiene.Settings
) -> Cleaned:
  """Records in memory, by kind and split, in their order, and counts.

  All kinds count "read", "duplicates", "held_out_elsewhere" and "kept";
  customers' prompts "over_per_user" and "users" too, rankings "says_nothing"
  (all tied) and, of those that stay, "circles_alone"; and "pii_email" and so on
  where personal data was removed. Raises UserError as `scan`.
  """
  plan, by_split = scan(records, settings), {}
  for kind in records:
    by_split[kind] = {split: [] for split in kinds.SPLITS}
    for split, record in stream(plan, kind):
      by_split[kind][split].append(record)
  return Cleaned(by_split, {kind: plan.counts[kind] for kind in records})


def _split(records, kind, plan, counts):
  """Records of which each is decided by itself."""
  key = kinds.KINDS[kind].key
  for some in bundles_lib.together(records, key):
    counts["read"] += len(some)
    counts["kept"] += len(some)
    some_texts = bundles_lib.of_some(some, key)
    sides = sides_of(some_texts, plan.settings, plan.side_of)
    for record, side in zip(some, sides.tolist()):
      yield kinds.SPLITS[side], record


def with_verdicts(
  records: Iterable[Record], verdicts: Verdicts, kind: str, *, before: int = 0
) -> Iterator[tuple[str, Record]]:
  """(split, record) of those that stay, by the verdicts on all of them.

  So many stand `before` them in the source.

  Raises UserError where they are no longer those that the verdicts are on.
  """
  codes, marks, names, number = *(column.data for column in verdicts), 0
  for number, record in enumerate(records, 1):
    name = facts_lib.hash_of(kinds.known_by(record, kind))
    if number > len(codes) or names[number - 1] != name:
      raise changed(kind, before + number)
    code, mark = codes[number - 1], marks[number - 1]
    if code >= len(kinds.SPLITS):
      continue
    if mark:
      record = record | {"split": kinds.SPLITS[mark - 1]}
    yield kinds.SPLITS[code], record
  if number < len(codes):
    raise changed(kind, before + number + 1)


def changed(kind: str, number: int) -> errors.UserError:
  """The error about a record that is another when it is read again."""
  return errors.UserError(
    f"data.{kind}: record {number:,} is no longer what it was when it was read"
    " first; nothing was made of it. Run again when the files are complete"
  )


def _gone(
  facts: facts_lib.Facts, kind: str, settings: hygiene.Settings
) -> np.ndarray:
  """Why records go, [N] uint8: there twice, too many of a user, or nothing."""
  codes = np.full(len(facts), splits.TRAIN, np.uint8)
  if kinds.KINDS[kind].of_users:
    is_first = hygiene.are_first(facts.head, facts.bare)
    codes[~is_first] = _DUPLICATE
    few = hygiene.are_few(facts.user, facts.place, is_first, settings.per_user)
    codes[~few] = _OVER
    return codes
  if settings.finds_copies(kind):
    content = facts.content + np.uint64(_MIXES) * facts.mark
    _, first = np.unique(content, return_index=True)
    codes[:] = _DUPLICATE
    codes[first] = splits.TRAIN
  if kinds.KINDS[kind].says_nothing:
    codes[(codes == splits.TRAIN) & (facts.says_nothing > 0)] = _SAYS_NOTHING
  return codes


# So that a record in two splits is not the same twice; an odd number.
_MIXES = 0x9E3779B97F4A7C15


def _counts(
  facts: facts_lib.Facts, kind: str, codes: np.ndarray
) -> dict[str, int]:
  entry = kinds.KINDS[kind]
  sizes = np.bincount(codes, minlength=len(kinds.SPLITS) + len(_GONE))
  counts = {"read": len(facts), "duplicates": int(sizes[_DUPLICATE])}
  if entry.of_users:
    counts["over_per_user"] = int(sizes[_OVER])
  if entry.says_nothing:
    counts["says_nothing"] = int(sizes[_SAYS_NOTHING])
  if entry.has_several:
    told = (codes != _DUPLICATE) & (codes != _SAYS_NOTHING)
    counts["circles_alone"] = int(facts.circles_alone[told].sum())
  counts["held_out_elsewhere"] = int(sizes[_ELSEWHERE])
  counts["kept"] = int(sizes[: len(kinds.SPLITS)].sum())
  if entry.of_users:
    users = np.unique(facts.user[codes < len(kinds.SPLITS)])
    counts["users"] = int((users != facts_lib.NOTHING).sum())
  return counts
