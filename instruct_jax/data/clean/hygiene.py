"""What goes from people's records (section 3.2, appendix A): step by step.

Duplicates, prompts of a user beyond so many, and what could tell who somebody
is. `pipeline` has the order.

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
import json
from collections.abc import Iterable, Sequence

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.clean import pii
from instruct_jax.data.read import kinds

Record = kinds.Record


@dataclasses.dataclass(frozen=True)
class Settings:
  """How records are cleaned and split."""

  prefix: int = paper.LONG_PREFIX  # characters
  per_user: int = paper.MAX_PROMPTS_PER_USER
  validation_fraction: float = 0.1
  test_fraction: float = 0.05
  remove_pii: bool = True
  every_kind: bool = False  # not customers' prompts alone: copies and PII

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

  @property
  def fractions(self) -> dict[str, float]:
    """What `kinds.split_of` takes."""
    return {
      "validation_fraction": self.validation_fraction,
      "test_fraction": self.test_fraction,
    }


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
    text, counts = pii.remove(prompt)
    if counts:
      prefixes.add(prefix_of(text, settings.prefix))
  return prefixes


def without_duplicates(
  records: Iterable[Record], settings: Settings
) -> list[Record]:
  """Of prompts that are duplicates the first; the others as they are."""
  kept, seen = [], set()
  for record in records:
    prefixes = prefixes_of(record["prompt"], settings)
    if seen.isdisjoint(prefixes):
      seen |= prefixes
      kept.append(record)
  return kept


def without_copies(records: Iterable[Record]) -> list[Record]:
  """Of records that are the same in every key the first."""
  first = {}
  for record in records:
    first.setdefault(json.dumps(record, sort_keys=True), record)
  return list(first.values())


def few_a_user(records: Sequence[Record], most: int) -> list[Record]:
  """At most so many of each user, in their order.

  Those with the least hash stay, so that which do does not depend on their
  order.
  """
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
    text, of_text = pii.remove(value)
    counts.update(of_text)
    return text

  names = {key for kind in kinds.KINDS.values() for key in kind.required}
  cleaned = []
  for record in records:
    there = {k: record[k] for k in names if k in record}
    cleaned.append(record | {k: plain(text) for k, text in there.items()})
  return cleaned, {f"pii_{name}": n for name, n in sorted(counts.items())}


def check(records: Iterable[Record]) -> None:
  """Raises UserError for a prompt or a user that is no string."""
  for n, record in enumerate(records, 1):
    for key in ("prompt", "user") if "user" in record else ("prompt",):
      if not isinstance(record.get(key), str):
        raise errors.UserError(
          f'prompt {n}: "{key}" should be a string, not'
          f" {str(record.get(key))[:40]!r}"
        )


def _place(text: str) -> bytes:
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
