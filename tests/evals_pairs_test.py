"""Kinds of pairs, and a reward model's accuracy on them, by hand."""

import json

import numpy as np
import pytest
from etils import epath

from instruct_jax.evals import pairs, reward
from tests import evals_toys

RECORDS = (
  {  # places 0, 1, 1, 2: only the order of ranks counts
    "prompt": "list two animals .",
    "responses": ["a cow .", "a pig .", "a goat .", "a dog ."],
    "ranks": [1, 4, 4, 9],
    "sources": ["sft", "gpt", "sft", "gpt"],
    "group": "training",
    "source": "customer",
    "labeler": "ann",
  },
  {
    "prompt": "list three animals .",
    "responses": ["a cow .", "a pig ."],
    "ranks": [2, 1],
    "ratings": [3, 7],
    "group": "held_out",
    "labeler": "bob",
  },
)


def test_kinds_by_hand():
  index, winner, loser = np.asarray(
    [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 3), (0, 2, 3), (1, 1, 0)]
  ).T
  found = pairs.kinds(RECORDS, index, winner, loser)
  assert {name: numbers.tolist() for name, numbers in found.items()} == {
    "1 place apart": [0, 1, 3, 4, 5],
    "2 places apart": [2],
    "rated 4 apart": [5],
    "gpt and sft": [0, 2, 4],
    "two of gpt": [3],
    "two of sft": [1],
    "prompts of customer": [0, 1, 2, 3, 4],
  }
  assert list(found) == [
    *("1 place apart", "2 places apart", "rated 4 apart"),
    *("gpt and sft", "two of gpt", "two of sft", "prompts of customer"),
  ]


def test_far_apart_is_one_kind():
  record = {"ranks": list(range(1, 10))}
  index, winner, loser = np.zeros(9, int), np.zeros(9, int), np.arange(9)
  found = pairs.kinds([record], index[1:], winner[1:], loser[1:])
  assert {k: len(x) for k, x in found.items()} == {
    "1 place apart": 1,
    "2 places apart": 1,
    "3 places apart": 1,
    "4 places apart": 1,
    "5 places apart or more": 4,
  }


def test_single_pairs_are_no_number_of_places_apart():
  record = {"pairs": [[1, 0]], "responses": ["a", "b"]}
  assert pairs.kinds([record], *np.asarray([(0, 1, 0)]).T) == {}


def test_accuracy_by_hand(tmp_path, monkeypatch):
  """Right about 0 over 1 and 3, and 2 over 3; a half about 0 over 2."""
  lines = "".join(json.dumps(r) + "\n" for r in RECORDS)
  (tmp_path / "test.jsonl").write_text(lines)
  ctx = evals_toys.make_context(rankings=epath.Path(tmp_path))

  def scores(ctx, params, batch, *, rows):
    table = np.zeros(batch["is_completion"].shape)
    table[0, :4] = 2.0, 1.0, 2.0, 1.5
    table[1, :2] = 1.0, 0.0
    return table

  monkeypatch.setattr(reward, "scores", scores)
  monkeypatch.setattr(reward.baselines, "what_is_missing", lambda: "left out")
  metrics, tables = reward.measure_accuracy(ctx, {})
  by = {k: x for k, x in metrics.items() if k.startswith("reward/by/")}
  assert by == pytest.approx(
    {
      # 0 over 1: right; 0 over 2: equal; 1 over 3: wrong; 2 over 3: right.
      "reward/by/1_place_apart/training": 2.5 / 4,
      "reward/by/1_place_apart/held_out": 0.0,
      "reward/by/2_places_apart/training": 1.0,
      "reward/by/rated_4_apart/held_out": 0.0,
      # 0 over 1, 0 over 3 and 2 over 3 are right.
      "reward/by/gpt_and_sft/training": 1.0,
      "reward/by/two_of_gpt/training": 0.0,
      "reward/by/two_of_sft/training": 0.5,
      "reward/by/prompts_of_customer/training": 3.5 / 5,
    }
  )
  rows = {
    (row["compared"], row["labelers"]): row["n"]
    for row in tables["reward_pairs"]
  }
  assert rows["1 place apart", "training"] == 4
  assert metrics["reward/accuracy/training"] == pytest.approx(3.5 / 5)


def test_the_judge_scores_every_response_at_its_place():
  """Of its own prompt, and of whether it ended; 0 past the last one."""

  class Judge:
    def grade(self, spec, text, ended):
      return {"score": len(spec) + 10 * len(text) + 0.5 * ended}

  records = [
    {"spec": "a", "responses": ["x", "yy"], "ended": [True, False]},
    {"spec": "bcd", "responses": ["zzz"], "ended": [True]},
  ]
  found = reward._judge(Judge(), records, 3)
  np.testing.assert_array_equal(found, [[11.5, 21, 0], [33.5, 0, 0]])
