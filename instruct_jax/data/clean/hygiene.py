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
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections
import numpy as np

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.clean import pii
from instruct_jax.data.read import conversations, kinds

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

  def cleans(self, kind: str) -> bool:
    """Whether copies and personal data go from records of a kind."""
    return self.every_kind or kinds.KINDS[kind].of_users

  def finds_copies(self, kind: str) -> bool:
    """Whether whole records are looked for that are there twice."""
    return self.cleans(kind) and not kinds.KINDS[kind].of_users

  @property
  def fractions(self) -> dict[str, float]:
    """What `kinds.split_of` takes."""
    return {
      "validation_fraction": self.validation_fraction,
      "test_fraction": self.test_fraction,
    }


def settings_of(
  data: Mapping[str, Any] | ml_collections.ConfigDict,
) -> Settings:
  """What the section `config.data` says of it."""
  names = (field.name for field in dataclasses.fields(Settings))
  return Settings(**{name: data[name] for name in names if name in data})


def prefix_of(prompt: str, length: int) -> str:
  """What duplicates share: the beginning, white space made single."""
  # Four times the length and more is looked at: runs of white space shrink.
  head = prompt[: 4 * length + 64]
  words = " ".join(head.split())
  if len(words) < length and len(prompt) > len(head):
    words = " ".join(prompt.split())
  return words[:length]


def prefixes_of(prompt: str, settings: Settings) -> tuple[str, str | None]:
  """The prefix of a prompt and, as `settings` say, that without its PII.

  Prompts that share one of them are duplicates. None where the second is none
  of its own.
  """
  plain = prefix_of(prompt, settings.prefix)
  if settings.remove_pii:
    text, counts = pii.remove(prompt)
    if counts and (bare := prefix_of(text, settings.prefix)) != plain:
      return plain, bare
  return plain, None


def are_first(head: np.ndarray, bare: np.ndarray) -> np.ndarray:
  """Which prompts share no prefix with one before that is one itself.

  Args:
    head: [N] uint64, hashes of their prefixes.
    bare: [N] uint64, of those without personal data; 0 for none.

  Returns:
    [N] bool.
  """
  is_first = np.ones(len(head), bool)
  every, counts = np.unique(
    np.concatenate([head, bare[bare > 0]]), return_counts=True
  )
  several = every[counts > 1]
  shared = np.flatnonzero(np.isin(head, several) | np.isin(bare, several))
  seen = {0}
  for n in shared.tolist():
    own = {int(head[n]), int(bare[n])}
    is_first[n] = seen.isdisjoint(own - {0})
    if is_first[n]:
      seen |= own
  return is_first


def are_few(
  user: np.ndarray, place: np.ndarray, is_there: np.ndarray, most: int
) -> np.ndarray:
  """Which prompts stay, if at most so many of each user do; [N] bool.

  Those with the least place do, so that which stay does not depend on their
  order. Prompts of nobody, user 0, and what is not there count for none.
  """
  some = np.flatnonzero(is_there & (user > 0))
  order = some[np.lexsort((place[some], user[some]))]
  starts = np.flatnonzero(np.diff(user[order], prepend=np.uint64(0)))
  sizes = np.diff(starts, append=len(order))
  rank = np.arange(len(order)) - np.repeat(starts, sizes)
  stays = np.ones(len(user), bool)
  stays[order[rank >= most]] = False
  return stays


def without_copies(records: Iterable[Record]) -> list[Record]:
  """Of records that are the same in every key the first."""
  first = {}
  for record in records:
    first.setdefault(json.dumps(record, sort_keys=True), record)
  return list(first.values())


def without_pii(
  records: Iterable[Record],
) -> tuple[list[Record], dict[str, int]]:
  """Records of any kind, no personal data in their texts; how much there was.

  The counts are called pii_email and so on.
  """
  counts = collections.Counter()
  cleaned = [plain(record, counts) for record in records]
  return cleaned, {name: counts[name] for name in sorted(counts)}


def plain(record: Record, counts: collections.Counter) -> Record:
  """A record of any kind without personal data; counts what there was."""

  def bare(value):
    if isinstance(value, list):
      return [bare(one) for one in value]
    if not isinstance(value, str):
      return value
    text, of_text = pii.remove(value)
    for name, count in of_text.items():
      counts[f"pii_{name}"] += count
    return text

  if conversations.has(record):
    return conversations.changed(record, bare)
  return record | {k: bare(record[k]) for k in _texts() if k in record}


@functools.cache
def _texts() -> tuple[str, ...]:
  """The keys that hold a record's texts, of any kind."""
  every = [key for kind in kinds.KINDS.values() for key in kind.required]
  return tuple(dict.fromkeys(every))


def check(record: Record, number: int) -> None:
  """Raises UserError for a prompt or a user that is no string."""
  for key in ("prompt", "user") if "user" in record else ("prompt",):
    if not isinstance(record.get(key), str):
      raise errors.UserError(
        f'prompt {number}: "{key}" should be a string, not'
        f" {str(record.get(key))[:40]!r}"
      )


def place_of(text: str) -> int:
  """A number of 8 bytes by which a user's prompts are ordered."""
  data = text.encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
