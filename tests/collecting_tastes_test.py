"""What simulated labelers say: as the microworld's, or by a simple taste."""

import json
import random

import numpy as np
import pytest

from instruct_jax import paper
from instruct_jax.collecting import kinds, tastes
from instruct_jax.worlds.microworld import answers, judge, labelers, prompts

TASTE = tastes.Taste("simulated-1", "training", 0, seed=3)


def of_the_world(seed=0):
  """A prompt of the microworld with four responses, and its record."""
  rng = random.Random(seed)
  asked = prompts.draw(rng, "train", use_case="generation")
  texts = [answers.ideal(rng, asked.spec), answers.flawed(rng, asked.spec)]
  texts += [answers.forum(rng, asked.spec), "nothing of the kind"]
  return asked.text, texts, {"spec": json.dumps(asked.spec)}


def page(kind, prompt="", texts=(), **more):
  """A task as the server shows it."""
  return {
    "assignment": 7,
    "kind": kind,
    "prompt": prompt,
    "responses": list(texts),
    **more,
  }


@pytest.mark.parametrize("seed", range(5))
def test_to_the_microworld_they_say_what_its_labelers_do(seed):
  prompt, texts, record = of_the_world(seed)
  answer = TASTE.answer(page("ranking", prompt, texts), record)
  persona = labelers.training()[0]
  grades = [judge.grade(record["spec"], text) for text in texts]
  assert answer["ranks"] == persona.rank(prompt, texts, grades)
  assert answer["ratings"] == [round(grade["likert"]) for grade in grades]
  violent = [bool(grade["violent"]) for grade in grades]
  assert [flags["violent"] for flags in answer["metadata"]] == violent
  failed = [bool(grade["fails_instruction"]) for grade in grades]
  assert [flags["wrong_task"] for flags in answer["metadata"]] == failed


def test_who_was_cut_off_is_told_by_the_record():
  prompt, texts, record = of_the_world()
  cut = record | {"ended": {texts[0]: False}}
  whole = TASTE.judge(prompt, texts, record)[1]
  assert TASTE.judge(prompt, texts, cut)[1][0] < whole[0]


def test_held_out_labelers_are_others():
  prompt, texts, record = of_the_world()
  held_out = tastes.Taste("simulated-1", "held_out", 6)
  assert held_out.persona == labelers.held_out()[1]
  assert held_out.judge(prompt, texts, record)[0] == labelers.held_out()[
    1
  ].rank(prompt, texts, [judge.grade(record["spec"], text) for text in texts])


@pytest.mark.parametrize("record", [{}, {"spec": "{"}, {"spec": '{"a": 1}'}])
def test_elsewhere_longer_and_nearer_answers_are_liked(record):
  """Without its noise, length + overlap - repetition; three words of four."""
  prompt = "why is rain wet"
  texts = ["rain is wet " + "because " * 57, "no", "rain is wet indeed"]
  worth = [TASTE.worth(prompt, text) for text in texts]
  noise = [tastes.NOISE * TASTE._rng(prompt, t).gauss(0, 1) for t in texts]
  plain = [a - b for a, b in zip(worth, noise)]
  np.testing.assert_allclose(
    plain, [1 + 0.75 - (1 - 4 / 60), 1 / 60, 4 / 60 + 0.75]
  )
  ranks, ratings, metadata = TASTE.judge(prompt, texts, record)
  assert sorted(ranks) == [1, 2, 3]
  assert [ranks[k] for k in np.argsort(worth)] == [3, 2, 1]
  assert all(1 <= rating <= 7 for rating in ratings)
  assert [flags["wrong_task"] for flags in metadata] == [False, True, False]


def test_the_same_is_said_of_the_same_and_seeds_differ():
  prompt, texts = "what is new", ["not much", "nothing at all", "new things"]
  again = tastes.Taste("simulated-1", "training", 0, seed=3)
  assert TASTE.worth(prompt, texts[0]) == again.worth(prompt, texts[0])
  other = tastes.Taste("simulated-1", "training", 0, seed=4)
  assert TASTE.worth(prompt, texts[0]) != other.worth(prompt, texts[0])
  shown = TASTE.judge(prompt, texts, {})[0]
  turned = TASTE.judge(prompt, texts[::-1], {})[0]
  assert turned == shown[::-1]  # where a response stands does not matter


def test_a_demonstration_is_the_judge_s_best():
  prompt, _, record = of_the_world()
  text = TASTE.answer(page("demonstration", prompt), record)["response"]
  assert judge.grade(record["spec"], text)["likert"] == 7
  other = TASTE.answer(page("demonstration", "why is rain wet"), {})
  assert tastes.overlap("why is rain wet", other["response"]) == 1


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_answer_is_one(kind):
  prompt, texts, record = of_the_world()
  for form in kinds.FORMS if kind == "writing" else ("",):
    for number in range(5):
      shown = page(kind, prompt, texts[:2], form=form) | {"assignment": number}
      answer = TASTE.answer(shown, record)
      assert kinds.check(kind, shown, answer)


def test_choices_are_ranks():
  assert [tastes.choice(r) for r in ([1, 2], [2, 1], [1, 1])] == [
    "a",
    "b",
    "tie",
  ]


def test_flags_are_table_3s():
  assert tastes.flags({"fails_instruction": 1.0, "hallucination": 0.0}) == (
    dict.fromkeys(paper.METADATA, False) | {"wrong_task": True}
  )
