"""Labels to serve, and a labeler who talks to their server by HTTP alone."""

import html
import re

import pytest

testclient = pytest.importorskip("starlette.testclient")

from instruct_jax import paper  # noqa: E402
from instruct_jax.collecting import app, guard, store  # noqa: E402

NO_LIMITS = guard.Limits(body=2**20, burst=10**6, per_second=1e6)
STORY = "Write a story about a wise frog."
FROGS = ["A frog sat.", "Frogs are wet.", "Once upon a time.", "Frog!"]


class Clock:
  """Stands still until somebody moves it."""

  def __init__(self):
    self.now = 1_000_000.0

  def __call__(self) -> float:
    return self.now


def labels_of(folder, *, clock=None, **rows):
  """A store with these tasks by kind."""
  labels = store.open_store(folder, clock=clock or Clock())
  for kind, contents in rows.items():
    labels.add_tasks(kind, contents, source="test")
  return labels


def four_kinds(folder, **more):
  """A store with one task of each kind, and the three of writing."""
  return labels_of(
    folder,
    ranking=[{"prompt": STORY, "responses": FROGS}],
    comparison=[{"prompt": "2 + 2?", "responses": ["4", "5"]}],
    demonstration=[{"prompt": "Why is the sky blue?"}],
    writing=[
      {"form": "plain", "hint": None, "number": 0},
      {"form": "few_shot", "hint": None, "number": 1},
      {"form": "user_based", "hint": "Drafting replies", "number": 2},
    ],
    **more,
  )


def client_of(labels, limits=NO_LIMITS):
  """A browser without a window; the server's bugs are its answers."""
  return testclient.TestClient(
    app.build(labels, limits=limits),
    raise_server_exceptions=False,
    follow_redirects=False,
  )


class Labeler:
  """Somebody who was invited and has opened the link."""

  def __init__(self, labels, name="Ann", limits=NO_LIMITS, client=None):
    self.token = labels.invite(name)
    self.id = labels.labeler_of(self.token).id
    self.client = client or client_of(labels, limits)
    self.entered = self.client.get(f"/invite/{self.token}")
    self._sent = 0

  def task(self):
    """What /task.json says."""
    return self.client.get("/task.json").json()

  def post(self, path, body, **headers):
    """A JSON body with this labeler's CSRF token, if it has none."""
    body = {"csrf": self.task()["csrf"]} | body
    return self.client.post(path, json=body, headers=headers)

  def body(self, task=None, **more):
    """A right body for /answer to what is open, with changes."""
    task = task or self.task()
    self._sent += 1
    return {
      "assignment": task["assignment"],
      "submission": f"{self.id}-submission-{self._sent}",
      "answer": answer_to(task),
      "seconds": 12.5,
      "sensitive": False,
    } | more

  def fields(self):
    """The hidden fields of the page's form, which a browser sends along."""
    page = self.client.get("/work").text
    form = page[page.index('<form id="task"') : page.index("</form>")]
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: html.unescape(value) for name, value in found}


def answer_to(task):
  """An answer to a task of any kind, in the order shown."""
  count = len(task["responses"])
  flags = {flag: flag == "opinion" for flag in paper.METADATA}
  return {
    "ranking": {
      "ratings": [7 - n for n in range(count)],
      "metadata": [flags] * count,
      "ranks": [n + 1 for n in range(count)],
    },
    "comparison": {"choice": "a"},
    "demonstration": {"response": "Because of scattering."},
    "writing": {
      "few_shot": {
        "instruction": "Say the sentiment.",
        "examples": [{"query": "Good!", "response": "positive"}],
      },
      "user_based": {"prompt": "Draft a reply.", "use_case": "Replies"},
    }.get(task.get("form"), {"prompt": "Name three birds."}),
  }[task["kind"]]
