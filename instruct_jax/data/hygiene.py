"""The paper's hygiene of customers' prompts (section 3.2, appendix A).

In this order: duplicates go, at most so many prompts of a user stay, the splits
are made BY USER, and what could tell who somebody is goes from the training
split. Every step counts what it did.

Two prompts are duplicates if they share a long prefix: their first `prefix`
characters (white space made single), or all where they are shorter. It finds
the prompts that one program sends with another ending each time, costs one
look into a table a prompt, and leaves short questions alone that only begin
alike. The paper says "long common prefix" and no length; 128 characters are
about 30 tokens.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from instruct_jax import errors
from instruct_jax.data import pii, sources

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


@dataclasses.dataclass(frozen=True)
class Cleaned:
  """What is left, and what was done."""

  by_split: dict[str, list[Record]]
  counts: dict[str, int]


def clean(records: Sequence[Record], settings: Settings) -> Cleaned:
  """The records of every split, in their order, and counts.

  Of duplicates the first is kept; of a user's prompts those with the least
  hash, so that which are kept does not depend on their order. A "split" that a
  record names is its own; a user whose records name different ones is an
  error, as one person would be trained and tested on.

  Raises:
    UserError: a user in two splits; a prompt or a user that is no string.
  """
  _check(records)
  kept = _unlike(records, settings.prefix)
  unlike = len(kept)
  kept = _few_a_user(kept, settings.per_user)
  marks = _marks(records)
  by_split = {split: [] for split in sources.SPLITS}
  for record in kept:
    by_split[_side(record, marks, settings)].append(record)
  counts = {
    "read": len(records),
    "duplicates": len(records) - unlike,
    "over_per_user": unlike - len(kept),
    "kept": len(kept),
    "users": len({r["user"] for r in kept if "user" in r}),
  }
  if settings.remove_pii:
    found = collections.Counter()
    by_split["train"] = [
      _without_pii(record, found) for record in by_split["train"]
    ]
    counts |= {f"pii_{name}": n for name, n in sorted(found.items())}
  return Cleaned(by_split, counts)


def prefix_of(prompt: str, length: int) -> str:
  """What duplicates share: the beginning, white space made single."""
  # Twice the length and more is looked at: runs of white space shrink.
  head = prompt[: 4 * length + 64]
  words = " ".join(head.split())
  if len(words) < length and len(prompt) > len(head):
    words = " ".join(prompt.split())
  return words[:length]


def _check(records: Iterable[Record]) -> None:
  for n, record in enumerate(records, 1):
    for key in ("prompt", "user"):
      if not isinstance(record.get(key, ""), str) or key not in {
        "user",
        *record,
      }:
        raise errors.UserError(
          f'prompt {n}: "{key}" should be a string, not'
          f" {str(record.get(key))[:40]!r}"
        )


def _unlike(records, length):
  first = {}
  for record in records:
    first.setdefault(prefix_of(record["prompt"], length), record)
  return list(first.values())


def _few_a_user(records, most):
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


def _marks(records):
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


def _side(record, marks, settings):
  if "user" in record:
    record = {"prompt": f"user {record['user']}"} | (
      {"split": marks[record["user"]]} if record["user"] in marks else {}
    )
  return sources.split_of(
    record,
    validation_fraction=settings.validation_fraction,
    test_fraction=settings.test_fraction,
  )


def _place(text):
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _without_pii(record, found):
  text, counts = pii.remove(record["prompt"])
  found.update(counts)
  return record | {"prompt": text} if counts else record
