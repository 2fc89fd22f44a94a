"""The table of kinds: what each kind of record is, and what becomes of it.

All that the house asks of a kind stands in its entry: one entry more is one
kind more.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from instruct_jax.data.read import bundles, conversations, records, spaces

Record = records.Record
SPLITS = records.SPLITS


def _nothing_wrong(record: Record, *_) -> str:
  del record
  return ""


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of record."""

  # The keys that every record has. The first has what a record is known by: it
  # is hashed for the split of records that name none.
  required: dict[str, type]
  # What is wrong with a record whose keys are right, or ''; k_max is the most
  # responses that it may have, 0: as many as it likes.
  wrong: Callable[[Record, int], str] = _nothing_wrong
  # What a record that is right says that nobody can mean, or ''.
  contradiction: Callable[[Record], str] = _nothing_wrong
  # Whether a record says nothing that can be trained on: it is left out.
  says_nothing: Callable[[Record], bool] | None = None
  # The required key of its response, or of a list of them; '' for none.
  response: str = ""
  # Documents joined to one stream of tokens that is cut into rows; else every
  # record is a row with its prompt.
  is_stream: bool = False
  # Several a row where data.packing is on.
  can_pack: bool = False
  # Customers' own words: near-duplicates go, few of a user stay, a user is on
  # one side of the split, personal data goes from training.
  of_users: bool = False
  # Policies respond to it: a batch says which records its rows are.
  is_asked: bool = False

  @functools.cached_property
  def key(self) -> str:
    """What a record is known by: "text" or "prompt"."""
    return next(iter(self.required))

  @property
  def answer(self) -> str:
    """The key of the one response of a record; '' for none or several."""
    return "" if self.has_several else self.response

  @property
  def has_several(self) -> bool:
    """Whether a record has a list of responses."""
    return bool(self.response) and self.required[self.response] is list


KINDS = {
  "pretraining": Kind({"text": str}, is_stream=True, can_pack=True),
  "demonstrations": Kind(
    {"prompt": str, "response": str}, response="response", can_pack=True
  ),
  "prompts": Kind({"prompt": str}, of_users=True, is_asked=True),
  "rankings": Kind(
    {"prompt": str, "responses": list},
    wrong=records.wrong_ranking,
    contradiction=records.contradiction,
    says_nothing=records.orders_nothing,
    response="responses",
  ),
}


def wrong(
  record: Record, kind: str, k_max: int, *, of_people: bool = True
) -> str:
  """What is wrong with a record of a kind, or ''.

  What policies said and simulated labelers thought of it, not `of_people`, may
  be nonsense.
  """
  entry = KINDS[kind]
  if is_conversation(record, kind):
    if reason := conversations.wrong(record, entry.answer):
      return reason
    record = with_prompt(record, kind)
  return (
    records.wrong_keys(record, entry.required)
    or entry.wrong(record, k_max)
    or (entry.contradiction(record) if of_people else "")
  )


def is_conversation(record: Record, kind: str) -> bool:
  """Whether a record of a kind has messages in place of its prompt."""
  return KINDS[kind].key == "prompt" and conversations.has(record)


def has_keys(record: Record, kind: str) -> bool:
  """Whether a record has what its kind requires, or messages in its place."""
  required = set(KINDS[kind].required)
  if is_conversation(record, kind):
    required -= {"prompt", KINDS[kind].answer}
  return required <= record.keys()


def with_prompt(record: Record, kind: str) -> Record:
  """A record that is right, with the prompt that its messages are, if any."""
  if not is_conversation(record, kind):
    return record
  return conversations.with_prompt(record, KINDS[kind].answer)


def written(record: Record, kind: str) -> Record:
  """A record as it stands in a file: what its messages say stands once."""
  if not is_conversation(record, kind):
    return record
  return conversations.written(record, KINDS[kind].answer)


def exchanges(record: Record, kind: str, *, last: bool) -> list[Record]:
  """Of a kind with one response, a record for each answer that counts."""
  if not is_conversation(record, kind):
    return [record]
  return conversations.exchanges(record, KINDS[kind].answer, last=last)


def messages_of(record: Record, kind: str) -> list[dict[str, Any]]:
  """The messages of a record that is right, if it has any."""
  return record["messages"] if is_conversation(record, kind) else []


def guess(record: Record) -> str:
  """The kind that has all keys of a record, those with most keys first; ''."""
  if conversations.has(record) and not record.keys() & {"prompt", "text"}:
    if "responses" in record:
      return "rankings"
    is_asked = conversations.ends_with_user(record)
    return "prompts" if is_asked else "demonstrations"
  by_keys = sorted(KINDS.items(), key=lambda item: -len(item[1].required))
  fitting = (name for name, x in by_keys if x.required.keys() <= record.keys())
  return next(fitting, "")


def known_by(record: Record, kind: str) -> str:
  """What a record is known by, without regard to white space.

  Its text or its prompt; of a conversation what opens it, so that all that
  begin alike are on one side of the split.
  """
  if is_conversation(record, kind):
    return spaces.single(conversations.opening(record))
  return spaces.single(record[KINDS[kind].key])


def split_of(
  record: Record,
  kind: str,
  *,
  validation_fraction: float,
  test_fraction: float,
) -> str:
  """'train', 'validation' or 'test': the record's own "split", else by hash.

  The hash is of what the record is known by, so a prompt is on the same side in
  every file.
  """
  if "split" in record:
    return record["split"]
  return hashed_split(
    known_by(record, kind),
    validation_fraction=validation_fraction,
    test_fraction=test_fraction,
  )


def hashed_split(
  name: str, *, validation_fraction: float, test_fraction: float
) -> str:
  """The split that a text, or a name such as a user's, falls into."""
  digest = hashlib.sha256(name.encode("utf-8")).digest()
  place = int.from_bytes(digest[:8], "big") / 2**64
  if place < test_fraction:
    return "test"
  held_out = place < test_fraction + validation_fraction
  return "validation" if held_out else "train"


def hashed_splits(
  texts: bundles.Bundle, *, validation_fraction: float, test_fraction: float
) -> tuple[np.ndarray, np.ndarray]:
  """`hashed_split` of what records of texts are known by, in less time.

  Their places in SPLITS [N] uint8, and the second 8 bytes [N] uint64 of each
  one's hash.
  """
  names = spaces.singles(texts.content, texts.starts, texts.stops)
  digests = b"".join([hashlib.sha256(name).digest() for name in names])
  words = np.frombuffer(digests, ">u8").reshape(-1, 4)
  place = words[:, 0] / 2**64
  sides = np.full(len(place), SPLITS.index("train"), np.uint8)
  held_out = place < test_fraction + validation_fraction
  sides[held_out] = SPLITS.index("validation")
  sides[place < test_fraction] = SPLITS.index("test")
  return sides, words[:, 1].astype(np.uint64)
