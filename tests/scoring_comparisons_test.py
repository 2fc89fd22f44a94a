"""Win rates and strengths from comparisons, and who compared."""

import math

import numpy as np
import pytest

from instruct_jax.scoring import comparisons
from instruct_jax.scoring.comparisons import Comparison


def made(won, models=("b", "a"), prompt="p", lengths=(3, 3), **labels):
  return Comparison(prompt, models, won, lengths, labels=labels)


def test_turned():
  one = made(0.75, models=("b", "a"), lengths=(5, 2), source="gpt")
  other = made(0.25, models=("a", "b"), lengths=(2, 5), source="gpt")
  assert one.turned() == other
  assert (one.longer, other.longer) == (3, -3)


def test_of_worth():
  """Two of three labelers prefer b's first; the second texts are the same."""
  records = [
    {"prompt": "p", "core": "c", "source": "instruct"},
    {"prompt": "q", "use_case": "chat"},
  ]
  found = comparisons.of_worth(
    records,
    {"a": ["long", "same"], "b": ["x", "same"]},
    {
      "a": np.asarray([[1, 5, 1], [0, 0, 0]]),
      "b": np.asarray([[2, 2, 2], [9, 9, 9]]),
    },
    {"labelers": "held_out"},
  )
  assert found == [
    Comparison(
      "p",
      ("a", "b"),
      1 / 3,
      (4, 1),
      "c",
      {"source": "instruct", "labelers": "held_out"},
    ),
    Comparison(
      "q",
      ("a", "b"),
      0.5,
      (4, 4),
      "q",
      {"use_case": "chat", "labelers": "held_out"},
      place=1,
    ),
  ]


def test_of_scores_of_one_judge():
  found = comparisons.of_worth(
    [{"prompt": "p"}],
    {"a": ["x"], "b": ["y"], "c": ["z"]},
    {"a": np.asarray([1.0]), "b": np.asarray([1.0]), "c": np.asarray([0.0])},
    {},
  )
  assert {x.models: x.won for x in found} == {
    ("a", "b"): 0.5,
    ("a", "c"): 1.0,
    ("b", "c"): 1.0,
  }


def test_win_rates_by_hand():
  """b over a: 3 of 4 in all, 1 of 1 of GPT-like, 2 of 3 of Instruct-like."""
  given = [
    made(1.0, prompt="1", source="gpt", labelers="training"),
    made(1.0, prompt="2", source="instruct"),
    made(0.0, prompt="3", source="instruct"),
    made(0.0, models=("a", "b"), prompt="4", source="instruct"),
  ]
  rows = comparisons.win_rates(given, ["a", "b"])
  found = {
    next(((by, r[by]) for by in comparisons.BY if by in r), (None, None)): (
      r["value"],
      r["n"],
    )
    for r in rows
    if r["rate"] == "raw"
  }
  assert found == {
    (None, None): (0.75, 4),
    ("labelers", "training"): (1.0, 1),
    ("source", "gpt"): (1.0, 1),
    ("source", "instruct"): (2 / 3, 3),
  }
  assert {(r["subject"], r["baseline"]) for r in rows} == {("b", "a")}
  every, alike = rows[:2]
  # All as long: the controlled rate is the raw one, but for its ridge.
  np.testing.assert_allclose(alike["value"], 0.75, atol=5e-3)
  assert (alike["rate"], alike["characters_longer"]) == ("length-controlled", 0)
  assert every["low"] < 0.75 < every["high"]


def test_tables_apart():
  rows = [
    {"a": 1},
    {"a": 2, "source": "x"},
    {"a": 3},
    {"a": 4, "use_case": "y"},
  ]
  assert comparisons.apart("t", rows) == {
    "t": [rows[0], rows[2]],
    "t_by_source": [rows[1]],
    "t_by_use_case": [rows[3]],
  }


def test_clustered_by_prompt():
  """Ten labelers of one prompt are no ten prompts."""
  rng = np.random.default_rng(0)
  won = rng.integers(0, 2, 30).astype(float)
  alone = [made(w, prompt=str(n)) for n, w in enumerate(won)]
  one, _ = comparisons.win_rates(alone, ["a", "b"])
  ten, _ = comparisons.win_rates(alone * 10, ["a", "b"])
  assert (ten["n"], ten["clusters"]) == (300, 30)
  np.testing.assert_allclose(
    (ten["low"], ten["high"]), (one["low"], one["high"]), atol=1e-2
  )
  shared = [
    Comparison(x.prompt, x.models, x.won, x.lengths, cluster="c") for x in alone
  ]
  all_one, _ = comparisons.win_rates(shared, ["a", "b"])
  assert all_one["clusters"] == 1
  assert all_one["high"] - all_one["low"] > one["high"] - one["low"]


def test_longer_answers_are_controlled_for():
  """b wins exactly where it is longer; who is longer is a coin."""
  rng, given = np.random.default_rng(0), []
  for n in range(300):
    longer = rng.random() < 0.7
    wins = longer if rng.random() < 0.9 else not longer
    lengths = (80, 20) if longer else (20, 80)
    given.append(made(float(wins), prompt=str(n), lengths=lengths))
  raw, alike = comparisons.win_rates(given, ["a", "b"])
  assert raw["value"] > 0.6
  assert abs(alike["value"] - 0.5) < 0.1
  assert alike["characters_longer"] == pytest.approx(
    np.mean([x.lengths[0] - x.lengths[1] for x in given])
  )


def test_difficulties_come_from_the_others():
  """With a third model there is a ψ; what was won itself is not in its γ."""
  given = []
  for n in range(40):
    given.append(made(float(n % 2), prompt=str(n)))
    given.append(made(float(n % 2), models=("c", "a"), prompt=str(n)))
  of_two = [x for x in given if x.models == ("b", "a")]
  rival = [x for x in given if x.models == ("c", "a")]
  gamma = comparisons._difficulties(of_two, [rival])
  assert gamma["1"] > 0 > gamma["0"]
  assert comparisons._difficulties(of_two, []) is None
  rows = comparisons.win_rates(given, ["a", "b", "c"])[1::2]
  assert [(r["subject"], r["baseline"]) for r in rows] == [
    ("b", "a"),
    ("c", "a"),
  ]
  for found in rows:  # the mean over hard and easy ones: half
    np.testing.assert_allclose(found["value"], 0.5, atol=1e-3)


def test_strengths_by_hand():
  """b beats a 3 to 1: log 3 apart."""
  given = [made(w, prompt=str(n)) for n, w in enumerate((1.0, 1.0, 1.0, 0.0))]
  rows, said = comparisons.strengths_table(given, ["a", "b"])
  assert said == ""
  assert [r["model"] for r in rows] == ["b", "a"]
  best = rows[0]
  np.testing.assert_allclose(best["value"], math.log(3) / 2)
  np.testing.assert_allclose(
    best["beats_average"], 1 / (1 + math.exp(-math.log(3) / 2))
  )
  assert (best["won"], best["n"]) == (0.75, 4)
  assert best["low"] < best["value"] < best["high"]


def test_strengths_of_groups_that_never_met():
  given = [
    made(1.0),
    made(0.0),
    made(1.0, models=("d", "c")),
    made(1.0, models=("c", "d")),
  ]
  rows, said = comparisons.strengths_table(given, ["a", "b", "c", "d"])
  assert "a, b; c, d" in said
  assert "1 tie between any two models" in said
  np.testing.assert_allclose([r["value"] for r in rows], 0, atol=1e-9)


def test_strengths_of_one_that_always_wins():
  rows, said = comparisons.strengths_table([made(1.0)] * 5, ["a", "b"])
  assert "one side always won" in said
  # 5 wins and a tie: log(5.5 / 0.5).
  np.testing.assert_allclose(rows[0]["value"], math.log(11) / 2)
  assert rows[0]["low"] < 0.5
