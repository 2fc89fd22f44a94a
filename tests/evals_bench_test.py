"""Evaluations on subjects whose answers are known."""

import dataclasses
import json
import random

import numpy as np
import pytest
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.evals import (
  bench,
  bias,
  hallucination,
  kl,
  language,
  length,
  likert,
  metadata,
  mistakes,
  nlp,
  preference,
  toxicity,
  truthfulness,
)
from instruct_jax.inference import respond, score
from instruct_jax.worlds.microworld import (
  answers,
  candour,
  probes,
  prompts,
  tasks,
)
from instruct_jax.worlds.microworld import tables as facts
from tests import evals_toys

GROUPS = ("training", "held_out")


@pytest.fixture(scope="module")
def ctx():
  return evals_toys.make_context()


def records_of(count=60, **draw):
  rng = random.Random(3)
  made = [prompts.draw(rng, "test", **draw) for _ in range(3 * count)]
  found = {prompt.text: prompt.record() for prompt in made}
  return list(found.values())[:count]


def constant(text):
  return lambda asked: [text] * len(asked)


@pytest.fixture(scope="module")
def known(ctx):
  """Ideal, flawed, and the flawed once more under another name."""
  records = records_of()
  return evals_toys.fake_bench(
    ctx,
    records,
    ideal=evals_toys.writer(records),
    sft=evals_toys.writer(records, answers.flawed),
    twin=evals_toys.writer(records, answers.flawed),
  )


@pytest.mark.parametrize("group", GROUPS)
def test_ideal_answers_are_preferred(known, group):
  metrics, tables = preference.evaluate_preference(known)
  assert metrics[f"preference/ideal_over_sft/{group}"] > 0.75
  row = next(
    r
    for r in tables["preference"]
    if r["metric"] == f"preference/ideal_over_sft/{group}"
  )
  assert row["low"] > 0.5
  assert row["n"] == len(known.records)
  assert row["subject"] == "ideal"
  assert row["baseline"] == "sft"
  assert row["labelers"] == group


@pytest.mark.parametrize("group", GROUPS)
def test_equal_subjects_tie(known, group):
  metrics, _ = preference.evaluate_preference(known)
  assert metrics[f"preference/twin_over_sft/{group}"] == 0.5


def test_both_directions_add_up_to_one(known):
  metrics, _ = preference.evaluate_preference(known)
  found = {n: v for n, v in metrics.items() if n.startswith("preference/")}
  assert len(found) == 3 * 2 * 2
  for name, value in found.items():
    _, pair, group = name.split("/")
    a, _, b = pair.partition("_over_")
    assert value + metrics[f"preference/{b}_over_{a}/{group}"] == (
      pytest.approx(1)
    )


def test_use_cases_average_to_the_whole(known):
  metrics, tables = preference.evaluate_preference(known)
  rows = [
    r
    for r in tables["preference_by_use_case"]
    if (r["subject"], r["labelers"]) == ("ideal", "training")
  ]
  mean = sum(r["value"] * r["n"] for r in rows) / sum(r["n"] for r in rows)
  assert mean == pytest.approx(metrics["preference/ideal_over_sft/training"])
  assert {r["baseline"] for r in rows} == {"sft"}


def test_wins_count_ties_half():
  worth = np.asarray([[1.0, 2.0], [3.0, 3.0], [0.0, 5.0]])
  other = np.asarray([[0.0, 2.0], [4.0, 4.0], [9.0, 1.0]])
  found = preference.wins(("a", "b", "c"), ("x", "y", "c"), worth, other)
  np.testing.assert_array_equal(found, [[1, 0.5], [0, 0], [0.5, 0.5]])


def test_intervals_are_clustered_by_core(ctx):
  """Asking the same in other words makes no interval narrower."""
  made = records_of(40, use_case="open_qa")

  def row_of(records):
    found = evals_toys.fake_bench(
      ctx, records, a=constant("yes ."), sft=constant("no .")
    )
    return preference.evaluate_preference(found)[1]["preference"][0]

  once, often = row_of(made), row_of(made * 5)
  assert (once["n"], once["clusters"]) == (40, 40)
  assert (often["n"], often["clusters"]) == (200, 40)
  assert once["value"] == pytest.approx(often["value"])
  assert often["low"] <= once["low"] <= once["high"] <= often["high"]
  widths = [row["high"] - row["low"] for row in (once, often)]
  assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_likert(known):
  metrics, tables = likert.evaluate_likert(known)
  assert metrics["likert/ideal"] == 7
  assert metrics["likert/sft"] == metrics["likert/twin"] < 6
  by_case = [r for r in tables["likert_by_use_case"] if r["subject"] == "sft"]
  assert sum(r["n"] for r in by_case) == len(known.records)


def test_metadata_counts_only_where_a_flag_applies(known):
  metrics, tables = metadata.evaluate_metadata(known)
  assert metrics["metadata/fails_instruction/ideal"] == 0
  assert metrics["metadata/hallucination/ideal"] == 0
  assert metrics["metadata/satisfies_constraint/ideal"] == 1
  assert metrics["metadata/fails_instruction/sft"] > 0.1
  specs = [json.loads(record["spec"]) for record in known.records]
  counts = {row["flag"]: row["n"] for row in tables["metadata"]}
  assert counts["hallucination"] == sum("source" in spec for spec in specs)
  assert 0 < counts["satisfies_constraint"] < len(specs)
  assert counts["opinion"] == len(specs)


def test_hallucination_on_closed_domain(ctx):
  records = records_of(40, use_case="closed_qa")
  records += records_of(10, use_case="generation")

  def makes_up(asked):
    return [f"{facts.STRANGERS[0]} lives in oslo ."] * len(asked)

  found = evals_toys.fake_bench(
    ctx, records, ideal=evals_toys.writer(records), sft=makes_up
  )
  metrics, tables = hallucination.evaluate_hallucination(found)
  assert metrics["hallucination/all/ideal"] == 0
  assert metrics["hallucination/unanswerable/ideal"] == 0
  assert metrics["hallucination/all/sft"] > 0.5
  assert "hallucination/extract/sft" not in metrics
  rows = {
    (row["subject"], row["prompts"]): row for row in tables["hallucination"]
  }
  for subject in ("ideal", "sft"):
    apart = [rows[subject, k] for k in ("answerable", "unanswerable")]
    whole = rows[subject, "all"]
    assert sum(row["n"] for row in apart) == whole["n"]
    parts = sum(row["n"] * row["value"] for row in apart)
    assert parts == pytest.approx(whole["n"] * whole["value"])
  items = ctx.config.evaluation.judged_prompts
  assert {row["n"] for row in tables["hallucination"]} <= set(range(items + 1))


def test_who_does_not_attempt_a_task_makes_nothing_up(ctx):
  records = records_of(40, use_case="closed_qa")
  tries = evals_toys.writer(records, answers.careless)

  def half(asked):
    said = tries(asked)
    return [text if i % 2 else "cow , pig ." for i, text in enumerate(said)]

  found = evals_toys.fake_bench(ctx, records, half=half)
  metrics, tables = hallucination.evaluate_hallucination(found)
  rows = {row["prompts"]: row for row in tables["hallucination"]}
  assert rows["attempts"]["n"] < rows["all"]["n"]
  grades = found.graded(found.subjects[0])[: rows["all"]["n"]]
  tried = [g for g in grades if g["instruction"]]
  assert rows["attempts"]["n"] == len(tried)
  share = sum(g["hallucination"] for g in tried) / len(tried)
  assert metrics["hallucination/attempts/half"] == pytest.approx(share)


def test_preference_by_where_prompts_come_from(known):
  _, tables = preference.evaluate_preference(known)
  rows = tables["preference_by_source"]
  instruct = {
    (r["subject"], r["labelers"]): r["value"]
    for r in tables["preference"]
    if r["baseline"] == "sft"
  }
  assert {
    (r["subject"], r["labelers"]): r["value"]
    for r in rows
    if r["source"] == "instruct"
  } == instruct
  found = [row for row in rows if row["source"] == "gpt"]
  assert {(r["subject"], r["labelers"]) for r in found} == set(instruct)
  items = known.ctx.config.evaluation.judged_prompts
  assert {row["n"] for row in found} == {items}
  for row in found:
    low, high = (0.5, 0.5) if row["subject"] == "twin" else (0.7, 1)
    assert low <= row["value"] <= high


def test_prompts_for_plain_gpt_are_asked_as_they_are(known):
  asked = {}

  def ask(subject, prompts, *, raw=False, temperature=None):
    asked[subject.name, tuple(prompts)] = raw
    return known.ask(subject, prompts, temperature=temperature)

  subjects = (
    *known.subjects[:2],
    dataclasses.replace(known.subjects[2], prompted=True),
  )
  shared = dataclasses.replace(known, subjects=subjects, ask=ask)
  preference.evaluate_preference(shared)
  for (name, texts), as_it_is in asked.items():
    is_users = texts == known.prompts
    assert as_it_is == (not is_users and name != subjects[2].name)
  assert len(asked) == 2 * len(subjects)


def test_mistakes_by_hand(ctx):
  found = evals_toys.fake_bench(
    ctx,
    [],
    denies=constant(candour.DENIAL),
    hedges=constant(candour.HEDGE),
  )
  metrics, tables = mistakes.evaluate_mistakes(found)
  items = ctx.config.evaluation.task_prompts
  rows = [row for row in tables["mistakes"] if row["prompts"] != "hedging"]
  assert {row["n"] for row in rows} == {items}
  for name, right in (
    ("false_premise/denies", 1),
    ("true_premise/denies", 0),
    ("false_premise/hedges", 0),
    ("plain_question/hedges", 0),
    ("no_single_answer/hedges", 1),
    ("hedging/hedges", 0.5),
    ("hedging/denies", 0),
    ("constraints3/denies", 0),
  ):
    assert metrics[f"mistakes/{name}"] == right, name


def test_a_world_may_have_neither_pitfalls_nor_prompts_for_gpt(
  known, monkeypatch
):
  world = known.ctx.world
  without = dataclasses.replace(
    world.tasks, mistakes={}, playground=lambda split, count: []
  )
  bare = dataclasses.replace(world, tasks=without)
  monkeypatch.setattr(worlds, "of", lambda data: bare)
  assert mistakes.evaluate_mistakes(known) == ({}, {})
  metrics, tables = preference.evaluate_preference(known)
  assert "preference_by_source" not in tables
  assert not [name for name in metrics if name.startswith("preference_gpt")]


def test_truthfulness(ctx):
  def about(say):
    forms = {
      question.text: say(question.spec["subject"]) + " ."
      for instruction in (False, True)
      for question in probes.truthfulness("test", instruction=instruction)
    }
    return lambda asked: [forms[text] for text in asked]

  found = evals_toys.fake_bench(
    ctx,
    [],
    true=about(facts.say_truth),
    false=about(facts.say_falsehood),
    silent=constant(answers.NO_COMMENT),
  )
  metrics, tables = truthfulness.evaluate_truthfulness(found)
  for kind in truthfulness.KINDS:
    prefix = f"truthfulness/{kind}"
    assert metrics[f"{prefix}_truthful/true"] == 1
    assert metrics[f"{prefix}_truthful_informative/true"] == 1
    assert metrics[f"{prefix}_truthful/false"] == 0
    assert metrics[f"{prefix}_popular_falsehood/false"] == 1
    assert metrics[f"{prefix}_truthful/silent"] == 1
    assert metrics[f"{prefix}_truthful_informative/silent"] == 0
  topics = {q.spec["subject"] for q in probes.truthfulness("test")}
  assert {row["clusters"] for row in tables["truthfulness"]} == {len(topics)}


def test_toxicity(ctx):
  found = evals_toys.fake_bench(
    ctx, [], rude=constant("stupid ."), kind=constant("kind .")
  )
  metrics, _ = toxicity.evaluate_toxicity(found)
  for kind in toxicity.KINDS:
    assert metrics[f"toxicity/{kind}/rude"] == 1
    assert metrics[f"toxicity/{kind}/kind"] == 0


def test_only_bare_beginnings_lack_the_template(ctx):
  asked = []

  def ask(subject, prompts_, *, raw=False, temperature=None, columns=0):
    asked.append((prompts_[0], raw, temperature))
    return evals_toys.responses(ctx, prompts_, ["."] * len(prompts_))

  subjects = (bench.Subject("a", {}),)
  toxicity.evaluate_toxicity(bench.Bench(ctx, subjects, (), (), ask, None, {}))
  assert [raw for _, raw, _ in asked] == [True, False, False]
  asked.clear()
  nlp.evaluate_nlp(bench.Bench(ctx, subjects, (), (), ask, None, {}))
  assert [how for _, *how in asked] == [[True, 0.0]] * 2  # few-shot too


def numbered(policy, prompts_, key, *, n=1):
  """The n-th response has its place for a text."""
  del policy, key
  at = np.arange(len(prompts_) * n)
  return respond.Responses(
    *(tuple(map(str, at)), at % 2 == 0, at[:, None], at[:, None] >= 0),
    *(at[:, None], at[:, None], at[:, None] >= 0),
  )


def test_the_best_of_n_is_what_the_reward_likes_best(ctx, monkeypatch):
  monkeypatch.setattr(respond, "respond", numbered)
  policy = dataclasses.make_dataclass("Policy", ["width", "columns"])(8, 8)
  monkeypatch.setattr(respond, "policy_of", lambda *_, **__: policy)
  scores, judged = np.asarray([1.0, 5.0, 2.0, 3.0, 3.0, 0.0]), []

  def rewards_of(ctx, reward, prompts_, said, *, rows):
    judged.append((reward, prompts_, said.texts))
    return scores

  monkeypatch.setattr(score, "rewards_of", rewards_of)
  ask = bench.asker(ctx, {"a": "reward"})
  plain, best = bench.Subject("a", {}), bench.Subject("b", {}, best_of=3)
  best = dataclasses.replace(best, params=plain.params)
  said = ask(best, ["x", "y"])
  assert said.texts == ("1", "3")  # of equal scores the first
  np.testing.assert_array_equal(said.response[:, 0], [1, 3])
  np.testing.assert_array_equal(said.ended, [False, False])
  asked = ["x", "x", "x", "y", "y", "y"]
  assert judged == [({"a": "reward"}, asked, tuple("012345"))]
  # One answer where all would be the same, where nobody asks, and to others.
  for subject, how in (
    (best, {"raw": True}),
    (best, {"temperature": 0.0}),
    (plain, {}),
  ):
    assert ask(subject, ["x", "y"], **how).texts == ("0", "1")
  assert len(judged) == 1


@pytest.mark.parametrize(
  ("mode", "value", "ended", "chosen"),
  [
    ("fixed", 2.5, [True, False, False], "0"),
    ("penalty", 1.0, [True, False, True], "2"),
    ("none", 0.0, [True, False, True], "1"),
  ],
)
def test_the_best_of_n_after_rl_is_what_training_would_keep(
  ctx, monkeypatch, mode, value, ended, chosen
):
  def respond_to(policy, prompts_, key, *, n=1):
    said = numbered(policy, prompts_, key, n=n)
    return dataclasses.replace(said, ended=np.asarray(ended))

  monkeypatch.setattr(respond, "respond", respond_to)
  monkeypatch.setattr(respond, "policy_of", lambda *_, **__: None)
  scores = np.asarray([3.0, 5.0, 4.5])
  monkeypatch.setattr(score, "rewards_of", lambda *_, **__: scores)
  config = ctx.config.copy_and_resolve_references().unlock()
  config.rl = ConfigDict({"missing_end": mode, "missing_end_value": value})
  after_rl = dataclasses.replace(ctx, config=config.lock())
  said = bench.asker(after_rl, {})(bench.Subject("b", {}, best_of=3), ["x"])
  assert said.texts == (chosen,)


def test_how_far_the_best_of_n_is_stands_among_the_metrics(ctx):
  subjects = (bench.Subject("plain", {}), bench.Subject("b", {}, best_of=4))
  shared = bench.Bench(ctx, subjects, (), (), None, None, {})
  metrics, tables = kl.evaluate_kl(shared)  # there is no reference
  assert metrics == {"kl_bound/b": pytest.approx(np.log(4) - 3 / 4)}
  assert tables == {}


def test_tasks(ctx):
  settings = ctx.config.evaluation
  training = {
    f"{item.prompt} {item.answer}": name
    for name in tasks.TASKS
    for item in tasks.examples(name, "train", nlp.POOL)
  }
  items = {
    item.prompt: (name, item.answer)
    for name in tasks.TASKS
    for item in tasks.examples(name, settings.split, settings.task_prompts)
  }
  seen = []

  def right(asked):
    """Knows every item, whatever training items of its task come before."""
    said = []
    for text in asked:
      prompt = next(p for p in items if text.endswith(p))
      name, answer = items[prompt]
      before, shots = text.removesuffix(prompt), 0
      while before:
        shot = next(s for s in training if before.startswith(s + " \n "))
        assert training[shot] == name
        before, shots = before.removeprefix(shot + " \n "), shots + 1
      words = f"{text} {answer}".replace(" . ", " ").split(" ")
      seen.append((name, shots, len(words)))
      said.append(answer + " \n question : why")
    return said

  found = evals_toys.fake_bench(
    ctx, [], right=right, wrong=constant("who cares lol .")
  )
  metrics, rows = nlp.evaluate_nlp(found)
  for task in (*tasks.TASKS, "mean"):
    assert metrics[f"nlp/{task}/right"] == 1
    assert metrics[f"nlp/{task}/wrong"] == 0
  shots = {row["task"]: row.get("shots") for row in rows["few_shot"]}
  assert shots["sequence"] == shots["sentiment"] == nlp.SHOTS
  for task, count in shots.items():
    if count is not None:
      name = task.removesuffix("_f1")
      assert {k for n, k, _ in seen if n == name} == {0, count}
      assert metrics[f"few_shot/{task}/right"] == 1
      assert metrics[f"few_shot/{task}/wrong"] == 0
  assert {row["shots"] for row in rows["nlp"] if "shots" in row} == {0}
  context = ctx.policy.config.context_length
  assert max(words for *_, words in seen) < context


def test_held_out_language_and_form(ctx):
  items = ctx.config.evaluation.task_prompts
  sets = probes.held_out_language("test", items)
  sets += probes.held_out_format("test")
  sets += probes.held_out_code("test", items)
  records = [prompt.record() for prompt in sets]
  found = evals_toys.fake_bench(
    ctx,
    [],
    ideal=evals_toys.writer(records),
    english=constant("ann is a nurse ."),
  )
  metrics, _ = language.evaluate_language(found)
  assert metrics["language/zorp/ideal"] == metrics["language/form/ideal"] == 7
  assert metrics["language/zorp_share/ideal"] == 1
  assert metrics["language/zorp_share/english"] == 0


def test_entropy():
  found = bias.entropy(np.asarray([0.5, 1.0, 0.0, 0.25]))
  np.testing.assert_allclose(found, [1, 0, 0, 0.811278], atol=1e-6)


def test_length(ctx):
  records = records_of(4)
  found = evals_toys.fake_bench(ctx, records, a=constant("ann is kind ."))
  metrics, _ = length.evaluate_length(found)
  assert metrics == {"length/a": 5.0, "ended/a": 1.0}


def test_prompts_without_a_use_case(ctx):
  """A world may have a judge and neither use cases nor cores."""
  records = [
    {key: record[key] for key in ("prompt", "spec")}
    for record in records_of(20)
  ]
  shared = evals_toys.fake_bench(
    ctx,
    records,
    ideal=evals_toys.writer(records),
    sft=evals_toys.writer(records, answers.flawed),
  )
  assert shared.use_cases is None
  metrics, tables = likert.evaluate_likert(shared)
  assert metrics["likert/ideal"] > metrics["likert/sft"]
  assert tables["likert_by_use_case"] == []
  metrics, tables = preference.evaluate_preference(shared)
  assert metrics["preference/ideal_over_sft/training"] > 0.5
  assert tables["preference_by_use_case"] == []
  assert hallucination.evaluate_hallucination(shared) == ({}, {})
