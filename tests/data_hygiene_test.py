"""Cleaning of customers' prompts: the paper's rules as laws."""

import collections

import hypothesis
import hypothesis.strategies as st
import pytest

from instruct_jax import errors
from instruct_jax.data import hygiene

SPLITS = ("train", "validation", "test")
SETTINGS = hygiene.Settings(
  prefix=12, per_user=3, validation_fraction=0.3, test_fraction=0.2
)
records = st.lists(
  st.fixed_dictionaries(
    {"prompt": st.text("ab c\n1@.", min_size=1, max_size=30)},
    optional={"user": st.sampled_from(["u1", "u2", "u3", "u4"])},
  ),
  max_size=40,
)
quick = hypothesis.settings(deadline=None, max_examples=150)


def together(cleaned):
  return [r for split in SPLITS for r in cleaned.by_split[split]]


@quick
@hypothesis.given(records)
def test_no_user_is_in_two_splits_or_has_too_many(given):
  cleaned = hygiene.clean(given, SETTINGS)
  splits = collections.defaultdict(set)
  count = collections.Counter()
  for split in SPLITS:
    for record in cleaned.by_split[split]:
      if "user" in record:
        splits[record["user"]].add(split)
        count[record["user"]] += 1
  assert all(len(found) == 1 for found in splits.values())
  assert all(n <= 3 for n in count.values())


@quick
@hypothesis.given(records)
def test_prefixes_are_unlike_and_every_record_is_counted(given):
  cleaned = hygiene.clean(given, dataclasses_replace(remove_pii=False))
  kept = together(cleaned)
  prefixes = [hygiene.prefix_of(r["prompt"], 12) for r in kept]
  assert len(set(prefixes)) == len(prefixes)
  counts = cleaned.counts
  gone = counts["duplicates"] + counts["over_per_user"]
  assert counts["read"] == len(given) == len(kept) + gone
  for split in SPLITS:  # in the order they came, each as it was
    places = [given.index(record) for record in cleaned.by_split[split]]
    assert places == sorted(places)


@quick
@hypothesis.given(records)
def test_cleaning_twice_changes_nothing(given):
  settings = dataclasses_replace(remove_pii=False)
  once = hygiene.clean(given, settings)
  again = hygiene.clean(together(once), settings)
  assert again.by_split == once.by_split
  assert again.counts["duplicates"] == again.counts["over_per_user"] == 0


@quick
@hypothesis.given(records)
def test_a_users_split_does_not_depend_on_the_others(given):
  whole = hygiene.clean(given, SETTINGS)
  mine = [r for r in given if r.get("user") == "u1"]
  alone = hygiene.clean(mine, SETTINGS)

  def side(cleaned):
    return {
      split
      for split in SPLITS
      if any(r.get("user") == "u1" for r in cleaned.by_split[split])
    }

  assert side(whole) <= side(alone)


def dataclasses_replace(**changes):
  import dataclasses

  return dataclasses.replace(SETTINGS, **changes)


def test_duplicates_share_a_long_prefix():
  given = [
    {"prompt": "tell me  a story\nabout cats"},
    {"prompt": "tell me a story about dogs"},  # the same first 12
    {"prompt": "tell me"},
    {"prompt": " tell  me "},  # the same, and shorter than 12
    {"prompt": "tell me a joke"},
  ]
  cleaned = hygiene.clean(given, SETTINGS)
  assert [r["prompt"] for r in together(cleaned)].count("tell me") == 1
  assert cleaned.counts["duplicates"] == 2
  wide = hygiene.clean(given, dataclasses_replace(prefix=128))
  assert wide.counts["duplicates"] == 1


def test_white_space_without_end_shortens_no_prefix():
  text = " " * 5000 + "one two three four"
  assert hygiene.prefix_of(text, 12) == "one two thre"


def test_personal_data_goes_from_training_only():
  given = [
    {"prompt": f"write to ann{n}@example.com", "user": f"user {n}"}
    for n in range(60)
  ]
  cleaned = hygiene.clean(given, dataclasses_replace(prefix=99))
  train = cleaned.by_split["train"]
  assert {r["prompt"] for r in train} == {"write to <email>"}
  assert cleaned.counts["pii_email"] == len(train)
  held_out = cleaned.by_split["validation"] + cleaned.by_split["test"]
  assert held_out
  assert all("@" in r["prompt"] for r in held_out)
  kept = hygiene.clean(given, dataclasses_replace(prefix=99, remove_pii=False))
  assert all("@" in r["prompt"] for r in together(kept))


def test_a_split_that_a_user_names_is_all_of_theirs():
  given = [
    {"prompt": "one", "user": "a", "split": "test"},
    {"prompt": "two", "user": "a"},
    {"prompt": "three", "split": "validation"},
  ]
  found = hygiene.clean(given, SETTINGS).by_split
  assert [r["prompt"] for r in found["test"]] == ["one", "two"]
  assert [r["prompt"] for r in found["validation"]] == ["three"]
  given[1]["split"] = "train"
  with pytest.raises(
    errors.UserError, match="user 'a' has prompts in"
  ):
    hygiene.clean(given, SETTINGS)


@pytest.mark.parametrize(
  "record", [{"prompt": 3}, {"prompt": None}, {}, {"prompt": "x", "user": 7}]
)
def test_what_is_no_prompt_is_named(record):
  with pytest.raises(errors.UserError, match="prompt 1: "):
    hygiene.clean([record], SETTINGS)


@pytest.mark.parametrize("key", ["prefix", "per_user"])
def test_settings_out_of_range_are_named(key):
  with pytest.raises(errors.UserError, match=rf"data\.{key} must be 1 or more"):
    hygiene.Settings(**{key: 0})


def test_a_hundred_thousand_prompts_take_seconds():
  given = [
    {
      "prompt": f"prompt number {n} of many, to be cleaned",
      "user": f"{n % 999}",
    }
    for n in range(100_000)
  ]
  cleaned = hygiene.clean(given, hygiene.Settings())
  assert cleaned.counts["kept"] == 100_000
