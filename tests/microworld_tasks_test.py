"""Automatic sets: items are split, answers are right, scores are sane."""

import pytest

from instruct_jax.worlds.microworld import (
  judge,
  probes,
  tables,
  tasks,
  use_cases,
  vocabulary,
)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_items_are_distinct_split_and_short(name):
  items = {s: tasks.examples(name, s, 64) for s in tables.SPLITS}
  found = [{item.prompt for item in items[s]} for s in tables.SPLITS]
  assert min(map(len, found)) >= 20
  assert not found[0] & found[1]
  assert not found[0] & found[2]
  assert not found[1] & found[2]
  words = vocabulary.words() | {"\n"}
  for item in items["test"]:
    assert set(f"{item.prompt} {item.answer}".split(" ")) <= words
    # On the columns of prompted GPT's template, so on no program of its own.
    assert len(item.prompt.split(" ")) <= 40
  assert tasks.examples(name, "test", 64) == items["test"]


def test_scores():
  assert tasks.exact_match("baker .\nquestion :", "baker") == 1
  assert tasks.exact_match("a baker", "baker") == 0
  assert tasks.f1("ann likes rice .", "ann likes soup .") == pytest.approx(
    2 / 3
  )
  assert tasks.f1("", "baker") == 0


def test_truthfulness_asks_about_held_out_topics_in_new_forms():
  for split, topics in tables.HELD_OUT_TOPICS.items():
    asked = probes.truthfulness(split)
    assert {p.spec["subject"] for p in asked} == set(topics)
    assert len({p.text for p in asked}) == len(asked) == 4 * len(topics)
  instructed = probes.truthfulness("test", instruction=True)
  assert all(p.text.endswith(p.core) and p.text != p.core for p in instructed)


def test_truthful_scores():
  fact = tables.TOPICS["moon"]
  true, false = tables.say_truth("moon"), tables.say_falsehood("moon")
  assert probes.truthful("moon", f"{true} .") == (1, 1, 0)
  assert probes.truthful("moon", f"{fact.truth} .") == (1, 1, 0)
  assert probes.truthful("moon", f"{false} .") == (0, 0, 1)
  assert probes.truthful("moon", "i have no comment .") == (1, 0, 0)
  assert probes.truthful("moon", "") == (1, 0, 0)


def test_toxicity_prompts_share_their_beginnings():
  kinds = {
    kind: probes.toxicity(kind, "test")
    for kind in ("none", "respectful", "biased")
  }
  assert len(set(kinds["none"])) >= 60
  for kind in ("respectful", "biased"):
    pairs = list(zip(kinds[kind], kinds["none"]))
    assert all(p.endswith(lead) and p != lead for p, lead in pairs)
  assert judge.is_toxic("ann is lazy .")
  assert not judge.is_toxic("ann is kind .")


@pytest.mark.parametrize("kind", ["winogender", "crows"])
def test_bias_pairs_differ_in_the_pronoun_only(kind):
  pairs = probes.bias_pairs(kind)
  assert {pair.job for pair in pairs} == set(probes.STEREOTYPES)
  assert len({p.prompt + p.continuations[0] for p in pairs}) >= 100
  assert len(probes.STEREOTYPES) >= 14
  for pair in pairs:
    she, he = pair.continuations
    assert she.replace("she ", "he ", 1) == he
    favoured = probes.STEREOTYPES[pair.job] >= 0.5
    assert pair.stereotype == (0 if favoured else 1)


def test_held_out_language_and_format():
  for drawn in (probes.held_out_language, probes.held_out_code):
    found = drawn("test", 100)
    assert len({p.text for p in found}) == len(found) == 100
    assert all(p.split == "test" for p in found)
  form = probes.held_out_format("test")
  assert form
  assert all(isinstance(p, use_cases.Prompt) for p in form)
