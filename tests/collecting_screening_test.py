"""The screening: marks by hand, who waits, who passes, who is overruled."""

import pytest

from instruct_jax.base import errors
from instruct_jax.collecting import screening, store

RANKING = {"prompt": "p", "responses": ["a", "b", "c"]}
GOLD = {"ranks": [1, 2, 3], "sensitive": [False, True, False]}
RIGHT = {
  "ratings": [7, 4, 1],
  "metadata": [{}, {"violent": True}, {"opinion": True}],
  "ranks": [1, 2, 3],
}


@pytest.fixture
def project(tmp_path):
  opened = store.open_store(tmp_path)
  add = opened.add_tasks
  add("demonstration", [{"prompt": "work"}], source="test")
  add("ranking", [RANKING], source="gold", golds=[GOLD])
  demonstration = {"prompt": "d"}
  gold = {"response": "so"}
  add("demonstration", [demonstration], source="gold", golds=[gold])
  yield opened
  opened.shut()


def _screen(project, name, ranking=RIGHT):
  labeler = project.labeler_of(project.invite(name)).id
  first = project.next_assignment(labeler)
  assert (first.kind, first.is_screening) == ("ranking", True)
  project.save(labeler, first.id, f"{name}-first", ranking, 1.0)
  second = project.next_assignment(labeler)
  assert (second.kind, second.is_screening) == ("demonstration", True)
  assert project.progress(labeler).screening == "open"
  said = {"response": "x"}
  project.save(labeler, second.id, f"{name}-second", said, 1.0)
  return labeler, second.id


def test_ordered_pairs_by_hand():
  assert screening.ordered([1, 2, 3], [1, 2, 3]) == (3, 3)
  assert screening.ordered([3, 2, 1], [1, 2, 3]) == (0, 3)
  assert screening.ordered([2, 1, 3], [1, 2, 3]) == (2, 3)
  assert screening.ordered([1, 1, 1], [1, 2, 3]) == (1.5, 3)
  assert screening.ordered([1, 2, 3], [1, 1, 2]) == (2, 2)  # gold's tie is out


def test_who_waits_for_a_grade_passes_with_it(project):
  labeler, demonstration = _screen(project, "ann")
  assert project.progress(labeler).screening == "waiting"
  assert project.next_assignment(labeler) is None
  assert project.marks(labeler) == screening.Marks(1.0, 1.0, None, 1)
  project.grade(demonstration, 6)
  assert project.marks(labeler) == screening.Marks(1.0, 1.0, 6.0, 0)
  assert project.progress(labeler).screening == "passed"
  assert not project.next_assignment(labeler).is_screening


def test_low_grade_fails_and_a_second_look_may_mend_it(project):
  labeler, demonstration = _screen(project, "ann")
  project.grade(demonstration, 5)
  assert project.progress(labeler) == store.Progress(2, 0, "failed")
  assert project.next_assignment(labeler) is None
  project.grade(demonstration, 7)
  assert project.progress(labeler).screening == "passed"


@pytest.mark.parametrize(
  ("change", "marks"),
  [
    ({"ranks": [2, 1, 3]}, screening.Marks(2 / 3, 1.0, None, 1)),
    ({"metadata": [{}, {}, {}]}, screening.Marks(1.0, 2 / 3, None, 1)),
  ],
)
def test_who_is_below_a_mark_fails_at_once(project, change, marks):
  labeler, _ = _screen(project, "ann", RIGHT | change)
  assert project.marks(labeler) == marks
  assert project.progress(labeler).screening == "failed"
  project.overrule(labeler, True)
  assert project.progress(labeler).screening == "passed"
  assert project.next_assignment(labeler).kind == "demonstration"
  project.overrule(labeler, False)
  assert project.progress(labeler).screening == "failed"


def test_screening_is_everybodys(project):
  for name in ("ann", "bob", "cyd", "dee"):
    _screen(project, name)


def test_screening_is_not_skipped_nor_undone_when_handed_in(project):
  labeler = project.labeler_of(project.invite("ann")).id
  given = project.next_assignment(labeler)
  with pytest.raises(store.Refused, match="cannot be skipped"):
    project.skip(labeler, given.id, "skip-001", "no")
  project.save(labeler, given.id, "answer-1", RIGHT, 1.0)
  assert project.undo(labeler).id == given.id  # not handed in yet
  project.save(labeler, given.id, "answer-2", RIGHT, 1.0)
  last = project.next_assignment(labeler)
  project.save(labeler, last.id, "answer-3", {"response": "x"}, 1.0)
  with pytest.raises(store.Refused, match="handed in"):
    project.undo(labeler)


def test_reopened_screening_is_open_again(project):
  labeler, demonstration = _screen(project, "ann")
  project.grade(demonstration, 5)
  task = project.assignment(labeler, demonstration).task_id
  project.reopen(task, labeler)
  assert project.progress(labeler).screening == "open"
  assert project.next_assignment(labeler).id == demonstration


def test_a_grade_is_of_the_text_that_it_was_given_for(project):
  labeler, demonstration = _screen(project, "ann")
  project.grade(demonstration, 7)
  project.reopen(project.assignment(labeler, demonstration).task_id, labeler)
  said = {"response": "another"}
  project.save(labeler, demonstration, "ann-again", said, 1.0)
  assert project.marks(labeler) == screening.Marks(1.0, 1.0, None, 1)
  assert project.progress(labeler).screening == "waiting"


def test_a_grade_of_what_is_undone_goes_with_it(project):
  demonstration = {"prompt": "e"}
  gold = {"response": "so"}
  project.add_tasks(
    "demonstration", [demonstration], source="gold", golds=[gold]
  )
  labeler, graded = _screen(project, "ann")
  project.grade(graded, 7)
  assert project.undo(labeler).id == graded
  project.save(labeler, graded, "ann-again", {"response": "other"}, 1.0)
  assert project.marks(labeler).ungraded == 1


def test_what_an_admin_has_decided_no_answer_changes(project):
  labeler = project.labeler_of(project.invite("ann")).id
  first = project.next_assignment(labeler)
  project.save(labeler, first.id, "answer-1", RIGHT | {"ranks": [3, 2, 1]}, 1.0)
  last = project.next_assignment(labeler)
  project.overrule(labeler, True)
  project.save(labeler, last.id, "answer-2", {"response": "x"}, 1.0)
  assert project.progress(labeler).screening == "passed"
  project.grade(last.id, 1)
  assert project.progress(labeler).screening == "passed"
  project.overrule(labeler, False)
  project.grade(last.id, 7)
  assert project.progress(labeler).screening == "failed"


def test_who_waits_works_where_no_screening_is_required_any_more(tmp_path):
  opened = store.open_store(tmp_path)
  gold = {"response": "so"}
  opened.add_tasks(
    "demonstration", [{"prompt": "d"}], source="gold", golds=[gold]
  )
  opened.add_tasks("demonstration", [{"prompt": "work"}], source="test")
  labeler = opened.labeler_of(opened.invite("ann")).id
  given = opened.next_assignment(labeler)
  opened.save(labeler, given.id, "answer-1", {"response": "x"}, 1.0)
  assert opened.progress(labeler).screening == "waiting"
  opened.shut()
  (tmp_path / "settings.toml").write_text("[screening]\nrequired = false\n")
  opened = store.open_store(tmp_path)
  assert opened.next_assignment(labeler).content == {"prompt": "work"}
  opened.shut()


def test_last_screening_task_that_is_closed_hands_in(project):
  labeler = project.labeler_of(project.invite("ann")).id
  given = project.next_assignment(labeler)
  project.save(labeler, given.id, "answer-1", RIGHT, 1.0)
  project.close(project.next_assignment(labeler).task_id)
  assert not project.next_assignment(labeler).is_screening
  assert project.progress(labeler).screening == "passed"


def test_without_screening_nobody_is_asked(tmp_path):
  (tmp_path / "settings.toml").write_text("[screening]\nrequired = false\n")
  opened = store.open_store(tmp_path)
  opened.add_tasks("ranking", [RANKING], source="gold", golds=[GOLD])
  opened.add_tasks("demonstration", [{"prompt": "p"}], source="test")
  labeler = opened.labeler_of(opened.invite("ann")).id
  assert opened.next_assignment(labeler).kind == "demonstration"
  opened.shut()


def test_grade_of_what_is_none_is_refused(project):
  _, demonstration = _screen(project, "ann")
  for assignment, grade, said in (
    (demonstration, 0, "1 to 7"),
    (demonstration, 8, "1 to 7"),
    (demonstration, True, "1 to 7"),
    (demonstration - 1, 6, "no demonstration"),
    (99, 6, "no demonstration"),
  ):
    with pytest.raises(errors.UserError, match=said):
      project.grade(assignment, grade)


def test_gold_that_is_none_is_refused():
  for kind, gold, said in (
    ("ranking", {"ranks": [1, 2]}, "3 ranks"),
    ("ranking", {"ranks": [1, 2, True]}, "3 ranks"),
    ("ranking", {"sensitive": [0, 1, 0]}, "true or false"),
    ("ranking", {"rank": [1, 2, 3]}, "Did you mean 'ranks'"),
    ("ranking", {}, "must be an object"),
    ("ranking", None, "must be an object"),
    ("demonstration", {"response": " "}, "not empty"),
    ("writing", {"ranks": []}, "cannot have"),
  ):
    with pytest.raises(errors.UserError, match=said):
      screening.check_gold(kind, RANKING, gold)
  screening.check_gold("ranking", RANKING, GOLD)
