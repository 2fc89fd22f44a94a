"""The labelers' pages in a real browser."""

import json

import pytest
import sqlalchemy

browsers = pytest.importorskip(
  "tests.collecting_browsers", exc_type=ImportError
)

from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from instruct_jax.collecting import store, tables  # noqa: E402
from tests import collecting_toys as toys  # noqa: E402

pytestmark = pytest.mark.slow

_XSS = (
  "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
  "<svg onload='window.owned = 1'>\"'><iframe src='javascript:owned=1'>"
  "</textarea></title></style></script>{{7*7}}${7*7}\x00\x07\x1b[31m"
  "\u202eevil\u202c\u2066\u200b"
)
_ARABIC = "الضفدع الحكيم يجلس (on a lily pad) عند البركة."
_TASK = {"prompt": toys.STORY, "responses": toys.FROGS}


@pytest.fixture(scope="module")
def window(tmp_path_factory):
  with browsers.opened(tmp_path_factory.mktemp("profile")) as opened:
    yield opened


@pytest.fixture
def browser(window):
  window.renew()
  return window


@pytest.fixture
def start(tmp_path, browser):
  """Fills a store, serves it, and lets Ann in: (labels, address)."""
  stack = []

  def started(**rows):
    labels = store.open_store(tmp_path / "labels")
    for kind, contents in rows.items():
      labels.add_tasks(kind, contents, source="test")
    serving = browsers.served(labels)
    address = serving.__enter__()
    stack.append((serving, labels))
    browser.go(f"{address}/invite/{labels.invite('Ann')}")
    return labels, address

  yield started
  browser.go("about:blank")
  for serving, labels in stack:
    serving.__exit__(None, None, None)
    labels.shut()


def _answers(labels):
  """The answers that count, in the order in which they were saved."""
  answers = tables.ANSWERS
  with labels.reading() as connection:
    rows = connection.scalars(
      sqlalchemy.select(answers.c.answer)
      .where(answers.c.undone_at.is_(None))
      .order_by(answers.c.id)
    )
    return [json.loads(text) for text in rows]


def _shown(browser):
  """The places on the page of toys.FROGS."""
  texts = [card.text for card in browser.all(".answers .text")]
  return [texts.index(text) for text in toys.FROGS]


def _ranks(browser):
  """The rank of each place."""
  rows = browser.all(".row")
  found = {
    int(row.get_attribute("data-place")): browser.run(
      "return arguments[0].querySelector('input').value", row
    )
    for row in rows
  }
  return [int(found[place] or 0) for place in sorted(found)]


def _rate(browser, *ratings):
  """Rates the answers in turn, by keys."""
  for rating in ratings:
    browser.keys("j", str(rating))


def test_the_whole_way_by_keys_alone(browser, start):
  labels, _ = start(
    ranking=[_TASK],
    comparison=[{"prompt": "2 + 2?", "responses": ["4", "5"]}],
    demonstration=[{"prompt": "Why?"}],
    writing=[{"form": "few_shot", "hint": None, "number": 1}],
  )
  first = browser.assignment()
  shown = _shown(browser)
  browser.keys(Keys.ENTER)
  assert "Rate A, B, C, D" in browser.text("#problem-ratings")
  assert browser.focus() != "BODY"  # at the first that is missing
  browser.keys(Keys.ESCAPE)
  _rate(browser, *"3526")
  assert _ranks(browser) == [3, 2, 4, 1]
  browser.keys("k", "k")  # B
  browser.keys("t")
  assert _ranks(browser) == [2, 1, 3, 1]
  assert "tied with" in browser.until("word", lambda: browser.text("#live"))
  browser.keys("t")
  assert _ranks(browser) == [3, 2, 4, 1]
  browser.keys("j")  # C, to the top
  browser.keys(*[Keys.ARROW_UP] * 3, alt=True)
  assert _ranks(browser) == [4, 3, 1, 2]
  browser.keys("f", Keys.SPACE)
  assert browser.one("[data-count='2']").text == "1 ticked"
  browser.keys(Keys.ESCAPE, Keys.ENTER)
  second = browser.next_task(first)
  assert _answers(labels)[0]["ranks"] == [[4, 3, 1, 2][n] for n in shown]
  assert _answers(labels)[0]["ratings"] == [[3, 5, 2, 6][n] for n in shown]
  flags = [x["wrong_task"] for x in _answers(labels)[0]["metadata"]]
  assert flags == [n == 2 for n in shown]

  browser.keys("u")  # what was entered is still there
  assert browser.next_task(second) == first
  assert _answers(labels) == []
  assert _ranks(browser) == [4, 3, 1, 2]
  browser.keys(Keys.ENTER)
  assert browser.next_task(first) == second

  browser.keys("?")
  assert "Keys" in browser.text("#help")
  browser.keys(Keys.ESCAPE)
  browser.keys("s", *"too hard", Keys.TAB, Keys.TAB, Keys.ENTER)
  third = browser.next_task(second)
  assert _answers(labels)[1] == {"skipped": "too hard"}
  browser.keys("u")
  assert browser.next_task(third) == second
  browser.keys("b", Keys.ENTER)
  third = browser.next_task(second)
  assert sorted(_answers(labels)[1]["ranks"]) == [1, 2]

  while browser.focus() != "field-response":
    browser.keys(Keys.TAB)
  browser.keys(*"Because, 1 2 3 t u s?")
  browser.keys(Keys.ENTER, ctrl=True)
  fourth = browser.next_task(third)
  assert _answers(labels)[2] == {"response": "Because, 1 2 3 t u s?"}

  while browser.focus() != "field-instruction":
    browser.keys(Keys.TAB)
  browser.keys(*"Do", Keys.TAB, *"Q", Keys.TAB, *"R")
  browser.keys(Keys.ENTER, ctrl=True)
  assert browser.next_task(fourth) == "none"
  examples = [{"query": "Q", "response": "R"}]
  assert _answers(labels)[3] == {"instruction": "Do", "examples": examples}
  assert "all for now" in browser.text()

  while browser.run("return document.activeElement.textContent") != (
    "A few questions about the work"
  ):
    browser.keys(Keys.TAB)
  browser.keys(Keys.ENTER)
  browser.until("questions", lambda: "voluntary" in browser.text())
  while browser.focus() != "age":
    browser.keys(Keys.TAB)
  browser.keys(Keys.SPACE)
  while browser.focus() != "BUTTON":
    browser.keys(Keys.TAB)
  browser.keys(Keys.ENTER)
  browser.until("thanks", lambda: "Thank you" in browser.text())
  assert labels.survey(1) == {"age": "18-24"}
  assert browser.errors() == []


def test_keys_of_another_script_are_where_they_are(browser, start):
  start(ranking=[_TASK])
  for key, code in (("о", "KeyJ"), ("5", "Digit5"), ("о", "KeyJ"), ("ا", "")):
    browser.run(
      "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',"
      " {key: arguments[0], code: arguments[1], bubbles: true}))",
      key,
      code,
    )
  assert _ranks(browser) == [1, 0, 0, 0]
  assert browser.run("return document.activeElement.dataset.letter") == "B"


def test_a_phone_shows_every_page_without_scrolling_sideways(browser, start):
  wide = "x" * 3000 + " " + "|---" * 500
  labels, address = start(
    ranking=[_TASK | {"responses": [*toys.FROGS, wide, wide[1:], _XSS]}],
    comparison=[{"prompt": wide, "responses": [_ARABIC, wide]}],
    demonstration=[{"prompt": wide}],
    writing=[
      {"form": "few_shot", "hint": None, "number": 1},
      {"form": "user_based", "hint": wide, "number": 2},
    ],
  )
  browser.size(360, 740)
  for path in ("instructions", "survey", "history", "nowhere"):
    browser.go(f"{address}/{path}")
    assert browser.is_narrow(), path
  browser.go(f"{address}/work")
  steps = browser.all(".steps label")
  assert min(step.size["height"] for step in steps) >= 44  # for a finger
  assert not browser.one(".flags fieldset").is_displayed()
  now = browser.assignment()
  while now != "none":
    assert browser.is_narrow(), browser.driver.title
    labels.skip(1, int(now), f"skip-number-{now}", "seen")
    browser.go(f"{address}/work")
    now = browser.next_task(now)
  assert browser.is_narrow()
  browser.go(f"{address}/history")
  assert browser.is_narrow()


def test_a_finger_rates_and_ranks(browser, start):
  labels, address = start(ranking=[_TASK])
  browser.size(360, 740)
  browser.go(f"{address}/work")
  first, shown = browser.assignment(), _shown(browser)
  for place, rating in enumerate((1, 2, 3, 4)):
    browser.click(f'[name="rating-{place}"][value="{rating}"]')
  browser.click('.row[data-place="0"] [data-move="up"]')
  browser.click('.row[data-place="2"] [data-move="tie"]')
  assert _ranks(browser) == [2, 3, 1, 1]
  browser.click("#save")
  assert browser.next_task(first) == "none"
  assert _answers(labels)[0]["ranks"] == [[2, 3, 1, 1][n] for n in shown]


def test_rows_are_dragged_between_others_and_onto_them(browser, start):
  start(ranking=[_TASK])
  _rate(browser, 7, 6, 5, 4)
  assert _ranks(browser) == [1, 2, 3, 4]

  def drag(place, onto, part):
    grip = browser.one(f'.row[data-place="{place}"] .grip')
    target = browser.one(f'.row[data-place="{onto}"]')
    down = round((part - 0.5) * target.size["height"])
    chain = ActionChains(browser.driver, duration=50)
    chain.click_and_hold(grip).move_by_offset(0, 8)
    chain.move_to_element_with_offset(target, 0, down).release().perform()

  drag(3, 0, 0.1)  # before the best
  assert _ranks(browser) == [2, 3, 4, 1]
  drag(1, 2, 0.5)  # onto: a tie
  assert _ranks(browser) == [2, 3, 3, 1]
  drag(0, 1, 0.9)  # after the last
  assert _ranks(browser) == [3, 2, 2, 1]
  browser.click("#by-ratings")
  assert _ranks(browser) == [1, 2, 3, 4]


def test_a_lost_connection_loses_and_doubles_nothing(browser, start):
  labels, address = start(demonstration=[{"prompt": f"{n}"} for n in range(3)])
  first = browser.assignment()
  browser.one("#field-response").send_keys("written in a tunnel")
  browser.offline(True)
  browser.keys(Keys.ENTER, ctrl=True)
  browser.until("word", lambda: "no connection" in browser.text("#notice"))
  browser.click("#notice button")
  browser.keys(Keys.ENTER, ctrl=True)
  assert _answers(labels) == []
  browser.offline(False)
  second = browser.next_task(first)
  assert _answers(labels) == [{"response": "written in a tunnel"}]

  # The page is closed before the connection is back.
  browser.one("#field-response").send_keys("kept")
  browser.run("window.fetch = () => Promise.reject(new TypeError('lost'))")
  browser.keys(Keys.ENTER, ctrl=True)
  browser.until("word", lambda: "no connection" in browser.text("#notice"))
  browser.go("about:blank")
  assert len(_answers(labels)) == 1
  browser.go(f"{address}/work")
  browser.next_task(second)
  assert _answers(labels)[1:] == [{"response": "kept"}]
  kept = browser.run("return Object.entries(localStorage).flat()")
  assert len([name for name in kept if name.startswith("draft-")]) <= 2
  assert "[]" in kept  # what was to be sent


def test_a_draft_outlives_the_page(browser, start):
  labels, address = start(ranking=[_TASK])
  _rate(browser, 4, 4, 5, 1)
  browser.keys(Keys.ARROW_UP, alt=True)
  ranks = _ranks(browser)
  browser.go("about:blank")
  browser.go(f"{address}/work")
  browser.next_task("")
  assert _ranks(browser) == ranks
  checked = browser.all(".rating input:checked")
  assert [box.get_attribute("value") for box in checked] == list("4451")
  # Who sits here next sees nothing of it.
  labels.overrule(1, True)
  labels.add_tasks("demonstration", [{"prompt": "x"}], source="test")
  browser.go(f"{address}/invite/{labels.invite('Bob')}")
  browser.next_task("")
  assert browser.all(".rating input:checked") == []


def test_two_tabs_give_one_answer(browser, start):
  labels, address = start(
    comparison=[
      {"prompt": f"{n} + 2?", "responses": ["4", "5"]} for n in range(2)
    ]
  )
  first = browser.assignment()
  one = browser.driver.current_window_handle
  browser.driver.switch_to.new_window("tab")
  browser.go(f"{address}/work")
  assert browser.assignment() == first
  browser.keys("a", Keys.ENTER)
  second = browser.next_task(first)
  two = browser.driver.current_window_handle
  browser.driver.switch_to.window(one)
  browser.until("word", lambda: "another tab" in browser.text("#notice"))
  browser.keys("t", Keys.ENTER)  # all the same
  browser.until("refusal", lambda: "Not saved" in browser.text("#notice"))
  assert len(_answers(labels)) == 1
  browser.click("#notice button")
  assert browser.next_task(first) == second
  browser.go(f"{address}/history")
  browser.driver.back()  # not to what stood there before
  assert browser.next_task("") == second
  browser.driver.switch_to.window(two)
  assert browser.assignment() == second


def test_a_double_click_is_one_answer(browser, start):
  labels, _ = start(demonstration=[{"prompt": "1"}, {"prompt": "2"}])
  first = browser.assignment()
  browser.one("#field-response").send_keys("once")
  browser.run("const b = document.getElementById('save'); b.click(); b.click()")
  browser.next_task(first)
  assert _answers(labels) == [{"response": "once"}]


def test_texts_do_nothing(browser, start):
  labels, address = start(
    ranking=[{"prompt": _XSS, "responses": [_XSS + "1", _XSS + "2"]}],
    comparison=[{"prompt": _XSS, "responses": [_XSS, "b"]}],
    demonstration=[{"prompt": _XSS}],
    writing=[{"form": "user_based", "hint": _XSS, "number": 1}],
  )
  now = browser.assignment()
  while now != "none":
    text = browser.text(".prompt .text")
    assert "<script>window.owned = 1</script>" in text
    assert "{{7*7}}${7*7}" in text
    assert "RLO" in text
    html = browser.run("return document.body.innerHTML")
    assert "\u202e" not in html
    kind = browser.one("#task").get_attribute("data-kind")
    if kind == "ranking":
      _rate(browser, 1, 2)
    elif kind == "comparison":
      browser.keys("t")
    else:
      browser.run(
        "document.querySelectorAll('textarea[data-keep]').forEach("
        "a => a.value = arguments[0])",
        _XSS.replace("\x00", ""),
      )
    browser.keys(Keys.ENTER, ctrl=True)
    now = browser.next_task(now)
    assert browser.run("return window.owned") is None
  browser.go(f"{address}/history")
  assert len(browser.all(".history .card")) == 4
  assert browser.run("return window.owned") is None
  assert browser.all("main img, main iframe, main script, main svg") == []
  token = labels.invite("<img src=x onerror='window.owned = 1'>")
  browser.go(f"{address}/invite/{token}")
  assert browser.text(".who").startswith("<img")
  assert browser.run("return window.owned") is None
  assert browser.errors() == []  # nor did the policy have to stop anything


def test_what_is_written_from_right_to_left_stands_right(browser, start):
  start(
    comparison=[
      {"prompt": f"{_ARABIC}\nIn English.", "responses": [_ARABIC, "left"]}
    ]
  )
  where = """
    const text = [...document.querySelectorAll('.text')].find(
      (t) => t.textContent.startsWith(arguments[0]));
    const range = document.createRange();
    const node = text.firstChild;
    return [[0, 1], [arguments[1], arguments[1] + 1]].map(([a, b]) => {
      range.setStart(node, a); range.setEnd(node, b);
      const box = text.getBoundingClientRect();
      return range.getBoundingClientRect().left - box.left > box.width / 2;
    });
  """
  # The first line begins at the right edge, the second at the left one.
  assert browser.run(where, _ARABIC, len(_ARABIC) + 1) == [True, False]
  assert browser.run(where, "left", 1) == [False, False]


def test_long_texts_are_folded_until_opened(browser, start):
  start(comparison=[{"prompt": "word " * 20_000, "responses": ["a", "b"]}])
  text, button = browser.one(".text.folded"), browser.one(".text + button")
  assert text.size["height"] < 400
  assert "all 100,000 characters" in button.text
  button.click()
  assert text.size["height"] > 4000
  assert button.get_attribute("aria-expanded") == "true"


def test_all_works_without_scripts(browser, start):
  labels, address = start(
    ranking=[_TASK], demonstration=[{"prompt": "Why?"}, {"prompt": "How?"}]
  )
  shown = _shown(browser)
  browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
  browser.go(f"{address}/work")
  for place, rating in enumerate((1, 2, 3, 4)):
    browser.click(f'[name="rating-{place}"][value="{rating}"]')
    browser.one(f'[name="rank-{place}"]').send_keys(str([4, 2, 2, 1][place]))
  browser.click("#save")
  browser.until("the next", lambda: browser.one("#field-response"))
  assert _answers(labels)[0]["ranks"] == [[3, 2, 2, 1][n] for n in shown]
  browser.click("#save")
  assert "write something" in browser.text()
  browser.one("#field-response").send_keys("Because.")
  browser.click("#save")
  browser.until("the next", lambda: "How?" in browser.text())
  browser.click("#skip-details summary")
  browser.one("#reason").send_keys("tired")
  browser.click("#skip-button")
  browser.until("the end", lambda: "all for now" in browser.text())
  assert _answers(labels)[1:] == [
    {"response": "Because."},
    {"skipped": "tired"},
  ]


def test_whoever_cannot_see_the_page_is_told_what_everything_is(browser, start):
  labels, address = start(
    ranking=[_TASK],
    comparison=[{"prompt": "2 + 2?", "responses": ["4", "5"]}],
    writing=[{"form": "few_shot", "hint": None, "number": 1}],
  )
  roles = ("button", "checkbox", "link", "radio", "spinbutton", "textbox")
  now = browser.assignment()
  while now != "none":
    browser.run("document.querySelectorAll('details').forEach(d => d.open = 1)")
    nodes = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node["ignored"]]
    asked = [n for n in seen if n.get("role", {}).get("value") in roles]
    assert len(asked) > 10
    nameless = [n for n in asked if not n.get("name", {}).get("value")]
    assert nameless == []
    names = [n["name"]["value"] for n in asked if n["role"]["value"] == "radio"]
    assert len(set(names)) >= min(len(names), 3)
    labels.skip(1, int(now), f"skip-number-{now}", "seen")
    browser.go(f"{address}/work")
    now = browser.next_task(now)


def test_what_is_changed_while_it_waits_is_what_is_sent(browser, start):
  labels, _ = start(demonstration=[{"prompt": "Why?"}])
  browser.offline(True)
  browser.one("#field-response").send_keys("First")
  browser.keys(Keys.ENTER, ctrl=True)
  browser.until("no connection", lambda: "kept" in browser.text("#notice"))
  browser.one("#field-response").send_keys(" and second")
  browser.keys(Keys.ENTER, ctrl=True)
  browser.offline(False)
  browser.until("it is saved", lambda: _answers(labels))
  assert _answers(labels) == [{"response": "First and second"}]


def test_a_tab_that_was_only_looked_at_changes_no_draft(browser, start):
  _, address = start(demonstration=[{"prompt": "Why?"}])
  first = browser.driver.current_window_handle
  browser.driver.switch_to.new_window("tab")
  browser.go(f"{address}/work")
  second = browser.driver.current_window_handle
  browser.driver.switch_to.window(first)
  browser.one("#field-response").send_keys("Because of it.")
  browser.go("about:blank")
  browser.driver.switch_to.window(second)
  browser.go(f"{address}/history")
  browser.go(f"{address}/work")
  found = browser.one("#field-response").get_property("value")
  assert found == "Because of it."


def test_what_waits_is_sent_after_a_new_link(browser, start):
  labels, address = start(demonstration=[{"prompt": "Why?"}])
  browser.offline(True)
  browser.one("#field-response").send_keys("So.")
  browser.keys(Keys.ENTER, ctrl=True)
  browser.until("no connection", lambda: "kept" in browser.text("#notice"))
  token = labels.renew(1)
  browser.offline(False)
  browser.until("out", lambda: "invitation" in browser.text("#notice"))
  assert not _answers(labels)
  browser.go(f"{address}/invite/{token}")
  browser.until("it is saved", lambda: _answers(labels))
  assert _answers(labels) == [{"response": "So."}]


def test_a_page_of_an_earlier_visit_keeps_what_it_could_not_send(
  browser, start
):
  labels, address = start(demonstration=[{"prompt": "Why?"}])
  first = browser.driver.current_window_handle
  browser.one("#field-response").send_keys("So.")
  token = labels.renew(1)
  browser.driver.switch_to.new_window("tab")
  browser.go(f"{address}/invite/{token}")
  browser.driver.switch_to.window(first)
  browser.click("#save")
  browser.until("told", lambda: "earlier visit" in browser.text("#notice"))
  browser.click("#notice button")
  browser.until("it is saved", lambda: _answers(labels))
  assert _answers(labels) == [{"response": "So."}]
