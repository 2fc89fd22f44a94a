"""The command that scores samples."""

import json
import sys

import pytest

from instruct_jax import score
from instruct_jax.base import errors
from tests import scoring_samples_test


def run(monkeypatch, capsys, tmp_path, *arguments, content=None):
  path = tmp_path / "samples.csv"
  path.write_text(content or scoring_samples_test.CSV)
  line = ["score", "--samples", str(path), *arguments]
  monkeypatch.setattr(sys, "argv", line)
  score.main()
  return capsys.readouterr().out


def test_json(monkeypatch, capsys, tmp_path):
  out = run(
    monkeypatch, capsys, tmp_path, "--task", "drop", "--json",
    "--by=model_type",
  )  # fmt: skip
  lines = [json.loads(line) for line in out.splitlines()]
  assert lines[0] == {
    "group": {"model_type": "gpt"}, "metric": "f1",
    "value": pytest.approx(200 / 3), "stderr": pytest.approx(100 / 3), "n": 3,
  }  # fmt: skip
  assert [x["metric"] for x in lines] == ["f1", "em"] * 2
  assert lines[2]["stderr"] is None
  assert lines[2]["n"] == 1


def test_a_table_for_people(monkeypatch, capsys, tmp_path):
  out = run(monkeypatch, capsys, tmp_path, "--task=squadv2")
  words = [line.split() for line in out.splitlines()]
  assert words[0][:3] == ["model_type", "prompt_type", "metric"]
  assert ["gpt", "fewshot", "f1", "0", "-", "1"] in words
  assert len(words) == 1 + 2 * 3


def test_columns_and_the_text_for_no_answer(monkeypatch, capsys, tmp_path):
  out = run(
    monkeypatch, capsys, tmp_path, "--task", "squadv2", "--json",
    "--column", "sample=said", "--column=ref_text=known",
    "--no_answer=no idea", content="known,said\nNo idea!,no idea\n",
  )  # fmt: skip
  assert [json.loads(x)["value"] for x in out.splitlines()] == [100, 100]


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--task=squad", "squad squadv2"),
    ("--column=sample", "sample NAME=COLUMN"),
    ("--column=refs=x", "refs ref_text"),
    ("--by=model", 'column "model"'),
  ],
)
def test_what_is_refused(monkeypatch, capsys, tmp_path, argument, words):
  with pytest.raises(errors.UserError) as caught:
    run(monkeypatch, capsys, tmp_path, "--task=drop", argument)
  for word in words.split():
    assert word in str(caught.value)
  twice = ["--task=drop", "--column=sample=a", "--column=sample=b"]
  with pytest.raises(errors.UserError, match="twice"):
    run(monkeypatch, capsys, tmp_path, *twice)
