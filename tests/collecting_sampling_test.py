"""Runs answer prompts beforehand: K different answers, once, whatever ends."""

import json
import pathlib

import pytest

from instruct_jax.base import errors
from instruct_jax.collecting import filling, sampling, store
from tests import run_folders

WORDS = "ann bob oslo nurse animals cow pig goat job live list what"
PROMPTS = [f"what job does {x} have ? {i}" for i, x in enumerate(WORDS.split())]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft", name="one", seed=1)
  run_folders.make(root, "sft", name="two", seed=2)
  return [str(root / "one"), str(root / "two")]


def _project(folder, **tasks):
  folder.mkdir(parents=True)
  keys = {"demonstrations": 0.25} | tasks
  text = "".join(f"{key} = {value}\n" for key, value in keys.items())
  (folder / "settings.toml").write_text(f"[tasks]\n{text}")
  return store.open_store(folder)


def _spec(tmp_path, prompts=PROMPTS):
  path = tmp_path / "prompts.jsonl"
  rows = [{"prompt": x, "use_case": "chat"} for x in prompts]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def _lines(project):
  text = (project.folder / "samples.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
  """(the store, what was said of it) of a sampling that nothing disturbed."""
  folder = tmp_path_factory.mktemp("whole")
  project = _project(folder / "labels")
  found = sampling.from_runs(project, runs, _spec(folder))
  yield project, found
  project.shut()


def test_k_different_answers_of_all_runs(whole):
  project, (written, asked) = whole
  lines = _lines(project)
  assert written.added["demonstration"] + len(lines) == len(PROMPTS)
  assert 0 < len(lines) < len(PROMPTS)
  assert asked.added == {"ranking": len(lines), "comparison": 0}
  for line in lines:
    k = len(line["responses"])
    assert 4 <= k <= 9
    assert len(set(line["responses"])) == k
    assert set(line["models"]) == {"one", "two"}
    # They take turns, but for what was said before.
    assert abs(line["models"].count("one") - k / 2) <= 1.5
    assert [type(x) for x in line["ended"]] == [bool] * k
    assert line["use_case"] == "chat"
  assert len({len(line["responses"]) for line in lines}) > 1


def test_tasks_hold_what_the_lines_say(whole):
  project, _ = whole
  labeler = project.labeler_of(project.invite("ann")).id
  by_prompt = {line["prompt"]: line for line in _lines(project)}
  kinds = []
  while (given := project.next_assignment(labeler)) is not None:
    kinds.append(given.kind)
    content = given.content
    if given.kind == "ranking":
      line = by_prompt[content["prompt"]]
      for key in ("responses", "models", "ended"):
        assert content[key] == line[key]
      assert content["record"] == {"use_case": "chat"}
    project.skip(labeler, given.id, f"skip-{given.id:04}", "looked at")
  assert kinds.count("ranking") == len(by_prompt)


def test_a_line_has_what_the_runs_said_not_what_its_file_had():
  record = {"responses": ["theirs"], "ended": [True], "key": "x", "core": True}
  prompt = sampling._Prompt({"prompt": "p", "record": record}, 2, "own-key")
  found = {"one": ("a", True), "two": ("b", False)}
  assert sampling._line(prompt, found) == {
    "prompt": "p",
    "responses": ["one", "two"],
    "models": ["a", "b"],
    "ended": [True, False],
    "core": True,
    "key": "own-key",
  }


def test_second_start_samples_nothing(whole, runs, tmp_path, monkeypatch):
  project, _ = whole
  before = (project.folder / "samples.jsonl").read_bytes()
  monkeypatch.setattr(sampling.answers, "answer", None)
  found = sampling.from_runs(project, runs, _spec(tmp_path))
  assert [sum(x.added.values()) for x in found] == [0, 0]
  assert sum(x.repeated for x in found) == len(PROMPTS)
  assert (project.folder / "samples.jsonl").read_bytes() == before


def test_a_killed_sampling_ends_with_the_same_lines(
  whole, runs, tmp_path, monkeypatch
):
  monkeypatch.setattr(sampling, "_CHUNK", 4)
  undisturbed = _project(tmp_path / "undisturbed")
  sampling.from_runs(undisturbed, runs, _spec(tmp_path))
  expected = (undisturbed.folder / "samples.jsonl").read_bytes()
  undisturbed.shut()

  def stop():
    raise KeyboardInterrupt

  project = _project(tmp_path / "labels")
  path = pathlib.Path(project.folder / "samples.jsonl")
  with monkeypatch.context() as patch:
    patch.setattr(sampling.interrupt, "check", stop)
    with pytest.raises(KeyboardInterrupt):
      sampling.from_runs(project, runs, _spec(tmp_path))
  assert len(_lines(project)) == 4
  labeler = project.labeler_of(project.invite("ann")).id
  assert project.next_assignment(labeler) is None  # not before all is sampled
  for torn in (1, 200):  # a kill in the middle of a line, and of the chunk
    path.write_bytes(path.read_bytes()[:-torn])
  sampling.from_runs(project, runs, _spec(tmp_path))
  assert path.read_bytes() == expected
  project.shut()


def test_other_settings_are_other_samples(runs, tmp_path):
  spec = _spec(tmp_path, PROMPTS[:3])
  project = _project(tmp_path / "labels", demonstrations=0)
  sampling.from_runs(project, runs[:1], spec)
  project.shut()
  with (project.folder / "settings.toml").open("a") as file:
    file.write("[sampling]\ntemperature = 0.7\n")
  project = store.open_store(project.folder)
  found = sampling.from_runs(project, runs[:1], spec)
  assert found[1].added["ranking"] == 3
  assert len(_lines(project)) == 6
  project.shut()


def test_comparisons_have_two_answers(runs, tmp_path):
  project = _project(tmp_path / "labels", demonstrations=0, comparisons=1)
  found = sampling.from_runs(project, runs, _spec(tmp_path, PROMPTS[:3]))
  assert found[1].added == {"ranking": 0, "comparison": 3}
  assert all(sorted(x["models"]) == ["one", "two"] for x in _lines(project))
  project.shut()


def test_prompts_that_are_too_long_are_left_out(runs, tmp_path, caplog):
  project = _project(tmp_path / "labels", demonstrations=0)
  spec = _spec(tmp_path, [PROMPTS[0], "what " * 500])
  with caplog.at_level("WARNING"):
    sampling.from_runs(project, runs, spec)
  assert "1 of 2 prompts are longer than the runs read" in caplog.text
  assert [line["prompt"] for line in _lines(project)] == PROMPTS[:1]
  with pytest.raises(errors.UserError, match="no prompt is short enough"):
    sampling.from_runs(project, runs, _spec(tmp_path, ["what " * 500]))
  project.shut()


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"key": "x"}'])
def test_foreign_line_of_samples_is_named(runs, tmp_path, text):
  project = _project(tmp_path / "labels", demonstrations=0)
  path = project.folder / "samples.jsonl"
  path.write_text(f"{text}\n")
  with pytest.raises(errors.UserError, match="is no line of samples") as caught:
    sampling.from_runs(project, runs, _spec(tmp_path, PROMPTS[:1]))
  assert str(caught.value).startswith(f"{path}:1")
  project.shut()


def test_what_was_sampled_is_read_as_samples(whole, tmp_path):
  """Another project may begin with the file of this one."""
  project, _ = whole
  other = _project(tmp_path / "other")
  found = filling.from_samples(other, str(project.folder / "samples.jsonl"))
  assert found.added["ranking"] == len(_lines(project))
  other.shut()


def test_what_is_no_run_is_a_sentence(tmp_path):
  project = _project(tmp_path / "labels")
  with pytest.raises(errors.UserError, match="none"):
    sampling.from_runs(project, [str(tmp_path / "none")], "")
  project.shut()
