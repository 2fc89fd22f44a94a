"""Many labelers at once, in threads and in processes, and a kill among them.

Whatever happens, a task is with no more labelers than want it, every answer
that somebody was told is saved is there once, and the books balance.
"""

import collections
import errno
import multiprocessing
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy

from instruct_jax.collecting import queueing, store

ANSWER = {"response": "an answer"}


def _begin(folder, tasks, *, share=0.5, labelers=3):
  folder.mkdir()
  (folder / "settings.toml").write_text(
    f"[overlap]\nshare = {share}\nlabelers = {labelers}\n"
  )
  opened = store.open_store(folder)
  rows = [{"prompt": f"prompt {n}"} for n in range(tasks)]
  opened.add_tasks("demonstration", rows, source="test")
  return opened


def _people(opened, names):
  return [opened.labeler_of(opened.invite(name)).id for name in names]


def _work(opened, labeler, told, seed, most=10**9):
  """Works until nothing is left, at times skipping, undoing, sending twice."""
  rng = random.Random(seed)
  for number in range(most):
    given = opened.next_assignment(labeler)
    if given is None:
      return
    name = f"sent-{labeler}-{number:05}"
    if rng.random() < 0.1:
      opened.skip(labeler, given.id, name, "not for me")
      continue
    opened.save(labeler, given.id, name, ANSWER, 1.0)
    told(name)
    if rng.random() < 0.2:
      assert opened.save(labeler, given.id, name, ANSWER, 1.0).repeated
    if rng.random() < 0.1:
      assert opened.undo(labeler) is not None


def _in_threads(opened, labelers):
  """All work at once; (what they were told is saved, what went wrong)."""
  told, failed = [], []

  def work(labeler):
    try:
      _work(opened, labeler, told.append, labeler)
    except BaseException as error:
      failed.append(repr(error))

  threads = [threading.Thread(target=work, args=(x,)) for x in labelers]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(200)
    assert not thread.is_alive()
  return told, failed


def _check_books(folder, told):
  """The invariants, from the file alone."""
  file = sqlite3.connect(pathlib.Path(folder) / "labels.sqlite")
  ask = file.execute
  assert ask("PRAGMA integrity_check").fetchone() == ("ok",)
  assert ask("PRAGMA foreign_key_check").fetchall() == []
  holders = (
    "SELECT count(*) FROM assignments WHERE task_id = tasks.id"
    " AND state IN ('open', 'answered')"
  )
  assert not ask(f"SELECT id FROM tasks WHERE taken <> ({holders})").fetchall()
  assert not ask("SELECT id FROM tasks WHERE taken > wanted").fetchall()
  counted = collections.Counter(
    assignment
    for (assignment,) in ask(
      "SELECT assignment_id FROM answers WHERE undone_at IS NULL"
    )
  )
  done = {
    assignment
    for (assignment,) in ask(
      "SELECT id FROM assignments WHERE state IN ('answered', 'skipped')"
    )
  }
  assert set(counted) == done
  assert set(counted.values()) <= {1}
  saved = collections.Counter(
    x for (x,) in ask("SELECT submission FROM answers")
  )
  assert set(told) <= set(saved)
  assert set(saved.values()) <= {1}
  file.close()


def test_forty_threads(tmp_path):
  opened = _begin(tmp_path / "labels", 120)
  labelers = _people(opened, [f"l{n}" for n in range(40)])
  told, failed = _in_threads(opened, labelers)
  assert not failed
  _check_books(opened.folder, told)
  opened.shut()
  file = sqlite3.connect(opened.folder / "labels.sqlite")
  # Skips go on to others, of whom there are enough.
  want = "SELECT count(*) FROM tasks WHERE taken < wanted"
  assert file.execute(want).fetchone() == (0,)
  file.close()


def _process(folder, labelers, pipe):
  """A process of its own: some labelers in threads; says what was saved."""
  opened = store.open_store(folder)
  pipe.send(_in_threads(opened, labelers))
  opened.shut()


def test_two_processes_on_one_database(tmp_path):
  opened = _begin(tmp_path / "labels", 60)
  labelers = _people(opened, "abcdefgh")
  opened.shut()
  spawn = multiprocessing.get_context("spawn")
  running = []
  for half in (labelers[:4], labelers[4:]):
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_process, args=(opened.folder, half, theirs))
    process.start()
    running.append((process, mine))
  told = []
  for process, pipe in running:
    assert pipe.poll(120)
    saved, failed = pipe.recv()
    assert not failed
    told += saved
    process.join(60)
    assert process.exitcode == 0
  assert len(set(told)) == len(told) > 60
  _check_books(opened.folder, told)


def test_a_kill_loses_nothing_that_was_said_to_be_saved(tmp_path):
  """Three times: -9 at some moment, then others go on with the same folder."""
  opened = _begin(tmp_path / "labels", 400)
  labelers = _people(opened, "abcdef")
  opened.shut()
  script = (
    "import sys, threading\n"
    "from instruct_jax.collecting import store\n"
    "from tests import collecting_crowd_test as crowd\n"
    "opened = store.open_store(sys.argv[1])\n"
    "def told(name): sys.stdout.write(name + '\\n'); sys.stdout.flush()\n"
    "for x in map(int, sys.argv[3:]):\n"
    "  threading.Thread(target=crowd._work, args=(opened, x, told,"
    " x + int(sys.argv[2]))).start()\n"
  )
  told = []
  for attempt in range(3):
    # Names go on where the last ones ended: a client sends no name twice.
    process = subprocess.Popen(
      [sys.executable, "-c", script, opened.folder, str(attempt)]
      + [str(x) for x in labelers[attempt * 2 : attempt * 2 + 2]],
      stdout=subprocess.PIPE,
      text=True,
      cwd=pathlib.Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    for _ in range(15 + 10 * attempt):
      told.append(process.stdout.readline().strip())
    time.sleep(0.003 * attempt)
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    told += [x for x in rest.split("\n")[:-1] if x]
    process.wait(60)
    assert all(told)
    _check_books(opened.folder, told)
  again = store.open_store(opened.folder)
  for labeler in labelers:  # what was open is open again, and can be answered
    given = again.next_assignment(labeler)
    again.save(labeler, given.id, f"after-{labeler}-kill", ANSWER, 1.0)
  again.shut()
  _check_books(opened.folder, told)


def _together(opened, *works):
  """What becomes of works that share a commit: what they return, or raise."""
  holding, queue = threading.Event(), opened.database.queue
  results: dict[int, object] = {}

  def hold(connection):
    holding.set()
    while len(queue._jobs) < len(works):
      time.sleep(0.001)
    connection.exec_driver_sql("UPDATE tasks SET source = 'held'")

  def run(place, work):
    try:
      results[place] = work()
    except Exception as error:
      results[place] = error

  def first():
    opened.database.write(hold)

  threads = []
  for place, work in enumerate([first, *works]):
    threads.append(threading.Thread(target=run, args=(place, work)))
    threads[-1].start()
    assert holding.wait(10)
    while place and len(queue._jobs) < place and threads[0].is_alive():
      time.sleep(0.001)
  for thread in threads:
    thread.join(10)
  assert results.pop(0) is None
  return [results[place] for place in sorted(results)]


def _sources(opened):
  with opened.reading() as connection:
    rows = connection.exec_driver_sql("SELECT DISTINCT source FROM tasks")
    return rows.scalars().all()


@pytest.mark.parametrize(
  ("last", "error"),
  [
    ("SELECT raise_of_mine", sqlalchemy.exc.OperationalError),
    ("INSERT INTO meta VALUES ('schema', 2)", sqlalchemy.exc.IntegrityError),
  ],
)
def test_errors_of_one_are_not_those_of_others(tmp_path, last, error):
  """Of what shares a commit, what fails is undone alone."""
  opened = _begin(tmp_path / "labels", 3)
  labeler = _people(opened, "a")[0]
  given = opened.next_assignment(labeler)

  def bad(connection):
    connection.exec_driver_sql("UPDATE tasks SET source = 'bad'")
    connection.exec_driver_sql(last)

  failed, saved = _together(
    opened,
    lambda: opened.database.write(bad),
    lambda: opened.save(labeler, given.id, "sent-0001", ANSWER, 1.0),
  )
  assert isinstance(failed, error)
  assert saved == store.Saved(repeated=False)
  assert _sources(opened) == ["held"]
  assert len(opened.history(labeler)) == 1
  opened.shut()


def test_what_a_full_disk_undoes_is_not_said_to_be_saved(tmp_path):
  """SQLite may undo a whole transaction: nobody in it is told otherwise."""
  opened = _begin(tmp_path / "labels", 3)
  labeler = _people(opened, "a")[0]
  given = opened.next_assignment(labeler)

  def full(connection):
    connection.exec_driver_sql("ROLLBACK")  # as SQLite itself does
    reason = sqlite3.OperationalError("database or disk is full")
    raise sqlalchemy.exc.OperationalError("INSERT", {}, reason)

  def save():
    return opened.save(labeler, given.id, "sent-0001", ANSWER, 1.0)

  for result in _together(
    opened, save, lambda: opened.database.write(full), lambda: opened.undo(1)
  ):
    assert isinstance(result, OSError)
    assert result.errno == errno.ENOSPC
  assert _sources(opened) == ["held"]
  assert opened.history(labeler) == []
  assert save() == store.Saved(repeated=False)
  opened.shut()


def test_what_fails_for_all_is_told_to_all():
  queue, inside, go = queueing.Queue(), threading.Event(), threading.Event()
  told, batches = [], []

  def together(jobs):
    batches.append(len(jobs))
    if len(batches) == 1:
      inside.set()
      assert go.wait(10)
      for job in jobs:
        job.run(None)
      return
    raise OSError("the disk is full")

  def run():
    try:
      told.append(queue.do(lambda _: "done", together))
    except OSError as error:
      told.append(str(error))

  threads = [threading.Thread(target=run) for _ in range(5)]
  threads[0].start()
  assert inside.wait(10)
  for thread in threads[1:]:
    thread.start()
  while len(queue._jobs) < 4:
    time.sleep(0.001)
  go.set()
  for thread in threads:
    thread.join(10)
  assert batches == [1, 4]
  assert sorted(told) == ["done"] + ["the disk is full"] * 4


def test_who_is_interrupted_while_waiting_holds_nobody_up():
  queue = queueing.Queue()
  done = []

  def together(jobs):
    for job in jobs:
      job.run(None)

  class Interrupted(threading.Event):
    def wait(self, timeout=None):
      raise KeyboardInterrupt

  def first(_):
    # Somebody comes while this leads, and is interrupted as they wait.
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(queueing.threading, "Event", Interrupted)
      with pytest.raises(KeyboardInterrupt):
        queue.do(lambda _: done.append("never"), together)
    done.append("first")

  queue.do(first, together)
  queue.do(lambda _: done.append("second"), together)
  assert done == ["first", "second"]
