"""Cross-validation over labelers: groups, what is left out, what is found."""

import json
import math
import statistics
import types

import numpy as np
import pytest
from etils import epath

from experiments import rm_folds
from instruct_jax import paper, worlds
from instruct_jax.base import errors, keys
from instruct_jax.evals import folds as measured
from instruct_jax.evals import reward
from instruct_jax.labeling import folds
from instruct_jax.runs import plan, references
from tests import built, chain_test, evals_toys

EXPERIMENTS = epath.Path(rm_folds.__file__).parent
LABELERS = "abcde"  # a group each, as they rank equally often


def test_groups_by_hand():
  """By rankings: g5 f4 c3 d3 b2 open a group each, e2 joins b, a1 joins c."""
  counts = {"a": 1, "b": 2, "c": 3, "d": 3, "e": 2, "f": 4, "g": 5}
  expected = (("g",), ("f",), ("a", "c"), ("d",), ("b", "e"))
  assert folds.grouped(counts) == expected


def test_too_few_labelers_are_named():
  with pytest.raises(errors.UserError, match=r"of 2 labelers \(ann, bob\).* 5"):
    folds.grouped({"bob": 3, "ann": 1})
  with pytest.raises(errors.UserError, match=r"of 0 labelers \(nobody\)"):
    folds.grouped({})


def ranking(labeler, number, **more):
  record = {
    "prompt": f"list {number} animals .",
    "responses": ["a cow .", "a pig ."],
    "ranks": [1, 2],
    "ended": [True, True],
    "labeler": labeler,
  }
  return {k: x for k, x in (record | more).items() if x is not None}


def left_out(monkeypatch, tmp_path, number=1, splits=("test",), **rankings):
  """What a stage of a fold writes of these rankings: (figures, tables)."""

  def records(data, kind, split, folders):
    assert (kind, folders) == ("rankings", {"data": "here"})
    return rankings[split]

  def of(data):
    assert data.source == "microworld"
    return types.SimpleNamespace(records=records)

  monkeypatch.setattr(worlds, "of", of)
  config = rm_folds.get_config(f"rankings-test-fold{number}").unlock()
  config.folds.splits = splits
  return folds.leave_out(config, epath.Path(tmp_path), {"data": "here"})


def of_each(start, labelers=LABELERS):
  return [ranking(name, start + n) for n, name in enumerate(labelers)]


def test_the_rankings_of_one_group_are_left_out(monkeypatch, tmp_path):
  rankings = {
    "train": of_each(0) + of_each(10),
    "validation": of_each(20, "ab"),
    "test": of_each(30, "abcdez"),  # z has ranked no training prompt
  }
  figures, tables = left_out(monkeypatch, tmp_path, 2, **rankings)
  written = {
    split: [
      json.loads(line)
      for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()
    ]
    for split in rankings
  }
  without = [r for r in rankings["train"] if r["labeler"] != "b"]
  assert written == rankings | {"train": without}
  assert len(without) == 8
  assert folds.read(tmp_path) == (("a",), ("b",), ("c",), ("d",), ("e",))
  assert figures == {
    "folds/labelers": 5.0,
    "folds/rankings": 8.0,
    "folds/rankings_left_out": 2.0,
  }
  assert tables["folds_groups"][1] == {
    "group": "2",
    "labelers": "b",
    "rankings": 2,
  }


def test_rankings_of_nobody_are_named(monkeypatch, tmp_path):
  train = [*of_each(0), ranking(None, 77)]
  with pytest.raises(errors.UserError, match=r"1 of 6 .*'list 77 animals"):
    left_out(
      monkeypatch, tmp_path, train=train, validation=[], test=of_each(30)
    )


def test_a_group_that_cannot_be_asked_about_is_named(monkeypatch, tmp_path):
  rankings = {"train": of_each(0), "validation": of_each(20, "d")}
  rankings["test"] = of_each(30, "abce")
  with pytest.raises(errors.UserError, match=r"group 4 .*\(d\).*test_fraction"):
    left_out(monkeypatch, tmp_path, **rankings)
  assert not (tmp_path / "train.jsonl").exists()
  both = ("validation", "test")
  left_out(monkeypatch, tmp_path, splits=both, **rankings)


@pytest.fixture
def asked(tmp_path, monkeypatch):
  """Measures models that are right on the rankings that `right` names.

  right: {number of the model: the indices of rankings}, of the test split
  first.
  """
  rankings = {
    "test": of_each(0, "aabcdez"),
    "validation": [ranking("b", 50)],
  }
  for split, records in rankings.items():
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / f"{split}.jsonl").write_text(lines)
  ctx = evals_toys.make_context(rankings=epath.Path(tmp_path))

  def measure(right, splits=("test",), groups=tuple(LABELERS)):
    starts = {7: 0, 1: 7}  # by the length of the split

    def scores(ctx, params, batch, *, rows):
      count, k = batch["is_completion"].shape
      table = np.zeros((count, k))
      for n in range(count):
        value = params.get(starts[count] + n, -1.0)
        table[n, :2] = value, 0.0
      return table

    monkeypatch.setattr(reward, "scores", scores)
    models = {n: lambda n=n: right[n] for n in right}
    return measured.measure_folds(ctx, groups, models, splits=splits)

  return measure


def test_accuracies_by_hand(asked):
  """Rankings 0 and 1 are a's, 2 b's, 3 c's, 4 d's, 5 e's and 6 is z's."""
  right = {
    1: {0: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0},  # half of a's, all others
    2: {0: 1.0, 1: 1.0, 2: 0.0},  # b's: equal scores, a half
    3: {3: 1.0},
    4: dict.fromkeys(range(7), 1.0),
    5: {},
  }
  metrics, tables = asked(right)
  expected = {
    "left_out": [0.5, 0.5, 1.0, 1.0, 0.0],
    "trained_on": [1.0, 2 / 5, 0.0, 1.0, 0.0],
    "nobody": [0.0, 0.0, 0.0, 1.0, 0.0],
  }
  for labelers, values in expected.items():
    found = [metrics[f"folds/accuracy/{labelers}/{n}"] for n in range(1, 6)]
    assert found == pytest.approx(values)
    assert metrics[f"folds/accuracy/{labelers}"] == pytest.approx(
      statistics.mean(values)
    )
    error = statistics.stdev(values) / math.sqrt(5)
    assert metrics[f"folds/standard_error/{labelers}"] == pytest.approx(error)
  gaps = [a - b for a, b in zip(expected["trained_on"], expected["left_out"])]
  assert metrics["folds/difference"] == pytest.approx(statistics.mean(gaps))
  assert metrics["folds/standard_error/difference"] == pytest.approx(
    statistics.stdev(gaps) / math.sqrt(5)
  )
  rows = {row["labelers"]: row for row in tables["folds_mean"]}
  assert rows["left_out"]["paper"] == pytest.approx(0.696)
  assert rows["left_out"]["paper_margin"] == pytest.approx(0.009)
  assert rows["trained_on"]["paper"] == pytest.approx(0.724)
  assert rows["trained_on"]["paper_margin"] == pytest.approx(0.004)
  assert set(rows) == {"left_out", "trained_on", "nobody", "difference"}
  counts = {
    (row["model"], row["labelers"]): row["n"] for row in tables["folds"]
  }
  assert counts["1", "left_out"] == 2
  assert counts["1", "trained_on"] == 4
  assert counts["2", "left_out"] == 1
  assert counts["2", "nobody"] == 1


def test_all_splits_that_are_named_count(asked):
  right = {n: {7: 1.0} for n in range(1, 6)}
  metrics, _ = asked(right, splits=("test", "validation"))
  assert metrics["folds/accuracy/left_out/2"] == 0.5  # of b's two
  assert metrics["folds/accuracy/left_out/1"] == 0.0


def test_a_group_without_a_pair_is_named(asked):
  groups = ("a", "b", "c", "d", "x")
  with pytest.raises(errors.UserError, match=r"group 5 \(x\).*splits test"):
    asked({5: {}}, groups=groups)


def planned(root, reference="rm_folds.py:test", **changes):
  default, source = references.load_config(reference, EXPERIMENTS)
  config = default.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  overrides = plan.overrides_of(config, default)
  return plan.plan(config, source, epath.Path(root), overrides)


def needs(stage):
  return {
    each.name: {name: need.folder.name for name, need in each.needs.items()}
    for each in plan.in_order(stage)
  }


NUMBERS = range(1, paper.RM_FOLDS + 1)


def test_one_data_set_and_one_set_of_rankings_for_five_models(tmp_path):
  found = needs(planned(tmp_path))
  shared = ("dataset-test", "pretrain-test", "sft-test", "rankings-test")
  folds_of = {f"{x}-test-fold{n}" for x in ("rankings", "rm") for n in NUMBERS}
  assert set(found) == {*shared, *folds_of, "rm_folds-test"}
  assert found["rankings-test-fold3"] == {
    "data": "dataset-test",
    "rankings": "rankings-test",
  }
  assert found["rm-test-fold3"] == {
    "data": "dataset-test",
    "policy": "sft-test",
    "rankings": "rankings-test-fold3",
  }
  assert found["rm_folds-test"] == {
    "data": "dataset-test",
    "rankings": "rankings-test",
    "comparisons": "rankings-test-fold1",
    **{f"fold{n}": f"rm-test-fold{n}" for n in NUMBERS},
  }
  last = planned(tmp_path)
  digests = [each.digest for each in plan.in_order(last)]
  assert len(set(digests)) == len(digests)


def test_of_files_labelers_are_counted_before_anything_is_trained(tmp_path):
  for kind in ("pretraining", "demonstrations", "rankings"):
    (tmp_path / kind).write_text('{"prompt": "a", "response": "b"}\n')
  changes = {
    f"data.{kind}": str(tmp_path / kind)
    for kind in ("pretraining", "demonstrations", "rankings")
  }
  found = list(needs(planned(tmp_path, "rm_folds.py:files", **changes)))
  assert found[:3] == [
    "dataset-files",
    "rankings-files-fold1",
    "pretrain-files",
  ]
  of_last = needs(planned(tmp_path, "rm_folds.py:files", **changes))
  assert "rankings" not in of_last["rm_folds-files"]
  assert of_last["rankings-files-fold1"] == {"data": "dataset-files"}


def test_splits_pass_down_and_reward_models_stay(tmp_path):
  def digests(**changes):
    stages = plan.in_order(planned(tmp_path, **changes))
    return {each.name: each.digest for each in stages}

  plain, other = digests(), digests(**{"folds.splits": ("test",)})
  moved = {name for name in plain if plain[name] != other[name]}
  assert "rankings-test-fold2" in moved
  assert {"rankings-test", "sft-test"}.isdisjoint(moved)


@pytest.mark.parametrize(
  ("variant", "message"),
  [
    ("tset", "Did you mean 'test'"),
    ("rm-tset-fold1", "Did you mean 'test'"),
    ("rm-test-fold0", "the folds 1 to 5"),
    ("rm-test-fold6", "the folds 1 to 5"),
    ("rm-test-fold" + "9" * 5000, "unknown variant"),
    ("rm-test", "unknown variant"),
    ("test-fold1", "unknown variant"),
  ],
)
def test_folds_that_are_none(variant, message):
  with pytest.raises(errors.UserError, match=message):
    rm_folds.get_config(variant)


def test_the_paper_s_variants_have_its_reward_model():
  config = rm_folds.get_config("rm-175b-fold5")
  assert config.variant == "6b-fold5"
  assert config.needs.rankings == "rm_folds.py:rankings-6b-fold5"
  assert config.batch.rankings == 64
  assert rm_folds.get_config("1.3b").needs.fold5 == "rm_folds.py:rm-6b-fold5"


def test_the_variant_says_the_fold():
  known = keys.flatten(rm_folds.get_config("test"))
  with pytest.raises(errors.UserError, match="the variant says which group"):
    keys.check(["folds.held_out"], known)
  keys.check(["folds.splits"], known)


@pytest.mark.parametrize("splits", [("train",), ("tset",)])
def test_splits_that_were_trained_on_are_refused(splits, tmp_path):
  with pytest.raises(errors.UserError, match=r"config\.folds\.splits"):
    planned(tmp_path, **{"folds.splits": splits})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_folds_end_to_end(tmp_path, tmp_path_factory):
  built.copied(tmp_path_factory, tmp_path / "runs")
  config = "experiments/rm_folds.py:test"
  cache = tmp_path / "cache"
  code, output = chain_test.finish(tmp_path / "runs", cache, config=config)
  assert code == 0, output
  folder = tmp_path / "runs" / "rm_folds-test"
  results = json.loads((folder / "results.json").read_text())
  metrics = results["metrics"]
  for labelers in ("left_out", "trained_on", "nobody"):
    assert 0 <= metrics[f"folds/accuracy/{labelers}"] <= 1
  parameters = {
    json.loads(
      (tmp_path / "runs" / f"rm-test-fold{n}" / "results.json").read_text()
    )["parameters_digest"]
    for n in NUMBERS
  }
  assert len(parameters) == paper.RM_FOLDS
  report = (folder / "report.html").read_text()
  assert "labelers that they never saw" in report
  assert "69.6" in report
  assert "labelers left out" in output
