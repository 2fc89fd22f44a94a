"""The paper's hygiene of customers' prompts (section 3.2, appendix A).

In this order: duplicates go, at most so many prompts of a user stay, the splits
are made BY USER, and what could tell who somebody is goes from the training
split. Every step counts what it did.

Two prompts are duplicates if they share a long prefix: their first `prefix`
characters (white space made single), or all where they are shorter. It finds
the prompts that one program sends with another ending each time, costs one
look into a table a prompt, and leaves short questions alone that only begin
alike. The paper says "long common prefix" and no length; 128 characters are
about 30 tokens. Where personal data is removed, prompts are duplicates too if
they are so without it: the same letter to two addresses is one prompt.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from instruct_jax.base import errors
from instruct_jax.data.clean import pii
from instruct_jax.data.read import sources

Record = sources.Record


@dataclasses.dataclass(frozen=True)
class Settings:
  """How prompts are cleaned and split."""

  prefix: int = 128  # characters
  per_user: int = 200
  validation_fraction: float = 0.1
  test_fraction: float = 0.05
  remove_pii: bool = True

  def __post_init__(self):
    for name in ("prefix", "per_user"):
      if getattr(self, name) < 1:
        raise errors.UserError(
          f"data.{name} must be 1 or more, not {getattr(self, name)}"
        )
    held_out = (self.validation_fraction, self.test_fraction)
    if not (all(part >= 0 for part in held_out) and sum(held_out) < 1):
      raise errors.UserError(
        "validation_fraction and test_fraction must be 0 or more and must"
        f" leave something to train on, not {held_out[0]} and {held_out[1]}"
      )


@dataclasses.dataclass(frozen=True)
class Cleaned:
  """What is left, and what was done."""

  by_split: dict[str, list[Record]]
  counts: dict[str, int]


def clean(records: Sequence[Record], settings: Settings) -> Cleaned:
  """The records of every split, in their order, and counts.

  Of duplicates the first is kept; of a user's prompts those with the least
  hash, so that which are kept does not depend on their order. A "split" that a
  record names is its own, and all of its user's; a user whose records name
  different ones is an error, as one person would be trained and tested on.
  What has been cleaned, each record with the "split" that it got, stays as it
  is when it is cleaned again.

  Raises:
    UserError: a user in two splits; a prompt or a user that is no string.
  """
  _check(records)
  different = unlike(records, settings)
  kept = _few_a_user(different, settings.per_user)
  by_split = {split: [] for split in sources.SPLITS}
  for record, split in zip(kept, splits_of(kept, settings, marked=records)):
    by_split[split].append(record)
  counts = {
    "read": len(records),
    "duplicates": len(records) - len(different),
    "over_per_user": len(different) - len(kept),
    "kept": len(kept),
    "users": len({r["user"] for r in kept if "user" in r}),
  }
  if settings.remove_pii:
    by_split["train"], found = without_pii(by_split["train"])
    counts |= found
  return Cleaned(by_split, counts)


def prefix_of(prompt: str, length: int) -> str:
  """What duplicates share: the beginning, white space made single."""
  # Four times the length and more is looked at: runs of white space shrink.
  head = prompt[: 4 * length + 64]
  words = " ".join(head.split())
  if len(words) < length and len(prompt) > len(head):
    words = " ".join(prompt.split())
  return words[:length]


def prefixes_of(prompt: str, settings: Settings) -> set[str]:
  """The prefixes of a prompt with and, as `settings` say, without its PII.

  Prompts that share one of them are duplicates.
  """
  prefixes = {prefix_of(prompt, settings.prefix)}
  if settings.remove_pii:
    text, found = pii.remove(prompt)
    if found:
      prefixes.add(prefix_of(text, settings.prefix))
  return prefixes


def unlike(records: Iterable[Record], settings: Settings) -> list[Record]:
  """Of prompts that are duplicates the first; the others as they are."""
  kept, seen = [], set()
  for record in records:
    prefixes = prefixes_of(record["prompt"], settings)
    if seen.isdisjoint(prefixes):
      seen |= prefixes
      kept.append(record)
  return kept


def splits_of(
  records: Iterable[Record],
  settings: Settings,
  *,
  marked: Sequence[Record] | None = None,
) -> list[str]:
  """The split of each prompt, by user where it has one.

  A user goes where one of the records of `marked` (by default the same) says.

  Raises:
    UserError: they say different things of a user.
  """
  records = list(records)
  marks = _marks(records if marked is None else marked)
  fractions = {
    "validation_fraction": settings.validation_fraction,
    "test_fraction": settings.test_fraction,
  }
  found = []
  for record in records:
    if "user" in record:
      user = record["user"]
      mark = {"split": marks[user]} if user in marks else {}
      record = {"prompt": f"user {user}"} | mark
    found.append(sources.split_of(record, **fractions))
  return found


def without_pii(
  records: Iterable[Record],
) -> tuple[list[Record], dict[str, int]]:
  """Records of any kind, no personal data in their texts; how much there was.

  The counts are called pii_email and so on.
  """
  counts = collections.Counter()

  def plain(value):
    if isinstance(value, list):
      return [plain(one) for one in value]
    if not isinstance(value, str):
      return value
    text, found = pii.remove(value)
    counts.update(found)
    return text

  cleaned = []
  for record in records:
    there = {k: record[k] for k in _TEXTS if k in record}
    cleaned.append(record | {k: plain(text) for k, text in there.items()})
  return cleaned, {f"pii_{name}": n for name, n in sorted(counts.items())}


_TEXTS = ("text", "prompt", "response", "responses")


def _check(records: Iterable[Record]) -> None:
  for n, record in enumerate(records, 1):
    for key in ("prompt", "user") if "user" in record else ("prompt",):
      if not isinstance(record.get(key), str):
        raise errors.UserError(
          f'prompt {n}: "{key}" should be a string, not'
          f" {str(record.get(key))[:40]!r}"
        )


def _few_a_user(records: Sequence[Record], most: int) -> list[Record]:
  of_user = collections.defaultdict(list)
  for n, record in enumerate(records):
    if "user" in record:
      of_user[record["user"]].append(n)
  dropped = set()
  for numbers in of_user.values():
    if len(numbers) > most:
      numbers.sort(key=lambda n: _place(records[n]["prompt"]))
      dropped.update(numbers[most:])
  return [record for n, record in enumerate(records) if n not in dropped]


def _marks(records: Iterable[Record]) -> dict[str, str]:
  """The split that each user's records name, where any does."""
  marks = {}
  for record in records:
    if "user" in record and "split" in record:
      first = marks.setdefault(record["user"], record["split"])
      if first != record["split"]:
        raise errors.UserError(
          f"the user {record['user'][:60]!r} has prompts in the {first} split"
          f" and in the {record['split']} split; give all of a user's prompts"
          ' one "split", or leave "split" out'
        )
  return marks


def _place(text: str) -> bytes:
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
