"""Exercises: every answer is found again by rules that only read the text."""

import random
import re

import pytest

from instruct_jax.worlds.microworld import exercises, tables, zorp

NUMBER = {word: n for n, word in enumerate(tables.NUMBERS)}
SAID = {
  "job": r"(\w+) is a (\w+)",
  "city": r"(\w+) lives in (\w+)",
  "pet": r"(\w+) has a (\w+)",
  "food": r"(\w+) likes (\w+)",
}


def facts_of(text):
  """{(who, relation): value} of a passage."""
  return {
    (who, relation): value
    for relation, form in SAID.items()
    for who, value in re.findall(form, text)
  }


def asked_for(question):
  """The relation that is asked for."""
  words = {"job": "job", "live": "city", "pet": "pet", "food": "food"}
  return next(words[w] for w in question.split(" ") if w in words)


def reading(text, question):
  who = next(w for w in question.split(" ") if w in tables.NAMES)
  value = facts_of(text).get((who, asked_for(question)))
  if value is None:
    return "the text does not say ."
  return tables.say(who, asked_for(question), value) + " ."


def counting(text, question):
  del question
  have = NUMBER[re.search(r"has (\w+)", text)[1]]
  for verb, amount in re.findall(r"(gets|loses) (\w+)", text):
    have += NUMBER[amount] * (1 if verb == "gets" else -1)
  return tables.NUMBERS[have]


def comparison(text, question):
  counts = [NUMBER[n] for n in re.findall(r"has (\w+)", text)]
  return tables.NUMBERS[max(counts) if "most" in question else min(counts)]


def sentiment(text, question):
  del question
  last = re.split(" but | and ", text.removesuffix(" ."))[-1]
  praises = last.split(" ")[-1] in tables.PRAISE
  return "positive" if praises != ("not" in last) else "negative"


def sequence(text, question):
  del question
  shown = [NUMBER[w] for w in text.split(" ") if w in NUMBER]
  return tables.NUMBERS[2 * shown[-1] - shown[-2]]


def summary(text, question):
  del question
  said = text.removeprefix("passage : ").removesuffix(" .").split(" . ")
  return f"{said[0]} and {said[-1].split(' ', 1)[1]} ."


def to_english(text, question):
  del question
  return zorp.to_english(text.removeprefix("zorp : "))


def to_zorp(text, question):
  del question
  return zorp.to_zorp(text.removeprefix("english : "))


SOLVERS = [reading, counting, comparison, sentiment]
SOLVERS += [sequence, summary, to_english, to_zorp]
SOLVERS = {solver.__name__: solver for solver in SOLVERS}


@pytest.mark.parametrize("name", exercises.MAKERS)
def test_answers_follow_from_the_text(name):
  rng = random.Random(name)
  answers = []
  for _ in range(200):
    exercise = exercises.draw(name, rng, "test")
    for question in exercise.questions:
      found = SOLVERS[name](exercise.text, question.prompt)
      assert found == question.answer, exercise
      answers.append(question.answer)
  # No answer is right so often that it need not be looked for.
  most = max(answers.count(answer) for answer in set(answers))
  assert most / len(answers) < 0.6


@pytest.mark.parametrize("name", exercises.MAKERS)
def test_a_text_is_in_one_split_with_all_that_is_asked(name):
  rng = random.Random(name)
  texts = {
    split: {exercises.draw(name, rng, split).text for _ in range(300)}
    for split in tables.SPLITS
  }
  assert not texts["train"] & (texts["validation"] | texts["test"])
  assert not texts["validation"] & texts["test"]


def test_a_third_of_reading_has_no_answer_and_every_passage_some_of_each():
  rng = random.Random(0)
  for _ in range(100):
    asked = exercises.draw("reading", rng, "train").questions
    assert [q.answer for q in asked].count(exercises.UNANSWERABLE) == 1
    assert len(asked) == 3


def test_a_document_is_an_exercise_with_its_answers():
  exercise = exercises.draw("comparison", random.Random(0), "train")
  one, two = (exercise.document(most) for most in (1, 2))
  first, second = exercise.questions
  assert one == f"{exercise.text} \n {first.prompt} {first.answer}"
  assert two == f"{one} \n {second.prompt} {second.answer}"
