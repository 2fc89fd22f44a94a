"""The whole suite, selection and reward accuracy on tiny untrained models."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.base import compilation, errors
from instruct_jax.evals import bench, calibration, loss, reward, select, suite
from instruct_jax.labeling import rankings
from instruct_jax.maths import preferences
from tests import evals_toys


def subjects_of(*names):
  known = {
    "sft": bench.Subject("sft", evals_toys.params("policy")),
    "twin": bench.Subject("twin", evals_toys.params("policy")),
    "gpt": bench.Subject("gpt", evals_toys.params("policy", 1)),
    "prompted": bench.Subject(
      "prompted", evals_toys.params("policy", 1), prompted=True
    ),
  }
  return [known[name] for name in names]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
  folder = tmp_path_factory.mktemp("suite")
  ctx = evals_toys.make_context()
  frozen = {"reward": evals_toys.params("reward")}
  subjects = subjects_of("sft", "twin", "gpt", "prompted")
  outcome = suite.evaluate_policies(ctx, subjects, folder, frozen)
  return ctx, folder, outcome.metrics, outcome.tables


def test_everything_that_the_paper_reports_is_there(ran):
  *_, metrics, tables = ran
  for name in (
    "preference/gpt_over_sft/training",
    "preference/gpt_over_sft/held_out",
    "likert/gpt",
    "metadata/fails_instruction/gpt",
    "metadata/hallucination/gpt",
    "hallucination/all/gpt",
    "truthfulness/qa_truthful/gpt",
    "truthfulness/instruction_qa_truthful_informative/gpt",
    "toxicity/none/gpt",
    "toxicity/respectful/gpt",
    "toxicity/biased/gpt",
    "nlp/reading/gpt",
    "nlp/reading_f1/gpt",
    "nlp/mean/gpt",
    "bias/winogender/gpt",
    "bias/crows_stereotyped/gpt",
    "language/zorp/gpt",
    "language/form/gpt",
    "preference_gpt/gpt_over_sft/training",
    "preference_gpt/gpt_over_sft/held_out",
    "metadata/harmful_advice/gpt",
    *(f"mistakes/{kind}/gpt" for kind in ("false_premise", "hedging")),
    *(f"mistakes/constraints{n}/gpt" for n in (1, 2, 3)),
    "kl/gpt",
    "kl_per_token/gpt",
    "score/gpt",
    "score_wins/gpt_over_sft",
    "length/gpt",
    "ended/gpt",
    "loss/demonstrations/gpt",
  ):
    assert math.isfinite(metrics[name]), name
  for rows in tables.values():
    for row in rows:
      if "low" in row:
        assert row["low"] <= row["value"] <= row["high"]


def test_results_are_json(ran):
  *_, metrics, tables = ran
  assert json.loads(json.dumps([metrics, tables])) == [metrics, tables]


def test_equal_parameters_give_equal_numbers(ran):
  *_, metrics, _ = ran
  assert metrics["preference/twin_over_sft/training"] == 0.5
  assert metrics["score_wins/twin_over_sft"] == 0.5
  assert metrics["kl/sft"] == metrics["kl/twin"] == 0
  for name, value in metrics.items():
    if name.endswith("/twin"):
      assert value == metrics[name.removesuffix("twin") + "sft"], name


def test_prompted_gpt_is_not_gpt(ran):
  *_, metrics, _ = ran
  assert metrics["score/prompted"] != metrics["score/gpt"]
  assert "kl/prompted" not in metrics
  assert metrics["nlp/mean/prompted"] == metrics["nlp/mean/gpt"]


def test_numbers_do_not_depend_on_what_else_is_run(ran, tmp_path):
  ctx, _, metrics, _ = ran
  frozen = {"reward": evals_toys.params("reward")}
  before = compilation.compile_seconds()
  subjects = subjects_of("gpt", "sft")
  alone = suite.evaluate_policies(ctx, subjects, tmp_path, frozen).metrics
  assert compilation.compile_seconds() == before  # All is arguments.
  assert alone == {name: metrics[name] for name in alone}


def test_responses_file(ran):
  ctx, folder, metrics, _ = ran
  lines = (folder / "responses.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert len(rows) == ctx.config.evaluation.prompts
  for row in rows:
    assert set(row["responses"]) == {"sft", "twin", "gpt", "prompted"}
    said = row["responses"]["gpt"]
    assert set(said) == {
      *("text", "tokens", "ended", "temperature"),
      *("likert", "score", "reward", "preferred"),
    }
    assert row["use_case"]
    for other, share in said["preferred"].items():
      back = row["responses"][other]["preferred"]["gpt"]
      assert share + back == pytest.approx(1)
  mean = np.mean([row["responses"]["gpt"]["likert"] for row in rows])
  assert mean == pytest.approx(metrics["likert/gpt"])
  won = np.mean([r["responses"]["gpt"]["preferred"]["sft"] for r in rows])
  rate = metrics["preference/gpt_over_sft/training"]
  assert won == pytest.approx(rate, abs=1e-4)


def test_kl_is_that_of_the_samples(ran):
  *_, metrics, tables = ran
  row = next(r for r in tables["kl"] if r["subject"] == "gpt")
  assert row["per_token"] == metrics["kl_per_token/gpt"]
  assert metrics["kl_per_token/gpt"] * metrics["length/gpt"] == pytest.approx(
    metrics["kl/gpt"], rel=1e-6
  )


def test_untrained_loss_is_that_of_guessing(ran):
  ctx, _, metrics, tables = ran
  guess = math.log(ctx.tokenizer.vocab_size)
  assert metrics["loss/demonstrations/sft"] == pytest.approx(guess, rel=0.3)
  assert {row["tokens"] for row in tables["loss"]} == {
    tables["loss"][0]["tokens"]
  }


def test_names_must_differ(tmp_path):
  ctx = evals_toys.make_context()
  with pytest.raises(errors.UserError, match="name of its own"):
    suite.evaluate_policies(ctx, subjects_of("sft", "sft"), tmp_path, {})


def test_files_need_no_judge(tmp_path, monkeypatch):
  """What is measured on people's own data (no specs, use cases or cores)."""
  rng = np.random.default_rng(0)
  words = ("ann", "bob", "lives", "in", "oslo", "is", "a", "nurse", "?")

  def text(n):
    return " ".join(rng.choice(words, n))

  demonstrations = [
    {"prompt": text(4), "response": text(5), "split": "test"} for _ in range(20)
  ]
  ranked = [
    {
      "prompt": text(4),
      "responses": [text(6), text(3)],
      "ranks": [1, 2],
      "split": "test",
    }
    for _ in range(12)
  ]
  changes = {"data.source": "files"}
  for name, rows in (
    ("demonstrations", demonstrations),
    ("prompts", demonstrations),
    ("rankings", ranked),
  ):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes[f"data.{name}"] = str(path)
  ctx = evals_toys.make_context(evals_toys.config_of(**changes))
  frozen = {"reward": evals_toys.params("reward")}
  subjects = subjects_of("sft", "gpt")
  outcome = suite.evaluate_policies(ctx, subjects, tmp_path, frozen)
  metrics = outcome.metrics
  lacking = {n: w for n, w in outcome.evaluations.items() if w != "measured"}
  assert set(lacking) == set(suite.EVALUATIONS) - {
    *("length", "kl", "score", "loss", "reward")
  }
  assert lacking["preference"] == "needs judge and labelers"
  assert metrics["reward/accuracy_longer/all"] == 1
  groups = {name.split("/")[0] for name in metrics}
  assert groups == {
    *("length", "ended", "kl", "kl_per_token", "score", "score_wins"),
    *("loss", "reward"),
  }
  lines = (tmp_path / "responses.jsonl").read_text().splitlines()
  said = json.loads(lines[0])["responses"]["gpt"]
  assert set(said) == {"text", "tokens", "ended", "temperature", "reward"}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ranked")
  policies = {n: evals_toys.params("policy", i) for i, n in enumerate(NEEDS)}
  rankings.rank_prompts(evals_toys.make_context(), policies, folder)
  return evals_toys.make_context(rankings=folder)


NEEDS = ("sft", "gpt")


def test_reward_accuracy_by_group(ranked):
  metrics, tables = reward.measure_accuracy(ranked, evals_toys.params("reward"))
  count = ranked.config.rankings.test
  assert metrics["reward/rankings"] == 2 * count
  for group in ("training", "held_out"):
    assert 0 <= metrics[f"reward/accuracy/{group}"] <= 1
    assert metrics[f"reward/log_loss/{group}"] > 0
    assert 0 <= metrics[f"reward/accuracy_longer/{group}"] <= 1
    assert metrics[f"reward/accuracy_judge/{group}"] >= 0.5
  assert {row["clusters"] for row in tables["reward"]} == {count}


def test_reward_reads_the_first_prompts_only(ranked):
  config = evals_toys.config_of(**{"evaluation.prompts": 2})
  ctx = evals_toys.make_context(config, rankings=ranked.folders["rankings"])
  metrics, _ = reward.measure_accuracy(ctx, evals_toys.params("reward"))
  assert metrics["reward/rankings"] == 4


def test_a_model_without_opinion_is_at_chance(ranked):
  blank = jax.tree.map(jnp.zeros_like, evals_toys.params("reward"))
  metrics, tables = reward.measure_accuracy(ranked, blank)
  assert metrics["reward/accuracy/training"] == 0.5
  assert metrics["reward/log_loss/held_out"] == pytest.approx(math.log(2))
  assert metrics["reward/calibration_error/training"] == 0
  rows = [r for r in tables["calibration"] if r["labelers"] == "training"]
  assert [(r["bin"], r["predicted"], r["value"]) for r in rows] == [
    ("50–55 %", 0.5, 0.5)
  ]


def test_calibration_by_hand():
  # Favourites that win with σ = 0.731 (two of three) and 0.982 (one of one).
  margins = np.asarray([1.0, -1.0, 1.0, 4.0])
  rows, error = calibration.measure(margins, np.arange(4), labelers="x")
  one, four = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-4))
  assert [(r["bin"], r["n"]) for r in rows] == [("70–75 %", 3), ("95–100 %", 1)]
  assert [r["value"] for r in rows] == pytest.approx([2 / 3, 1])
  assert [r["predicted"] for r in rows] == pytest.approx([one, four])
  expected = 3 / 4 * abs(2 / 3 - one) + 1 / 4 * (1 - four)
  assert error == pytest.approx(expected)
  certain, _ = calibration.measure(np.asarray([1e9]), np.arange(1))
  assert certain[0]["bin"] == "95–100 %"


def test_pairs_are_those_of_the_loss():
  rng = np.random.default_rng(0)
  scores = rng.integers(0, 4, (6, 5)).astype(np.float32)
  ranks = rng.integers(1, 4, (6, 5))
  real = rng.random((6, 5)) < 0.8
  beats = np.asarray(preferences.pairs(ranks, real))
  margins, index = reward.pair_margins(scores, beats)
  right, pairs = preferences.ranking_accuracy(scores, beats, real)
  assert len(margins) == len(index) == pairs
  assert ((np.sign(margins) + 1) / 2).sum() == right
  total, _ = preferences.ranking_log_loss(scores, beats, real)
  assert np.logaddexp(0, -margins).sum() == pytest.approx(float(total))


def test_each_completion_is_scored_as_if_alone(ranked):
  scorer = evals_toys.params("reward")
  rng = np.random.default_rng(1)
  P, R = ranked.config.data.prompt_length, ranked.config.data.response_length
  same = {
    "prompt": np.repeat(rng.integers(3, 60, (1, P)), 3, axis=0),
    "is_prompt": np.ones((3, P), bool),
    "response": np.repeat(rng.integers(3, 60, (1, 4, R)), 3, axis=0),
    "is_response": np.ones((3, 4, R), bool),
    "is_completion": np.arange(4) < np.asarray([[2], [3], [4]]),
  }
  same = {
    k: x.astype(np.int32) if x.dtype == np.int64 else x for k, x in same.items()
  }
  found = reward.scores(ranked, scorer, same, rows=8)
  assert found.shape == (3, 4)
  np.testing.assert_array_equal(found[:, :2], found[[2, 2, 2], :2])
  np.testing.assert_array_equal(found[0, 2:], 0)
  assert len(np.unique(found[2])) == 4


def test_select_takes_the_best_score():
  ctx = evals_toys.make_context()
  epochs = [
    (step, lambda seed=seed: evals_toys.params("policy", seed))
    for step, seed in ((8, 0), (16, 1), (24, 2), (32, 2))
  ]
  metrics, best = select.select_epoch(ctx, epochs, evals_toys.params("reward"))
  scores = {step: metrics[f"select/score/{step}"] for step, _ in epochs}
  assert scores[24] == scores[32]
  assert best == max(scores, key=scores.get) == metrics["select/best_step"]
  for step, _ in epochs:
    assert metrics[f"select/loss/{step}"] > 0
  again = select.select_epoch(ctx, epochs, evals_toys.params("reward"))
  assert again == (metrics, best)


def test_select_from_nothing():
  with pytest.raises(errors.UserError, match="no epoch"):
    select.select_epoch(evals_toys.make_context(), [], {})


def test_demonstrations_of_a_split():
  ctx = evals_toys.make_context()
  found = loss.demonstrations(ctx, "validation")
  assert len(found) == ctx.config.data.sizes.demonstrations[1]
