"""What is an answer to a task: forms, orders, and what is wrong with others."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from instruct_jax import paper
from instruct_jax.collecting import kinds

RANKING = {"prompt": "p", "responses": ["a", "b", "c"]}
PAIR = {"prompt": "p", "responses": ["a", "b"]}
FEW_SHOT = {"form": "few_shot"}
NO_FLAGS = dict.fromkeys(paper.METADATA, False)


def _wrong(kind, content, answer):
  with pytest.raises(kinds.Wrong) as caught:
    kinds.check(kind, content, answer)
  return caught.value.errors


def test_ranking_is_stored_dense_and_complete():
  answer = {
    "ratings": [7, 1.0, 7],
    "metadata": [{}, {"violent": True}, {"opinion": False}],
    "ranks": [1, 3, 1],
  }
  assert kinds.check("ranking", RANKING, answer) == {
    "ratings": [7, 1, 7],
    "metadata": [NO_FLAGS, NO_FLAGS | {"violent": True}, NO_FLAGS],
    "ranks": [1, 2, 1],
  }


def test_every_wrong_field_is_named_at_once():
  answer = {"ratings": [0, 1, 1], "metadata": "x", "ranks": [1, 2]}
  assert set(_wrong("ranking", RANKING, answer)) == set(answer)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("ratings", [1, 2, 8]),
    ("ratings", [1, 2, True]),
    ("ratings", [1, 2, 1.5]),
    ("ratings", [1, 2, float("nan")]),
    ("ratings", [1, 2, float("inf")]),
    ("ratings", [1, 2, 10**400]),
    ("ratings", [1, 2, "3"]),
    ("ratings", [1, 2, None]),
    ("ratings", {"0": 1}),
    ("metadata", [{}, {}, []]),
    ("metadata", [{}, {}, {"kind": True}]),
    ("metadata", [{}, {}, {"violent": 1}]),
    ("ranks", [1, 2, 4]),
    ("ranks", [0, 1, 2]),
    ("ranks", [1, 2]),
    ("ranks", None),
  ],
)
def test_wrong_value_of_a_ranking(field, value):
  answer = {"ratings": [1] * 3, "metadata": [{}] * 3, "ranks": [1, 2, 3]}
  assert list(_wrong("ranking", RANKING, answer | {field: value})) == [field]


def test_unknown_field_is_wrong_not_ignored():
  assert "score" in _wrong("demonstration", {}, {"response": "x", "score": 1})
  assert _wrong("demonstration", {}, ["x"]) == {"answer": "must be an object"}
  assert _wrong("demonstration", {}, None)


def test_text_of_a_demonstration():
  def stored(text):
    return kinds.check("demonstration", {}, {"response": text})["response"]

  assert stored("a\r\nb\rc\n") == "a\nb\nc\n"
  assert stored(" <script>\x00\u202e") == " <script>\x00\u202e"
  for text in ("", " \n\t", "\ud800", "x" * (kinds.LONGEST + 1), 3, None, []):
    assert "response" in _wrong("demonstration", {}, {"response": text})


def test_comparison_is_ranks_of_two():
  def stored(answer):
    return kinds.check("comparison", PAIR, answer)

  assert stored({"choice": "a"}) == {"ranks": [1, 2]}
  assert stored({"choice": "b"}) == {"ranks": [2, 1]}
  assert stored({"choice": "tie"}) == {"ranks": [1, 1]}
  assert stored({"ranks": [2, 2]}) == {"ranks": [1, 1]}
  for answer in ({}, {"choice": "c"}, {"choice": ["a"]}, {"ranks": [1]}):
    assert _wrong("comparison", PAIR, answer)
  assert _wrong("comparison", PAIR, {"choice": "a", "ranks": [1, 2]})


def test_written_prompts_of_three_forms():
  plain = {"prompt": "write a poem"}
  assert kinds.check("writing", {"form": "plain"}, plain) == plain
  used = plain | {"use_case": "generation"}
  assert kinds.check("writing", {"form": "user_based"}, used) == used
  assert "use_case" in _wrong("writing", {"form": "plain"}, used)
  assert "use_case" in _wrong("writing", {"form": "user_based"}, plain)
  few = {
    "instruction": "give the sentiment",
    "examples": [{"query": "good\r\n", "response": "positive"}],
  }
  stored = kinds.check("writing", FEW_SHOT, few)
  assert stored["examples"] == [{"query": "good\n", "response": "positive"}]
  for examples, field in (
    ([], "examples"),
    (few["examples"] * 21, "examples"),
    ([{"query": "q"}], "examples.1.response"),
    (["q"], "examples.1"),
  ):
    wrong = _wrong("writing", FEW_SHOT, few | {"examples": examples})
    assert list(wrong) == [field]


@hypothesis.given(st.permutations(range(5)), st.data())
def test_unshuffled_answer_is_what_was_meant(display, data):
  """Whatever the order shown, a response keeps what was said of it."""
  rating = data.draw(st.lists(st.integers(1, 7), min_size=5, max_size=5))
  rank = data.draw(st.lists(st.integers(1, 5), min_size=5, max_size=5))
  flagged = data.draw(st.lists(st.booleans(), min_size=5, max_size=5))
  content = {"prompt": "p", "responses": list("abcde")}
  meant = {
    "ratings": rating,
    "metadata": [{"violent": x} for x in flagged],
    "ranks": rank,
  }
  shown = {field: [x[i] for i in display] for field, x in meant.items()}
  checked = kinds.check("ranking", content, shown)
  assert kinds.unshuffle(checked, display) == kinds.check(
    "ranking", content, meant
  )


def test_unshuffle_of_a_comparison():
  checked = kinds.check("comparison", PAIR, {"choice": "a"})
  assert kinds.unshuffle(checked, [1, 0]) == {"ranks": [2, 1]}


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda x: st.lists(x) | st.dictionaries(st.text(), x),
  max_leaves=20,
)
FIELDS = ("ratings", "metadata", "ranks", "choice", "response", "prompt",
          "use_case", "instruction", "examples")  # fmt: skip


@hypothesis.given(
  st.sampled_from(
    [
      *((kind, RANKING) for kind in ("ranking", "demonstration")),
      ("comparison", PAIR),
      *(("writing", {"form": form}) for form in kinds.FORMS),
    ]
  ),
  JSON | st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_whatever_is_sent_is_an_answer_or_wrong(task, answer):
  """Nothing else is raised, and what is accepted is stable and is JSON."""
  kind, content = task
  said = {}
  try:
    checked = kinds.check(kind, content, answer)
  except kinds.Wrong as wrong:
    checked, said = None, wrong.errors
  assert (checked is None) == bool(said)
  assert all(field and words for field, words in said.items())
  json.dumps(said, ensure_ascii=False).encode()
  if checked is not None:
    assert kinds.check(kind, content, checked) == checked
    assert json.loads(kinds.as_json(checked).encode()) == checked
