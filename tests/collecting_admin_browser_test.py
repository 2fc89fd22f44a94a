"""The admin's pages in a real browser."""

import pytest

browsers = pytest.importorskip(
  "tests.collecting_browsers", exc_type=ImportError
)

from selenium.webdriver.common.keys import Keys  # noqa: E402

from instruct_jax.collecting import store, tally  # noqa: E402
from tests import collecting_toys as toys  # noqa: E402

pytestmark = pytest.mark.slow

_XSS = (
  "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
  "\"'></textarea></title>\u202eevil\u2066 " + "x" * 3000
)
_PAGES = (
  *("/admin", "/admin/tasks", "/admin/tasks/1", "/admin/tasks/2"),
  *("/admin/tasks/3", "/admin/labelers/1", "/admin/labelers/2"),
)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
  with browsers.opened(tmp_path_factory.mktemp("profile")) as opened:
    yield opened


@pytest.fixture
def entered(window, tmp_path, monkeypatch):
  """(labels, browser) at the admin's page: a screening and two tasks."""
  monkeypatch.setattr(tally, "SHORTEST", 0.0)
  monkeypatch.setattr(tally, "_REST", 0.0)
  window.renew()
  labels = store.open_store(tmp_path / "labels")
  prompt = [{"prompt": "Explain rain."}]
  gold = [{"response": "Water falls."}]
  labels.add_tasks("demonstration", prompt, source="screening", golds=gold)
  lists = [
    {"prompt": toys.STORY, "responses": toys.FROGS},
    {"prompt": _XSS, "responses": [_XSS, "b", "c"]},
  ]
  labels.add_tasks("ranking", lists, source="test")
  with browsers.served(labels) as address:
    window.go(f"{address}/admin/enter/{labels.new_admin_token()}")
    yield labels, window
    window.go("about:blank")
  labels.shut()


def _press(browser, label):
  """Goes to a button of this text by Tab alone, and presses it."""
  script = "return document.activeElement.textContent.trim()"
  for _ in range(60):
    browser.keys(Keys.TAB)
    if browser.run(script) == label:
      browser.keys(Keys.ENTER)
      return
  raise AssertionError(f"no Tab leads to {label}")


def _invited(labels, browser, name):
  """A labeler whom the admin invites by keys; their client."""
  browser.run("document.activeElement.blur()")
  for _ in range(60):
    browser.keys(Keys.TAB)
    if browser.focus() == "name":
      break
  browser.keys(*name)
  _press(browser, "Make a link")
  link = browser.until(
    "the link", lambda: browser.one("#link").get_attribute("value")
  )
  client = toys.client_of(labels)
  assert client.get(f"/invite/{link.rpartition('/')[2]}").is_redirect
  return client


def _answer(client, number):
  """Answers what is next, as a program does."""
  task = client.get("/task.json").json()
  body = {
    "assignment": task["assignment"],
    "submission": f"submission-{number}",
    "answer": toys.answer_to(task),
    "seconds": 9.0,
    "csrf": task["csrf"],
  }
  assert client.post("/answer", json=body).status_code == 200


def _path(browser):
  return browser.run("return location.pathname")


def test_the_whole_way_of_an_admin_by_keys(entered):
  labels, browser = entered
  assert _path(browser) == "/admin"
  ann = _invited(labels, browser, "Ann")
  assert _path(browser) == "/admin/invite"
  _answer(ann, 1)
  # The screening waits for a grade.
  address = browser.driver.current_url.rpartition("/admin")[0]
  browser.go(f"{address}/admin/labelers/1")
  assert "waiting" in browser.text()
  assert "Because of scattering." in browser.text()
  for _ in range(30):
    browser.keys(Keys.TAB)
    if browser.focus() == "grade":
      break
  browser.keys("7")
  _press(browser, "Grade it")
  browser.until("that Ann has passed", lambda: "passed" in browser.text())
  # The overview follows what is answered, without being loaded again.
  browser.go(f"{address}/admin")
  browser.run("window.here = 1")
  _answer(ann, 2)
  _answer(ann, 3)
  browser.until("3 answers", lambda: browser.text("#now") == "3 answers")
  assert "100 %" in browser.text("#live-progress")
  assert browser.run("return window.here") == 1
  # A task is reopened, and the labeler has it again.
  browser.go(f"{address}/admin/tasks/2")
  _press(browser, "Ask them again")
  browser.until(
    "the task is open",
    lambda: "open" in browser.text("#said-title ~ .card .role"),
  )
  assert ann.get("/task.json").json()["prompt"] == toys.STORY
  browser.go(f"{address}/admin/labelers/1")
  _press(browser, "Revoke")
  browser.until("that she is revoked", lambda: "revoked" in browser.text())
  assert ann.get("/work").status_code == 401
  for file in ("export", "export?groups=apart", "backup"):
    status = browser.run(
      "const r = new XMLHttpRequest(); r.open('GET', arguments[0], false);"
      " r.send(); return r.status",
      f"/admin/{file}",
    )
    assert status == 200
  assert browser.errors() == []


def test_on_a_phone_nothing_reaches_out_and_texts_do_nothing(entered):
  labels, browser = entered
  ids = [
    labels.labeler_of(labels.invite(name)).id
    for name in ("Ann", "x" * 60 + "<b>")
  ]
  for number, labeler in enumerate(ids):
    labels.overrule(labeler, True)
    given = labels.next_assignment(labeler)
    labels.skip(labeler, given.id, f"submission-{number}", _XSS[:2000])
  address = browser.driver.current_url.rpartition("/admin")[0]
  browser.size(360, 740)
  for path in _PAGES:
    browser.go(f"{address}{path}")
    assert browser.is_narrow(), path
    assert browser.run("return typeof window.owned") == "undefined"
    assert browser.all("main img[src='x'], main script:not([src])") == []
    assert "\u202e" not in browser.text()
  browser.driver.refresh()
  assert browser.errors() == []
