"""Cleaning in two passes over hashes is cleaning in memory, record by record.

What is right is written out in `cleaned_in_memory`: dictionaries of texts.
"""

import copy
import json
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.data.clean import facts, hygiene, pipeline
from instruct_jax.data.read import kinds, sources

SPLITS = ("train", "validation", "test")
quick = hypothesis.settings(deadline=None, max_examples=200)

texts = st.sampled_from(
  [
    f"{a}{b}"
    for a in ("ask me ", "ask  me ", "x")
    for b in ("1", "2", "a@b.co")
  ]
  + ["ask me of a@b.co", "ask me of c@d.co", "ask me of <email>", "y " * 9]
)
splits = st.sampled_from(SPLITS)
prompts = st.fixed_dictionaries(
  {"prompt": texts},
  optional={"user": st.sampled_from(["u", "v", "v "]), "split": splits},
)
demonstrations = st.fixed_dictionaries(
  {"prompt": texts, "response": st.sampled_from(["yes", "no a@b.co"])},
  optional={"split": splits},
)
rankings = st.fixed_dictionaries(
  {
    "prompt": texts,
    "responses": st.just(["yes", "no"]),
    "ranks": st.sampled_from([[1, 2], [1, 1]]),
  },
  optional={"split": st.just("test")},
)
documents = st.fixed_dictionaries(
  {"text": texts}, optional={"split": splits, "part": st.integers(0, 1)}
)
of_kinds = st.fixed_dictionaries(
  {},
  optional={
    "pretraining": st.lists(documents, max_size=8),
    "demonstrations": st.lists(demonstrations, max_size=8),
    "prompts": st.lists(prompts, max_size=16),
    "rankings": st.lists(rankings, max_size=8),
  },
)
how = st.builds(
  hygiene.Settings,
  prefix=st.sampled_from([6, 9, 99]),
  per_user=st.sampled_from([1, 2, 9]),
  validation_fraction=st.just(0.3),
  test_fraction=st.just(0.3),
  remove_pii=st.booleans(),
  every_kind=st.booleans(),
)


def known(record):
  return " ".join(record.get("prompt", record.get("text")).split())


def prefixes(record, settings):
  plain, bare = hygiene.prefixes_of(record["prompt"], settings)
  return [plain] if bare is None else [plain, bare]


def spread(records):
  """A mark that a prompt has holds it out in every kind."""
  marks = {}
  for kind, of_kind in records.items():
    for record in of_kind if kind != "pretraining" else ():
      if "split" in record:
        first = marks.setdefault(known(record), record["split"])
        assert first == record["split"]
        if record["split"] == "train":
          marks[known(record)] = "train"
  for kind, of_kind in records.items():
    for record in of_kind if kind != "pretraining" else ():
      mark = marks.get(known(record), "train")
      if mark != "train" and not (kind == "prompts" and "user" in record):
        record["split"] = mark


def first_of_each(records, settings):
  seen, kept = set(), []
  for record in records:
    if seen.isdisjoint(prefixes(record, settings)):
      seen.update(prefixes(record, settings))
      kept.append(record)
  return kept


def few(records, most):
  kept = []
  for record in records:
    own = [r for r in records if r.get("user") == record.get("user")]
    own.sort(key=lambda r: hygiene.place_of(r["prompt"]))
    if "user" not in record or any(r is record for r in own[:most]):
      kept.append(record)
  return kept


def hashed(name, settings):
  return kinds.hashed_split(name, **settings.fractions)


def sides_of_prompts(kept, every, settings):
  users = {}
  for record in every:
    if "user" in record and "split" in record:
      assert (
        users.setdefault(record["user"], record["split"]) == record["split"]
      )
  sides = []
  for record in kept:
    user = record.get("user")
    if user is None:
      side = record.get("split") or hashed(known(record), settings)
    else:
      name = " ".join(f"user {user}".split())
      side = users.get(user) or hashed(name, settings)
    sides.append(side)
  held, of_user, of_prefix = {}, {}, {}
  for split in SPLITS[1:]:
    for record, side in zip(kept, sides):
      if side == split:
        held[known(record)] = split
        if "user" in record:
          of_user[record["user"]] = split
        for prefix in prefixes(record, settings):
          of_prefix[prefix] = split
  of_all = {}
  for record in every:
    of_all[known(record)] = held.get(known(record)) or next(
      (of_prefix[x] for x in prefixes(record, settings) if x in of_prefix),
      of_user.get(record.get("user"), "train"),
    )
  return sides, of_all


def cleaned_in_memory(records, settings):
  """Records and their sides by kind, and counts."""
  records, counts, found = copy.deepcopy(records), {}, {}
  spread(records)
  of_all = {}
  for kind in sorted(records, key=lambda kind: kind != "prompts"):
    every = records[kind]
    counts[kind] = {"read": len(every)}
    kept = every
    if kind == "prompts":
      kept = first_of_each(every, settings)
      counts[kind]["over_per_user"] = len(kept)
    elif settings.every_kind:
      seen = {}
      for record in every:
        seen.setdefault(json.dumps(record, sort_keys=True), record)
      kept = list(seen.values())
    counts[kind]["duplicates"] = len(every) - len(kept)
    if kind == "prompts":
      kept = few(kept, settings.per_user)
      counts[kind]["over_per_user"] -= len(kept)
    if kind == "rankings":
      counts[kind]["says_nothing"] = sum(r["ranks"] == [1, 1] for r in kept)
      kept = [r for r in kept if r["ranks"] != [1, 1]]
      counts[kind]["circles_alone"] = 0
    if kind == "prompts":
      sides, of_prompts = sides_of_prompts(kept, every, settings)
      of_all = of_prompts if len(records) > 1 else {}
    else:
      sides = [
        record.get("split")
        or of_all.get(known(record))
        or hashed(known(record), settings)
        for record in kept
      ]
    found[kind] = list(zip(sides, kept))
  strictest = {}
  for kind in found:
    for side, record in found[kind] if kind != "pretraining" else ():
      before = strictest.get(known(record), "train")
      strictest[known(record)] = max(before, side, key=SPLITS.index)
  for kind in found:
    stays = [
      (side, record)
      for side, record in found[kind]
      if kind == "pretraining" or side == strictest[known(record)]
    ]
    counts[kind]["held_out_elsewhere"] = len(found[kind]) - len(stays)
    counts[kind]["kept"] = len(stays)
    if kind == "prompts":
      users = {r["user"] for _, r in stays if "user" in r}
      counts[kind]["users"] = len(users)
    if settings.remove_pii and (kind == "prompts" or settings.every_kind):
      train = [r for side, r in stays if side == "train"]
      bare, of_pii = hygiene.without_pii(train)
      counts[kind] |= of_pii
      bare = iter(bare)
      stays = [(s, next(bare) if s == "train" else r) for s, r in stays]
    found[kind] = stays
  return found, counts


@quick
@hypothesis.given(of_kinds, how)
def test_two_passes_are_one_in_memory(records, settings):
  try:
    wanted, counts = cleaned_in_memory(records, settings)
  except AssertionError:  # marks that contradict each other
    with pytest.raises(errors.UserError, match="split"):
      pipeline.scan(records, settings)
    return
  before = copy.deepcopy(records)
  plan = pipeline.scan(records, settings)
  for kind in records:
    for _ in range(2):  # as often as wanted
      assert list(pipeline.stream(plan, kind)) == wanted[kind]
    assert plan.counts[kind] == counts[kind]
  if "pretraining" in records:
    plan = pipeline.scan(records, settings)
    found = [
      (SPLITS[side], texts.text(n))
      for sides, texts in pipeline.bundles(plan, "pretraining")
      for n, side in enumerate(sides)
    ]
    assert found == [(s, r["text"]) for s, r in wanted["pretraining"]]
    assert plan.counts["pretraining"] == counts["pretraining"]
  assert records == before
  cleaned = pipeline.clean(records, settings)
  assert cleaned.counts == counts
  for kind in records:
    for split in SPLITS:
      assert cleaned.by_split[kind][split] == [
        record for side, record in wanted[kind] if side == split
      ]


class Once:
  """Records that are read once, and no second time."""

  def __init__(self, records):
    self.records, self.reads = records, 0

  def __iter__(self):
    self.reads += 1
    return iter(self.records)


def test_text_is_read_once():
  once = Once([{"text": "one"}, {"text": "one"}, {"text": "two"}])
  plan = pipeline.scan({"pretraining": once}, hygiene.Settings())
  assert once.reads == 0
  assert len(list(pipeline.stream(plan, "pretraining"))) == 3
  assert once.reads == 1
  assert plan.counts["pretraining"]["read"] == 3


@pytest.mark.parametrize("change", ["other", "fewer", "more"])
def test_records_that_change_between_the_passes(change):
  records = [{"prompt": f"ask {n}"} for n in range(5)]
  plan = pipeline.scan({"prompts": records}, hygiene.Settings())
  place = {"other": 3, "fewer": 5, "more": 6}[change]
  if change == "other":
    records[2] = {"prompt": "changed"}
  elif change == "fewer":
    del records[4]
  else:
    records.append({"prompt": "one more"})
  with pytest.raises(errors.UserError, match=rf"data\.prompts: record {place}"):
    list(pipeline.stream(plan, "prompts"))


@pytest.mark.parametrize("change", ["size", "time", "gone", "while read"])
def test_a_file_that_changes_is_named(tmp_path, change):
  path = tmp_path / "a.jsonl"
  path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
  source = sources.Source(path, "prompts")
  assert len(list(source)) == 2
  rows = iter(source)
  if change == "time":
    os.utime(path, ns=(1, 1))
  elif change == "gone":
    path.unlink()
  else:
    if change == "while read":
      next(rows)
    path.write_text('{"prompt": "one"}\n{"prompt": "2"}\n')
  what = "gone" if change == "gone" else "changed"
  with pytest.raises(errors.UserError, match=rf"a\.jsonl: {what} while it was"):
    list(rows)


def test_ties_of_hashes_go_by_the_order(monkeypatch):
  """Hashes that are alike make duplicates: what they are made of is one."""
  monkeypatch.setattr(facts, "hash_of", lambda text: 7)
  records = [{"prompt": f"ask {n}"} for n in range(5)]
  found = list(
    pipeline.stream(
      pipeline.scan({"prompts": records}, hygiene.Settings()), "prompts"
    )
  )
  assert [record for _, record in found] == records[:1]


def test_a_byte_and_a_hash_stay_of_a_record():
  records = [{"prompt": f"ask {n}", "user": f"u{n % 9}"} for n in range(1000)]
  plan = pipeline.scan({"prompts": records}, hygiene.Settings())
  kept = plan.verdicts["prompts"]
  assert sum(np.asarray(column).nbytes for column in kept) == 10 * len(records)


def test_a_letter_to_another_address_is_on_the_side_of_the_first():
  """What is alike without its personal data; that which is dropped, too."""
  first = {"prompt": "ask me of a@b.co", "split": "test"}
  records = {
    "prompts": [first, {"prompt": "ask me of c@d.co"}],
    "demonstrations": [{"prompt": "ask me of c@d.co", "response": "yes"}],
  }
  held_out = {"validation_fraction": 0.0, "test_fraction": 0.0}
  plan = pipeline.scan(records, hygiene.Settings(prefix=99, **held_out))
  assert list(pipeline.stream(plan, "prompts")) == [("test", first)]
  ((split, _),) = pipeline.stream(plan, "demonstrations")
  assert split == "test"
