"""The store of people's labels: who does what, what counts, what is kept."""

import contextlib
import json
import sqlite3

import pytest
import sqlalchemy

from instruct_jax.base import errors
from instruct_jax.collecting import kinds, store, tables, tokens


class _Clock:
  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return _Clock()


@pytest.fixture
def project(tmp_path, clock):
  opened = store.open_store(tmp_path / "labels", clock=clock)
  yield opened
  opened.shut()


def _person(project, name="ann", group="training"):
  return project.labeler_of(project.invite(name, group)).id


def _prompts(project, count, kind="demonstration"):
  rows = [{"prompt": f"prompt {i}"} for i in range(count)]
  if kind != "demonstration":
    rows = [row | {"responses": ["x", "y", "z"]} for row in rows]
  return project.add_tasks(kind, rows, source="test")


def _set(project, **values):
  """Sets columns of all tasks."""
  with project.writing() as connection:
    connection.execute(tables.TASKS.update().values(**values))


def _column(project, table, name):
  with project.reading() as connection:
    column = table.c[name]
    return list(connection.scalars(sqlalchemy.select(column).order_by("id")))


def _taken(project):
  return _column(project, tables.TASKS, "taken")


RESPONSE = {"response": "an answer"}
RANKED = {"ratings": [7, 1, 4], "metadata": [{}, {}, {}], "ranks": [1, 3, 2]}


def test_first_start_makes_all_files(tmp_path):
  folder = tmp_path / "new" / "labels"
  store.open_store(folder).shut()
  assert (folder / "settings.toml").exists()
  with contextlib.closing(sqlite3.connect(folder / "labels.sqlite")) as file:
    assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert dict(file.execute("SELECT key, value FROM meta"))["schema"] == "1"


def test_commits_are_on_disk_and_foreign_keys_hold(project):
  with project.reading() as connection:
    said = connection.exec_driver_sql
    assert said("PRAGMA synchronous").scalar() == 2  # FULL
    assert said("PRAGMA foreign_keys").scalar() == 1
    assert said("PRAGMA busy_timeout").scalar() == 30_000


def test_token_is_kept_as_its_hash_only(project):
  token = project.invite("ann", "held_out")
  assert project.labeler_of(token).name == "ann"
  assert project.labeler_of(token).group == "held_out"
  assert project.labeler_of(token + "x") is None
  assert project.labeler_of("\ud800") is None
  admin = project.new_admin_token()
  assert project.is_admin(admin)
  assert not project.is_admin(token)
  assert project.labeler_of(admin) is None
  project.shut()
  content = b"".join(
    path.read_bytes() for path in project.folder.glob("labels.sqlite*")
  )
  assert tokens.hashed(token).encode() in content
  assert token.encode() not in content
  assert admin.encode() not in content


def test_old_admin_token_is_void(project):
  assert not project.has_admin()
  assert not project.is_admin("")
  old, new = project.new_admin_token(), project.new_admin_token()
  assert not project.is_admin(old)
  assert project.is_admin(new)


def test_names_and_groups(project):
  project.invite("ann")
  for name, group, said in (
    (" ann ", "training", "there already"),
    ("bo", "trainig", "Did you mean 'training'"),
    ("", "training", "1 to 100"),
    ("x" * 101, "training", "1 to 100"),
    ("a\u202eb", "training", "control"),
  ):
    with pytest.raises(errors.UserError, match=said):
      project.invite(name, group)
  assert [labeler.name for labeler in project.labelers()] == ["ann"]


def test_revoked_labeler_is_nobody_and_their_task_goes_on(project):
  _prompts(project, 1)
  token = project.invite("ann")
  ann = project.labeler_of(token).id
  given = project.next_assignment(ann)
  assert project.next_assignment(_person(project, "bo")) is None
  project.revoke(ann)
  assert project.labeler_of(token) is None
  for call in (
    lambda: project.next_assignment(ann),
    lambda: project.save(ann, given.id, "s" * 8, RESPONSE, 1.0),
    lambda: project.skip(ann, given.id, "s" * 8, "no"),
    lambda: project.undo(ann),
    lambda: project.progress(ann),
    lambda: project.save_survey(ann, {}),
  ):
    with pytest.raises(store.Refused, match="no longer valid"):
      call()
  bo = project.labelers()[1].id
  assert project.next_assignment(bo).task_id == given.task_id
  again = project.renew(ann)
  assert project.labeler_of(again).id == ann
  assert project.labeler_of(token) is None


def test_open_assignment_is_resumed(project):
  _prompts(project, 3)
  ann, bo = _person(project), _person(project, "bo")
  first = project.next_assignment(ann)
  assert project.next_assignment(ann) == first
  assert project.next_assignment(bo).task_id != first.task_id
  assert _taken(project) == [1, 1, 0]


def test_answer_is_saved_once_whatever_is_sent_twice(project):
  _prompts(project, 2)
  ann = _person(project)
  given = project.next_assignment(ann)
  save = project.save
  assert not save(ann, given.id, "sub-0001", RESPONSE, 2.5).repeated
  assert save(ann, given.id, "sub-0001", RESPONSE, 2.5).repeated  # double click
  assert save(ann, given.id, "sub-0002", RESPONSE, 9.0).repeated  # another tab
  with pytest.raises(store.Refused, match="answered already"):
    save(ann, given.id, "sub-0003", {"response": "other"}, 1.0)
  with pytest.raises(store.Refused, match="answered already"):
    project.skip(ann, given.id, "sub-0003", "no")
  with pytest.raises(store.Refused, match="saved before"):
    save(ann, given.id, "sub-0001", {"response": "other"}, 1.0)
  second = project.next_assignment(ann)
  assert second.task_id != given.task_id
  with pytest.raises(store.Refused, match="saved before"):
    save(ann, second.id, "sub-0001", RESPONSE, 1.0)
  assert _column(project, tables.ANSWERS, "submission") == ["sub-0001"]
  assert _column(project, tables.ANSWERS, "seconds") == [2.5]


def test_nobody_answers_for_somebody_else(project):
  _prompts(project, 2)
  ann, bo = _person(project), _person(project, "bo")
  given = project.next_assignment(ann)
  for assignment in (given.id, 999):
    with pytest.raises(store.Refused, match="not given to you"):
      project.save(bo, assignment, "sub-0001", RESPONSE, 1.0)
    with pytest.raises(store.Refused, match="not given to you"):
      project.assignment(bo, assignment)
  assert _column(project, tables.ANSWERS, "id") == []


def test_wrong_answer_stores_nothing(project):
  _prompts(project, 1, "ranking")
  ann = _person(project)
  given = project.next_assignment(ann)
  for submission, answer, seconds, field in (
    ("sub-0001", RANKED | {"ranks": [1, 2]}, 1.0, "ranks"),
    ("sub-0001", RANKED, -1.0, "seconds"),
    ("sub-0001", RANKED, float("nan"), "seconds"),
    ("short", RANKED, 1.0, "submission"),
    ("x'; DROP TABLE", RANKED, 1.0, "submission"),
  ):
    with pytest.raises(kinds.Wrong) as caught:
      project.save(ann, given.id, submission, answer, seconds)
    assert list(caught.value.errors) == [field]
  assert _column(project, tables.ANSWERS, "id") == []
  assert project.next_assignment(ann) == given


def test_skipped_task_goes_to_others_not_back(project):
  _prompts(project, 1)
  ann, bo = _person(project), _person(project, "bo")
  given = project.next_assignment(ann)
  skipped = project.skip(ann, given.id, "skip-001", "too long", sensitive=True)
  assert not skipped.repeated
  assert project.skip(
    ann, given.id, "skip-001", "too long", sensitive=True
  ).repeated
  assert project.next_assignment(ann) is None
  assert project.next_assignment(bo).task_id == given.task_id
  (done,) = project.history(ann)
  assert done.answer == {"skipped": "too long"}
  assert done.sensitive
  # It is another's now.
  with pytest.raises(store.Refused, match="somebody else"):
    project.undo(ann)
  assert _taken(project) == [1]


def test_undo_brings_the_last_answer_back(project):
  _prompts(project, 3)
  ann = _person(project)
  assert project.undo(ann) is None
  first = project.next_assignment(ann)
  project.save(ann, first.id, "sub-0001", RESPONSE, 1.0)
  second = project.next_assignment(ann)
  project.clock.now += 1
  assert project.undo(ann).id == first.id
  assert project.next_assignment(ann).id == first.id  # before the other one
  assert project.history(ann) == []
  project.save(ann, first.id, "sub-0002", {"response": "better"}, 1.0)
  assert project.next_assignment(ann).id == second.id
  (done,) = project.history(ann)
  assert done.answer == {"response": "better"}
  # What was sent first and arrives again is no news.
  assert project.save(ann, first.id, "sub-0001", RESPONSE, 1.0).repeated
  assert len(project.history(ann)) == 1
  assert _taken(project) == [1, 1, 0]


def test_undo_of_a_skip_takes_the_task_again(project):
  _prompts(project, 1)
  ann = _person(project)
  given = project.next_assignment(ann)
  project.skip(ann, given.id, "skip-001", "later")
  assert _taken(project) == [0]
  assert project.undo(ann).id == given.id
  assert _taken(project) == [1]
  assert project.next_assignment(_person(project, "bo")) is None


def test_task_is_handed_out_so_often_as_wanted(project):
  _prompts(project, 1)
  _set(project, wanted=2)
  people = [_person(project, name) for name in ("a", "b", "c")]
  given = [project.next_assignment(labeler) for labeler in people]
  assert [x and x.task_id for x in given] == [1, 1, None]


def test_stale_assignment_goes_to_the_next_and_late_answers_count(project):
  _prompts(project, 1)
  ann, bo = _person(project), _person(project, "bo")
  given = project.next_assignment(ann)
  project.clock.now += 23 * 3600
  assert project.next_assignment(bo) is None
  project.clock.now += 2 * 3600
  taken_over = project.next_assignment(bo)
  assert taken_over.task_id == given.task_id
  assert project.next_assignment(ann) is None
  assert not project.save(ann, given.id, "sub-late", RESPONSE, 1.0).repeated
  assert not project.save(bo, taken_over.id, "sub-0002", RESPONSE, 1.0).repeated
  assert _taken(project) == [2]


def test_who_comes_back_keeps_what_they_have_open(project):
  _prompts(project, 2)
  ann, bo = _person(project), _person(project, "bo")
  given = project.next_assignment(ann)
  project.clock.now += 20 * 3600
  assert project.next_assignment(ann).id == given.id
  project.clock.now += 20 * 3600
  assert project.next_assignment(bo).task_id != given.task_id


def test_released_task_may_come_back_to_the_same_labeler(project):
  _prompts(project, 1)
  ann = _person(project)
  given = project.next_assignment(ann)
  project.clock.now += 25 * 3600
  assert project.release_stale() == 1
  assert _taken(project) == [0]
  again = project.next_assignment(ann)
  assert (again.id, again.display) == (given.id, given.display)
  assert _taken(project) == [1]


def test_order_shown_is_a_permutation_and_differs_by_labeler(project):
  content = {"prompt": "p", "responses": [f"r{i}" for i in range(9)]}
  project.add_tasks("ranking", [content], source="test")
  _set(project, wanted=20)
  displays = []
  for name in "abcdefgh":
    given = project.next_assignment(_person(project, name))
    assert sorted(given.display) == list(range(9))
    displays.append(tuple(given.display))
  assert len(set(displays)) == 8


def test_same_tasks_twice_add_nothing(project):
  found = _prompts(project, 3, "ranking")
  assert (found.added, found.repeated) == (3, 0)
  assert _prompts(project, 4, "ranking").added == 1
  other_order = {"prompt": "prompt 0", "responses": ["z", "y", "x"]}
  found = project.add_tasks("ranking", [other_order], source="again")
  assert (found.added, found.repeated) == (0, 1)
  assert _prompts(project, 3).added == 3  # demonstrations are other tasks


def test_task_that_is_none_is_refused(project):
  for kind, content, said in (
    ("rankin", {}, "Did you mean 'ranking'"),
    ("ranking", {"prompt": "p"}, "responses"),
    ("ranking", {"prompt": "p", "responses": ["a"]}, "2 to 9"),
    ("ranking", {"prompt": "p", "responses": ["a"] * 2}, "twice"),
    ("comparison", {"prompt": "p", "responses": ["a", "b", "c"]}, "of 2"),
    ("demonstration", {"prompt": " "}, "prompt"),
    ("demonstration", {"prompt": "\ud800"}, "surrogate"),
    ("demonstration", {"prompt": "p", "model": "x"}, "key"),
    ("writing", {"form": "few-shot"}, "Did you mean 'few_shot'"),
  ):
    with pytest.raises(errors.UserError, match=said):
      project.add_tasks(kind, [content], source="test")
  assert _taken(project) == []


def test_overlap_share_is_drawn_by_the_task(tmp_path):
  wanted = []
  for name, seed in (("one", 0), ("two", 0), ("three", 1)):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "settings.toml").write_text(
      f"[tasks]\nseed = {seed}\n[overlap]\nshare = 0.2\nlabelers = 5\n"
    )
    opened = store.open_store(folder)
    _prompts(opened, 1000)
    wanted.append(_column(opened, tables.TASKS, "wanted"))
    opened.shut()
  assert wanted[0] == wanted[1] != wanted[2]
  assert set(wanted[0]) == {1, 5}
  assert 150 < wanted[0].count(5) < 250  # 200 ± 13


def test_progress_counts_what_would_come(project):
  _prompts(project, 3)
  ann, bo = _person(project), _person(project, "bo")
  assert project.progress(ann) == store.Progress(0, 3, "none")
  given = project.next_assignment(ann)
  assert project.progress(ann) == store.Progress(0, 3, "none")
  assert project.progress(bo) == store.Progress(0, 2, "none")
  project.save(ann, given.id, "sub-0001", RESPONSE, 1.0)
  assert project.progress(ann) == store.Progress(1, 2, "none")
  _set(project, wanted=3)
  assert project.progress(ann) == store.Progress(1, 2, "none")
  assert project.progress(bo) == store.Progress(0, 3, "none")


def test_reopen_for_one_and_for_all(project):
  _prompts(project, 1)
  _set(project, wanted=2)
  ann, bo = _person(project), _person(project, "bo")
  for labeler, name in ((ann, "sub-ann1"), (bo, "sub-bo01")):
    given = project.next_assignment(labeler)
    project.save(labeler, given.id, name, RESPONSE, 1.0)
  project.reopen(1, ann)
  assert project.history(ann) == []
  assert len(project.history(bo)) == 1
  assert project.next_assignment(ann).task_id == 1
  project.save(ann, given.id - 1, "sub-ann2", RESPONSE, 1.0)
  project.reopen(1)
  assert project.history(ann) == project.history(bo) == []
  assert _taken(project) == [0]
  assert project.next_assignment(bo).task_id == 1
  with pytest.raises(errors.UserError, match="task 9"):
    project.reopen(9)
  cy = _person(project, "cy")
  with pytest.raises(errors.UserError, match="never had it"):
    project.reopen(1, cy)
  # Nothing is ever deleted.
  assert len(_column(project, tables.ANSWERS, "id")) == 3


def test_nothing_is_reopened_for_whom_nobody_lets_in(project):
  _prompts(project, 1)
  ann = _person(project)
  given = project.next_assignment(ann)
  project.save(ann, given.id, "answer-1", RESPONSE, 1.0)
  project.revoke(ann)
  with pytest.raises(errors.UserError, match=r"revoked.*for everybody"):
    project.reopen(given.task_id, ann)
  project.reopen(given.task_id)
  assert _taken(project) == [0]


def test_undo_of_what_was_on_the_page_undoes_it_once(project):
  _prompts(project, 3)
  ann = _person(project)
  for n in range(2):
    given = project.next_assignment(ann)
    project.save(ann, given.id, f"answer-{n}", RESPONSE, 1.0)
  seen = project.next_assignment(ann).id
  first = project.undo(ann, seen=seen)
  assert first.id == given.id
  assert project.undo(ann, seen=seen).id == first.id  # the second click
  assert len(project.history(ann)) == 1
  assert project.undo(ann, seen=first.id).id != first.id
  assert not project.history(ann)


def test_undo_where_no_task_is_left_is_done_once(project):
  _prompts(project, 2)
  ann = _person(project)
  for n in range(2):
    given = project.next_assignment(ann)
    project.save(ann, given.id, f"answer-{n}", RESPONSE, 1.0)
  assert project.next_assignment(ann) is None
  assert project.undo(ann, seen=0).id == given.id
  assert project.undo(ann, seen=0).id == given.id
  assert len(project.history(ann)) == 1


def test_another_flag_under_the_same_submission_is_not_said_to_be_saved(
  project,
):
  _prompts(project, 1)
  ann = _person(project)
  given = project.next_assignment(ann)
  project.save(ann, given.id, "answer-1", RESPONSE, 1.0)
  with pytest.raises(store.Refused, match="another answer"):
    project.save(ann, given.id, "answer-1", RESPONSE, 1.0, sensitive=True)


def test_closed_task_is_handed_out_no_more(project):
  _prompts(project, 1)
  ann, bo = _person(project), _person(project, "bo")
  given = project.next_assignment(ann)
  project.close(1)
  assert project.next_assignment(ann) is None
  assert project.next_assignment(bo) is None
  project.save(ann, given.id, "sub-0001", RESPONSE, 1.0)  # was on its way
  project.reopen(1)
  assert project.next_assignment(bo).task_id == 1


def test_survey_is_kept_and_replaced(project):
  ann = _person(project)
  assert project.survey(ann) is None
  project.save_survey(ann, {"satisfied": 4})
  project.save_survey(ann, {"satisfied": 5})
  assert project.survey(ann) == {"satisfied": 5}


def test_backup_is_whole_while_others_write(project, tmp_path):
  _prompts(project, 5)
  ann = _person(project)
  with project.writing() as connection:
    connection.execute(tables.TASKS.update().values(closed=1))
    path = tmp_path / "backup.sqlite"
    project.backup(path)  # sees what was committed before
  with contextlib.closing(sqlite3.connect(path)) as file:
    rows = file.execute("SELECT closed FROM tasks").fetchall()
    assert rows == [(0,)] * 5
    assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
  assert {p.name for p in tmp_path.iterdir()} == {"labels", "backup.sqlite"}
  assert project.next_assignment(ann) is None


def test_unknown_schema_and_damage_are_sentences(tmp_path):
  folder = tmp_path / "labels"
  store.open_store(folder).shut()
  path = folder / "labels.sqlite"
  with contextlib.closing(sqlite3.connect(path)) as file, file:
    file.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
  with pytest.raises(errors.UserError, match="schema 99, this version reads 1"):
    store.open_store(folder)
  for name in folder.glob("labels.sqlite*"):
    name.unlink()
  path.write_bytes(b"something else " * 100)
  with pytest.raises(errors.UserError, match="is no SQLite database"):
    store.open_store(folder)
  path.unlink()
  with contextlib.closing(sqlite3.connect(path)) as file, file:
    file.execute("CREATE TABLE recipes (name TEXT)")
  with pytest.raises(errors.UserError, match="of something else"):
    store.open_store(folder)


def test_everything_counts_in_events(project):
  _prompts(project, 1)
  ann = _person(project)
  project.next_assignment(ann)
  project.close(1)
  project.reopen(1)
  project.revoke(ann)
  found = _column(project, tables.EVENTS, "what")
  assert found == ["invite", "close", "reopen", "revoke"]
  detail = json.loads(_column(project, tables.EVENTS, "detail")[1])
  assert detail == {"task": 1}
