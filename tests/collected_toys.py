"""Folders of people's labels, written in SQL as DESIGN has the tables."""

import json
import sqlite3

from instruct_jax import paper
from instruct_jax.data.read import answers

TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE labelers(id INTEGER PRIMARY KEY, name TEXT UNIQUE, grp TEXT,
  token_hash TEXT UNIQUE, invited_at REAL, revoked_at REAL, screened_at REAL,
  passed INTEGER);
CREATE TABLE tasks(id INTEGER PRIMARY KEY, kind TEXT, content TEXT, gold TEXT,
  is_screening INTEGER, wanted INTEGER, taken INTEGER, source TEXT,
  created_at REAL, closed INTEGER);
CREATE TABLE assignments(id INTEGER PRIMARY KEY, task_id INTEGER,
  labeler_id INTEGER, display TEXT, state TEXT, opened_at REAL, done_at REAL,
  UNIQUE(task_id, labeler_id));
CREATE TABLE answers(id INTEGER PRIMARY KEY, assignment_id INTEGER,
  submission TEXT UNIQUE, answer TEXT, seconds REAL, sensitive INTEGER,
  saved_at REAL, undone_at REAL);
CREATE TABLE grades(assignment_id INTEGER PRIMARY KEY, grade INTEGER,
  saved_at REAL);
CREATE TABLE surveys(labeler_id INTEGER PRIMARY KEY, answer TEXT,
  saved_at REAL);
CREATE TABLE events(id INTEGER PRIMARY KEY, at REAL, who TEXT, what TEXT,
  detail TEXT);
"""
FLAGS = dict.fromkeys(paper.METADATA, False)


class Labels:
  """A folder of labels that a test fills."""

  def __init__(self, folder):
    folder.mkdir(parents=True, exist_ok=True)
    self.folder = folder
    self.database = sqlite3.connect(folder / answers.NAME, isolation_level=None)
    self.database.execute("PRAGMA journal_mode=WAL")
    self.database.executescript(TABLES)
    self._submissions = 0

  def labeler(self, name, group="training"):
    """A labeler's number."""
    return self._insert("labelers", name=name, grp=group, invited_at=0.0)

  def task(self, kind, content, *, gold=None, screening=False, source="test"):
    """A task's number."""
    return self._insert(
      "tasks",
      kind=kind,
      content=json.dumps(content),
      gold=gold and json.dumps(gold),
      is_screening=int(screening),
      wanted=1,
      taken=0,
      source=source,
      closed=0,
    )

  def answer(
    self, task, labeler, said, *, display=None, seconds=10.0, sensitive=False
  ):
    """An answer's number; the assignment is made where there is none."""
    (content,) = self.database.execute(
      "SELECT content FROM tasks WHERE id = ?", (task,)
    ).fetchone()
    count = len(json.loads(content).get("responses", ()))
    found = self.database.execute(
      "SELECT id FROM assignments WHERE task_id = ? AND labeler_id = ?",
      (task, labeler),
    ).fetchone()
    assignment = found and found[0]
    if assignment is None:
      assignment = self._insert(
        "assignments",
        task_id=task,
        labeler_id=labeler,
        display=json.dumps(display or list(range(count))),
        state="answered",
      )
    self._submissions += 1
    return self._insert(
      "answers",
      assignment_id=assignment,
      submission=f"submission-{self._submissions}",
      answer=json.dumps(said),
      seconds=seconds,
      sensitive=int(sensitive),
      saved_at=float(self._submissions),
    )

  def undo(self, answer):
    """An answer does not count any more."""
    self.database.execute(
      "UPDATE answers SET undone_at = 9.0 WHERE id = ?", (answer,)
    )

  def close(self):
    """As when its server has ended."""
    self.database.close()

  def _insert(self, table, **values):
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    cursor = self.database.execute(
      f"INSERT INTO {table}({names}) VALUES ({marks})", [*values.values()]
    )
    return cursor.lastrowid


def ranked(ranks, *, flags=()):
  """An answer to a ranking: ratings that fit, and flags of the first."""
  ratings = [8 - min(rank, 7) for rank in ranks]
  first = FLAGS | dict.fromkeys(flags, True)
  return {
    "ranks": ranks,
    "ratings": ratings,
    "metadata": [first] + [dict(FLAGS) for _ in ranks[1:]],
  }


def some(folder, *, prompts=12):
  """Two labelers and one held out; every kind of task, and what is left out."""
  labels = Labels(folder)
  ann, ben = labels.labeler("ann"), labels.labeler("ben")
  cy = labels.labeler("cy", "held_out")
  screening = labels.task(
    "ranking",
    {"prompt": "screen", "responses": ["yes", "no"]},
    gold={"ranks": [1, 2]},
    screening=True,
  )
  for who in (ann, ben, cy):
    labels.answer(screening, who, ranked([1, 2]))
  for n in range(prompts):
    content = {
      "prompt": f"Say the number {n}.",
      "responses": [f"It is {n}.", f"{n}", "I do not know."],
      "models": ["ppo", "sft", "gpt"],
      "record": {"source": "gpt" if n % 2 else "instruct"},
    }
    task = labels.task("ranking", content)
    labels.answer(task, ann, ranked([1, 2, 3]), display=[2, 0, 1])
    if n % 3 == 0:
      labels.answer(task, ben, ranked([2, 1, 2], flags=["opinion"]))
    if n % 4 == 0:
      labels.answer(task, cy, ranked([1, 3, 2]), sensitive=n == 4)
  pair = labels.task(
    "comparison", {"prompt": "One or two?", "responses": ["one", "two"]}
  )
  labels.answer(pair, ann, {"ranks": [1, 2]})
  labels.answer(pair, ben, {"skipped": "I cannot tell"})
  for n in range(prompts):
    task = labels.task(
      "demonstration", {"prompt": f"Write {n} out.", "record": {"user": "u1"}}
    )
    who = ann if n % 2 else ben
    labels.answer(task, who, {"response": f"The number {n}."}, seconds=30.0 + n)
  _write(labels, ann)
  return labels


def _write(labels, who):
  plain = labels.task("writing", {"form": "plain", "hint": None})
  labels.answer(plain, who, {"prompt": "Name three birds."})
  user = labels.task(
    "writing", {"form": "user_based", "hint": "a waiting list"}
  )
  labels.answer(
    user, who, {"prompt": "Write to my landlord.", "use_case": "generation"}
  )
  few = labels.task("writing", {"form": "few_shot", "hint": None})
  labels.answer(
    few,
    who,
    {
      "instruction": "Turn it around.",
      "examples": [
        {"query": "ab", "response": "ba"},
        {"query": "cd", "response": "dc"},
      ],
    },
  )
