"""Disks that are full, fixed or no disks: a message, and nothing half-written.

A limit on the size of a file stands for a full disk where no root is needed;
the slow tests fill a small one of their own, so that each writer is once the
one that fails.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from experiments import dataset as dataset_experiment
from instruct_jax.base import (
  errors,
  events,
  interrupt,
  journal,
  logged,
  run_folder,
  storage,
)
from instruct_jax.data.batch import packing, shards
from instruct_jax.parallel import checkpoint
from instruct_jax.runs import (
  aside,
  build,
  holders,
  jobs,
  marks,
  plan,
  records,
)
from tests import built, doors, journal_test, processes

ROOT = processes.ROOT


@contextlib.contextmanager
def files_of_at_most(size):
  """The disk takes no more than so many bytes of a file."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_and_events_are_whole_or_not_there(tmp_path):
  with journal.Log(tmp_path) as log:
    log.write(1, {"a": 1.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with files_of_at_most(len(before) + 5):
      with pytest.raises(OSError, match=r"metrics\.jsonl") as full:
        log.write(2, {"a": 2.0})
      assert full.value.errno == errno.EFBIG
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    log.write(2, {"a": 2.0})
  assert [row["step"] for row in logged.read_metrics(tmp_path)] == [1, 2]
  steps = [e.step for e in journal_test.events(tmp_path) if e.summary.value]
  assert steps == [1, 2]


def test_an_event_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
  from tensorboardX.proto import event_pb2

  file = events.Events(tmp_path)
  (path,) = tmp_path.iterdir()
  before = path.read_bytes()
  with files_of_at_most(len(before) + 7), pytest.raises(OSError, match="ev"):
    file.add(event_pb2.Event(), 1)
  assert path.read_bytes() == before


def test_rows_that_do_not_fit_are_said_and_gone(tmp_path):
  tokens = np.random.default_rng(0).integers(2**15, size=(500, 100))
  table, _ = packing.whole([tokens.astype(np.int32).ravel()], 100, 0)
  path = tmp_path / "shard"
  with files_of_at_most(10_000), pytest.raises(OSError, match="shard") as no:
    shards.write(path, table)
  assert no.value.errno == errno.EFBIG
  assert list(tmp_path.iterdir()) == []
  assert shards.write(path, table)["rows"] == 500
  assert [path.name for path in tmp_path.iterdir()] == ["shard"]


def test_a_step_that_does_not_fit_goes_and_the_one_before_stays(tmp_path):
  """Orbax writes in threads, and says what the disk says in its own words."""
  folder = tmp_path / "checkpoints"
  small = {"w": jnp.arange(8.0)}
  rng = np.random.default_rng(0)
  large = {"w": jnp.asarray(rng.standard_normal((512, 1024)))}
  with checkpoint.Checkpointer(folder) as saver:
    saver.save(1, {"params": small})
    saver.wait()
    with files_of_at_most(200_000):
      saver.save(2, {"params": large})
      with pytest.raises(OSError, match=str(folder)) as full:
        saver.wait()
      assert full.value.errno == errno.EFBIG
      with contextlib.suppress(OSError):
        saver.close()
  assert [path.name for path in folder.iterdir()] == ["1"]
  with checkpoint.Checkpointer(folder) as saver:
    saver.save(2, {"params": large})
  assert checkpoint.steps(folder) == [1, 2]


def stage_of(workdir, **changes):
  config = dataset_experiment.get_config("test").unlock()
  config.update_from_flattened_dict(changes)
  source = epath.Path(ROOT / "experiments" / "dataset.py")
  return plan.plan(config, source, epath.Path(workdir), {})


def job_that(monkeypatch, function):
  monkeypatch.setitem(
    jobs.JOBS,
    "dataset",
    lambda config, folder, needs: function(folder) or jobs.Result({}),
  )


@pytest.mark.parametrize(
  "error",
  [errors.UserError("line 3"), OSError(errno.ENOSPC, "full", "x")],
  ids=["bad input", "full disk"],
)
def test_a_first_start_that_fails_leaves_nothing(tmp_path, monkeypatch, error):
  def fail(folder):
    assert (folder / "config.json").exists()
    raise error

  job_that(monkeypatch, fail)
  for _ in range(2):
    with pytest.raises(type(error)):
      build.build(stage_of(tmp_path / "deep" / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_later_start_goes_on_from_stays(tmp_path, monkeypatch):
  def fail(folder):
    path = run_folder.files(folder).chunks / "train-0.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    raise OSError(errno.ENOSPC, "full", str(path))

  job_that(monkeypatch, fail)
  for _ in range(2):
    with pytest.raises(OSError, match="full"):
      build.build(stage_of(tmp_path))
    assert (tmp_path / "dataset-test" / "chunks" / "train-0.json").exists()
  assert [path.name for path in tmp_path.iterdir()] == ["dataset-test"]


@pytest.mark.parametrize("content", ["{", "[]", "", "{}", '{"metrics": 3}'])
def test_damaged_results_are_made_again(tmp_path, monkeypatch, caplog, content):
  starts = []
  job_that(monkeypatch, lambda folder: starts.append(folder))
  build.build(stage_of(tmp_path))
  run_folder.files(starts[0]).results.write_text(content)
  assert build.build(stage_of(tmp_path))["metrics"] == {}
  assert len(starts) == 2
  assert "is there, and fits" not in caplog.text
  assert "results.json.damaged" in caplog.text
  kept = starts[0] / "results.json.damaged"
  assert kept.read_text() == content
  assert build.build(stage_of(tmp_path))["metrics"] == {}
  assert len(starts) == 2


def contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


@pytest.mark.parametrize(
  "error",
  [
    errors.UserError("line 3"),
    OSError(errno.ENOSPC, "full", "x"),
    KeyboardInterrupt(),
    interrupt.Interrupted(),
    errors.Diverged("at once"),
    RuntimeError("a bug"),
  ],
  ids=lambda error: type(error).__name__,
)
def test_a_first_start_that_fails_gives_back_what_gave_way(
  tmp_path, monkeypatch, error
):
  runs = []
  job_that(monkeypatch, lambda folder: runs.append(folder))
  build.build(stage_of(tmp_path))
  before = contents(tmp_path)

  def fail(folder):
    assert (tmp_path / "dataset-test.old1" / "results.json").exists()
    raise error

  job_that(monkeypatch, fail)
  for _ in range(2):
    with pytest.raises(type(error)):
      build.build(stage_of(tmp_path, **{"data.world_seed": 9}), keep_old=0)
    assert contents(tmp_path) == before
  build.build(stage_of(tmp_path))  # It fits, and nothing is built.


def test_what_gave_way_stays_aside_once_something_was_saved(
  tmp_path, monkeypatch
):
  job_that(monkeypatch, lambda folder: None)
  build.build(stage_of(tmp_path))

  def fail(folder):
    path = run_folder.files(folder).chunks / "train-0.json"
    path.parent.mkdir()
    path.write_text("{}")
    raise KeyboardInterrupt

  job_that(monkeypatch, fail)
  with pytest.raises(KeyboardInterrupt):
    build.build(stage_of(tmp_path, **{"data.world_seed": 9}))
  assert (tmp_path / "dataset-test.old1" / "results.json").exists()
  assert (tmp_path / "dataset-test" / "chunks" / "train-0.json").exists()


def test_how_far_a_first_start_came_can_be_seen(tmp_path, monkeypatch):
  job_that(monkeypatch, lambda folder: None)
  build.build(stage_of(tmp_path))
  good = contents(tmp_path / "dataset-test")

  def fail(folder):
    run_folder.files(folder).metrics.write_text("{}")
    raise errors.Diverged("at step 3")

  job_that(monkeypatch, fail)
  with pytest.raises(errors.Diverged):
    build.build(stage_of(tmp_path, **{"data.world_seed": 9}))
  assert contents(tmp_path / "dataset-test") == good
  assert (tmp_path / "dataset-test.old2" / "metrics.jsonl").exists()


def test_an_earlier_run_that_fits_again_has_its_name_again(
  tmp_path, monkeypatch, caplog
):
  runs = []
  job_that(monkeypatch, lambda folder: runs.append(folder))
  build.build(stage_of(tmp_path))
  before = contents(tmp_path / "dataset-test")
  changed = stage_of(tmp_path, **{"data.world_seed": 9})
  build.build(changed)
  assert len(runs) == 2
  build.build(stage_of(tmp_path))
  assert len(runs) == 2
  assert "dataset-test.old1 fits, and has its name again" in caplog.text
  assert contents(tmp_path / "dataset-test") | before == contents(
    tmp_path / "dataset-test"
  )
  # One that a job reads, and one that is damaged, stay where they are.
  other = holders.here()
  monkeypatch.setattr(holders.Holder, "is_me", False)
  note = run_folder.mark_of(tmp_path / "dataset-test.old2", other.token)
  note.write_text(other.text)
  build.build(changed)
  assert len(runs) == 3
  note.unlink()
  (tmp_path / "dataset-test.old3" / "results.json").write_text("{")
  build.build(stage_of(tmp_path))
  assert len(runs) == 4


def folder_with(name, text):
  def make(path):
    path.mkdir()
    (path / name).write_text(text)

  return make


IS_FILE = "is a file, where a folder is due"
IS_LINK = "is a link to nothing, where a folder is due"


@pytest.mark.parametrize(
  ("where", "make", "said"),
  [
    ("runs", lambda p: p.write_text("mine"), IS_FILE),
    ("runs", lambda p: p.symlink_to("gone"), IS_LINK),
    ("runs/dataset-test", lambda p: p.write_text("mine"), IS_FILE),
    ("runs/dataset-test", lambda p: p.symlink_to("gone"), IS_LINK),
    ("runs/dataset-test", folder_with("a", "mine"), "but no run of an exp"),
    ("runs/dataset-test", folder_with("config.json", "{}"), "but no run of an"),
    ("runs/dataset-test", folder_with("config.json", "{"), "not readable JSON"),
  ],
)
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, where, make, said):
  path = tmp_path / where
  path.parent.mkdir(parents=True, exist_ok=True)
  make(path)
  before = sorted(map(str, tmp_path.rglob("*")))
  with pytest.raises(errors.UserError, match=said):
    stage_of(tmp_path / "runs")
  assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_command_that_was_killed_at_its_first_file_leaves_nothing_in_the_way(
  tmp_path, monkeypatch
):
  folder = tmp_path / "runs" / "dataset-test"
  folder.mkdir(parents=True)
  with storage.writing(folder / "config.json") as file:
    (half,) = folder.iterdir()
    assert plan.written_digest(stage_of(tmp_path / "runs")) == ""
    file.write("{}")
  (folder / "config.json").rename(half)
  job_that(monkeypatch, lambda folder: None)
  build.build(stage_of(tmp_path / "runs"))
  assert (folder / "results.json").exists()
  assert not half.exists()
  assert plan.written_digest(stage_of(tmp_path / "runs"))


def test_a_disk_that_cannot_be_written_is_said(tmp_path, monkeypatch):
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  with pytest.raises(errors.UserError, match="may not be written by you"):
    stage_of(tmp_path / "runs")


def broken_off(workdir, name, *, done=False, **needs):
  folder = workdir / name
  (folder / "checkpoints").mkdir(parents=True)
  record = {"digest": name, "config": {}, "needs": needs}
  record["needs_digests"] = {k: v.removeprefix("../") for k, v in needs.items()}
  (folder / "config.json").write_text(json.dumps(record))
  if done:
    (folder / "results.json").write_text("{}")
  return epath.Path(folder)


def test_of_what_was_broken_off_the_newest_few_stay(tmp_path, caplog):
  for number in range(1, 7):
    broken_off(tmp_path, f"a.old{number}", done=number == 2)
  broken_off(tmp_path, "b", data="../a.old3")  # was built on it
  (tmp_path / "a.old4" / "mine").write_text("")
  (tmp_path / "a.older").mkdir()
  moved = aside.move(broken_off(tmp_path, "a"))
  aside.prune(tmp_path / "a", keep=2)
  assert moved.name == "a.old7"
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"a.old2", "a.old3", "a.old6", "a.old7", "a.older", "b"}
  for number in (1, 4, 5):
    assert f"a.old{number}: deleted" in caplog.text
  moved = aside.move(broken_off(tmp_path, "a"))
  aside.prune(tmp_path / "a", keep=0)
  assert not moved.exists()
  assert "a.old2" in {path.name for path in tmp_path.iterdir()}  # finished
  again = aside.move(broken_off(tmp_path, "a", done=True))
  assert again.name == "a.old4"  # after the newest that is there


def test_what_needs_an_earlier_run_finds_it_across_gaps(tmp_path):
  run = broken_off(tmp_path, "a", done=True)
  broken_off(tmp_path, "b", data="../a")
  run.rename(tmp_path / "a.old5")
  assert records.read_needs(tmp_path / "b")["data"].name == "a.old5"


# Notes that it reads a run, says so, and does for some seconds.
READER = """
import sys, time
from etils import epath
from instruct_jax.runs import marks
with marks.using(epath.Path(sys.argv[1])):
  print("reads", flush=True)
  time.sleep(float(sys.argv[2]))
"""


def test_who_reads_is_known_until_it_ends_or_is_killed(tmp_path):
  folder = epath.Path(tmp_path / "a[1]")
  with marks.using(folder):
    assert marks.users(folder) == []  # not oneself
    assert len(list(tmp_path.iterdir())) == 1
  assert list(tmp_path.iterdir()) == []
  reader = subprocess.Popen(
    [sys.executable, "-c", READER, str(folder), "600"],
    stdout=subprocess.PIPE,
    text=True,
    env=processes.environment(),
  )
  assert reader.stdout.readline() == "reads\n"
  (user,) = marks.users(folder)
  assert f"process {reader.pid} " in user
  assert marks.users(epath.Path(tmp_path / "a")) == []
  with marks.using(folder):
    assert len(list(tmp_path.iterdir())) == 2  # That one lives.
  reader.kill()
  reader.wait()
  (note,) = tmp_path.iterdir()
  text = note.read_text()
  assert marks.users(folder) == []
  assert list(tmp_path.iterdir()) == []
  note.write_text(text)
  with marks.using(folder):  # Whoever reads it next tidies up.
    (mine,) = tmp_path.iterdir()
    assert mine != note


def test_what_another_job_reads_is_not_moved_while_it_does(
  tmp_path, monkeypatch
):
  job_that(monkeypatch, lambda folder: None)
  build.build(stage_of(tmp_path))
  other = holders.here()
  monkeypatch.setattr(holders.Holder, "is_me", False)
  note = run_folder.mark_of(tmp_path / "dataset-test", other.token)
  note.write_text(other.text)
  build.build(stage_of(tmp_path), wait=False)  # Many may read.
  changed = stage_of(tmp_path, **{"data.world_seed": 9})
  with pytest.raises(errors.UserError, match=f"process {other.process} on"):
    build.build(changed, wait=False)
  assert not (tmp_path / "dataset-test.old1").exists()
  monkeypatch.setattr(interrupt, "check", lambda: note.unlink(missing_ok=True))
  build.build(changed)
  assert (tmp_path / "dataset-test.old1" / "results.json").exists()
  assert {p.name for p in tmp_path.iterdir()} == {
    "dataset-test",
    "dataset-test.old1",
  }


@contextlib.contextmanager
def small_disk(folder, size, *options):
  """A disk of its own; the test is skipped where none may be mounted."""
  folder.mkdir(exist_ok=True)
  chosen = ",".join([f"size={size}", *options])
  command = ["mount", "-t", "tmpfs", "-o", chosen, "tmpfs", str(folder)]
  if (
    not shutil.which("mount")
    or subprocess.run(command, capture_output=True, check=False).returncode
  ):
    pytest.skip("no disk may be mounted here")
  try:
    yield lambda changed: subprocess.run(
      ["mount", "-o", f"remount,{changed}", str(folder)], check=True
    )
  finally:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def command(workdir, config="pretrain"):
  return doors.house().run(
    ROOT,
    "instruct_jax.main",
    *(f"--config=experiments/{config}.py:test", f"--workdir={workdir}"),
    JAX_NUM_CPU_DEVICES="1",
  )


def half_written(folder):
  words = ("partial", "orbax-checkpoint-tmp", "incomplete", ".lock", ".used")
  return [p for p in folder.rglob("*") if any(w in p.name for w in words)]


def digests(workdir):
  return {
    path.parent.name: json.loads(path.read_text())["parameters_digest"]
    for path in workdir.glob("*/results.json")
  }


def rows(workdir):
  """The metrics of every step, but what depends on clock and process."""
  lines = (workdir / "pretrain-test" / "metrics.jsonl").read_text().splitlines()
  return [
    {
      k: v
      for k, v in json.loads(line).items()
      if "second" not in k and not k.startswith("memory/")
    }
    for line in lines
  ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_is_a_message_and_the_same_command_goes_on(
  tmp_path, tmp_path_factory
):
  whole = tmp_path / "whole"
  built.copied(tmp_path_factory, whole, "dataset", "pretrain")
  # The config, ArrayRecords, the tokenizer's files, two checkpoints, the rest;
  # and the stage that is under way, which is the last that goes on.
  sizes = {"4k": "dataset", "40k": "dataset", "1340k": "dataset"}
  sizes |= dict.fromkeys(("1500k", "2000k", "2260k"), "pretrain")
  for size, stage in sizes.items():
    disk = tmp_path / f"disk-{size}"
    with small_disk(disk, size) as remount:
      done = command(disk / "runs")
      if done.code == 0:
        pytest.fail(f"{size} was enough")
      assert done.code == 2, done.err
      assert "Traceback" not in done.err
      assert done.err.count("error: ") == 1, done.err
      assert "No space left on device" in done.err
      assert half_written(disk) == []
      remount("size=50m")
      done = command(disk / "runs", stage)
      assert done.code == 0, done.err
      wanted = digests(whole)
      if stage == "pretrain":
        assert rows(disk / "runs") == rows(whole)
      else:
        del wanted["pretrain-test"]
      assert digests(disk / "runs") == wanted
      assert not list(disk.rglob("*.old*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fixed_disk_is_a_message(tmp_path):
  disk = tmp_path / "disk"
  with small_disk(disk, "1m", "ro"):
    done = command(disk / "runs", config="dataset")
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert f"{disk}: is on a read-only disk" in done.err
