"""Which side of the split a record is on, so that nothing is on two.

Customers' prompts are split by user. The other kinds are split by what they are
known by: to where the record itself says, to the side that the customers'
prompts have the prompt on, else by hash.
"""

from collections.abc import Iterable, Mapping, Sequence

from instruct_jax.base import errors
from instruct_jax.data.clean import hygiene
from instruct_jax.data.read import kinds

Record = kinds.Record
BySplit = dict[str, list[Record]]
_STRICTNESS = {split: n for n, split in enumerate(kinds.SPLITS)}


def sides_of(
  records: Iterable[Record],
  kind: str,
  settings: hygiene.Settings,
  *,
  marked: Iterable[Record] = (),
  side_of: Mapping[str, str] | None = None,
) -> list[str]:
  """The split of each record.

  A user goes where one of the records, or of those `marked`, says. `side_of`
  has the side of prompts that other kinds' go to.

  Raises UserError where records say different things of a user.
  """
  records = list(records)
  if kinds.KINDS[kind].of_users:
    marks = _marks_of_users([*marked, *records])
    return [_side_of_user(record, kind, settings, marks) for record in records]
  sides = []
  for record in records:
    name = kinds.known_by(record, kind)
    if side_of and "split" not in record and name in side_of:
      sides.append(side_of[name])
    else:
      sides.append(kinds.split_of(record, kind, **settings.fractions))
  return sides


def grouped(records: Iterable[Record], sides: Iterable[str]) -> BySplit:
  """The records of every split, in their order."""
  by_split = {split: [] for split in kinds.SPLITS}
  for record, side in zip(records, sides):
    by_split[side].append(record)
  return by_split


def with_marks(
  records: Mapping[str, Sequence[Record]],
) -> dict[str, list[Record]]:
  """Puts a prompt that is marked as held out on that side in every kind.

  Only customers' prompts, where they are of a user, have it where the user is.

  Raises UserError where records mark one prompt with different splits.
  """
  marks = {}
  for kind in _with_prompts(records):
    for record in records[kind]:
      if "split" not in record:
        continue
      name = kinds.known_by(record, kind)
      first = marks.setdefault(name, (record["split"], kind))
      if first[0] != record["split"]:
        raise errors.UserError(
          f"the prompt {record['prompt'][:60]!r} is in the {first[0]} split of "
          f"data.{first[1]} and in the {record['split']} split of "
          f'data.{kind}; give it one "split" everywhere, or leave "split" out'
        )
  held_out = {k: {"split": s} for k, (s, _) in marks.items() if s != "train"}

  def marked(kind, record):
    if kinds.KINDS[kind].of_users and "user" in record:
      return record
    return record | held_out.get(kinds.known_by(record, kind), {})

  return {kind: list(of_kind) for kind, of_kind in records.items()} | {
    kind: [marked(kind, record) for record in records[kind]]
    for kind in _with_prompts(records)
  }


def sides_of_all(
  prompts: Sequence[Record], by_split: BySplit, settings: hygiene.Settings
) -> dict[str, str]:
  """The side of every customers' prompt, those that were dropped included.

  A dropped one goes where its user went, or what it was a duplicate of.
  """
  kept, of_user, of_prefix = {}, {}, {}
  for split in ("validation", "test"):
    for record in by_split[split]:
      kept[_name(record)] = split
      for prefix in hygiene.prefixes_of(record["prompt"], settings):
        of_prefix[prefix] = split
      if "user" in record:
        of_user[record["user"]] = split
  sides = {}
  for record in prompts:
    prefixes = hygiene.prefixes_of(record["prompt"], settings)
    side = next(
      (of_prefix[prefix] for prefix in prefixes if prefix in of_prefix),
      of_user.get(record.get("user"), "train"),
    )
    sides[_name(record)] = kept.get(_name(record), side)
  return sides


def keep_apart(by_split: dict[str, BySplit]) -> dict[str, int]:
  """Drops prompts from every side but their strictest; how many, by kind.

  What is tested on goes before what is validated on, and that before training.
  Changes `by_split`, the records by kind and split.
  """
  strictest = {}
  for kind in _with_prompts(by_split):
    for split, records in by_split[kind].items():
      for record in records:
        name = kinds.known_by(record, kind)
        strictest[name] = max(strictest.get(name, 0), _STRICTNESS[split])
  dropped = dict.fromkeys(by_split, 0)
  for kind in _with_prompts(by_split):
    for split, records in by_split[kind].items():
      stays = [
        strictest[kinds.known_by(r, kind)] == _STRICTNESS[split]
        for r in records
      ]
      dropped[kind] += stays.count(False)
      by_split[kind][split] = [r for r, here in zip(records, stays) if here]
  return dropped


def _with_prompts(some: Iterable[str]) -> list[str]:
  return [kind for kind in some if not kinds.KINDS[kind].is_stream]


def _name(record: Record) -> str:
  return " ".join(record["prompt"].split())


def _side_of_user(record, kind, settings, marks):
  if "user" not in record:
    return kinds.split_of(record, kind, **settings.fractions)
  if record["user"] in marks:
    return marks[record["user"]]
  name = " ".join(f"user {record['user']}".split())
  return kinds.hashed_split(name, **settings.fractions)


def _marks_of_users(records: Iterable[Record]) -> dict[str, str]:
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
