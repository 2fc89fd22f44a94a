"""The admin's pages, over HTTP."""

import io
import json
import re
import sqlite3
import xml.etree.ElementTree as etree
import zipfile

import pytest

toys = pytest.importorskip("tests.collecting_toys", exc_type=ImportError)

from instruct_jax.collecting import plots, tally  # noqa: E402
from instruct_jax.data.read import answers  # noqa: E402

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def labels(tmp_path):
  opened = toys.four_kinds(tmp_path / "labels")
  yield opened
  opened.shut()


class Admin:
  """Somebody with the admin's link, in a browser without a window."""

  def __init__(self, labels, monkeypatch, token=""):
    monkeypatch.setattr(tally, "SHORTEST", 0.0)
    monkeypatch.setattr(tally, "_REST", 0.0)
    self.labels = labels
    self.client = toys.client_of(labels)
    self.token = token or labels.new_admin_token()
    self.entered = self.client.get(f"/admin/enter/{self.token}")

  def get(self, path, status=200):
    """A page."""
    reply = self.client.get(path)
    assert reply.status_code == status, reply.text
    return reply

  @property
  def csrf(self):
    """What the forms of its pages carry."""
    return re.search(r'name="csrf" value="(\w+)"', self.get("/admin").text)[1]

  def send(self, path, status=303, **fields):
    """A form, sent by hand."""
    reply = self.client.post(path, data={"csrf": self.csrf} | fields)
    assert reply.status_code == status, reply.text
    return reply


@pytest.fixture
def admin(labels, monkeypatch):
  return Admin(labels, monkeypatch)


def test_the_link_becomes_a_cookie_and_leaves_the_address(labels, admin):
  assert admin.entered.headers["location"] == "/admin"
  cookie = admin.entered.headers["set-cookie"].lower()
  for part in ("admin=", "httponly", "samesite=strict"):
    assert part in cookie
  assert admin.token not in admin.get("/admin").text


def test_nobody_else_comes_in(labels, admin):
  stranger, ann = toys.client_of(labels), toys.Labeler(labels)
  paths = [
    *("/admin", "/admin/live", "/admin/state.json", "/admin/tasks"),
    *("/admin/tasks/1", "/admin/labelers/1", "/admin/plots/bias.svg"),
    *("/admin/export", "/admin/backup"),
  ]
  for client in (stranger, ann.client):
    for path in paths:
      assert client.get(path).status_code == 401
    for name in ("invite", "renew", "revoke", "pass", "grade", "reopen"):
      sent = {"labeler": ann.id, "name": "Eve", "group": "training"}
      assert client.post(f"/admin/{name}", data=sent).status_code == 401
    assert client.get("/admin/enter/wrong").status_code == 404
  assert client.get(f"/admin/enter/{ann.token}").status_code == 404
  assert len(labels.labelers()) == 1


def test_another_link_ends_the_first(labels, admin):
  labels.new_admin_token()
  admin.get("/admin", 401)


def test_nothing_happens_without_the_token_of_the_form(labels, admin):
  sent = {"name": "Eve", "group": "training"}
  for csrf in ("", "wrong", "0" * 64):
    reply = admin.client.post("/admin/invite", data=sent | {"csrf": csrf})
    assert reply.status_code == 403
  assert admin.client.post("/admin/invite", data=sent).status_code == 403
  assert labels.labelers() == []


def test_an_invitation_shows_its_link_once_and_the_link_works(labels, admin):
  reply = admin.send("/admin/invite", 200, name="Bela", group="held_out")
  link = re.search(r'value="(http[^"]*/invite/[^"]+)"', reply.text)[1]
  (bela,) = labels.labelers()
  assert (bela.name, bela.group) == ("Bela", "held_out")
  client = toys.client_of(labels)
  assert client.get(link).headers["location"] == "/work"
  assert client.get("/work").status_code == 200
  assert link not in admin.get(f"/admin/labelers/{bela.id}").text
  again = admin.send("/admin/invite", 422, name="Bela", group="training")
  assert "another name" in again.text
  renewed = admin.send("/admin/renew", 200, labeler=bela.id).text
  assert "/invite/" in renewed
  assert client.get("/work").status_code == 401


def test_a_program_invites_too(labels, admin):
  body = {"csrf": admin.csrf, "name": "Cy", "group": "training"}
  reply = admin.client.post("/admin/invite", json=body).json()
  assert toys.client_of(labels).get(reply["link"]).status_code == 303


def test_a_revoked_labeler_is_out_and_their_answers_stay(labels, admin):
  ann = toys.Labeler(labels)
  ann.post("/answer", ann.body())
  admin.send("/admin/revoke", labeler=ann.id)
  assert ann.client.get("/work").status_code == 401
  assert "revoked" in admin.get(f"/admin/labelers/{ann.id}").text
  assert admin.get("/admin/state.json").json()["answers"] == 1


def test_numbers_follow_what_is_answered(labels, admin):
  before = admin.get("/admin/state.json").json()
  ann = toys.Labeler(labels)
  for _ in range(6):
    reply = ann.post("/answer", ann.body())
    assert reply.status_code == 200, reply.text
  after = admin.get("/admin/state.json").json()
  assert after["version"] > before["version"]
  assert after["answers"] == 6
  assert after["invited"][0]["state"] == "working"
  ranking = next(x for x in after["progress"] if x["kind"] == "ranking")
  assert (ranking["answers"], ranking["waiting"]) == (1, 0)
  assert ranking["seconds"] == 12.5
  page = admin.get("/admin").text
  assert f'data-version="{after["version"]}"' in page
  assert "/admin/labelers/1" in page
  live = admin.get("/admin/live").text
  for name in ("progress", "labelers", "agreement"):
    assert f'<section id="live-{name}"' in live
    assert f'<section id="live-{name}"' in page
  assert "csrf" not in live


def test_tasks_are_found_looked_at_reopened_and_closed(labels, admin):
  ann = toys.Labeler(labels)
  task = ann.task()
  ann.post("/answer", ann.body())
  number = _count(labels, "SELECT task_id FROM assignments")
  page = admin.get(f"/admin/tasks/{number}").text
  assert "Ann" in page
  assert toys.STORY in page
  assert "opinion" in page
  assert f"Task {number}<" in admin.get("/admin/tasks?q=FROG").text
  assert f"Task {number}<" in admin.get(f"/admin/tasks?q={number}").text
  assert f"Task {number}<" in admin.get("/admin/tasks?state=answered").text
  nothing = admin.get("/admin/tasks?q=frog&kind=writing").text
  assert "No task is so" in nothing
  admin.send("/admin/reopen", task=number, labeler=ann.id)
  assert ann.task()["prompt"] == task["prompt"]
  assert admin.get("/admin/state.json").json()["answers"] == 0
  ann.post("/answer", ann.body())
  admin.send("/admin/reopen", task=number)
  assert "Nobody has had" not in admin.get(f"/admin/tasks/{number}").text
  admin.send("/admin/close", task=number)
  assert "closed" in admin.get(f"/admin/tasks/{number}").text
  assert f"Task {number}<" in admin.get("/admin/tasks?state=closed").text


def _count(labels, query):
  with sqlite3.connect(labels.folder / answers.NAME) as database:
    return database.execute(query).fetchone()[0]


def test_the_screening_is_seen_beside_gold_graded_and_overruled(labels, admin):
  labels.add_tasks(
    "demonstration",
    [{"prompt": "Explain rain."}],
    source="screening.jsonl",
    golds=[{"response": "Water falls."}],
  )
  labels.add_tasks(
    "ranking",
    [{"prompt": "Screen?", "responses": ["good", "bad"]}],
    source="screening.jsonl",
    golds=[{"ranks": [1, 2], "sensitive": [False, False]}],
  )
  ann = toys.Labeler(labels)
  for _ in range(2):
    task = ann.task()
    answer = toys.answer_to(task)
    if task["kind"] == "ranking":
      order = [1 if text == "good" else 2 for text in task["responses"]]
      answer["ranks"] = order
    ann.post("/answer", ann.body(task, answer=answer))
  page = admin.get(f"/admin/labelers/{ann.id}").text
  assert "waiting" in page
  assert "Water falls." in page
  assert "Because of scattering." in page
  assert "100 %" in page
  number = re.search(r'name="assignment" value="(\d+)"', page)[1]
  admin.send("/admin/grade", 422, assignment=number, grade=8, labeler=ann.id)
  admin.send("/admin/grade", assignment=number, grade=2, labeler=ann.id)
  assert "failed" in admin.get(f"/admin/labelers/{ann.id}").text
  admin.send("/admin/pass", labeler=ann.id, passed="yes")
  assert "passed" in admin.get(f"/admin/labelers/{ann.id}").text
  assert ann.task()["kind"] == "ranking"


def test_what_people_wrote_does_nothing_on_the_admins_pages(labels, admin):
  nasty = f'{SCRIPT}"><img src=x onerror=alert(1)> \u202eevil'
  labels.add_tasks(
    "comparison",
    [{"prompt": nasty, "responses": [nasty, "b"]}],
    source=nasty,
  )
  token = labels.invite(f"{SCRIPT} $x^2$ O'Hara")
  ann = labels.labeler_of(token)
  while (asked := labels.next_assignment(ann.id)) is not None:
    answer = {
      "demonstration": {"response": nasty},
      "comparison": {"choice": "a"},
      "writing": {"prompt": nasty},
    }.get(asked.kind)
    form = asked.content.get("form")
    if answer is None or form in ("few_shot", "user_based"):
      labels.skip(ann.id, asked.id, f"submission-{asked.id}", nasty)
    else:
      name = f"submission-{asked.id}"
      labels.save(ann.id, asked.id, name, answer, 1.0)
  labels.save_survey(ann.id, {"nationality": nasty})
  tasks = range(1, _count(labels, "SELECT max(id) FROM tasks") + 1)
  for path in (
    *("/admin", "/admin/live", "/admin/tasks", f"/admin/labelers/{ann.id}"),
    *(f"/admin/tasks/{number}" for number in tasks),
    f"/admin/tasks?q={SCRIPT}",
  ):
    text = admin.get(path).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "\u202e" not in text
  for name in plots.PLOTS:
    drawn = admin.get(f"/admin/plots/{name}.svg")
    etree.fromstring(drawn.content)
    assert "<script>alert" not in drawn.text
  json.loads(admin.get("/admin/state.json").text)


def test_plots_are_pictures_that_load_nothing(labels, admin):
  for name in plots.PLOTS:
    reply = admin.get(f"/admin/plots/{name}.svg")
    assert reply.headers["content-type"].startswith("image/svg+xml")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert etree.fromstring(reply.content).tag.endswith("svg")
  admin.get("/admin/plots/passwd.svg", 404)
  admin.get("/admin/plots/..%2f..%2fapp.py", 404)


def test_export_and_backup_come_as_files(labels, admin):
  ann = toys.Labeler(labels)
  for _ in range(6):
    ann.post("/answer", ann.body())
  reply = admin.get("/admin/export")
  assert reply.headers["content-disposition"].startswith("attachment")
  with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
    rows = archive.read("labels/rankings.jsonl").decode().splitlines()
    assert len(rows) == 2
    assert json.loads(rows[0])["labeler"] == "Ann"
  assert "groups=apart" not in admin.get("/admin").text
  labels.invite("Bob", "held_out")
  assert "groups=apart" in admin.get("/admin").text
  reply = admin.get("/admin/export?groups=apart")
  with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
    assert len(archive.read("labels/training/rankings.jsonl").splitlines()) == 2
    assert "labels/held_out/rankings.jsonl" not in archive.namelist()
  copy = labels.folder / "copy.sqlite"
  copy.write_bytes(admin.get("/admin/backup").content)
  with sqlite3.connect(copy) as database:
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("SELECT count(*) FROM answers").fetchone() == (6,)


def test_two_admins_do_the_same_at_once(labels, admin, monkeypatch):
  """Who comes second finds it done, and nothing is done twice."""
  other = Admin(labels, monkeypatch, admin.token)
  ann = toys.Labeler(labels)
  task = ann.task()
  ann.post("/answer", ann.body(task))
  number = _count(labels, "SELECT task_id FROM assignments")
  for each in (admin, other):
    each.send("/admin/reopen", task=number, labeler=ann.id)
    assert ann.task()["assignment"] == task["assignment"]
  for each in (admin, other):
    each.send("/admin/revoke", labeler=ann.id)
  assert _count(labels, "SELECT taken FROM tasks ORDER BY id LIMIT 1") == 0
  said = [each.get("/admin").text for each in (admin, other)]
  assert all(">revoked<" in text for text in said)
  for each, status in ((admin, 200), (other, 422)):
    each.send("/admin/invite", status, name="Bela", group="training")
  assert [x.name for x in labels.labelers()] == ["Ann", "Bela"]


@pytest.mark.parametrize(
  ("path", "fields"),
  [
    ("invite", {}),
    ("invite", {"name": "x"}),
    ("invite", {"name": "", "group": "training"}),
    ("invite", {"name": "x", "group": "both"}),
    ("invite", {"name": "a\u202eb", "group": "training"}),
    ("revoke", {}),
    ("revoke", {"labeler": "1e3"}),
    ("revoke", {"labeler": "99"}),
    ("revoke", {"labeler": "9" * 40}),
    ("revoke", {"labeler": "-1"}),
    ("renew", {"labeler": "٣"}),
    ("pass", {"labeler": "99", "passed": "yes"}),
    ("pass", {"labeler": "1", "passed": "maybe"}),
    ("grade", {"assignment": "1", "grade": "5"}),
    ("grade", {"assignment": "x", "grade": "5"}),
    ("reopen", {"task": "99"}),
    ("reopen", {"task": "1", "labeler": "99"}),
    ("reopen", {}),
    ("close", {"task": "99"}),
    ("close", {"task": "18446744073709551617"}),
  ],
)
def test_what_cannot_be_done_is_said(labels, admin, path, fields):
  reply = admin.send(f"/admin/{path}", 422, **fields)
  assert "Traceback" not in reply.text


@pytest.mark.parametrize(
  "body",
  [
    {"name": 5, "group": "training"},
    {"name": ["x"], "group": "training"},
    {"name": "x", "group": None},
    {"name": {"a": 1}, "group": {}},
  ],
)
def test_json_of_another_kind_is_said(labels, admin, body):
  sent = {"csrf": admin.csrf} | body
  assert admin.client.post("/admin/invite", json=sent).status_code == 422
  for name in ("revoke", "close", "reopen", "grade", "pass"):
    for value in (True, None, 1.5, [1], {}, 2**70, -1, "x"):
      sent = {"csrf": admin.csrf, "labeler": value, "task": value}
      sent |= {"assignment": value, "grade": value, "passed": value}
      reply = admin.client.post(f"/admin/{name}", json=sent)
      assert reply.status_code == 422, (name, value)
  assert _count(labels, "SELECT count(*) FROM events WHERE what != 'x'") == 1


@pytest.mark.parametrize(
  "path",
  [
    *("tasks/0", "tasks/x", "tasks/99999999999999999999", "tasks/-1"),
    *("labelers/0", "labelers/x", "labelers/99999999999999999999"),
    *("tasks?page=x", "tasks?page=-1", "tasks?page=9999999999", "nothing"),
    *("plots/x.svg", "plots/"),
  ],
)
def test_pages_that_are_not_there(labels, admin, path):
  reply = admin.get(f"/admin/{path}", 404)
  assert "Traceback" not in reply.text


def test_a_search_is_no_sql(labels, admin):
  for words in (
    "'",
    '"',
    "%",
    "_",
    "'; DROP TABLE tasks; --",
    "\\",
    "*",
    "%00",
  ):
    admin.get(f"/admin/tasks?q={words}")
  for name in ("kind", "state"):
    admin.get(f"/admin/tasks?{name}=' OR 1=1", 422)
  assert _count(labels, "SELECT count(*) FROM tasks") == 6
