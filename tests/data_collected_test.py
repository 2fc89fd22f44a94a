"""People's answers, read from the folder that they were collected in."""

import json
import logging
import os
import pathlib
import sqlite3
import tempfile

import ml_collections
import pytest

from instruct_jax.base import errors
from instruct_jax.data import fingerprint, inspect, prepare
from instruct_jax.data.read import answers, collected, files, sources
from instruct_jax.labeling import rankers
from instruct_jax.scoring import judgments, rankings
from tests import collected_toys, data_toys


@pytest.fixture
def labels(tmp_path):
  folder = collected_toys.some(tmp_path / "LABELS")
  yield folder
  folder.close()


def _rows(labels, kind):
  path = labels.folder / answers.NAME
  return [record for _, record in collected.rows(path, kind)]


def test_rankings_are_by_task_and_labeler_in_the_tasks_order(labels):
  rows = _rows(labels, "rankings")
  assert len(rows) == 12 + 4 + 3 + 1
  assert [row["labeler"] for row in rows[:4]] == ["ann", "ben", "cy", "ann"]
  assert rows[1] == {
    "prompt": "Say the number 0.",
    "responses": ["It is 0.", "0", "I do not know."],
    "ranks": [2, 1, 2],
    "labeler": "ben",
    "group": "training",
    "seconds": 10.0,
    "ratings": [6, 7, 6],
    "metadata": [
      collected_toys.FLAGS | {"opinion": True},
      collected_toys.FLAGS,
      collected_toys.FLAGS,
    ],
    "models": ["ppo", "sft", "gpt"],
    "source": "instruct",
  }
  assert "ratings" not in rows[-1]  # a comparison
  assert [row.get("sensitive") for row in rows].count(True) == 1


def test_what_is_undone_or_answered_again_does_not_count(labels):
  task = labels.task("ranking", {"prompt": "p", "responses": ["a", "b"]})
  first = labels.answer(task, 1, {"ranks": [1, 2]})
  second = labels.answer(task, 1, {"ranks": [2, 1]})
  assert _rows(labels, "rankings")[-1]["ranks"] == [2, 1]
  labels.undo(second)
  assert _rows(labels, "rankings")[-1]["ranks"] == [1, 2]
  labels.undo(first)
  assert _rows(labels, "rankings")[-1]["prompt"] == "One or two?"


def test_what_a_line_said_of_its_own_ranking_goes_the_rest_stays(labels):
  content = {
    "prompt": "p",
    "responses": ["a", "b"],
    "record": {
      "ranks": [2, 1],
      "pairs": [[1, 0]],
      "labeler": "old",
      "split": "test",
      "core": "c",
    },
  }
  task = labels.task("comparison", content)
  labels.answer(task, 1, {"ranks": [1, 2]})
  assert _rows(labels, "rankings")[-1] == {
    "prompt": "p",
    "responses": ["a", "b"],
    "ranks": [1, 2],
    "labeler": "ann",
    "group": "training",
    "seconds": 10.0,
    "split": "test",
    "core": "c",
  }


def test_one_text_with_two_ranks_is_left_out_with_a_warning(labels, caplog):
  before = len(_rows(labels, "rankings"))
  twins = {"prompt": "p", "responses": ["a", "a", "b"]}
  labels.answer(labels.task("ranking", twins), 1, {"ranks": [1, 2, 3]})
  with caplog.at_level(logging.WARNING):
    assert len(_rows(labels, "rankings")) == before
  assert "1 rankings left out, which give one text two ranks" in caplog.text
  labels.answer(labels.task("ranking", twins), 1, {"ranks": [1, 1, 3]})
  assert len(_rows(labels, "rankings")) == before + 1
  assert sources.read(labels.folder, "rankings")[-1]["ranks"] == [1, 1, 3]


def test_a_response_of_no_text_is_one_that_ended(labels):
  task = labels.task("comparison", {"prompt": "p", "responses": ["", "b"]})
  labels.answer(task, 1, {"ranks": [2, 1]})
  assert sources.read(labels.folder, "rankings")[-1]["ended"] == [True, True]
  said = {"prompt": "p", "responses": ["", "cut o"], "ended": [True, False]}
  labels.answer(labels.task("comparison", said), 1, {"ranks": [2, 1]})
  assert sources.read(labels.folder, "rankings")[-1]["ended"] == [True, False]


def test_demonstrations_and_prompts_with_examples_before_the_last(labels):
  written = _rows(labels, "demonstrations")
  assert written[0] == {
    "prompt": "Write 0 out.",
    "response": "The number 0.",
    "labeler": "ben",
    "group": "training",
    "seconds": 30.0,
    "user": "u1",
  }
  shots = "Turn it around.\n\nInput: cd\nOutput: dc\n\nInput: ab\nOutput:"
  assert written[12]["prompt"] == shots
  assert written[12]["response"] == "ba"
  prompts = _rows(labels, "prompts")
  assert [row["prompt"] for row in prompts[:3]] == [
    "Name three birds.",
    "Write to my landlord.",
    shots,
  ]
  assert len(prompts) == 4
  assert prompts[1]["user"] == "ann"
  assert prompts[1]["form"] == "user_based"
  assert prompts[1]["use_case"] == "generation"


def test_the_house_reads_the_folder_as_a_source(labels):
  spec = str(labels.folder)
  assert files.paths(spec) == [labels.folder / answers.NAME]
  for kind, count in (("rankings", 20), ("demonstrations", 14), ("prompts", 4)):
    assert len(sources.read(spec, kind)) == count
  weighed = sources.read(f"{spec}=0.5,{spec}=0.5", "prompts")
  assert [row["part"] for row in weighed] == [0] * 4 + [1] * 4
  assert len(sources.read(labels.folder / answers.NAME, "prompts")) == 4


def test_a_kind_that_nobody_wrote_or_writes_is_said(labels, tmp_path):
  with pytest.raises(errors.UserError, match="people write no pretraining"):
    sources.read(labels.folder, "pretraining")
  empty = collected_toys.Labels(tmp_path / "EMPTY")
  with pytest.raises(errors.UserError, match="no rankings yet"):
    sources.read(empty.folder, "rankings")
  empty.close()
  other = tmp_path / "OTHER"
  other.mkdir()
  with pytest.raises(errors.UserError, match="a folder; name a file"):
    sources.read(other, "rankings")
  (other / answers.NAME).write_text("no database")
  with pytest.raises(errors.UserError, match="cannot be read as labels"):
    sources.read(other, "rankings")


def test_an_answer_more_is_another_data_set_of_its_kind_alone(labels):
  data = data_toys.section(
    rankings=str(labels.folder),
    demonstrations=str(labels.folder),
    tokenizer="byte",
    vocab_size=0,
  )
  before = fingerprint.of(data)["files"]
  assert fingerprint.of(data)["files"] == before
  task = labels.task("comparison", {"prompt": "p", "responses": ["a", "b"]})
  assert fingerprint.of(data)["files"] == before
  labels.answer(task, 1, {"ranks": [1, 2]})
  after = fingerprint.of(data)["files"]
  assert after["rankings"] != before["rankings"]
  assert after["demonstrations"] == before["demonstrations"]


def test_people_may_go_on_while_it_is_read(labels):
  task = labels.task("comparison", {"prompt": "p", "responses": ["a", "b"]})
  last = labels.answer(task, 1, {"ranks": [1, 2]})
  path = labels.folder / answers.NAME
  with answers.held():
    before = collected.digest(path, "rankings")
    source = sources.Source(labels.folder, "rankings")
    records = iter(source)
    next(records)
    other = labels.task("comparison", {"prompt": "q", "responses": ["a", "b"]})
    labels.answer(other, 1, {"ranks": [1, 2]})
    labels.undo(last)
    assert len([*records]) == 20
    assert len([*source]) == 21
    with answers.held():
      assert collected.digest(path, "rankings") == before
  assert collected.digest(path, "rankings") != before
  assert sources.read(labels.folder, "rankings")[-1]["prompt"] == "q"


def _built(tmp_path, name, held_out=0.3, **named):
  text = tmp_path / "text.jsonl"
  lines = [json.dumps({"text": f"Document {n} is here."}) for n in range(60)]
  text.write_text("\n".join(lines))
  data = data_toys.section(
    pretraining=str(text), tokenizer="byte", vocab_size=0, prompt_length=24,
    response_length=16, validation_fraction=held_out, k_max=0, **named,
  )  # fmt: skip
  summary = prepare.build(data_toys.config(data), tmp_path / name)
  return summary, tmp_path / name


def _content(folder):
  """What is in a data set, but for what it was made of."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name not in ("summary.json", "begun.json")
  }


def test_the_data_set_of_a_folder_is_that_of_its_exported_files(
  labels, tmp_path
):
  kinds = ("rankings", "demonstrations", "prompts")
  exported = {kind: str(tmp_path / f"{kind}.jsonl") for kind in kinds}
  for kind, name in exported.items():
    lines = map(collected.line, _rows(labels, kind))
    with open(name, "w", encoding="utf-8") as file:
      file.writelines(line + "\n" for line in lines)
  folder = dict.fromkeys(kinds, str(labels.folder))
  one, first = _built(tmp_path, "first", 0.0, **folder)
  other, second = _built(tmp_path, "second", 0.0, **exported)
  assert _content(first) == _content(second)
  digests = [
    {kind: [*of.values()] for kind, of in x["inputs"]["files"].items()}
    for x in (one, other)
  ]
  assert digests[0] == digests[1]
  for kind in kinds:
    assert one[kind] == other[kind]


def test_prompts_of_people_are_cleaned_as_those_of_customers(labels, tmp_path):
  for n in range(5):
    form = {"form": "plain", "hint": None, "number": n}
    prompt = f"In {n} lines, write to ann@example.org that I am late."
    labels.answer(labels.task("writing", form), 2, {"prompt": prompt})
  folder = str(labels.folder)
  data = data_toys.section(prompts=folder, per_user=3, rankings=folder)
  records = data_toys.cleaned(data).by_split["prompts"]["train"]
  written = [row["prompt"] for row in records if " lines," in row["prompt"]]
  assert len(written) == 3
  assert all("write to <email> that" in text for text in written)


def test_a_build_while_people_answer_is_of_one_moment(
  labels, tmp_path, monkeypatch
):
  real = prepare.scan

  def scan(data):
    plan = real(data)
    task = labels.task("comparison", {"prompt": "p", "responses": ["a", "b"]})
    labels.answer(task, 1, {"ranks": [1, 2]})
    return plan

  monkeypatch.setattr(prepare, "scan", scan)
  summary, _ = _built(tmp_path, "set", rankings=str(labels.folder))
  assert summary["rankings"]["cleaning"]["read"] == 20
  monkeypatch.setattr(prepare, "scan", real)
  summary, _ = _built(tmp_path, "set", rankings=str(labels.folder))
  assert summary["rankings"]["cleaning"]["read"] == 21


def test_evaluations_read_the_folder_too(labels):
  lines = _rows(labels, "rankings")[:-1]
  path = labels.folder.parent / "rankings.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  assert len(rankings.read(str(path))) == 19
  labels.undo(
    labels.database.execute(
      "SELECT max(id) FROM answers WHERE answer = ?", ('{"ranks": [1, 2]}',)
    ).fetchone()[0]
  )  # a comparison without models
  ranked = rankings.read(str(labels.folder))
  said = list(judgments.of_rankings(ranked))
  assert len(said) == 19 * 3
  assert {one.labels["labelers"] for one in said} == {"training", "held_out"}
  _, first = next(files.rows(str(labels.folder)))
  assert "responses" in first


def test_an_inspection_reads_the_folder(labels, capsys):
  inspect.main([str(labels.folder), "--kind=rankings", "--json"])
  told = json.loads(capsys.readouterr().out)
  assert told["records"] == 20


def test_peoples_ranks_count_by_their_content(labels):
  section = ml_collections.ConfigDict(
    {"labeler": "people", "file": str(labels.folder), "round": 2}
  )
  before = rankers.digests(section)
  labels.answer(2, 3, {"ranks": [3, 2, 1]})
  assert rankers.digests(section) != before


def test_a_copy_where_nothing_can_be_written_is_read(labels):
  with tempfile.TemporaryDirectory() as name:
    copy = pathlib.Path(name)
    target = sqlite3.connect(copy / answers.NAME)
    labels.database.backup(target)
    target.close()
    (copy / answers.NAME).chmod(0o444)
    copy.chmod(0o555)
    user = os.geteuid()
    try:
      if user == 0:  # who may write everywhere
        os.seteuid(65534)
      assert len(sources.read(copy, "rankings")) == 20
    finally:
      os.seteuid(user)
      copy.chmod(0o755)
