"""Agreement of labelers who saw the responses in other orders, or others."""

import itertools
import pathlib
import random

import hypothesis
import hypothesis.strategies as st
import pytest

from instruct_jax.data.clean import annotators
from instruct_jax.data.public import convert
from instruct_jax.data.read import sources

PEOPLE = ("prompt", "labeler")
PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"


def judged(who, responses, ranks, **more):
  record = {"prompt": "p", "responses": list(responses), "ranks": list(ranks)}
  return record | {"labeler": who} | more


def figures(records):
  found = annotators.agreement(records)
  names = ("ranked_by_several", "compared_pairs", "agreement")
  return tuple(found.get(name) for name in names)


def test_the_other_order_is_the_same_comparison():
  ann = judged("ann", "ab", [1, 2])
  assert figures([ann, judged("ben", "ba", [2, 1])]) == (1, 1, 1.0)
  assert figures([ann, judged("ben", "ba", [1, 2])]) == (1, 1, 0.0)
  assert figures([ann, judged("ben", "ba", [1, 1])]) == (1, 0, None)
  assert figures([ann, judged("ann", "ba", [2, 1])]) == (0, 0, None)
  elsewhere = judged("ben", "ba", [2, 1], prompt="another")
  assert figures([ann, elsewhere]) == (0, 0, None)
  spaced = judged("ben", ["b ", " a"], [2, 1], prompt=" p\n")
  assert figures([ann, spaced]) == (1, 1, 1.0)


def test_a_subset_is_compared_by_the_pairs_that_both_saw():
  ann = judged("ann", "abcd", [1, 2, 3, 4])
  assert figures([ann, judged("ben", "ca", [1, 2])]) == (2, 1, 0.0)
  assert figures([ann, judged("ben", "dxb", [3, 1, 2])]) == (2, 1, 1.0)
  assert figures([ann, judged("ben", "ax", [1, 2])]) == (0, 0, None)
  pairs = {"prompt": "p", "responses": list("ba"), "labeler": "ben"}
  assert figures([ann, pairs | {"pairs": [[1, 0]]}]) == (2, 1, 1.0)


def test_one_text_twice_is_one_response():
  ann = judged("ann", "aab", [1, 1, 2])
  assert figures([ann, judged("ben", "ba", [1, 2])]) == (1, 1, 0.0)
  ended = judged("ann", "aa", [1, 2], ended=[True, False])
  other = judged("ben", "aa", [1, 2], ended=[False, True])
  assert figures([ended, other]) == (1, 1, 0.0)


def by_hand(records):
  """(compared, agreeing): every two labelers, pair of texts by pair."""
  compared = agreeing = 0
  prompts, labelers = ({r[key] for r in records} for key in PEOPLE)
  for prompt, (a, b), two in itertools.product(
    prompts,
    itertools.combinations("abcde", 2),
    itertools.combinations(sorted(labelers), 2),
  ):
    said = []
    for who in two:
      given = [
        r
        for r in records
        if (r["prompt"], r["labeler"]) == (prompt, who)
        if {a, b} <= {*r["responses"]}
      ]
      ranks = [dict(zip(r["responses"], r["ranks"])) for r in given]
      said.append({(r[a] > r[b]) - (r[a] < r[b]) for r in ranks})
    if all(len(one) == 1 and one != {0} for one in said):
      compared += 1
      agreeing += said[0] == said[1]
  return compared, agreeing


one = st.tuples(
  st.sampled_from("pq"),
  st.sampled_from(["ann", "ben", "cat"]),
  st.permutations("abcde"),
  st.lists(st.integers(1, 4), min_size=2, max_size=5),
)


@hypothesis.settings(deadline=None, max_examples=80)
@hypothesis.given(st.lists(one, max_size=12))
def test_any_lists_in_any_order(given):
  records = [
    judged(who, responses[: len(ranks)], ranks, prompt=prompt)
    for prompt, who, responses, ranks in given
  ]
  found = annotators.agreement(records)
  compared, agreeing = by_hand(records)
  assert found["compared_pairs"] == compared
  if compared:
    assert found["agreement"] == round(agreeing / compared, 4)


def test_pandalm_whichever_order_an_annotator_saw(tmp_path):
  source = PUBLIC / "pandalm" / "testset-v1.json"
  if not source.exists():
    pytest.skip(f"the public data set is not here: {source}")
  out = tmp_path / "p.jsonl"
  convert.convert("pandalm", [str(source)], out)
  records = sources.read(out, "rankings")
  draw = random.Random(0)
  turned = [
    r
    | {
      name: r[name][::-1]
      for name in ("responses", "ranks", "ended")
      if name in r
    }
    if draw.random() < 0.5
    else r
    for r in records
  ]
  assert annotators.agreement(turned) == annotators.agreement(records)
  # Counted from the file itself: a verdict for each pair and annotator; with
  # the six rows that have `true` for a response it would be 2297, 0.9460.
  found = annotators.agreement(records)
  assert (found["compared_pairs"], found["agreement"]) == (2293, 0.9459)


def test_who_repeats_oneself_counts_once():
  first = [judged(who, "ab", [1, 2]) for who in ("ann", "bob")] * 10
  other = [
    judged("ann", "ab", [1, 2], prompt="q"),
    judged("bob", "ab", [2, 1], prompt="q"),
  ]
  found = annotators.agreement(first + other)
  assert (found["compared_pairs"], found["agreement"]) == (2, 0.5)
  assert found["contrary_verdicts_of_one_labeler"] == 0
  for ranks in ([2, 1], [1, 1]):  # ann says this too of the first
    found = annotators.agreement([*first, *other, judged("ann", "ab", ranks)])
    assert (found["compared_pairs"], found["agreement"]) == (1, 0.0)
    assert found["contrary_verdicts_of_one_labeler"] == 1


def test_what_nobody_compared_is_no_tie():
  some = {"prompt": "p", "responses": list("abcd"), "pairs": [[0, 1], [2, 1]]}
  found = annotators.pairs([some, judged("ann", "abc", [1, 1, 2])])
  assert (found["pairs"], found["not_compared"], found["ties"]) == (9, 4, 1)
  assert found["share_of_ties"] == 0.2
  assert annotators.pairs([some])["share_of_ties"] == 0
  # That pairs are not named is no verdict, so none to contradict.
  more = [some | {"labeler": "ann"}, judged("ann", "abcd", [1, 4, 2, 3])]
  found = annotators.agreement([*more, judged("bob", "ac", [1, 2])])
  assert found["contrary_verdicts_of_one_labeler"] == 0
  assert (found["compared_pairs"], found["agreement"]) == (1, 1.0)


def test_pairs_beside_ranks_take_nothing_from_them():
  both = judged("ann", "abcd", [1, 2, 3, 3]) | {"pairs": [[0, 1]]}
  found = annotators.pairs([both])
  assert (found["pairs"], found["ties"], found["not_compared"]) == (6, 1, 0)


def test_circles_are_counted():
  three = {"prompt": "p", "responses": list("abcd")}
  circle = three | {"pairs": [[0, 1], [1, 2], [2, 0]]}
  tree = three | {"pairs": [[0, 1], [1, 2], [0, 2], [3, 0]]}
  tied = three | {"ranks": [1, 1, 1, 1]}
  found = annotators.pairs([circle, tree, tied])
  twins = three | {"responses": list("abca"), "ranks": [1, 2, 3, 1]}
  told = annotators.pairs([tree, twins])
  assert told["rankings_with_one_text_twice"] == 1
  assert found["rankings_with_circles"] == found["rankings_all_tied"] == 1
  assert (found["pairs"], found["ties"]) == (18, 6)
  assert found["not_compared"] == 3 + 2
  assert found["rankings_with_circles_alone"] == 1


def test_circles_alone_order_nothing():
  def alone(*pairs):
    named = [list(map("abcd".index, pair)) for pair in pairs]
    record = {"prompt": "p", "responses": list("abcd"), "pairs": named}
    return annotators.has_circles_alone(record)

  assert alone("ab", "bc", "ca")
  assert alone("ab", "bc", "cd", "da")
  assert not alone("ab", "bc", "ca", "cd")
  assert not alone("ab", "bc")
  assert not annotators.has_circles_alone(judged("ann", "ab", [1, 1]))
