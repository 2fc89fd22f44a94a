"""People's records, cleaned and split so that nothing is on two sides.

Prompts go through `hygiene`, which splits them by user. The other kinds are
split by prompt: to where the record itself says, to the side that data.prompts
has the prompt on, else by hash.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections

from instruct_jax.base import errors
from instruct_jax.data.clean import hygiene
from instruct_jax.data.read import sources

BySplit = dict[str, list[sources.Record]]
_ORIGINAL = " original"  # a prompt with its personal data; no key of a file
_STRICTNESS = {split: n for n, split in enumerate(sources.SPLITS)}


def split_all(
  data: ml_collections.ConfigDict,
) -> tuple[dict[str, BySplit], dict[str, dict[str, Any]]]:
  """Every kind that `data` names by split, and what was dropped of each kind.

  A prompt that is held out in one kind is trained on in none: training records
  of it are dropped and counted.

  Raises:
    UserError: a file is wrong, or records are marked with different splits
      though their prompt is one.
  """
  every = {
    kind: list(sources.read(data[kind], kind, k_max=data.k_max))
    for kind in sources.KINDS
    if data[kind]
  }
  every = _with_marks(every)
  counts = {kind: {} for kind in every}
  found, side_of = {}, {}
  if "prompts" in every:
    named = [r | {_ORIGINAL: r["prompt"]} for r in every["prompts"]]
    cleaned = hygiene.clean(named, settings(data))
    found["prompts"], counts["prompts"] = cleaned.by_split, cleaned.counts
    side_of = _sides(every["prompts"], cleaned.by_split, settings(data))
  for kind, records in every.items():
    if kind != "prompts":
      found[kind] = _by_split(data, records, side_of)
  for kind, dropped in _keep_apart(found).items():
    counts[kind]["held_out_elsewhere"] = dropped
  for records in found.get("prompts", {}).values():
    for record in records:
      del record[_ORIGINAL]
  return {kind: found[kind] for kind in every}, counts


def settings(data: ml_collections.ConfigDict) -> hygiene.Settings:
  """What the configuration says of the cleaning of prompts."""
  return hygiene.Settings(
    prefix=data.prefix,
    per_user=data.per_user,
    validation_fraction=data.validation_fraction,
    test_fraction=data.test_fraction,
    remove_pii=data.remove_pii,
  )


def _key(record: sources.Record) -> str:
  """A prompt as it was read, without regard to white space."""
  return " ".join(record.get(_ORIGINAL, record["prompt"]).split())


def _with_marks(
  every: dict[str, list[sources.Record]],
) -> dict[str, list[sources.Record]]:
  """Puts a prompt that is marked as held out on that side everywhere.

  Only data.prompts, where it is of a user, has it where its user is.
  """
  marks = {}
  for kind, records in every.items():
    for record in records if kind != "pretraining" else ():
      if "split" not in record:
        continue
      first = marks.setdefault(_key(record), (record["split"], kind))
      if first[0] != record["split"]:
        raise errors.UserError(
          f"the prompt {record['prompt'][:60]!r} is in the {first[0]} split of "
          f"data.{first[1]} and in the {record['split']} split of "
          f'data.{kind}; give it one "split" everywhere, or leave "split" out'
        )
  held_out = {k: {"split": s} for k, (s, _) in marks.items() if s != "train"}

  def marked(kind, record):
    if kind == "pretraining" or (kind == "prompts" and "user" in record):
      return record
    return record | held_out.get(_key(record), {})

  return {k: [marked(k, r) for r in records] for k, records in every.items()}


def _sides(
  prompts: Sequence[sources.Record],
  by_split: BySplit,
  how: hygiene.Settings,
) -> dict[str, str]:
  """The side of every prompt that was read, those that were dropped included.

  A dropped one goes where its user went, or what it was a duplicate of.
  """
  kept, of_user, of_prefix = {}, {}, {}
  for split in ("validation", "test"):
    for record in by_split[split]:
      kept[_key(record)] = split
      for prefix in hygiene.prefixes_of(record["prompt"], how):
        of_prefix[prefix] = split
      if "user" in record:
        of_user[record["user"]] = split
  sides = {}
  for record in prompts:
    starts = hygiene.prefixes_of(record["prompt"], how)
    side = next(
      (of_prefix[start] for start in starts if start in of_prefix),
      of_user.get(record.get("user"), "train"),
    )
    sides[_key(record)] = kept.get(_key(record), side)
  return sides


def _by_split(
  data: ml_collections.ConfigDict,
  records: Sequence[sources.Record],
  side_of: dict[str, str],
) -> BySplit:
  by_split = {split: [] for split in sources.SPLITS}
  for record in records:
    side = None
    if side_of and "split" not in record and "prompt" in record:
      side = side_of.get(_key(record))
    by_split[side or sources.in_split(data, record)].append(record)
  return by_split


def _keep_apart(found: dict[str, BySplit]) -> dict[str, int]:
  """Drops prompts from every side but their strictest; how many, by kind.

  What is tested on goes before what is validated on, and that before training.
  """
  kinds = [kind for kind in found if kind != "pretraining"]
  strictest = {}
  for kind in kinds:
    for split, records in found[kind].items():
      for record in records:
        key = _key(record)
        strictest[key] = max(strictest.get(key, 0), _STRICTNESS[split])
  dropped = {}
  for kind in kinds:
    before = sum(map(len, found[kind].values()))
    found[kind] = {
      split: [r for r in records if strictest[_key(r)] == _STRICTNESS[split]]
      for split, records in found[kind].items()
    }
    dropped[kind] = before - sum(map(len, found[kind].values()))
  return dropped
