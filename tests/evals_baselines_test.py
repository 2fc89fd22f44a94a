"""The bag of words: a planted preference, a dense twin, symmetries."""

import json
import logging
import sys

import numpy as np
import pytest
from scipy import optimize

from instruct_jax.evals import baselines, reward
from tests import evals_toys

pytest.importorskip("sklearn")

FILLER = ("the", "cat", "sat", "on", "a", "mat", "and", "then", "slept")


def ranking(rng, k=3):
  """Responses of random words; 'nice' is liked, 'rude' is not."""
  responses = [
    " ".join(rng.choice([*FILLER, "nice", "rude"], rng.integers(3, 9)))
    for _ in range(k)
  ]
  merit = [r.split().count("nice") - r.split().count("rude") for r in responses]
  order = sorted(set(merit), reverse=True)
  ranks = [1 + order.index(m) for m in merit]
  return {"prompt": "?", "responses": responses, "ranks": ranks}


def rankings(seed, count):
  rng = np.random.default_rng(seed)
  return [ranking(rng) for _ in range(count)]


def accuracy(model, records):
  right = []
  for record, scores in zip(records, model.scores(records, 3)):
    pairs = baselines.preferred(record)
    right += [scores[i] > scores[j] for i, j in pairs]
  return np.mean(right)


def test_it_finds_the_words_that_people_like():
  model = baselines.fit(rankings(0, 300), rankings(1, 50))
  weights = {word: model.weights[i] for word, i in model.words.items()}
  assert max(weights, key=weights.get) == "nice"
  assert min(weights, key=weights.get) == "rude"
  assert accuracy(model, rankings(2, 100)) > 0.9


def test_a_dense_twin_gives_the_same_weights():
  records = rankings(3, 40)
  model = baselines.fit(records, rankings(4, 10))
  words = list(model.words)

  def features(text):
    count = [text.split().count(word) for word in words]
    return np.log1p(count)

  rows, weights = [], []
  for record in records:
    x = [features(text) for text in record["responses"]]
    for i in range(3):
      for j in range(3):
        if record["ranks"][i] < record["ranks"][j]:
          rows.append(x[i] - x[j])
          weights.append(1 / 3)
  rows, weights = np.asarray(rows), np.asarray(weights)

  def loss(w):
    losses = np.log1p(np.exp(-rows @ w))
    return weights @ losses + model.penalty / 2 * w @ w

  twin = optimize.minimize(loss, np.zeros(len(words)), method="BFGS").x
  np.testing.assert_allclose(model.weights, twin, atol=2e-3)


def test_the_penalty_is_chosen_on_validation_alone():
  train, validation = rankings(5, 60), rankings(6, 30)
  losses = {}
  for penalty in baselines.PENALTIES:
    model = baselines.fit(train, [], penalties=[penalty])
    scores = model.scores(validation, 3)
    losses[penalty] = sum(
      np.logaddexp(0, mine[j] - mine[i]) / 3
      for record, mine in zip(validation, scores)
      for i, j in baselines.preferred(record)
    )
  assert len(set(losses.values())) == len(baselines.PENALTIES)
  model = baselines.fit(train, validation)
  assert model.penalty == min(losses, key=losses.get)


def test_the_order_of_responses_is_nothing():
  records = rankings(7, 60)
  turned = [
    record
    | {"responses": record["responses"][::-1], "ranks": record["ranks"][::-1]}
    for record in records
  ]
  ours, theirs = (baselines.fit(x, x[:9]) for x in (records, turned))
  np.testing.assert_allclose(
    ours.scores(records, 3), theirs.scores(turned, 3)[:, ::-1], atol=1e-3
  )


def test_pairs_are_taken_as_they_are_said():
  record = {"responses": ["a", "b", "c"], "ranks": [1, 1, 1]}
  assert baselines.preferred(record) == []
  pairs = {"pairs": [[2, 0], [0, 1]]}
  alone = {"responses": ["a", "b", "c"], **pairs}
  assert baselines.preferred(alone) == [(2, 0), (0, 1)]
  # Ranks order all that the pairs beside them do, and more.
  both = record | pairs | {"ranks": [2, 3, 1]}
  assert sorted(baselines.preferred(both)) == [(0, 1), (2, 0), (2, 1)]


def test_rare_and_unknown_words_count_nothing():
  records = rankings(8, 20)
  model = baselines.fit(records, records)
  strange = [{"responses": ["qwertz uiop", ""], "ranks": [1, 2]}]
  np.testing.assert_array_equal(model.scores(strange, 3), np.zeros((1, 3)))
  empty = baselines.fit([{"responses": ["one", "two"], "ranks": [1, 2]}], [])
  assert empty.words == {}
  np.testing.assert_array_equal(empty.scores(records, 3), np.zeros((20, 3)))


def test_it_stands_beside_the_reward_model_or_one_line_says_why(
  tmp_path, monkeypatch, caplog
):
  splits = ("train",) * 40 + ("test",) * 9
  rows = [
    record | {"prompt": f"q {n}", "split": split}
    for n, (record, split) in enumerate(zip(rankings(9, 49), splits))
  ]
  path = tmp_path / "rankings.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  changes = {"data.source": "files", "data.rankings": str(path)}
  ctx = evals_toys.make_context(evals_toys.config_of(**changes))
  monkeypatch.setattr(
    reward, "scores", lambda ctx, tree, batch, rows: 1.0 * batch["ranks"]
  )
  metrics, _ = reward.measure_accuracy(ctx, {})
  assert metrics["reward/accuracy_words/all"] > 0.8
  assert metrics["reward/accuracy/all"] == 0  # rank 1 is best
  assert baselines.what_is_missing() == ""
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with caplog.at_level(logging.INFO):
    without, _ = reward.measure_accuracy(ctx, {})
  assert set(metrics) - set(without) == {"reward/accuracy_words/all"}
  assert "pip install 'instruct_jax[baselines]'" in caplog.text
