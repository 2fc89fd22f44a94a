"""What labelers see and send, over HTTP, without a browser."""

import json
import re

import pytest
import sqlalchemy

from instruct_jax import paper

toys = pytest.importorskip("tests.collecting_toys", exc_type=ImportError)

from instruct_jax.collecting import kinds, store, tables  # noqa: E402


@pytest.fixture
def labels(tmp_path):
  opened = toys.four_kinds(tmp_path / "labels")
  yield opened
  opened.shut()


@pytest.fixture
def ann(labels):
  return toys.Labeler(labels)


def _answers(labels):
  with labels.reading() as connection:
    rows = connection.execute(sqlalchemy.select(tables.ANSWERS)).all()
  return [
    (json.loads(row.answer), row.seconds, row.sensitive, row.undone_at)
    for row in rows
  ]


def test_nobody_is_told_how_to_be_invited(labels):
  client = toys.client_of(labels)
  for path in ("/", "/work", "/history", "/survey", "/instructions"):
    reply = client.get(path)
    assert reply.status_code == 401
    assert "by invitation" in reply.text
  assert client.get("/task.json").status_code == 401
  assert "by invitation" in client.get("/task.json").json()["message"]


def test_an_invitation_becomes_a_cookie_and_leaves_the_address(labels, ann):
  assert ann.entered.status_code == 303
  assert ann.entered.headers["location"] == "/work"
  cookie = ann.entered.headers["set-cookie"].lower()
  for part in ("httponly", "samesite=strict", "path=/"):
    assert part in cookie
  assert "secure" not in cookie  # http
  assert ann.client.get("/").headers["location"] == "/work"
  assert ann.token not in ann.client.get("/work").text


def test_a_cookie_behind_tls_is_for_tls_alone(labels):
  client = toys.client_of(labels)
  client.base_url = "https://testserver"
  reply = client.get(f"/invite/{labels.invite('Bob')}")
  assert "secure" in reply.headers["set-cookie"].lower()


def test_a_link_that_is_wrong_or_revoked_is_no_way_in(labels, ann):
  client = toys.client_of(labels)
  for wrong in ("x", ann.token + "x", "%00", "é", "..%2f..", "a" * 5000):
    reply = client.get(f"/invite/{wrong}")
    assert reply.status_code == 404
    assert "set-cookie" not in reply.headers
  labels.revoke(ann.id)
  assert ann.client.get("/work").status_code == 401
  assert client.get(f"/invite/{ann.token}").status_code == 404


def test_a_page_from_elsewhere_loads_itself_once_more(labels):
  client = toys.client_of(labels)
  crossed = client.get("/work", headers={"sec-fetch-site": "cross-site"})
  assert 'http-equiv="refresh"' in crossed.text
  own = client.get("/work", headers={"sec-fetch-site": "same-origin"})
  assert 'http-equiv="refresh"' not in own.text


def test_a_ranking_is_stored_in_the_order_of_the_task(labels, ann):
  task = ann.task()
  assert task["kind"] == "ranking"
  assert sorted(task["responses"]) == sorted(toys.FROGS)
  assert "display" not in task  # it would tell which model is which
  reply = ann.post("/answer", ann.body(task))
  assert (reply.status_code, reply.json()["saved"]) == (200, True)
  [(answer, seconds, sensitive, _)] = _answers(labels)
  shown = [task["responses"].index(text) for text in toys.FROGS]
  assert answer["ranks"] == [n + 1 for n in shown]
  assert answer["ratings"] == [7 - n for n in shown]
  assert answer["metadata"][0]["opinion"] is True
  assert (seconds, sensitive) == (12.5, 0)


def test_all_kinds_go_by_until_nothing_is_left(labels, ann):
  seen = []
  while "assignment" in (task := ann.task()):
    seen.append((task["kind"], task.get("form")))
    assert ann.client.get("/work").status_code == 200
    assert ann.post("/answer", ann.body(task)).status_code == 200
  assert [kind for kind, _ in seen] == [
    *("ranking", "comparison", "demonstration"),
    *["writing"] * 3,
  ]
  assert [form for _, form in seen[3:]] == ["plain", "few_shot", "user_based"]
  assert len(_answers(labels)) == 6
  assert task["done"] is True
  done = ann.client.get("/work").text
  assert "all for now" in done
  assert "/survey" in done


def test_a_comparison_is_as_shown(labels, ann):
  ann.post("/answer", ann.body())
  task = ann.task()
  body = ann.body(task, answer={"choice": "b"}, sensitive=True)
  assert ann.post("/answer", body).status_code == 200
  answer, _, sensitive, _ = _answers(labels)[1]
  best = answer["ranks"].index(1)
  assert ["4", "5"][best] == task["responses"][1]
  assert sensitive == 1


def test_the_same_submission_is_one_answer(labels, ann):
  body = ann.body()
  for repeated in (False, True, True):
    reply = ann.post("/answer", body)
    assert reply.json() == {
      "saved": True,
      "repeated": repeated,
      "next": "/work",
    }
  assert len(_answers(labels)) == 1


def test_another_answer_from_another_tab_is_refused(labels, ann):
  task = ann.task()
  first = ann.body(task)
  other = ann.body(task, answer=first["answer"] | {"ranks": [1, 1, 1, 1]})
  assert ann.post("/answer", first).status_code == 200
  reply = ann.post("/answer", other)
  assert reply.status_code == 409
  assert "another tab" in reply.json()["message"]
  assert len(_answers(labels)) == 1


def test_what_is_anothers_is_refused(labels, ann):
  bob = toys.Labeler(labels, "Bob")
  reply = bob.post("/answer", ann.body())
  assert reply.status_code == 409
  assert _answers(labels) == []
  text = bob.client.get("/history").text
  ann.post("/answer", ann.body())
  assert bob.client.get("/history").text.count("card") == text.count("card")


def test_a_form_without_scripts_saves_the_same(labels, ann):
  task = ann.task()
  fields = ann.fields() | {"sensitive": "1", "flag-2-violent": "1"}
  fields |= {f"rating-{n}": str(n + 1) for n in range(4)}
  ranks = {"rank-0": "9", "rank-1": "4", "rank-2": "4", "rank-3": "1"}
  reply = ann.client.post("/answer", data=fields | ranks)
  assert (reply.status_code, reply.headers["location"]) == (303, "/work")
  [(answer, seconds, sensitive, _)] = _answers(labels)
  shown = [task["responses"].index(text) for text in toys.FROGS]
  assert answer["ranks"] == [[3, 2, 2, 1][n] for n in shown]
  assert answer["ratings"] == [n + 1 for n in shown]
  assert [x["violent"] for x in answer["metadata"]] == [n == 2 for n in shown]
  assert sensitive == 1
  assert seconds == 0.0  # the clock stands


def test_without_ranks_the_ratings_decide(labels, ann):
  task = ann.task()
  given = {f"rating-{n}": str([3, 7, 3, 1][n]) for n in range(4)}
  blank = {f"rank-{n}": " " for n in range(4)}
  ann.client.post("/answer", data=ann.fields() | given | blank)
  shown = [task["responses"].index(text) for text in toys.FROGS]
  assert _answers(labels)[0][0]["ranks"] == [[2, 1, 2, 3][n] for n in shown]


def test_a_form_that_is_wrong_comes_back_as_it_was_filled(labels, ann):
  fields = ann.fields() | {"rating-1": "5", "flag-1-opinion": "1"}
  reply = ann.client.post("/answer", data=fields)
  assert reply.status_code == 422
  assert "answer A: rate it from 1 to 7" in reply.text
  assert 'name="rating-1" value="5" data-keep checked' in reply.text
  assert 'name="flag-1-opinion" value="1" data-keep checked' in reply.text
  assert _answers(labels) == []


def test_forms_of_the_other_kinds(labels, ann):
  ann.post("/answer", ann.body())
  ann.client.post("/answer", data=ann.fields() | {"choice": "tie"})
  text = "One.\r\nTwo."
  ann.client.post("/answer", data=ann.fields() | {"response": text})
  ann.client.post("/answer", data=ann.fields() | {"prompt": "P"})
  few = {"instruction": "I", "query-2": "Q", "response-2": "R"}
  ann.client.post("/answer", data=ann.fields() | few)
  based = {"prompt": "P", "use_case": "U"}
  ann.client.post("/answer", data=ann.fields() | based)
  assert [answer for answer, *_ in _answers(labels)][1:] == [
    {"ranks": [1, 1]},
    {"response": "One.\nTwo."},
    {"prompt": "P"},
    {"instruction": "I", "examples": [{"query": "Q", "response": "R"}]},
    {"prompt": "P", "use_case": "U"},
  ]


def test_a_few_shot_prompt_has_room_for_eight_examples(tmp_path):
  form = {"form": "few_shot", "hint": None, "number": 1}
  labels = toys.labels_of(tmp_path / "few", writing=[form])
  ann = toys.Labeler(labels)
  page = ann.client.get("/work").text
  assert page.count('<fieldset class="example">') == 8
  assert page.index("More examples") > page.index('name="query-2"')
  assert page.index("More examples") < page.index('name="query-3"')
  filled = {"instruction": "Say it."} | {
    f"{part}-{n}": f"{part} {n}"
    for part in ("query", "response")
    for n in range(8)
  }
  assert ann.client.post("/answer", data=ann.fields() | filled).is_redirect
  (row,) = _answers(labels)
  assert row[0]["examples"][7]["query"] == "query 7"
  labels.shut()


def test_skip_says_why_and_undo_brings_it_back(labels, ann):
  task = ann.task()
  body = {"assignment": task["assignment"], "submission": "skip-it-1"}
  assert ann.post("/skip", body).status_code == 422
  reply = ann.post("/skip", body | {"reason": "Too long", "sensitive": True})
  assert reply.status_code == 200
  assert ann.task()["kind"] == "comparison"
  assert "Skipped: Too long" in ann.client.get("/history").text
  labels.clock.now += 1  # what was opened last is what is worked on
  assert ann.post("/undo", {}).json() == {"undone": True, "next": "/work"}
  assert ann.task()["assignment"] == task["assignment"]
  assert _answers(labels)[0][3] is not None
  assert ann.post("/undo", {}).status_code == 409


def test_undo_by_a_form(labels, ann):
  ann.post("/answer", ann.body())
  csrf = {"csrf": ann.task()["csrf"]}
  assert ann.client.post("/undo", data=csrf).headers["location"] == "/work"
  reply = ann.client.post("/undo", data=csrf)
  assert reply.status_code == 409
  assert "nothing to undo" in reply.text


def _open_of(page):
  return re.search(r'name="open" value="(\d+)"', page)[1]


@pytest.mark.parametrize("path", ["/work", "/history"])
def test_a_double_click_undoes_one_answer(labels, ann, path):
  for _ in range(3):
    ann.post("/answer", ann.body())
    labels.clock.now += 1
  csrf = {"csrf": ann.task()["csrf"]}
  form = csrf | {"open": _open_of(ann.client.get(path).text)}
  for _ in range(2):
    assert ann.client.post("/undo", data=form).headers["location"] == "/work"
  assert [row[3] is None for row in _answers(labels)] == [True, True, False]


def test_a_double_click_at_the_end_undoes_one_answer(labels, ann):
  while ann.client.get("/task.json").json().get("assignment"):
    ann.post("/answer", ann.body())
  csrf = {"csrf": ann.task()["csrf"]}
  form = csrf | {"open": _open_of(ann.client.get("/work").text)}
  for _ in range(2):
    assert ann.client.post("/undo", data=form).headers["location"] == "/work"
  assert sum(row[3] is not None for row in _answers(labels)) == 1
  form["open"] = "x"
  assert ann.client.post("/undo", data=form).status_code == 422


def test_the_history_tells_what_was_answered(labels, ann):
  task = ann.task()
  body = ann.body(task)
  body["answer"]["ranks"] = [2, 1, 2, 3]
  ann.post("/answer", body)
  page = ann.client.get("/history").text
  assert "B &gt; A = C &gt; D" in page
  assert toys.STORY in page


@pytest.mark.parametrize(
  "change",
  [
    {"answer": None},
    {"answer": []},
    {"answer": {"ratings": [1, 2, 3]}},
    {"submission": ""},
    {"submission": "x; DROP TABLE answers"},
    {"submission": 12345678},
    {"seconds": -1},
    {"seconds": "1"},
    {"seconds": None},
    {"seconds": True},
    {"seconds": 1e300},
    {"sensitive": "yes"},
    {"sensitive": 1},
    {"assignment": "one"},
    {"assignment": True},
    {"assignment": 1.5},
    {"assignment": None},
    {"extra": 1},
  ],
)
def test_what_is_no_answer_is_not_stored(labels, ann, change):
  reply = ann.post("/answer", ann.body(**change))
  assert reply.status_code == 422
  assert reply.json()
  assert _answers(labels) == []


@pytest.mark.parametrize("number", [0, -1, 99, 2**63, 2**200])
def test_an_assignment_that_is_not_there_is_refused(labels, ann, number):
  reply = ann.post("/answer", ann.body(assignment=number))
  assert reply.status_code == 409
  assert "not given to you" in reply.json()["message"]


@pytest.mark.parametrize("flag", ["x", "__proto__"])
def test_an_unknown_flag_is_named(labels, ann, flag):
  body = ann.body()
  body["answer"]["metadata"] = [{flag: True}] * 4
  reply = ann.post("/answer", body)
  assert reply.json()["errors"] == {"metadata": "answer A: has an unknown flag"}


def test_the_screening_is_told_kindly(labels, ann):
  # Ann saw no screening when she began; whoever comes now does it first.
  rows = [{"prompt": "Practice", "responses": ["x", "y"]}]
  gold = [{"ranks": [1, 2]}]
  labels.add_tasks("ranking", rows, source="screening", golds=gold)
  bob = toys.Labeler(labels, "Bob")
  task = bob.task()
  assert task["is_screening"] is True
  assert "practice task" in bob.client.get("/work").text
  flags = dict.fromkeys(paper.METADATA, False)
  best = task["responses"].index("x")
  wrong = [2, 1] if best == 0 else [1, 2]
  bad = {"ratings": [4, 4], "metadata": [flags] * 2, "ranks": wrong}
  assert bob.post("/answer", bob.body(answer=bad)).status_code == 200
  ended = bob.client.get("/work")
  assert ended.status_code == 200
  assert "Thank you for your time" in ended.text
  assert bob.task()["progress"]["screening"] == "failed"
  labels.overrule(bob.id, True)
  assert bob.task()["kind"] == "ranking"


def test_the_survey_is_kept_and_shown_again(labels, ann):
  questions = ann.client.get("/survey").text
  assert "attained level of education" in questions
  fields = {"csrf": ann.task()["csrf"], "age": "25-34", "ethnicity-8": "Other"}
  reply = ann.client.post("/survey", data=fields)
  assert "Thank you" in reply.text
  assert labels.survey(ann.id) == {"age": "25-34", "ethnicity": ["Other"]}
  assert 'value="25-34" checked' in ann.client.get("/survey").text
  for wrong in ({"age": "5"}, {"shoe": "42"}, {"ethnicity": "x"}, [], None):
    assert ann.post("/survey", {"answer": wrong}).status_code == 422
  assert ann.post("/survey", {"answer": {"glad": "Agree"}}).status_code == 200
  assert labels.survey(ann.id) == {"glad": "Agree"}


def test_what_was_answered_in_the_survey_may_be_taken_back(labels, ann):
  form = {"csrf": ann.task()["csrf"], "age": "25-34", "gender": ""}
  assert ann.client.post("/survey", data=form).status_code == 200
  page = ann.client.get("/survey").text
  assert 'value="25-34" checked' in page
  assert page.count('value=""><span>No answer') == 8
  ann.client.post("/survey", data=form | {"age": ""})
  assert labels.survey(ann.id) == {}


def test_instructions_are_the_files_own_without_its_markup(labels, ann):
  assert "Truthful" in ann.client.get("/instructions").text
  path = labels.folder / "instructions.md"
  path.write_text("# Ours\n\n<script>x</script> [a](javascript:x)", "utf-8")
  page = ann.client.get("/instructions").text
  assert "<h1>Ours</h1>" in page
  assert "<script>x" not in page
  assert 'href="javascript' not in page


def test_texts_are_shown_and_do_nothing(tmp_path):
  bad = "<script>x</script>{{7*7}}\x07\u202eevil"
  labels = toys.labels_of(
    tmp_path, ranking=[{"prompt": bad, "responses": [bad, bad + "1"]}]
  )
  page = toys.Labeler(labels).client.get("/work").text
  assert "<script>x" not in page
  assert "{{7*7}}" in page
  assert "\u202e" not in page
  assert "RLO</span>evil" in page
  labels.shut()


def test_a_disk_that_refuses_is_not_saved_and_says_so(labels, ann, monkeypatch):
  body = ann.body()

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(store.Store, "_keep", full)
  reply = ann.post("/answer", body)
  assert reply.status_code == 503
  assert "retry-after" in reply.headers
  monkeypatch.undo()
  assert ann.post("/answer", body).json()["repeated"] is False


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(28, "full")])
def test_no_token_comes_into_the_log(labels, ann, monkeypatch, caplog, error):
  def broken(*_, **__):
    raise error

  monkeypatch.setattr(store.Store, "labeler_of", broken)
  monkeypatch.setattr(store.Store, "is_admin", broken)
  for path in ("/invite/", "/admin/enter/"):
    assert ann.client.get(f"{path}{ann.token}").status_code >= 500
  assert len(caplog.records) == 2
  assert "/invite/" in caplog.text
  assert ann.token not in caplog.text


def test_a_bug_is_told_without_its_traceback(labels, ann, monkeypatch):
  def broken(*_, **__):
    raise ZeroDivisionError("secret")

  monkeypatch.setattr(kinds, "check", broken)
  reply = ann.post("/answer", ann.body())
  assert reply.status_code == 500
  assert "secret" not in reply.text
  assert "Traceback" not in reply.text
  assert reply.headers["content-security-policy"]
