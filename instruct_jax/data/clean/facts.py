"""What a pass over records notes of each: hashes and flags, no text.

A decision about all records, as which are there twice, is made from these
alone. Hashes have 8 bytes: among 10^8 records two that differ have the same
with a probability of 3e-4, and then one record is taken for a duplicate.
"""

import array
import dataclasses
import hashlib
import json
from collections.abc import Iterable

import numpy as np

from instruct_jax.data.clean import annotators, hygiene
from instruct_jax.data.read import kinds

Record = kinds.Record
NOTHING = 0  # in a column of hashes: there is none
UNMARKED = 0


@dataclasses.dataclass(frozen=True)
class Facts:
  """Columns with an entry for each record; [0] where a kind needs them not."""

  name: np.ndarray  # [N] uint64, of what it is known by
  mark: np.ndarray  # [N] uint8, UNMARKED, or 1 + the split that it names
  side: np.ndarray  # [N] uint8, the split by hash
  user: np.ndarray  # [N] uint64 or NOTHING
  head: np.ndarray  # [N] uint64, of the prefix that duplicates share
  bare: np.ndarray  # [N] uint64, the same without personal data, or NOTHING
  place: np.ndarray  # [N] uint64, the order in which a user's are kept
  content: np.ndarray  # [N] uint64, of all keys but "split"
  says_nothing: np.ndarray  # [N] uint8
  circles_alone: np.ndarray  # [N] uint8

  def __len__(self) -> int:
    return len(self.name)

  def with_marks(self, mark: np.ndarray) -> "Facts":
    """The same facts, records marked otherwise."""
    return dataclasses.replace(self, mark=mark)


_TYPES = {
  field.name: "Q" for field in dataclasses.fields(Facts)
} | dict.fromkeys(("mark", "side", "says_nothing", "circles_alone"), "B")


def gather(
  records: Iterable[Record], kind: str, settings: hygiene.Settings
) -> Facts:
  """The facts of records of a kind; holds one record at a time.

  Raises UserError for a prompt or a user of customers that is no string.
  """
  entry = kinds.KINDS[kind]
  columns = {name: array.array(of) for name, of in _TYPES.items()}
  note = {name: column.append for name, column in columns.items()}
  fractions, finds_copies = settings.fractions, settings.finds_copies(kind)
  says_nothing, key = entry.says_nothing, entry.key
  for number, record in enumerate(records, 1):
    if entry.of_users:
      hygiene.check(record, number)
    name, user = kinds.known_by(record, kind), None
    note["name"](hash_of(name))
    if entry.of_users:
      user = record.get("user")
      _note_prompt(note, record[key], user, settings)
    if user is not None:
      name = " ".join(f"user {user}".split())
    split = kinds.hashed_split(name, **fractions)
    note["side"](kinds.SPLITS.index(split))
    mark = record.get("split")
    note["mark"](UNMARKED if mark is None else 1 + kinds.SPLITS.index(mark))
    if finds_copies:
      note["content"](content_of(record))
    if says_nothing:
      note["says_nothing"](says_nothing(record))
    if entry.has_several:
      note["circles_alone"](annotators.has_circles_alone(record))
  return Facts(
    **{
      name: np.frombuffer(column, np.dtype(column.typecode))
      for name, column in columns.items()
    }
  )


def hash_of(text: str) -> int:
  """8 bytes of a text's hash, never NOTHING."""
  data = text.encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.sha256(data).digest()[8:16], "big") or 1


def content_of(record: Record) -> int:
  """The hash of all that a record says but for where it is to go."""
  content = {key: value for key, value in record.items() if key != "split"}
  return hash_of(json.dumps(content, sort_keys=True))


def _note_prompt(note, prompt, user, settings):
  plain, bare = hygiene.prefixes_of(prompt, settings)
  note["head"](hash_of(plain))
  note["bare"](NOTHING if bare is None else hash_of(bare))
  note["user"](NOTHING if user is None else hash_of(user))
  note["place"](hygiene.place_of(prompt))
