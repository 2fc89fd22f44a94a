"""Cleaning of customers' prompts: the paper's rules as laws."""

import collections
import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from instruct_jax.base import errors
from instruct_jax.data.clean import hygiene, pipeline

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


def settings(**changes):
  return dataclasses.replace(SETTINGS, **changes)


@dataclasses.dataclass
class Cleaned:
  by_split: dict
  counts: dict


def clean(prompts, how):
  """Customers' prompts alone, through the one pipeline."""
  cleaned = pipeline.clean({"prompts": prompts}, how)
  return Cleaned(cleaned.by_split["prompts"], cleaned.counts["prompts"])


def together(cleaned):
  return [r for split in SPLITS for r in cleaned.by_split[split]]


@quick
@hypothesis.given(records)
def test_no_user_is_in_two_splits_or_has_too_many(given):
  cleaned = clean(given, SETTINGS)
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
  cleaned = clean(given, settings(remove_pii=False))
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
@hypothesis.given(records, st.booleans())
def test_cleaning_twice_changes_nothing(given, remove_pii):
  how = settings(remove_pii=remove_pii)
  once = clean(given, how)
  written = {
    split: [record | {"split": split} for record in kept]
    for split, kept in once.by_split.items()
  }
  again = clean([r for split in SPLITS for r in written[split]], how)
  assert again.by_split == written
  assert again.counts == {
    "read": once.counts["kept"],
    "duplicates": 0,
    "over_per_user": 0,
    "held_out_elsewhere": 0,
    "kept": once.counts["kept"],
    "users": once.counts["users"],
  }
  train = clean(once.by_split["train"], how)  # its splits forgotten
  assert train.counts["kept"] == len(once.by_split["train"])


@quick
@hypothesis.given(records, st.randoms(use_true_random=False))
def test_a_users_prompts_do_not_depend_on_the_order_of_others(given, random):
  """Where no two users share a prompt, which would go with the first."""
  own = [r | {"prompt": f"{r.get('user')} {r['prompt']}"} for r in given]
  others = [r for r in own if r.get("user") != "u1"]
  random.shuffle(others)
  places = sorted(random.sample(range(len(own)), len(own) - len(others)))
  mixed = list(others)
  for place, record in zip(places, (r for r in own if r.get("user") == "u1")):
    mixed.insert(place, record)

  def mine(cleaned):
    return {
      split: [r for r in kept if r.get("user") == "u1"]
      for split, kept in cleaned.by_split.items()
    }

  how = settings(prefix=99)
  assert mine(clean(own, how)) == mine(clean(mixed, how))


@quick
@hypothesis.given(records)
def test_a_users_split_does_not_depend_on_the_others(given):
  whole = clean(given, SETTINGS)
  mine = [r for r in given if r.get("user") == "u1"]
  alone = clean(mine, SETTINGS)

  def side(cleaned):
    return {
      split
      for split in SPLITS
      if any(r.get("user") == "u1" for r in cleaned.by_split[split])
    }

  assert side(whole) <= side(alone)


def test_duplicates_share_a_long_prefix():
  given = [
    {"prompt": "tell me  a story\nabout cats"},
    {"prompt": "tell me a story about dogs"},  # the same first 12
    {"prompt": "tell me"},
    {"prompt": " tell  me "},  # the same, and shorter than 12
    {"prompt": "tell me a joke"},
  ]
  cleaned = clean(given, SETTINGS)
  assert [r["prompt"] for r in together(cleaned)].count("tell me") == 1
  assert cleaned.counts["duplicates"] == 2
  wide = clean(given, settings(prefix=128))
  assert wide.counts["duplicates"] == 1


def test_white_space_without_end_shortens_no_prefix():
  text = " " * 5000 + "one two three four"
  assert hygiene.prefix_of(text, 12) == "one two thre"


def test_personal_data_goes_from_training_only():
  given = [
    {"prompt": f"letter {n} to ann{n}@example.com", "user": f"user {n}"}
    for n in range(60)
  ]
  cleaned = clean(given, settings(prefix=99))
  train = cleaned.by_split["train"]
  assert all(r["prompt"].endswith(" to <email>") for r in train)
  assert cleaned.counts["pii_email"] == len(train)
  held_out = cleaned.by_split["validation"] + cleaned.by_split["test"]
  assert held_out
  assert all("@" in r["prompt"] for r in held_out)
  kept = clean(given, settings(prefix=99, remove_pii=False))
  assert all("@" in r["prompt"] for r in together(kept))


def test_prompts_that_differ_in_personal_data_alone_are_duplicates():
  given = [{"prompt": f"write to ann{n}@example.com"} for n in range(9)]
  given.append({"prompt": "write to <email>"})
  cleaned = clean(given, settings(prefix=99))
  assert cleaned.counts["kept"] == 1
  assert hygiene.prefixes_of(given[3]["prompt"], SETTINGS) == (
    "write to ann",
    "write to <em",
  )
  as_they_are = clean(given, settings(prefix=99, remove_pii=False))
  assert as_they_are.counts["kept"] == 10


def test_personal_data_goes_from_every_text_of_a_record():
  pair = {"responses": ["call +1 415 555 2671", "no"], "ranks": [1, 2]}
  given = [
    {"text": "to a@b.co and c@d.co"},
    {"prompt": "who?", "response": "me@b.co", "user": "x@y.org"},
    {"prompt": "a@b.co?", **pair},
  ]
  before = [dict(record) for record in given]
  found, counts = hygiene.without_pii(given)
  assert found == [
    {"text": "to <email> and <email>"},
    {"prompt": "who?", "response": "<email>", "user": "x@y.org"},
    {
      "prompt": "<email>?",
      "responses": ["call <phone>", "no"],
      "ranks": [1, 2],
    },
  ]
  assert counts == {"pii_email": 4, "pii_phone": 1}
  assert given == before


def test_a_split_that_a_user_names_is_all_of_theirs():
  given = [
    {"prompt": "one", "user": "a", "split": "test"},
    {"prompt": "two", "user": "a"},
    {"prompt": "three", "split": "validation"},
  ]
  found = clean(given, SETTINGS).by_split
  assert [r["prompt"] for r in found["test"]] == ["one", "two"]
  assert [r["prompt"] for r in found["validation"]] == ["three"]
  given[1]["split"] = "train"
  with pytest.raises(errors.UserError, match="user 'a' has prompts in"):
    clean(given, SETTINGS)


@pytest.mark.parametrize(
  "record", [{"prompt": 3}, {"prompt": None}, {}, {"prompt": "x", "user": 7}]
)
def test_what_is_no_prompt_is_named(record):
  with pytest.raises(errors.UserError, match="prompt 1: "):
    clean([record], SETTINGS)


@pytest.mark.parametrize("key", ["prefix", "per_user"])
def test_settings_out_of_range_are_named(key):
  with pytest.raises(errors.UserError, match=rf"data\.{key} must be 1 or more"):
    hygiene.Settings(**{key: 0})


@pytest.mark.parametrize(
  ("validation", "test"), [(-0.1, 0.1), (0.1, 1), (0.5, 0.5), (float("nan"), 0)]
)
def test_splits_must_leave_something_to_train_on(validation, test):
  with pytest.raises(errors.UserError, match="something to train on"):
    hygiene.Settings(validation_fraction=validation, test_fraction=test)


def test_a_hundred_thousand_prompts_take_seconds():
  given = [
    {
      "prompt": f"prompt number {n} of many, to be cleaned",
      "user": f"{n % 999}",
    }
    for n in range(100_000)
  ]
  cleaned = clean(given, hygiene.Settings())
  assert cleaned.counts["kept"] == 100_000
