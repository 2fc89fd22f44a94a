"""What leaves a folder of labels: the chain's files, and Label Studio's."""

import collections
import contextlib
import io
import json
import xml.etree.ElementTree as etree
import zipfile

import pytest

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.collecting import exporting, importing, label_studio
from instruct_jax.data.read import answers, collected, sources
from instruct_jax.scoring import judgments, rankings
from tests import collected_toys


@pytest.fixture
def labels(tmp_path):
  folder = collected_toys.some(tmp_path / "LABELS")
  yield folder
  folder.close()


def _export(labels, out, *flags):
  exporting.main([f"--dir={labels.folder}", f"--out={out}", *flags])


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_files_are_what_the_house_reads_of_the_folder(labels, tmp_path):
  out = tmp_path / "out"
  _export(labels, out)
  assert sorted(path.name for path in out.iterdir()) == [
    "demonstrations.jsonl",
    "likert.jsonl",
    "prompts.jsonl",
    "rankings.jsonl",
    "summary.json",
  ]
  for kind in collected.FORMS:
    exported = sources.read(str(out / f"{kind}.jsonl"), kind)
    assert exported == sources.read(str(labels.folder), kind)
  summary = json.loads((out / "summary.json").read_text())
  assert summary["rows"] == {
    "demonstrations.jsonl": 14,
    "likert.jsonl": 57,
    "prompts.jsonl": 4,
    "rankings.jsonl": 20,
  }
  assert summary["left_out"] == {"screening": 3, "skipped": 1}
  assert summary["labelers"]["cy"] == {
    "group": "held_out",
    "answers": 3,
    "sensitive": 1,
  }


def test_judgments_of_single_answers_are_read_by_the_evaluation(
  labels, tmp_path
):
  _export(labels, tmp_path / "out")
  said = judgments.read(str(tmp_path / "out" / "likert.jsonl"))
  assert said[0].model == "ppo"
  assert said[0].likert == 7
  assert said[0].flags == collected_toys.FLAGS
  assert said[0].labels == {"labelers": "training", "source": "instruct"}
  rows = _lines(tmp_path / "out" / "rankings.jsonl")[:-1]
  again = list(judgments.of_rankings(rows))
  assert len(again) == len(said) == 57
  assert [x.likert for x in again] == [x.likert for x in said]


def test_groups_apart_are_read_by_chain_and_evaluation(labels, tmp_path):
  out = tmp_path / "out"
  _export(labels, out, "--split_by_group")
  assert (
    len(sources.read(str(out / "training/rankings.jsonl"), "rankings")) == 17
  )
  held_out = rankings.read(str(out / "held_out/rankings.jsonl"))
  assert {row["labeler"] for row in held_out} == {"cy"}
  assert not (out / "held_out/demonstrations.jsonl").exists()


def test_a_labeler_is_left_out_by_name(labels, tmp_path):
  _export(labels, tmp_path / "out", "--without=ben")
  rows = _lines(tmp_path / "out" / "rankings.jsonl")
  assert {row["labeler"] for row in rows} == {"ann", "cy"}
  summary = json.loads((tmp_path / "out" / "summary.json").read_text())
  assert summary["left_out"] == {"of_ben": 12, "screening": 2}
  with pytest.raises(errors.UserError, match="Did you mean 'ben'"):
    _export(labels, tmp_path / "other", "--without=bem")
  assert not (tmp_path / "other").exists()


def test_nothing_of_others_is_replaced_and_what_is_ours_is(labels, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  (out / "mine.txt").write_text("mine")
  with pytest.raises(errors.UserError, match="--overwrite"):
    _export(labels, out)
  assert (out / "mine.txt").read_text() == "mine"
  _export(labels, out, "--overwrite")
  labels.undo(max(one.id for one in answers.read(labels.folder / answers.NAME)))
  _export(labels, out)
  assert len(_lines(out / "prompts.jsonl")) == 2  # the few-shot one is undone
  with pytest.raises(errors.UserError, match=r"lies in .*LABELS"):
    _export(labels, labels.folder / "out")
  with pytest.raises(errors.UserError, match="holds no labels"):
    exporting.main([f"--dir={out}", f"--out={tmp_path / 'more'}"])
  with pytest.raises(errors.UserError, match="Did you mean 'jsonl'"):
    _export(labels, out, "--format=json")


def test_the_archive_has_the_same_files_and_is_the_same_again(labels, tmp_path):
  _export(labels, tmp_path / "out")
  path = labels.folder / answers.NAME
  with exporting.zipped(path) as one, exporting.zipped(path) as other:
    content = one.read()
    assert content == other.read()
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    assert len(archive.namelist()) == 5
    for file in (tmp_path / "out").iterdir():
      assert archive.read(f"labels/{file.name}") == file.read_bytes()


def test_what_was_called_sensitive_is_so_response_by_response(labels, tmp_path):
  _export(labels, tmp_path / "out")
  lines = _lines(tmp_path / "out" / "likert.jsonl")
  sensitive = [line for line in lines if line.get("sensitive")]
  assert len(sensitive) == 3  # cy's of task 4
  assert {line["prompt"] for line in sensitive} == {"Say the number 4."}


# Label Studio


def _imported(path, tmp_path, name="back.jsonl"):
  out = tmp_path / name
  importing.main(["--format=label_studio", str(path), f"--out={out}"])
  return _lines(out)


def test_rankings_come_back_from_label_studio_as_they_were(labels, tmp_path):
  task = labels.task(
    "ranking", {"prompt": "nobody yet", "responses": ["", "b"]}
  )
  _export(labels, tmp_path / "studio", "--format=label_studio")
  tasks = json.loads((tmp_path / "studio" / "tasks.json").read_text())
  assert len(tasks) == 14
  assert tasks[-1]["meta"]["task"] == task
  assert tasks[-1]["annotations"] == []
  back = _imported(tmp_path / "studio" / "tasks.json", tmp_path)
  path = labels.folder / answers.NAME
  assert back == [row for _, row in collected.rows(path, "rankings")]
  assert sources.read(str(tmp_path / "back.jsonl"), "rankings") == back


def test_who_is_left_out_does_not_leave_for_label_studio(labels, tmp_path):
  where = tmp_path / "studio"
  _export(labels, where, "--format=label_studio", "--without=ben")
  text = (where / "tasks.json").read_text()
  assert '"ann"' in text
  assert "ben" not in text
  with pytest.raises(errors.UserError, match="--split_by_group"):
    _export(labels, where, "--format=label_studio", "--split_by_group")
  with pytest.raises(errors.UserError, match="Did you mean 'ben'"):
    _export(labels, where, "--format=label_studio", "--without=bem")


def test_a_task_has_the_documented_form_and_hides_who_answered(labels):
  content = {
    "prompt": "p",
    "responses": ["one", "two", "three"],
    "models": ["x", "y", "z"],
  }
  said = collected_toys.ranked([1, 2, 1], flags=["opinion"])
  answer = answers.Answer(
    *(7, 5, "ranking", content, None, "", False, 1, "ann", "training"),
    *([0, 1, 2], said, 12.5, True, 0.0),
  )
  task = label_studio.task_of(5, content, [answer])
  items = task["data"]["items"]
  bodies = {item["id"]: item["body"] for item in items}
  assert bodies == {"r0": "one", "r1": "two", "r2": "three"}
  assert [item["title"] for item in items] == [
    "Answer 1",
    "Answer 2",
    "Answer 3",
  ]
  assert task["meta"]["models"] == ["x", "y", "z"]
  assert "models" not in json.dumps(task["data"])
  (annotation,) = task["annotations"]
  assert annotation["lead_time"] == 12.5
  assert annotation["was_cancelled"] is False
  results = {one["from_name"]: one for one in annotation["result"]}
  assert results["ranking"] == {
    "from_name": "ranking",
    "to_name": "responses",
    "type": "ranker",
    "value": {"ranker": {"rank_1": ["r0", "r2"], "rank_2": ["r1"]}},
  }
  place = [item["id"] for item in items].index("r0")
  assert results[f"rating_{place}"]["value"] == {"rating": 7}
  assert results[f"rating_{place}"]["to_name"] == f"response_{place}"
  assert results[f"flags_{place}"]["value"] == {"choices": ["opinion"]}
  assert results["labeler"]["value"] == {"text": ["ann"]}
  assert results["sensitive"]["value"] == {"choices": ["sensitive"]}


def test_the_interface_has_what_the_tasks_name(labels, tmp_path):
  _export(labels, tmp_path / "studio", "--format=label_studio")
  text = (tmp_path / "studio" / label_studio.CONFIG).read_text()
  view = etree.fromstring(text)
  buckets = [one.get("name") for one in view.iter("Bucket")]
  assert buckets == ["rank_1", "rank_2", "rank_3"]
  names = {one.get("name") for one in view.iter()} - {None}
  assert {"prompt", "responses", "ranking", "labeler", "sensitive"} <= names
  assert {"rating_{{idx}}", "flags_{{idx}}", "response_{{idx}}"} <= names
  flags = [one.get("alias") for one in view.iter("Choice")]
  assert flags[:-1] == [*paper.METADATA]


def _task(*results, **more):
  items = [{"id": x, "body": f"text {x}"} for x in ("a", "b", "c")]
  annotation = {"result": list(results), "completed_by": 3, **more}
  return {"data": {"prompt": "p", "items": items}, "annotations": [annotation]}


def _ranker(value, name="rank"):
  return {"from_name": name, "to_name": "x", "type": "ranker", "value": value}


@pytest.mark.parametrize(
  ("value", "ranks"),
  [
    ({"ranker": ["b", "a", "c"]}, [2, 1, 3]),
    ({"ranker": {"rank": ["b", "a", "c"]}}, [2, 1, 3]),
    ({"ranker": {"rank_2": ["a", "c"], "rank_1": ["b"]}}, [2, 1, 2]),
    ({"ranker": {"rank_5": ["a"], "rank_1": ["b", "c"], "_": []}}, [2, 1, 1]),
  ],
)
def test_other_projects_orders_are_read(value, ranks, tmp_path):
  path = tmp_path / "export.json"
  path.write_text(json.dumps([_task(_ranker(value), lead_time=4.2)]))
  (row,) = _imported(path, tmp_path)
  assert row == {
    "prompt": "p",
    "responses": ["text a", "text b", "text c"],
    "ranks": ranks,
    "labeler": "label_studio_3",
    "seconds": 4.2,
  }


def test_what_says_no_order_is_left_out_and_counted(tmp_path, capsys):
  path = tmp_path / "export.json"
  whole = _task(_ranker({"ranker": ["a", "b", "c"]}))
  path.write_text(
    json.dumps(
      [
        whole,
        _task(was_cancelled=True),
        _task(_ranker({"ranker": {"rank_1": ["a"], "_": ["b", "c"]}})),
        _task(_ranker({"ranker": {"_": ["a", "b", "c"]}}, "ranking")),
        _task(),
      ]
    )
  )
  assert len(_imported(path, tmp_path)) == 1
  told = capsys.readouterr().out
  assert "1 left out: skipped" in told
  assert "3 left out: unranked" in told
  counts = collections.Counter()
  path.write_text(json.dumps([_task()]))
  assert not [*importing.read(str(path), counts)]
  with pytest.raises(errors.UserError, match="nobody has ranked"):
    _imported(path, tmp_path, "none.jsonl")


def _mangled(tree):
  """The tree with each of its values in turn replaced by another thing."""
  others = (None, True, 3, -1.5, "x", [], [3], [[1]], [{}], {}, {"x": 1})
  pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
  for key, value in list(pairs):
    for other in others:
      copy = tree.copy()
      copy[key] = other
      yield copy
    if isinstance(value, dict | list):
      for inner in _mangled(value):
        copy = tree.copy()
        copy[key] = inner
        yield copy


def test_whatever_is_mangled_is_a_sentence_or_read(labels, tmp_path):
  _export(labels, tmp_path / "studio", "--format=label_studio")
  tasks = json.loads((tmp_path / "studio" / "tasks.json").read_text())
  task = max(tasks, key=lambda one: len(json.dumps(one)))
  path, count = tmp_path / "mangled.json", 0
  for mangled in _mangled(task):
    path.write_text(json.dumps([mangled]))
    count += 1
    with contextlib.suppress(errors.UserError):
      for row in importing.read(str(path)):
        assert len(row["ranks"]) == len(row["responses"])
  assert count > 1000


@pytest.mark.parametrize(
  ("task", "says"),
  [
    ({"id": 1, "ranking": ["a"]}, r"as JSON \(not JSON-MIN or CSV\)"),
    ({"data": {"prompt": "p"}, "annotations": []}, '"data" should have a "pro'),
    (_task({"from_name": "rank"}), '"result" should hold objects'),
    (_task(_ranker({"ranker": ["a", "b", "d"]})), "ranked item.*'d'"),
    (_task(_ranker({"ranker": {"best": ["a"]}})), "'best' is no rank"),
    (_task(*[0]) | {"annotations": 3}, '"annotations" should be a list'),
  ],
)
def test_what_is_no_export_is_said(task, says, tmp_path):
  path = tmp_path / "export.json"
  path.write_text(json.dumps([task]))
  with pytest.raises(errors.UserError, match=says) as caught:
    _imported(path, tmp_path)
  assert "export.json" in str(caught.value)
