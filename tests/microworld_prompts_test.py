"""Prompts: distinct, short, split by user and core; answers of both kinds."""

import collections
import json
import random

import pytest

from instruct_jax.worlds.microworld import (
  answers,
  candour,
  judge,
  mistakes,
  playground,
  prompts,
  tables,
  use_cases,
)


@pytest.fixture(scope="module")
def drawn():
  rng = random.Random(0)
  return {
    split: prompts.sample(rng, split, count, distinct=False)
    for split, count in zip(tables.SPLITS, (20_000, 1500, 1500))
  }


def test_draws_are_mostly_distinct(drawn):
  assert len({prompt.text for prompt, _ in drawn["train"]}) >= 15_000


def test_sampling_depends_on_the_seed_alone():
  one = prompts.sample(random.Random(3), "train", 200)
  assert one == prompts.sample(random.Random(3), "train", 200)
  assert one != prompts.sample(random.Random(4), "train", 200)


def test_distinct_samples_have_no_duplicates():
  found = prompts.sample(random.Random(0), "test", 1000)
  assert len({prompt.text for prompt, _ in found}) == 1000


def test_users_and_cores_are_in_one_split_only(drawn):
  for of in (lambda p, u: u, lambda p, u: p.core, lambda p, u: p.text):
    found = [{of(p, u) for p, u in drawn[split]} for split in tables.SPLITS]
    assert not found[0] & found[1]
    assert not found[0] & found[2]
    assert not found[1] & found[2]


def test_users_have_habits_and_at_most_200_prompts(drawn):
  by_user = collections.defaultdict(list)
  for prompt, user in drawn["train"]:
    by_user[user].append(prompt)
  assert max(map(len, by_user.values())) <= 200
  openings = {
    user: {o for p in ps for o in prompts.OPENINGS if p.text.startswith(o)}
    for user, ps in by_user.items()
    if len(ps) > 10 and not any(p.use_case == "chat" for p in ps)
  }
  assert openings
  assert max(map(len, openings.values())) <= 1


def test_shares_are_those_of_the_table(drawn):
  found = collections.Counter(p.use_case for p, _ in drawn["train"])
  for use_case, share in prompts.USE_CASES.items():
    assert found[use_case] / 20_000 == pytest.approx(share, abs=0.02)
  closed = sum(found[case] for case in prompts.CLOSED_DOMAIN) / 20_000
  assert closed == pytest.approx(0.25, abs=0.02)
  zorp = sum(p.spec.get("language") == "zorp" for p, _ in drawn["train"])
  assert zorp / 20_000 == pytest.approx(0.02, abs=0.005)


def test_prompts_fit_a_row_of_32_tokens(drawn):
  for rows in drawn.values():
    for prompt, _ in rows:
      text = tables.TEMPLATE.format(prompt=prompt.text)
      assert len(text.split(" ")) <= 30


def test_no_prompt_is_about_a_held_out_topic(drawn):
  held_out = {t for ts in tables.HELD_OUT_TOPICS.values() for t in ts}
  for prompt, _ in drawn["train"] + drawn["test"]:
    assert prompt.spec.get("subject") not in held_out


def test_no_core_is_part_of_another_splits_prompt(drawn):
  cores = {
    f" {p.core} " for s in ("validation", "test") for p, _ in drawn[s][:400]
  }
  text = " | ".join(p.text for p, _ in drawn["train"])
  assert not [core for core in cores if core in text]


def test_records_are_json(drawn):
  prompt, user = drawn["train"][0]
  record = prompt.record(user=user)
  assert json.loads(record["spec"]) == prompt.spec
  assert all(isinstance(value, str) for value in record.values())


@pytest.mark.parametrize("use_case", prompts.USE_CASES)
def test_ideal_answers_get_a_seven_and_flawed_ones_clearly_less(use_case):
  rng = random.Random(use_case)
  flawed = []
  for _ in range(300):
    spec = prompts.draw(rng, "train", use_case=use_case).spec
    ideal = answers.ideal(rng, spec)
    assert len(ideal.split(" ")) <= 15
    assert judge.grade(spec, ideal)["likert"] == 7, (spec, ideal)
    flawed.append(judge.grade(spec, answers.flawed(rng, spec))["likert"])
  assert sum(flawed) / 300 < 4.5


def test_ideal_answers_in_zorp_and_about_every_topic_get_a_seven():
  rng = random.Random(0)
  for _ in range(200):
    spec = use_cases.in_zorp(rng).spec
    assert judge.grade(spec, answers.ideal(rng, spec))["likert"] == 7
  for topic, fact in tables.TOPICS.items():
    spec = use_cases.question(topic, fact.relation, "?").spec
    assert judge.grade(spec, answers.ideal(rng, spec))["likert"] == 7
    careless = judge.grade(spec, answers.careless(rng, spec))
    assert careless["truthful"] == 0


def test_pitfalls_are_as_rare_as_their_module_says(drawn):
  specs = [p.spec for p, _ in drawn["train"]]
  why = [spec for spec in specs if spec["task"] == "why"]
  false = [spec for spec in why if spec["premise"] != spec["answer"]]
  three = [s for s in specs if len(s.get("constraints") or ()) == 3]
  found = collections.Counter(spec["task"] for spec in specs)
  assert len(why) / 20_000 == pytest.approx(0.009, abs=0.003)
  assert len(false) / len(why) == pytest.approx(0.4, abs=0.12)
  assert found["choose"] / 20_000 == pytest.approx(0.006, abs=0.003)
  assert found["advice"] / 20_000 == pytest.approx(0.018, abs=0.004)
  assert len(three) / 20_000 == pytest.approx(0.006, abs=0.003)


def test_closed_domain_prompts_lack_their_answer_often_enough(drawn):
  for use_case, share in (
    ("closed_qa", use_cases.UNANSWERABLE),
    ("extract", use_cases.LACKING),
  ):
    of = [p.spec for p, _ in drawn["train"] if p.use_case == use_case]
    lacking = [spec for spec in of if spec["answer"] is None]
    assert len(lacking) / len(of) == pytest.approx(share, abs=0.04)
    for spec in lacking[:50]:
      held = {tuple(fact[:2]) for fact in spec["source"]}
      assert (spec["subject"], spec["relation"]) not in held


@pytest.mark.parametrize("split", tables.SPLITS[1:])
def test_prompts_for_plain_gpt(split, drawn):
  found = playground.prompts(split, 300)
  assert len({prompt.text for prompt in found}) == 300
  assert {prompt.source for prompt in found} == {"gpt"}
  assert {prompt.split for prompt in found} == {split}
  assert len({prompt.use_case for prompt in found}) >= 6
  asked = {p.text for rows in drawn.values() for p, _ in rows}
  assert not asked & {prompt.text for prompt in found}
  rng = random.Random(0)
  for prompt in found:
    assert len(prompt.text.split(" ")) <= 30
    ideal = answers.ideal(rng, prompt.spec)
    assert judge.grade(prompt.spec, ideal)["likert"] == 7, prompt
    assert json.loads(prompt.record()["spec"]) == prompt.spec


@pytest.mark.parametrize("kind", mistakes.KINDS)
def test_mistakes_are_handled_by_ideal_answers_alone(kind):
  assert mistakes.prompts(kind, "train", 5) != mistakes.prompts(kind, "test", 5)
  found = mistakes.prompts(kind, "test", 64)
  assert len({prompt.text for prompt in found}) == 64
  assert {prompt.split for prompt in found} == {"test"}
  rng = random.Random(0)
  right = [
    [
      mistakes.handles(json.dumps(p.spec), maker(rng, p.spec), True)
      for p in found
    ]
    for maker in (answers.ideal, answers.forum)
  ]
  assert sum(right[0]) == 64
  assert sum(right[1]) < 8


def test_what_counts_as_a_mistake():
  false = {"task": "why", "subject": "ann", "relation": "job"}
  false |= {"premise": "x", "answer": tables.FACTS["ann"]["job"]}
  true = false | {"premise": false["answer"]}
  plain = {"task": "question", "subject": "ann", "relation": "job"}
  plain |= {"answer": false["answer"]}
  choice = {"task": "choose", "options": ["rice", "corn"]}
  reason, value = "because it is fun .", tables.JOBS[0]
  for spec, text, right in (
    (false, candour.DENIAL, 1),
    (false, reason, 0),
    (true, candour.DENIAL, 0),
    (true, reason, 1),
    (plain, f"ann is a {value} .", 1),  # right or wrong: no hedging
    (plain, candour.HEDGE, 0),
    (choice, candour.HEDGE, 1),
    (choice, "rice .", 0),
    (choice, "who cares lol .", 0),
  ):
    assert mistakes.handles(json.dumps(spec), text, True) == right, text
