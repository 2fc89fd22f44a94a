"""Nothing is trained on in one kind of data and held out in another."""

import json

import pytest

from instruct_jax.base import errors
from instruct_jax.data.read import kinds
from tests import data_toys

FRACTIONS = {"validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture
def section(tmp_path):
  def make(**kinds):
    paths = {}
    for kind, records in kinds.items():
      path = tmp_path / f"{kind}.jsonl"
      path.write_text("".join(json.dumps(r) + "\n" for r in records))
      paths[kind] = str(path)
    return data_toys.section(**FRACTIONS, **paths)

  return make


def split_all(data):
  cleaned = data_toys.cleaned(data)
  return cleaned.by_split, cleaned.counts


def demonstration(n, **more):
  return {"prompt": f"question {n}?", "response": "yes", **more}


def ranking(n, **more):
  pair = {"responses": ["yes", "no"], "ranks": [1, 2]}
  return {"prompt": f"question {n}?", **pair, **more}


def where(found, kind):
  return {
    record["prompt"]: split
    for split in kinds.SPLITS
    for record in found[kind][split]
  }


def test_other_kinds_are_split_by_prompt(section):
  twice = [demonstration(n % 50) for n in range(100)]
  rankings = [ranking(n) for n in range(50)]
  found, counts = split_all(section(demonstrations=twice, rankings=rankings))
  assert where(found, "demonstrations") == where(found, "rankings")
  assert set(where(found, "rankings").values()) == set(kinds.SPLITS)
  for kind, size in (("demonstrations", 100), ("rankings", 50)):
    assert sum(map(len, found[kind].values())) == size
    odd = {"says_nothing": 0, "circles_alone": 0}
    assert counts[kind] == (odd if kind == "rankings" else {}) | {
      "read": size,
      "duplicates": 0,
      "held_out_elsewhere": 0,
      "kept": size,
    }


def test_a_prompt_is_on_the_side_that_its_user_is_on(section):
  prompts = [
    {"prompt": f"question {n}?", "user": f"u{n % 20}"} for n in range(100)
  ]
  found, counts = split_all(
    section(prompts=prompts, demonstrations=map(demonstration, range(120)))
  )
  asked, answered = where(found, "prompts"), where(found, "demonstrations")
  users = {}
  for prompt in prompts:
    side = asked[prompt["prompt"]]
    assert users.setdefault(prompt["user"], side) == side
    assert answered[prompt["prompt"]] == side
  assert set(users.values()) == set(kinds.SPLITS)
  assert len(answered) == 120
  assert counts["demonstrations"]["held_out_elsewhere"] == 0


def test_marked_as_training_but_held_out_elsewhere_is_dropped(section):
  prompts = [
    {"prompt": f"question {n}?", "user": f"u{n % 20}"} for n in range(100)
  ]
  marked = [demonstration(n, split="train") for n in range(100)]
  found, counts = split_all(section(prompts=prompts, demonstrations=marked))
  asked, answered = where(found, "prompts"), where(found, "demonstrations")
  training = {prompt for prompt, side in asked.items() if side == "train"}
  assert set(answered) == training
  dropped = counts["demonstrations"]["held_out_elsewhere"]
  assert dropped == 100 - len(training) > 0
  assert counts["prompts"]["held_out_elsewhere"] == 0


def test_a_training_prompt_that_is_held_out_elsewhere_is_dropped(section):
  mail = "write to a.b@example.com, question"
  prompts = [{"prompt": f"{mail} {n}?", "user": f"u{n}"} for n in range(30)]
  plain, _ = split_all(section(prompts=prompts))
  assert all(
    "original" not in r for rows in plain["prompts"].values() for r in rows
  )
  assert "@" not in plain["prompts"]["train"][0]["prompt"]
  tested = [{**p, "response": "yes", "split": "test"} for p in prompts[:10]]
  for record in tested:
    del record["user"]
  found, counts = split_all(section(prompts=prompts, demonstrations=tested))
  left = {record["user"] for record in found["prompts"]["train"]}
  before = {record["user"] for record in plain["prompts"]["train"]}
  assert left == before - {f"u{n}" for n in range(10)} < before
  dropped = sum(map(len, plain["prompts"].values())) - sum(
    map(len, found["prompts"].values())
  )
  assert counts["prompts"]["held_out_elsewhere"] == dropped > 0
  assert len(found["demonstrations"]["test"]) == 10


def test_a_mark_holds_in_every_kind(section):
  spaced = {"prompt": " question  1?", "responses": ["a", "b"], "ranks": [1, 2]}
  found, _ = split_all(
    section(
      prompts=[{"prompt": f"question {n}?"} for n in range(9)],
      demonstrations=[demonstration(n, split="test") for n in range(3)],
      rankings=[ranking(2), spaced],
    )
  )
  assert where(found, "rankings") == {
    "question 2?": "test",
    spaced["prompt"]: "test",
  }
  for n in range(3):
    assert where(found, "prompts")[f"question {n}?"] == "test"


def test_contradicting_marks_are_refused(section):
  data = section(
    demonstrations=[demonstration(1, split="train")],
    rankings=[ranking(1, split="test")],
  )
  message = (
    r"'question 1\?' is in the train split of data\.demonstrations and in the "
    r"test split of data\.rankings"
  )
  with pytest.raises(errors.UserError, match=message):
    split_all(data)


def test_prompts_dropped_from_a_held_out_side_are_not_trained_on(section):
  start = "word " * 40
  prompts = [{"prompt": f"{start}{n}?", "split": "test"} for n in range(3)]
  prompts += [
    {"prompt": f"question {n}?", "user": "u", "split": "validation"}
    for n in range(300)
  ]
  demonstrations = [{"prompt": p["prompt"], "response": "x"} for p in prompts]
  for record in prompts[1:3]:
    del record["split"]
  for record in prompts[4:]:
    del record["split"]
  found, counts = split_all(
    section(prompts=prompts, demonstrations=demonstrations)
  )
  assert counts["prompts"]["duplicates"] == 2
  assert counts["prompts"]["over_per_user"] == 100
  sizes = {s: len(rows) for s, rows in found["demonstrations"].items()}
  assert sizes == {"train": 0, "validation": 300, "test": 3}
