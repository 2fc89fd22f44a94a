"""The tables, the languages, the splits and what people type."""

import random

import hypothesis
import pytest
from hypothesis import strategies as st

from instruct_jax.worlds.microworld import (
  claims,
  passages,
  spelling,
  tables,
  zorp,
)


def test_every_person_has_four_facts_and_every_topic_a_falsehood():
  assert len(tables.PEOPLE) == 16
  for name in tables.PEOPLE:
    assert set(tables.FACTS[name]) == set(tables.RELATIONS)
  for topic in tables.TOPICS.values():
    assert topic.truth != topic.falsehood


def test_held_out_topics_are_disjoint_and_leave_enough_to_align_on():
  validation = set(tables.HELD_OUT_TOPICS["validation"])
  test = set(tables.HELD_OUT_TOPICS["test"])
  assert (len(validation), len(test)) == (12, 49)
  assert not validation & test
  assert not (validation | test) & set(tables.ALIGNED_TOPICS)
  assert len(tables.ALIGNED_TOPICS) == 24


@pytest.mark.parametrize("relation", tables.RELATIONS)
def test_zorp_is_a_cipher(relation):
  for value in tables.RELATIONS[relation].values:
    text = tables.say("ann", relation, value)
    coded = zorp.to_zorp(text)
    assert coded != text
    assert zorp.to_english(coded) == text


def test_statements_parse_to_the_facts_they_state():
  for name in tables.PEOPLE:
    for relation, value in tables.FACTS[name].items():
      parsed = claims.parse(tables.say(name, relation, value) + " .")
      assert parsed.facts == ((name, relation, value),)
      assert parsed.unparsed == 0
  for topic, fact in tables.TOPICS.items():
    for value in (fact.truth, fact.falsehood):
      parsed = claims.parse(tables.say(topic, fact.relation, value) + " .")
      assert parsed.facts == ((topic, fact.relation, value),)


@pytest.mark.parametrize(
  ("text", "facts", "unparsed"),
  [
    ("ann is a kind nurse .", 2, 0),
    ("ann is kind and brave .", 2, 0),
    ("ann has a cat . she likes rice .", 2, 0),
    ("ann has a cat . he likes rice .", 2, 1),  # the wrong pronoun
    ("today ann likes rice indeed .", 1, 0),
    ("she likes rice .", 0, 2),
    ("the moon is a nurse .", 0, 1),
    ("ann likes\nrice", 0, 2),
    ("", 0, 0),
  ],
)
def test_claims_follow_subjects(text, facts, unparsed):
  parsed = claims.parse(text)
  assert (len(parsed.facts), parsed.unparsed) == (facts, unparsed)


def test_passages_keep_their_split_whatever_their_order():
  rng = random.Random(0)
  for split in tables.SPLITS:
    facts = passages.draw(rng, split, 2, 3)
    assert passages.split_of(facts) == split
    assert passages.split_of(facts[::-1]) == split
    assert len({relation for _, relation, _ in facts}) == 3


def test_splits_have_their_shares():
  found = [tables.split_of(str(i)) for i in range(4000)]
  assert found.count("train") / 4000 == pytest.approx(0.76, abs=0.03)
  assert found.count("validation") / 4000 == pytest.approx(0.10, abs=0.02)


@pytest.mark.parametrize(
  ("typed", "text"),
  [
    ("What job does Ann have?", "what job does ann have ?"),
    ("  Hello, I am Bob!  ", "hello , i am bob ."),
    ("Name three animals...", "name three animals ."),
    ("Tell me about Ann’s job", "tell me about ann job"),
    (
      "Read this text.\nKim likes RICE.",
      "read this text . \n kim likes rice .",
    ),
    ("José", "jose"),
    ("", ""),
  ],
)
def test_normalize(typed, text):
  assert spelling.normalize(typed) == text


@hypothesis.given(st.text(max_size=60))
def test_normalize_takes_anything_and_is_idempotent(text):
  once = spelling.normalize(text)
  assert spelling.normalize(once) == once
