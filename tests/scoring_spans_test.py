"""Official scores of short answers, by hand."""

import hypothesis
import pytest
from hypothesis import strategies as st

from instruct_jax.scoring import spans

SQUAD_NORMALISED = [
  ("The Cat", "cat"),
  ("a cat", "cat"),
  ("an owl and the cat", "owl and cat"),
  ("cat.", "cat"),
  ("  cat \n sat\t", "cat sat"),
  ("the", ""),
  ("a an the", ""),
  ("theatre", "theatre"),
  ("another", "another"),
  ("U.S.A.", "usa"),
  ("U.S. A.", "us"),  # the article goes after the points
  ("it's", "its"),
  ("the-cat", "thecat"),
  ("(the) cat", "cat"),
  ("1,000", "1000"),
  ("3.5 %", "35"),
  ("$5", "5"),
  ("É", "é"),
  ("naïve — café", "naïve — café"),  # only ASCII's punctuation goes
  ("“quoted”", "“quoted”"),
  ('"quoted"', "quoted"),
  ("", ""),
  ("...", ""),
  ("Not in background.", "not in background"),
  ("A.", ""),
  ("vitamin A", "vitamin"),
  ("x_y", "xy"),
  ("C++", "c"),
  ("and/or", "andor"),
  ("THE END", "end"),
  ("b a b", "b b"),
]

SQUAD = [  # sample, alternatives, exact match, F1
  ("Paris", ["Paris"], 1, 1),
  ("paris.", ["Paris"], 1, 1),
  ("the Paris", ["Paris"], 1, 1),
  ("Paris France", ["Paris"], 0, 2 / 3),
  ("Paris", ["Paris France"], 0, 2 / 3),
  ("in Paris", ["Paris France"], 0, 1 / 2),
  ("Rome", ["Paris"], 0, 0),
  ("Rome", ["Paris", "Rome"], 1, 1),
  ("Rome city", ["Paris", "Rome"], 0, 2 / 3),
  ("", [""], 1, 1),
  ("", ["Paris"], 0, 0),
  ("Paris", [""], 0, 0),
  ("the", [""], 1, 1),  # an article is nothing
  ("", ["the"], 1, 1),
  ("", ["the", "Paris"], 0, 0),  # nothing counts where all are nothing
  ("", [], 1, 1),
  ("a b b", ["b b c"], 0, 4 / 5),  # bags: the b is there twice; a is gone
  ("b", ["b b b"], 0, 1 / 2),
  ("x y z", ["z y x"], 0, 1),
  ("1,000 men", ["1000 men"], 1, 1),
]

DROP_NORMALISED = [
  ("The Cat", "cat"),
  ("a cat", "cat"),
  ("cat.", "cat"),
  ("7", "7.0"),
  ("7.0", "7.0"),
  ("07", "7.0"),
  ("7.50", "7.5"),
  ("-7", "7.0"),  # a hyphen parts words
  ("+7", "7.0"),
  ("7,761", "7761.0"),
  ("$41,809", "41809.0"),
  ("$7", "7.0"),
  ("7%", "7.0"),
  ("64.56%", "6456.0"),  # no number as it stands, so its point goes too
  ("76.87", "76.87"),
  (".5", "0.5"),
  ("1e3", "1000.0"),
  ("seven", "seven"),
  ("3-yard", "3.0 yard"),
  ("first-half", "first half"),
  ("the-end", "end"),
  ("U.S.", "us"),
  ("  cat  sat ", "cat sat"),
  ("7 yards", "7.0 yards"),
  ("7th", "7th"),
  ("", ""),
  ("the", ""),
  ("...", ""),
  ("it's", "its"),
  ("1.2.3", "123.0"),
  ("Smith, John", "smith john"),
  ("nan", "nan"),
]

DROP = [
  ("7", ["7"], 1, 1),
  ("7.0", ["7"], 1, 1),
  ("7 yards", ["7"], 0, 0.67),  # 2 · 1/2 · 1 / (3/2), of two decimals
  ("7 yards", ["8 yards"], 0, 0),  # another number
  ("seven yards", ["7 yards"], 0, 0),  # no number
  ("7 8", ["7 9"], 0, 0.5),  # one of the numbers is enough
  ("John Smith", ["Smith"], 0, 0.67),
  ("Smith John", ["John Smith"], 0, 1),  # sets for F1, the text for EM
  ("b b c", ["b c"], 0, 1),  # sets
  ("x", ["y"], 0, 0),
  ("", ["y"], 0, 0),
  ("the", ["y"], 0, 0),
  ("y", ["", "y"], 1, 1),
  ("", [""], 0, 0),  # without an alternative there is nothing to match
  ("", ["the"], 1, 1),
  ("x", ["the"], 0, 0),
  ("a b c d", ["b"], 0, 0.5),
  ("b", ["b c d e f g"], 0, 0.29),  # 2/7
  ("40-yard run", ["40 yard run"], 1, 1),
  ("10", ["7761", "10"], 1, 1),
]


@pytest.mark.parametrize(("text", "expected"), SQUAD_NORMALISED)
def test_squad_normalises(text, expected):
  assert spans.squad_normalised(text) == expected


@pytest.mark.parametrize(("sample", "known", "exact", "f1"), SQUAD)
def test_squad(sample, known, exact, f1):
  assert spans.squad(sample, known) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(("text", "expected"), DROP_NORMALISED)
def test_drop_normalises(text, expected):
  assert spans.drop_normalised(text) == expected


@pytest.mark.parametrize(("sample", "known", "exact", "f1"), DROP)
def test_drop(sample, known, exact, f1):
  assert spans.drop(sample, known) == (exact, f1)


DROP_SPANS = [  # spans said, alternatives, exact match, F1
  (["a cat", "dog"], [["dog", "cat"]], 1, 1),  # in any order
  (["dog"], [["dog", "cat"]], 0, 0.5),  # one of two
  (["dog", "cat"], [["dog"]], 0, 0.5),  # one too many
  (
    ["dog cat"],
    [["dog", "cat"]],
    0,
    0.33,
  ),  # 2/3 with one, nothing for the other
  (["dog", "dog"], [["dog", "cat"]], 0, 0.5),  # each goes with one
  (["dog", "dog"], [["dog"]], 0, 0.5),  # the same spans, but another number
  (["red dog", "red"], [["red", "red dog"]], 1, 1),  # the best of both ways
  (["red dog", "red"], [["dog", "red"]], 0, 0.83),  # (2/3 + 1) / 2
  (["5 dogs", "3"], [["3", "7 dogs"]], 0, 0.5),  # another number
  (["x"], [["y"], ["x", "z"], ["x"]], 1, 1),  # the best alternative
  (["x"], [["", "x"], ["y"]], 0, 0),  # whose first span is nothing goes
  (["x"], [], 0, 0),
  (["x"], [[]], 0, 0),
]

QUAC = [  # sample, references, F1
  ("the cat sat", ["cat sat"], 1),
  ("cat", ["cat sat"], 2 / 3),
  ("dog", ["cat"], 0),
  ("cat", ["cat", "dog"], 1 / 2),  # against the other of two, each time
  ("cat", ["cat", "cat", "dog"], 1),  # one of the two is always there
  ("cat", ["cat", "dog", "bird"], 2 / 3),
  ("cat sat", ["cat", "dog", "cat sat"], (1 + 1 + 2 / 3) / 3),
  ("", ["cat"], 0),
  ("the", ["a"], 0),  # no words, none in common
  (spans.CANNOT, [spans.CANNOT], 1),
  (spans.CANNOT, ["cat"], 0),
  ("cat", [spans.CANNOT], 0),
]

QUAC_AGREED = [
  (["cat"], ["cat"]),
  ([spans.CANNOT], [spans.CANNOT]),
  (["cat", spans.CANNOT], [spans.CANNOT]),  # as many: none
  (["cat", spans.CANNOT, "dog"], ["cat", "dog"]),
  (["cat", spans.CANNOT, spans.CANNOT], [spans.CANNOT]),
]

QUAC_HUMAN = [
  (["cat"], 1),
  ([spans.CANNOT], 1),
  (["cat", "dog"], 0),
  (["cat", "cat sat"], 2 / 3),
  (["cat", "cat sat", "dog"], (2 / 3 + 2 / 3 + 0) / 3),
  (["cat", "the cat", "dog"], 2 / 3),
]


@pytest.mark.parametrize(("said", "known", "exact", "f1"), DROP_SPANS)
def test_drop_of_spans(said, known, exact, f1):
  assert spans.drop_spans(said, known) == (exact, f1)


@pytest.mark.parametrize(("sample", "known", "f1"), QUAC)
def test_quac(sample, known, f1):
  assert spans.quac(sample, known) == pytest.approx(f1)


@pytest.mark.parametrize(("known", "agreed"), QUAC_AGREED)
def test_quac_where_annotators_agree(known, agreed):
  assert spans.quac_agreed(known) == agreed


@pytest.mark.parametrize(("known", "f1"), QUAC_HUMAN)
def test_quac_of_people(known, f1):
  assert spans.quac_human(known) == pytest.approx(f1)


WORDS = st.text(st.sampled_from("ab1. -,"), max_size=12)


@pytest.mark.parametrize("score", [spans.squad, spans.drop])
@hypothesis.given(sample=WORDS, one=WORDS, other=WORDS)
def test_laws(score, sample, one, other):
  """A match is a whole F1, and one more alternative costs nothing.

  But where it says something and the first does not.
  """
  exact, f1 = score(sample, [one])
  assert exact in (0, 1)
  assert exact <= f1 <= 1
  if spans.squad_normalised(one):
    more = score(sample, [one, other])
    assert more[0] >= exact
    assert more[1] >= f1
  assert score(sample, [one, other]) == score(sample, [other, one])
