"""The code-like format: what calls give, and how answers are judged."""

import random

import pytest

from instruct_jax.worlds.microworld import (
  answers,
  calls,
  judge,
  prompts,
  tables,
)


@pytest.mark.parametrize(
  ("function", "names", "value"),
  [
    ("first", "ann bob eva", "ann"),
    ("last", "ann bob eva", "eva"),
    ("count", "ann bob eva", "three"),
    ("join", "ann bob", "ann and bob"),
    ("swap", "ann bob", "bob and ann"),
  ],
)
def test_what_calls_give(function, names, value):
  call = calls.Call(function, tuple(names.split()))
  assert call.text == f"{function} ( {names.replace(' ', ' , ')} )"
  assert call.value == value


RUN = {"task": "code", "wanted": "run", "answer": "bob and ann"}
WRITE = {"task": "code", "wanted": "write", "answer": "last ( ann , bob )"}
EXPLAIN = {"task": "code", "wanted": "explain", "answer": "the last of ann"}


@pytest.mark.parametrize(
  ("spec", "said", "instruction", "quality"),
  [
    (RUN, "bob and ann .", 1, 1),
    (RUN, "the code gives bob and ann .", 1, 1),
    (RUN, "ann and bob .", 1, 0),
    (RUN, "bob and ann and eva .", 1, 0),
    (RUN, "it gives bob and ann , i think that is what they want .", 1, 0.6),
    (RUN, "i have no comment .", 0, 0),
    (WRITE, "last ( ann , bob ) .", 1, 1),
    # last, ann, bob: two of three words
    (WRITE, "first ( ann , bob ) .", 1, 0.4 * 2 / 3),
    (WRITE, "last ann bob .", 0, 0),
    (EXPLAIN, "the code gives the last of ann .", 1, 1),
    (EXPLAIN, "the last of ann .", 1, 1),
    # the, of, ann: three of four words
    (EXPLAIN, "the first of ann .", 1, 0.4 * 3 / 4),
    (EXPLAIN, "ann .", 0, 0),
    (EXPLAIN, "", 0, 0),
  ],
)
def test_grades(spec, said, instruction, quality):
  grade = judge.grade(spec, said)
  assert grade["instruction"] == instruction
  assert grade["quality"] == pytest.approx(quality)


def test_code_is_rare_among_prompts_and_its_answers_have_both_grades():
  rng = random.Random(0)
  drawn = [p for p, _ in prompts.sample(rng, "train", 8000, distinct=False)]
  code = [p for p in drawn if p.spec["task"] == "code"]
  assert 0.015 < len(code) / len(drawn) < 0.025
  for prompt in code:
    assert tables.split_of(prompt.core) == "train"
    ideal = answers.ideal(rng, prompt.spec)
    assert judge.grade(prompt.spec, ideal)["likert"] == 7
    mistaken = answers.careless(rng, prompt.spec)
    assert judge.grade(prompt.spec, mistaken)["quality"] < 1
