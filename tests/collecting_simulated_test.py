"""Simulated labelers at a real server, also where it is killed under them."""

import collections
import contextlib
import json
import random
import sqlite3
import threading
import time

import pytest

pytest.importorskip("uvicorn")
from benchmarks import label_server
from instruct_jax.base import errors
from instruct_jax.collecting import simulated
from instruct_jax.collecting import store as store_lib
from instruct_jax.worlds.microworld import answers, judge, labelers, prompts


def lists(count, k=4, seed=0):
  """Prompts of the microworld with k different responses each."""
  rng, found = random.Random(seed), []
  while len(found) < count:
    asked = prompts.draw(rng, "train", use_case="generation")
    texts = {answers.ideal(rng, asked.spec), answers.flawed(rng, asked.spec)}
    while len(texts) < k:
      texts.add(answers.forum(rng, asked.spec) + " lol" * rng.randrange(9))
    found.append(
      {
        "prompt": f"{asked.text} {len(found)}",
        "responses": rng.sample(sorted(texts), k),
        "ended": [True] * k,
        "record": {"spec": json.dumps(asked.spec), "use_case": asked.use_case},
      }
    )
  return found


def project(folder, settings="", **tasks):
  """A project with tasks by kind; the screening is what the package brings."""
  folder.mkdir(exist_ok=True)
  (folder / "settings.toml").write_text(settings)
  opened = store_lib.open_store(folder)
  for kind, rows in tasks.items():
    opened.add_tasks(kind, rows, source="test")
  return opened


def rows_of(folder, sql):
  """What the database says."""
  with contextlib.closing(sqlite3.connect(folder / "labels.sqlite")) as opened:
    return opened.execute(sql).fetchall()


ANSWERS = (
  "SELECT tasks.kind, content, answer, labelers.name, submission FROM answers"
  " JOIN assignments ON assignments.id = assignment_id"
  " JOIN tasks ON tasks.id = task_id"
  " JOIN labelers ON labelers.id = labeler_id"
  " WHERE is_screening = 0 AND undone_at IS NULL"
)
KILLS = 4
OPEN = "[screening]\nrequired = false\n[overlap]\nshare = 0.0\n"


def test_all_kinds_are_answered_as_the_world_s_labelers_do(tmp_path):
  rankings = lists(6)
  pairs = [
    row | {"responses": row["responses"][:2], "ended": [True, True]}
    for row in lists(3, seed=1)
  ]
  asked = [
    {"prompt": row["prompt"], "record": row["record"]}
    for row in lists(2, seed=2)
  ]
  forms = [
    {"form": form, "hint": None, "number": 0}
    for form in ("plain", "few_shot", "user_based")
  ]
  folder = tmp_path / "labels"
  project(
    folder,
    OPEN,
    ranking=rankings,
    comparison=pairs,
    demonstration=asked,
    writing=forms,
  ).shut()
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    done = simulated.simulate(server.url, folder, labelers=2)
    again = simulated.simulate(server.url, folder, labelers=1)
  assert sum(done.answers.values()) == 14
  assert not done.stopped
  assert again.answers == {"simulated-3": 0}  # nothing is left for it
  found = rows_of(folder, ANSWERS)
  kinds = collections.Counter(row[0] for row in found)
  assert kinds == {
    "ranking": 6, "comparison": 3, "demonstration": 2, "writing": 3
  }  # fmt: skip
  for kind, content, answer, name, _ in found:
    content, answer = json.loads(content), json.loads(answer)
    if kind in ("ranking", "comparison"):
      # In the task's order, whatever order the page had.
      persona = labelers.training()[int(name.rpartition("-")[2]) - 1]
      spec, texts = content["record"]["spec"], content["responses"]
      grades = [judge.grade(spec, text) for text in texts]
      ranks = persona.rank(content["prompt"], texts, grades)
      assert answer["ranks"] == ranks
    elif kind == "demonstration":
      spec = content["record"]["spec"]
      assert judge.grade(spec, answer["response"])["likert"] == 7


def test_the_screening_is_passed_and_a_number_of_tasks_is_kept(tmp_path):
  folder = tmp_path / "labels"
  settings = "[overlap]\nshare = 0.0\n"
  opened = project(folder, settings, ranking=lists(9))
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    done = simulated.simulate(
      server.url, folder, labelers=2, tasks=3, group="held_out"
    )
  screened = rows_of(
    folder, "SELECT count(*) FROM tasks WHERE is_screening = 1"
  )[0][0]
  assert screened > 3  # what the package brings
  assert done.answers == dict.fromkeys(
    ("simulated-1", "simulated-2"), screened + 3
  )
  assert [x.passed for x in opened.labelers()] == [True, True]
  assert [x.group for x in opened.labelers()] == ["held_out", "held_out"]
  assert rows_of(
    folder, "SELECT count(*) FROM assignments WHERE state = 'open'"
  ) == [(0,)]
  opened.shut()


def test_a_wrong_folder_or_address_is_a_sentence(tmp_path):
  project(tmp_path / "labels", OPEN).shut()
  project(tmp_path / "other", OPEN).shut()
  with pytest.raises(errors.UserError, match=r"nowhere: has no labels\.sqlite"):
    simulated.simulate("http://a", tmp_path / "nowhere", labelers=1)
  assert not (tmp_path / "nowhere").exists()
  with pytest.raises(errors.UserError, match="group 'nobody'"):
    simulated.simulate("http://a", tmp_path, labelers=1, group="nobody")
  log = tmp_path / "log.txt"
  with (
    label_server.Server(tmp_path / "labels", log) as server,
    pytest.raises(errors.UserError, match="another folder"),
  ):
    simulated.simulate(server.url, tmp_path / "other", labelers=2)
  other = store_lib.open_store(tmp_path / "other")
  assert all(x.revoked_at is not None for x in other.labelers())
  other.shut()


def test_who_is_revoked_is_told_and_the_others_go_on(tmp_path):
  folder = tmp_path / "labels"
  opened = project(folder, OPEN, ranking=lists(60))

  def revoke():
    while not opened.labelers() or not opened.history(1):
      time.sleep(0.01)
    opened.revoke(1)

  thread = threading.Thread(target=revoke)
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    thread.start()
    done = simulated.simulate(server.url, folder, labelers=2)
  thread.join()
  assert list(done.stopped) == ["simulated-1"]
  answered = len(rows_of(folder, ANSWERS))
  assert sum(done.answers.values()) in (answered, answered - 1)
  assert answered == 60
  opened.shut()


@pytest.mark.slow
@pytest.mark.parametrize(
  "seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2))]
)
def test_a_server_that_is_killed_loses_and_doubles_nothing(tmp_path, seed):
  """All tasks are answered, each once, whenever the server was killed."""
  rng, folder = random.Random(seed), tmp_path / "labels"
  project(folder, OPEN, ranking=lists(400)).shut()
  stop = threading.Event()
  with label_server.Server(folder, tmp_path / "log.txt") as server:

    def kill():
      # Who comes to a server that is away is told so after three seconds; who
      # works waits for it.
      while not rows_of(folder, ANSWERS) and not stop.wait(0.05):
        pass
      for _ in range(KILLS):
        if stop.wait(rng.uniform(0.05, 0.8)):
          return
        server.kill()
        server.start()

    thread = threading.Thread(target=kill)
    thread.start()
    done = simulated.simulate(
      server.url, folder, labelers=6, seed=seed, patience=300.0
    )
    stop.set()
    thread.join()
  assert done.again > 0  # it was away while somebody asked
  assert not done.stopped
  found = rows_of(folder, ANSWERS)
  assert sum(done.answers.values()) == len(found) == 400
  assert len({content for _, content, *_ in found}) == 400
  counts = collections.Counter(name for _, _, _, name, _ in found)
  assert counts == {k: n for k, n in done.answers.items() if n}
  assert "Traceback" not in server.said()
