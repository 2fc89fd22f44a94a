"""The admin's numbers, as answers come in."""

import json

import pytest

from instruct_jax.collecting import tally
from instruct_jax.data.read import answers
from tests import collected_toys


class Clock:
  """Seconds that a test lets pass."""

  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def labels(tmp_path):
  folder = collected_toys.some(tmp_path / "LABELS")
  yield folder
  folder.close()


@pytest.fixture
def counted(labels):
  clock = Clock()
  path = labels.folder / answers.NAME
  found = tally.Tally(path, clock=clock, spent=clock)
  return found, clock


def _row(state, kind):
  return next(row for row in state["progress"] if row["kind"] == kind)


def test_progress_is_by_kind_and_screening_apart(counted):
  state = counted[0].state()
  assert _row(state, "ranking") == {
    "kind": "ranking",
    "tasks": 12,
    "waiting": 12,  # the toys take none
    "open": 0,
    "answers": 19,
    "skipped": 0,
    "sensitive": 1,
    "seconds": 10.0,
  }
  assert _row(state, "screening")["answers"] == 3
  assert _row(state, "comparison")["skipped"] == 1
  assert _row(state, "demonstration")["seconds"] == 35.5
  assert [row["kind"] for row in state["progress"]] == [
    "demonstration",
    "ranking",
    "comparison",
    "writing",
    "screening",
  ]
  assert state["answers"] == 19 + 1 + 12 + 3 + 3
  json.dumps(state, allow_nan=False)


def test_each_labelers_numbers(counted):
  labelers = counted[0].state()["labelers"]
  assert [*labelers] == ["ann", "ben", "cy"]
  ben = labelers["ben"]
  assert ben["answers"] == {"demonstration": 6, "ranking": 4, "screening": 1}
  assert ben["skipped"] == 1
  assert ben["ratings"]["mean"] == pytest.approx((6 + 7 + 6) / 3)
  assert ben["ratings"]["counts"] == (0, 0, 0, 0, 0, 8, 4)
  # ben: the second is best; the first and the third are tied. ann disagrees
  # about the first two and agrees about the last. cy has the second last.
  assert ben["gold"]["value"] == 1
  assert ben["earlier"]["value"] == 0.5
  # 'It is n.' is shorter than 'I do not know.' and longer than 'n'.
  assert labelers["ann"]["longer"]["n"] == 36
  assert labelers["ann"]["longer"]["value"] == pytest.approx(12 / 36)


def test_agreement_is_of_tasks_that_several_did(counted):
  found = counted[0].state()["agreement"]
  assert found["tasks"] == 6 == found["of_tasks"]  # 0 3 4 6 8 9
  pairs = {tuple(row["labelers"]): row for row in found["by_two"]}
  assert pairs["ann", "ben"]["n"] == 8
  assert pairs["ann", "ben"]["value"] == 0.5
  assert pairs["ann", "cy"]["value"] == pytest.approx(2 / 3)
  assert found["pairwise"]["n"] == 8 + 9 + 2


def test_answers_are_counted_as_they_come_and_are_undone(labels, counted):
  found, clock = counted
  before = found.state()
  assert found.state() is before
  task = labels.task("comparison", {"prompt": "p", "responses": ["a", "bb"]})
  last = labels.answer(task, 3, {"ranks": [1, 2]})
  assert found.state() is before  # It has just counted.
  clock.now += tally.SHORTEST
  after = found.state()
  assert after["version"] == before["version"] + 1
  assert _row(after, "comparison")["answers"] == 2
  labels.undo(last)
  clock.now += tally.SHORTEST
  assert _row(found.state(), "comparison")["answers"] == 1
  assert found.state()["labelers"]["cy"] == before["labelers"]["cy"]
  clock.now += 100
  unchanged = found.state()
  clock.now += 100
  assert found.state() is unchanged


def test_it_rests_nine_times_as_long_as_it_took(labels, counted, monkeypatch):
  found, clock = counted
  real = tally.numbers
  runs = []

  def slow(*args):
    clock.now += 3.0
    runs.append(clock.now)
    return real(*args)

  monkeypatch.setattr(tally, "numbers", slow)
  found.state()
  labels.answer(2, 2, {"ranks": [1, 2, 3]})
  clock.now += 26.9
  found.state()
  assert len(runs) == 1
  clock.now += 0.2
  found.state()
  assert len(runs) == 2


def test_moments_of_many_answers_are_thinned():
  entries = [
    tally.Entry("ranking", "ann", 1.0, float(n), False, False, None, ())
    for n in range(1000)
  ]
  state = tally.numbers(entries, {1: "ranking"}, [], [])
  times = state["times"]["ranking"]
  assert (times["first"], times["last"], times["count"]) == (0.0, 999.0, 1000)
  assert times["step"] == 5
  assert times["at"][:2] == [4.0, 9.0]
  assert len(times["at"]) == 200


def test_nothing_yet(tmp_path):
  empty = collected_toys.Labels(tmp_path / "EMPTY")
  state = tally.Tally(empty.folder / answers.NAME).state()
  assert state["progress"] == []
  assert state["labelers"] == {}
  assert state["agreement"]["pairwise"] is None
  empty.close()
