"""The one way in which people's records are cleaned and split, of all kinds.

In this order: marks are spread, duplicates go, few of a user stay, what says
nothing goes, the splits are made, a prompt stays on one side of them in all
kinds, and personal data goes from the training split. Every step counts what it
did.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from instruct_jax.data.clean import annotators, hygiene, splits
from instruct_jax.data.read import kinds

Record = kinds.Record


@dataclasses.dataclass(frozen=True)
class Cleaned:
  """What is left, and what was done, by kind."""

  by_split: dict[str, splits.BySplit]
  counts: dict[str, dict[str, int]]


def clean(
  records: Mapping[str, Sequence[Record]], settings: hygiene.Settings
) -> Cleaned:
  """The records of every kind by split, in their order, and counts.

  A prompt that is held out in one kind is trained on in none. What has been
  cleaned, each record with the "split" that it got, stays as it is when it is
  cleaned again. All kinds count "read", "duplicates", "held_out_elsewhere" and
  "kept"; customers' prompts "over_per_user" and "users" too, rankings
  "says_nothing" (all tied) and, of those that stay, "circles_alone"; and
  "pii_email" and so on where personal data was removed.

  Raises:
    UserError: a user, or a prompt, is marked with two splits; or a prompt or a
      user is no string.
  """
  for kind, given in records.items():
    if kinds.KINDS[kind].of_users:
      hygiene.check(given)
  marked = splits.with_marks(records)
  by_split, counts, side_of = {}, {}, {}
  # Customers' prompts first: the others go where those went.
  for kind in sorted(records, key=lambda kind: not kinds.KINDS[kind].of_users):
    kept, counts[kind] = _kept(marked[kind], kind, settings)
    sides = splits.sides_of(
      kept, kind, settings, marked=marked[kind], side_of=side_of
    )
    by_split[kind] = splits.grouped(kept, sides)
    if kinds.KINDS[kind].of_users and len(records) > 1:
      side_of |= splits.sides_of_all(marked[kind], by_split[kind], settings)
  for kind, dropped in splits.keep_apart(by_split).items():
    counts[kind]["held_out_elsewhere"] = dropped
  for kind, of_kind in by_split.items():
    counts[kind] |= _left(of_kind, kind)
    if settings.remove_pii and _is_cleaned(kind, settings):
      of_kind["train"], pii_counts = hygiene.without_pii(of_kind["train"])
      counts[kind] |= pii_counts
  return Cleaned(
    {kind: by_split[kind] for kind in records},
    {kind: counts[kind] for kind in records},
  )


def _is_cleaned(kind: str, settings: hygiene.Settings) -> bool:
  return kinds.KINDS[kind].of_users or settings.every_kind


def _kept(
  records: Sequence[Record], kind: str, settings: hygiene.Settings
) -> tuple[list[Record], dict[str, int]]:
  """The records that are neither there twice nor too many of a user."""
  counts = {"read": len(records)}
  if kinds.KINDS[kind].of_users:
    different = hygiene.without_duplicates(records, settings)
    kept = hygiene.few_a_user(different, settings.per_user)
    counts["duplicates"] = len(records) - len(different)
    counts["over_per_user"] = len(different) - len(kept)
    return kept, counts
  kept = list(records)
  if _is_cleaned(kind, settings):
    kept = hygiene.without_copies(records)
  counts["duplicates"] = len(records) - len(kept)
  if says_nothing := kinds.KINDS[kind].says_nothing:
    telling = [record for record in kept if not says_nothing(record)]
    counts["says_nothing"] = len(kept) - len(telling)
    kept = telling
  if kinds.KINDS[kind].has_several:
    circles = map(annotators.has_circles_alone, kept)
    counts["circles_alone"] = sum(circles)
  return kept, counts


def _left(by_split: splits.BySplit, kind: str) -> dict[str, int]:
  counts = {"kept": sum(map(len, by_split.values()))}
  if kinds.KINDS[kind].of_users:
    every = (record for rows in by_split.values() for record in rows)
    counts["users"] = len({r["user"] for r in every if "user" in r})
  return counts
