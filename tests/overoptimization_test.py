"""Over-optimisation: what is measured of kept steps and of best-of-n."""

import itertools
import json
import math
import types

import numpy as np
import pytest
from etils import epath

from experiments import overoptimization as experiment
from instruct_jax.base import errors
from instruct_jax.evals import bench, overoptimization, verdicts
from instruct_jax.inference import respond, score
from instruct_jax.report import closing, exhibits
from instruct_jax.runs import plan, references
from tests import built, chain_test, evals_toys

EXPERIMENTS = epath.Path(experiment.__file__).parent
RECORDS = (
  {"prompt": "a", "core": "1", "spec": ""},
  {"prompt": "b", "core": "1", "spec": ""},
  {"prompt": "c", "core": "2", "spec": ""},
)
# A response is its gold score; the proxy adds what it overrates.
START, LATER = {"bias": 0.0}, {"bias": 0.25}
POOL = {
  "a": (0.5, 0.25, 0.75, 0.0),
  "b": (0.25, 0.25, 0.5, 1.0),
  "c": (0.0, 0.5, 0.25, 0.25),
}


@pytest.fixture
def found(monkeypatch):
  """Metrics and table of toys whose numbers can be seen through."""
  keys = []

  def say(policy, prompts, key, *, n=1):
    keys.append((policy["bias"], n, key))
    values = [
      POOL[prompt][k] + policy["bias"] for prompt in prompts for k in range(n)
    ]
    return types.SimpleNamespace(
      texts=tuple(map(str, values)),
      ended=[True] * len(values),
      sequences=np.asarray(values),
    )

  def grades(ctx, records, said):
    scores = [min(1.0, float(text)) for text in said.texts]
    return [{"score": x, "likert": 1 + 6 * x} for x in scores]

  def worth(ctx, records, texts, graded):
    # The second labeler likes nothing but "0.5".
    return np.asarray([[g["score"], t == "0.5"] for t, g in zip(texts, graded)])

  monkeypatch.setattr(bench, "open_prompts", lambda ctx, split: RECORDS)
  monkeypatch.setattr(respond, "policy_of", lambda ctx, params, rows: params)
  monkeypatch.setattr(respond, "respond", say)
  monkeypatch.setattr(verdicts, "grades", grades)
  monkeypatch.setattr(verdicts, "worth", worth)
  monkeypatch.setattr(
    score,
    "rewards_of",
    lambda ctx, reward, prompts, said, rows: 2 * said.sequences,
  )
  monkeypatch.setattr(
    score,
    "logprobs",
    lambda ctx, params, sequences, rows: -sequences * (1 - params["bias"]),
  )
  config = evals_toys.config_of().copy_and_resolve_references().unlock()
  config.overoptimization = {
    "prompts": 3,
    "responses": 4,
    "split": "validation",
    "batch": 8,
  }
  ctx = evals_toys.make_context(config.lock())
  metrics, tables = overoptimization.measure_overoptimization(
    ctx, START, {4: lambda: LATER}, {}
  )
  return metrics, tables["overoptimization"], keys


def test_a_kept_step_by_hand(found):
  """The later policy says 0.75, 0.5 and 0.25; the start 0.5, 0.25 and 0."""
  metrics, rows, _ = found
  start, later = (row for row in rows if row["method"] == "ppo")
  assert (start["step"], later["step"]) == (0, 4)
  assert (start["kl"], start["kl_low"], start["kl_high"]) == (0, 0, 0)
  assert start["gold"] == pytest.approx(0.25)
  assert later["gold"] == pytest.approx(0.5)
  assert later["likert"] == pytest.approx(4.0)
  assert later["proxy"] == pytest.approx(1.0)
  # log π = -0.75 x, log π_start = -x of a response x.
  assert later["kl"] == pytest.approx(0.25 * 0.5)
  # The first labeler prefers all three, the second the second of them and
  # the start's first.
  assert later["preferred"] == pytest.approx((1 + 0 + 1 + 1 + 1 + 0.5) / 6)
  assert start["preferred"] == 0.5  # the same texts
  assert (later["prompts"], later["clusters"]) == (3, 2)
  assert later["gold_low"] <= later["gold"] <= later["gold_high"]
  assert metrics["overoptimization/gold/ppo/4"] == later["gold"]
  assert metrics["overoptimization/kl/ppo/4"] == later["kl"]


def test_best_of_n_over_all_choices_of_the_pool(found):
  metrics, rows, _ = found
  best = {row["n"]: row for row in rows if row["method"] == "best_of_n"}
  assert list(best) == [1, 2, 4]
  for n, row in best.items():
    gold = np.mean(
      [
        np.mean([max(c) for c in itertools.combinations(pool, n)])
        for pool in POOL.values()
      ]
    )
    assert row["gold"] == pytest.approx(gold)
    assert row["proxy"] == pytest.approx(2 * gold)
    assert row["kl"] == pytest.approx(math.log(n) - (n - 1) / n)
    assert metrics[f"overoptimization/gold/best_of_n/{n}"] == row["gold"]
  # 0.75 against 0.5, 1 against 0.25, 0.5 against 0.
  assert best[4]["preferred"] == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 1) / 6)


def test_in_a_table_an_interval_stands_with_its_number(found, capsys):
  metrics, rows, _ = found
  table = exhibits.arrange("overoptimization", rows)
  assert table.headers[:5] == ("method", "step", "kl", "proxy", "gold")
  texts = [str(part) for part in table.rows[0][:3]]
  assert texts[:2] == ["PPO", "0"]
  assert texts[2].split()[1].startswith("[0")
  assert not any(head.endswith(("low", "high")) for head in table.headers)
  closing.print_closing(
    {"metrics": metrics, "tables": {"overoptimization": rows}}
  )
  printed = capsys.readouterr().out
  assert "Over-optimisation of the reward model" in printed
  assert "overoptimization/gold" not in printed


def test_policies_share_a_key_and_the_start_answers_three_times(found):
  _, _, keys = found
  assert [(bias, n) for bias, n, _ in keys] == [
    (0.0, 1),
    (0.0, 1),
    (0.25, 1),
    (0.0, 4),
  ]
  own, first, later, pool = (key for _, _, key in keys)
  assert first == later
  assert own != first
  assert pool not in (own, first)


def test_counts_are_powers_of_two():
  assert overoptimization.counts(64) == [1, 2, 4, 8, 16, 32, 64]
  assert overoptimization.counts(5) == [1, 2, 4]
  assert overoptimization.counts(1) == [1]


def planned(root, reference="overoptimization.py:tiny", **changes):
  config, source = references.load_config(reference, EXPERIMENTS)
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  return plan.plan(config, source, epath.Path(root), {})


def test_a_long_run_and_what_it_is_measured_with(tmp_path):
  stage = planned(tmp_path)
  assert {name: need.folder.name for name, need in stage.needs.items()} == {
    "data": "dataset-tiny",
    "policy": "ppo-tiny-long",
    "start": "select-tiny",
    "reward": "rm-tiny",
  }
  names = [each.name for each in plan.in_order(stage)]
  assert set(names) == {
    *("dataset-tiny", "pretrain-tiny", "sft-tiny", "rankings-tiny", "rm-tiny"),
    *("select-tiny", "ppo-tiny-long", "overoptimization-tiny"),
  }
  long = stage.needs["policy"].config
  assert (long.rl.kl_coef, long.rl.ptx_coef, long.keep_every) == (0.01, 0, 2)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"needs.policy": "ppo.py:tiny"}, "keeps no steps to measure"),
    ({"overoptimization.split": "train"}, "config.overoptimization.split"),
    ({"overoptimization.responses": 0}, "config.overoptimization.responses"),
  ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, changes, message):
  with pytest.raises(errors.UserError, match=message):
    planned(tmp_path, **changes)


def test_files_have_no_judge(tmp_path):
  changes = {"data.source": "files", "data.pretraining": __file__}
  changes |= {"data.prompts": __file__, "data.tokenizer": "bpe"}
  with pytest.raises(errors.UserError, match="no judge and no labelers"):
    planned(tmp_path, **changes)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_over_optimisation_end_to_end(tmp_path, tmp_path_factory):
  built.copied(tmp_path_factory, tmp_path / "runs")
  config = "experiments/overoptimization.py:test"
  flags = ("--config.overoptimization.split=validation",)
  code, output = chain_test.finish(
    tmp_path / "runs", tmp_path / "cache", *flags, config=config
  )
  assert code == 0, output
  folder = tmp_path / "runs" / "overoptimization-test"
  results = json.loads((folder / "results.json").read_text())
  rows = results["tables"]["overoptimization"]
  places = [(row["method"], row.get("step", row.get("n"))) for row in rows]
  assert places == [
    *(("ppo", step) for step in (0, 2, 4, 6)),
    *(("best_of_n", n) for n in (1, 2, 4)),
  ]
  kept = tmp_path / "runs" / "ppo-test-long" / "checkpoints"
  assert {"2", "4", "6"} <= {path.name for path in kept.iterdir()}
  assert all(math.isfinite(row["kl"]) for row in rows)
  assert rows[0]["kl"] == 0
  assert rows[3]["kl"] != 0
