"""Simulated labelers: keyed noise, ties, agreement and tastes."""

import itertools
import random
import statistics

import pytest

from instruct_jax.worlds.microworld import answers, judge, labelers, prompts


@pytest.fixture(scope="module")
def pool():
  """Responses as hard to tell apart as a policy's: ideal and careless ones."""
  rng = random.Random(0)
  rows = []
  for prompt, _ in prompts.sample(rng, "train", 150):
    texts = [
      answers.ideal(rng, prompt.spec)
      if rng.random() < 0.5
      else answers.careless(rng, prompt.spec)
      for _ in range(6)
    ]
    grades = [judge.grade(prompt.spec, text) for text in texts]
    rows.append((prompt.text, texts, grades))
  return rows


def test_groups_have_the_sizes_of_the_world_and_different_people():
  everyone = labelers.training() + labelers.held_out()
  assert (len(labelers.training()), len(labelers.held_out())) == (10, 5)
  assert len({labeler.weights for labeler in everyone}) == 15
  length = [
    statistics.mean(x.length for x in group())
    for group in (labelers.training, labelers.held_out)
  ]
  assert length[0] > 0 > length[1]


def test_noise_is_keyed_by_labeler_prompt_and_response(pool):
  text, responses, grades = pool[0]
  first, second = labelers.training()[:2]
  one = first.utility(text, responses[0], grades[0])
  second.utility(text, responses[1], grades[1])  # nothing in between matters
  assert first.utility(text, responses[0], grades[0]) == one
  noise = {
    labeler.utility(prompt, response, grades[0])
    - labeler.mean_utility(grades[0])
    for labeler in (first, second)
    for prompt in (text, "another")
    for response in responses[:2]
  }
  assert len(noise) == 8


def test_noise_is_standard_normal_times_the_labelers_noise(pool):
  labeler = labelers.training()[0]
  grades = pool[0][2][0]
  noise = [
    (labeler.utility("p", str(i), grades) - labeler.mean_utility(grades))
    / labeler.noise
    for i in range(4000)
  ]
  assert statistics.mean(noise) == pytest.approx(0, abs=0.06)
  assert statistics.stdev(noise) == pytest.approx(1, abs=0.05)


def test_ranks_order_utilities_and_identical_texts_tie(pool):
  labeler = labelers.training()[0]
  for text, responses, grades in pool:
    ranks = labeler.rank(text, responses, grades)
    worth = [labeler.utility(text, r, g) for r, g in zip(responses, grades)]
    assert min(ranks) == 1
    for i, j in itertools.combinations(range(len(ranks)), 2):
      assert (ranks[i] == ranks[j]) == (responses[i] == responses[j])
      if ranks[i] != ranks[j]:
        assert (ranks[i] < ranks[j]) == (worth[i] > worth[j])


def test_a_wide_margin_ties_everything(pool):
  text, responses, grades = pool[0]
  labeler = labelers.training()[0]
  ranks = labeler.rank(text, responses, grades, margin=100.0)
  assert set(ranks) == {1}


@pytest.mark.parametrize("group", labelers.GROUPS)
def test_agreement_is_near_the_papers(pool, group):
  people = labelers.GROUPS[group]()
  same = pairs = 0
  for text, responses, grades in pool:
    worth = [
      [labeler.utility(text, r, g) for r, g in zip(responses, grades)]
      for labeler in people
    ]
    for i, j in itertools.combinations(range(len(responses)), 2):
      if responses[i] == responses[j]:
        continue
      votes = [w[i] > w[j] for w in worth]
      for a, b in itertools.combinations(votes, 2):
        same += a == b
        pairs += 1
  # Section 3.4: 72.6 ± 1.5 % and 77.3 ± 1.3 %. On the models' samples some 74
  # and 77, on this pool two more.
  assert 0.73 < same / pairs < 0.81


def test_every_labeler_prefers_ideal_answers_on_average():
  rng = random.Random(1)
  rows = prompts.sample(rng, "train", 200)
  for labeler in labelers.training() + labelers.held_out():
    wins = 0
    for prompt, _ in rows:
      texts = [
        answers.ideal(rng, prompt.spec),
        answers.flawed(rng, prompt.spec),
      ]
      grades = [judge.grade(prompt.spec, text) for text in texts]
      worth = [
        labeler.utility(prompt.text, *pair) for pair in zip(texts, grades)
      ]
      wins += worth[0] >= worth[1]
    assert wins / 200 > 0.75
