"""Folders of results, and values over seeds."""

import json
import math

import pytest

from instruct_jax.base import errors
from instruct_jax.figures import public, read, values
from tests import figures_toys as toys

T_2 = 4.302652729911275  # the 97.5 % quantile of Student's t, 2 degrees


def test_interval_over_three_seeds_is_students(tmp_path):
  found = {s: values.Found(x) for s, x in enumerate((0.5, 0.6, 0.7))}
  value = values.over_seeds(found)
  half = T_2 * 0.1 / math.sqrt(3)  # the standard deviation is 0.1
  assert value.value == pytest.approx(0.6)
  assert (value.low, value.high) == pytest.approx((0.6 - half, 0.6 + half))
  assert value.over == values.SEEDS
  assert value.each == {0: 0.5, 1: 0.6, 2: 0.7}


def test_one_seed_keeps_its_interval_over_prompts():
  value = values.over_seeds({4: values.Found(0.5, 0.4, 0.7, 80)})
  assert (value.low, value.high, value.n) == (0.4, 0.7, 80)
  assert value.over == values.PROMPTS
  bare = values.over_seeds({4: values.Found(0.5)})
  assert (bare.low, bare.high, bare.over) == (0.5, 0.5, values.NOTHING)
  assert not bare.excludes(0.9)
  assert value.excludes(0.9)
  assert not value.excludes(0.6)


def test_units_and_differences():
  found = {s: values.Found(x, n=n) for s, x, n in ((0, 0.2, 9), (1, 0.4, 7))}
  value = values.over_seeds(found)
  assert value.n == 7
  percent = value.times(100)
  assert percent.value == pytest.approx(30)
  assert percent.each == pytest.approx({0: 20, 1: 40})
  assert percent.high == pytest.approx(100 * value.high)
  turned = value.times(-1).plus(1)
  assert turned.value == pytest.approx(0.7)
  assert turned.low == pytest.approx(1 - value.high)
  other = values.over_seeds({0: values.Found(0.1), 1: values.Found(0.1)})
  less = values.difference(value, other)
  assert less.each == pytest.approx({0: 0.1, 1: 0.3})
  alone = values.over_seeds({5: values.Found(0.1)})
  assert values.difference(value, alone) is None


def test_reads_folders_and_copies_alike(tmp_path):
  one = toys.run(
    {"likert/sft": 4.0},
    tables={"likert": [toys.row("likert/sft", 4.0, 3.5, 4.5, subject="sft")]},
  )
  two = toys.run({"likert/sft": 5.0}, seed=1)
  toys.write(tmp_path / "folders", one, two)
  copies = tmp_path / "copies"
  copies.mkdir()
  for name, run in (("a", one), ("b", two)):
    (copies / f"{name}.json").write_text(json.dumps(run))
  for place in ("folders", "copies"):
    runs = read.read(tmp_path / place)
    assert [*runs.of("ppo_ptx")] == [0, 1]
    value = runs.value("likert/sft")
    assert value.value == 4.5
    assert value.each == {0: 4.0, 1: 5.0}
  alone = read.read(tmp_path / "folders" / "ppo_ptx-tiny-seed0")
  assert alone.value("likert/sft").low == 3.5
  assert alone.value("likert/ppo") is None


def test_what_is_no_result_is_left_out_with_why(tmp_path):
  toys.write(
    tmp_path,
    toys.run({"x": 1.0}),
    toys.run({"x": 9.0}, variant="test"),
    toys.run({"x": 9.0}, variant="gamma-test"),
  )
  (tmp_path / "chain.json").write_text("{}")
  (tmp_path / "broken.json").write_text("{")
  toys.write(tmp_path / "ppo_ptx-tiny.old1", toys.run({"x": 9.0}))
  copy = tmp_path / "zz.json"
  copy.write_text(json.dumps(toys.run({"x": 9.0})))
  runs = read.read(tmp_path)
  assert [g.label for g in runs.groups] == ["ppo_ptx.py:tiny"]
  assert runs.value("x").value == 1.0
  assert "experiment" in runs.left_out["chain.json"]
  assert "JSON" in runs.left_out["broken.json"]
  assert "same run" in runs.left_out["zz.json"]
  assert "learns nothing" in runs.left_out["ppo_ptx-test-seed0"]
  assert "learns nothing" in runs.left_out["ppo_ptx-gamma-test-seed0"]


def test_variants_that_learn_nothing_are_read_where_there_is_nothing_else(
  tmp_path,
):
  toys.write(tmp_path, toys.run({"x": 9.0}, variant="test"))
  assert read.read(tmp_path).value("x").value == 9.0


def test_a_value_never_mixes_experiments(tmp_path):
  toys.write(
    tmp_path,
    toys.run({"x": 1.0}, experiment="dpo", seed=0),
    toys.run({"x": 3.0}, experiment="dpo", seed=1),
    toys.run({"x": 5.0}, experiment="ppo_ptx", seed=2),
    toys.run({"y": 6.0}, experiment="dpo", seed=3),
  )
  runs = read.read(tmp_path)
  assert runs.value("x").each == {2: 5.0}
  assert runs.value("y").each == {3: 6.0}
  assert runs.group_with("x", "y").experiment == "dpo"


def test_bad_folders_are_named(tmp_path):
  with pytest.raises(errors.UserError, match="none: no such folder"):
    read.read(tmp_path / "none")
  with pytest.raises(errors.UserError, match="no results of finished runs"):
    read.read(tmp_path)
  (tmp_path / "a.json").write_text(json.dumps(toys.run({}) | {"seed": "zero"}))
  with pytest.raises(errors.UserError, match='"seed" is damaged'):
    read.read(tmp_path)


def test_samples(tmp_path):
  toys.write(tmp_path, toys.run({"x": 1.0}))
  path = tmp_path / "ppo_ptx-tiny-seed0" / "responses.jsonl"
  path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
  (run,) = read.read(tmp_path).of("ppo_ptx").values()
  assert [r["prompt"] for r in read.samples(run)] == ["a", "b"]
  assert [r["prompt"] for r in read.samples(run, most=1)] == ["a"]
  path.write_text('{"prompt": "a"}\nno\n')
  with pytest.raises(errors.UserError, match=r"responses.jsonl, line 2"):
    read.samples(run)


def test_public_sets_have_the_worlds_names(tmp_path):
  estimate = {"value": 0.25, "stderr": 0.1, "n": 817}
  wins = {
    "subject": "b", "baseline": "sft-files", "value": 0.6, "low": 0.5,
    "high": 0.7, "n": 40, "rate": "raw",
  }  # fmt: skip
  tree = {
    "models": {},
    "settings": {"seed": 3},
    "sets": {
      "truthfulqa": {
        "headline": "true_info_qa",
        "metrics": {"true_info_qa": {"sft-files": estimate, "b": estimate}},
      },
      "wmt15_fr_en": {
        "headline": "bleu",
        "options": {"shots": "3"},
        "metrics": {
          "bleu": {"b": {"value": 12.0, "stderr": 1.0, "n": 5}},
          "other": {"b": estimate},
        },
      },
      "likert": {
        "headline": "likert",
        "metrics": {"wrong_task": {"b": estimate}, "likert": {"b": estimate}},
      },
      "preference": {
        "headline": "win_rate",
        "metrics": {"win_rate": {"b": estimate}},
        "tables": {
          "win_rates": [wins, wins | {"rate": "length-controlled"}],
          "win_rates_by_source": [wins | {"source": "gpt"}],
        },
      },
    },
  }
  (tmp_path / "results.json").write_text(json.dumps(tree))
  runs = read.read(tmp_path)
  assert [*runs.of(public.EXPERIMENT)] == [3]
  value = runs.value("truthfulness/qa_truthful_informative/sft")
  assert (value.value, value.n) == (0.25, 817)
  assert value.high == pytest.approx(0.25 + 1.959964 * 0.1)
  bleu = runs.value("few_shot/wmt15_fr_en/b")
  assert (bleu.value, bleu.n) == (0.12, 5)
  assert bleu.low == pytest.approx((12 - 1.959964) / 100)
  assert runs.value("metadata/fails_instruction/b").value == 0.25
  assert runs.value("likert/b").value == 0.25
  assert runs.value("preference/b_over_sft/all").low == 0.5
  (group,) = runs.with_table("preference_by_source")
  assert group.table("preference_by_source")[3][0]["source"] == "gpt"
  assert runs.value("nlp/wmt15_fr_en/b") is None


def test_models_are_called_by_their_methods_where_that_is_one():
  assert public.subjects_of(["ppo_ptx-tiny-seed1", "sft-files", "mine"]) == {
    "ppo_ptx-tiny-seed1": "ppo_ptx",
    "sft-files": "sft",
    "mine": "mine",
  }
  assert public.subjects_of(["sft-a", "sft-b", "pretrain-tiny"]) == {
    "sft-a": "sft-a",
    "sft-b": "sft-b",
    "pretrain-tiny": "gpt",
  }


def test_why_files_are_left_out_is_said_once_a_reason(tmp_path, caplog):
  toys.write(tmp_path, toys.run({"x": 1.0}))
  for number in range(9):
    toys.write(tmp_path, toys.run({"x": 9.0}, variant="test", seed=number))
  with caplog.at_level("INFO"):
    runs = read.read(tmp_path)
  assert len(runs.left_out) == 9
  (said,) = caplog.messages
  assert "left out 9: :test learns nothing: ppo_ptx-test-seed0" in said
  assert said.endswith("ppo_ptx-test-seed2 and 6 more")
