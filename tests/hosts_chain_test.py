"""The command on two processes of one job, as on two hosts."""

import collections
import contextlib
import itertools
import json
import random
import re
import shutil
import signal
import socket
import time

import pytest

from tests import built, doors, processes

STAGES = built.STAGES
# What a run took, and where; and metrics of that kind, which vary.
UNLIKE = {"seconds", "peak_memory_bytes", "provenance", "evaluated_by"}
OF_COST = ("rate/", "seconds/", "memory/")
AIMS = ("data", "save", "random")  # what goes on when a process is killed
GONE = re.compile(
  r"^error: process [01] \(\S+\) is gone; the same command", re.M
)


def start(
  folder, name, *flags, devices, config="ppo_ptx.py:test", data=2, house=0
):
  """The command, its output in a file; rows are split `data` ways."""
  return doors.house(house).start(
    doors.ROOT,
    "instruct_jax.main",
    *(f"--config=experiments/{config}", f"--config.mesh.data={data}", *flags),
    out=folder / f"output-{name}",
    INSTRUCT_JAX_CACHE=str(folder / "cache"),
    JAX_NUM_CPU_DEVICES=str(devices),
  )


def start_two(folder, *flags, more=((), ()), **options):
  """Both processes of a job; `more` are flags of each."""
  place = (f"--coordinator=localhost:{processes.free_port()}", "--processes=2")
  return [
    start(folder, i, *flags, *place, f"--process={i}", *more[i],
          devices=1, house=i, **options)
    for i in range(2)
  ]  # fmt: skip


def codes(started, seconds=900):
  try:
    return [each.wait(timeout=seconds) for each in started]
  finally:
    for each in started:
      each.kill()


def output(folder, name):
  return (folder / f"output-{name}").read_text()


def found(workdir, stage):
  """All that a stage has found out, but how long that took."""
  folder = workdir / f"{stage}-test"
  results = json.loads((folder / "results.json").read_text())
  results = {k: v for k, v in results.items() if k not in UNLIKE}
  results["metrics"] = {
    k: v for k, v in results["metrics"].items() if not k.startswith(OF_COST)
  }
  lines = {
    path.name: path.read_bytes()
    for path in folder.glob("*.jsonl")
    if path.name not in ("metrics.jsonl", "samples.jsonl")
  }
  return results, lines


@pytest.mark.parametrize(
  ("more", "said"),
  [
    ("--config.rl.clip=0.3", "ppo_ptx: config.rl.clip is 0.3, there 0.2"),
    ("--keep_old=7", "--keep_old is 7, there 3"),
  ],
)
def test_what_differs_is_told_at_the_start(more, said, tmp_path):
  runs = f"--workdir={tmp_path / 'runs'}"
  started = start_two(tmp_path, runs, more=((), (more,)))
  assert codes(started) == [2, 2]
  host = socket.gethostname()
  line = f"error: process 1 ({host}) differs from process 0 ({host}): {said}\n"
  assert [output(tmp_path, i) for i in range(2)] == [line, line]
  assert not (tmp_path / "runs").exists()


# One layer instead of two: the same programs, sooner compiled.
SMALL = ("--config.model.layers=1", "--config.reward_model.layers=1")


@pytest.mark.slow
def test_the_chain_on_two_processes_with_kills_is_that_of_one(tmp_path):
  """Bit for bit: killed while data is built, while it saves, and at random."""
  alone, together = tmp_path / "alone", tmp_path / "together"
  once = start(tmp_path, "alone", f"--workdir={alone}", *SMALL, devices=2)
  assert codes([once]) == [0], output(tmp_path, "alone")
  kills = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]
  hit = disturb(tmp_path, together, list(zip(kills, AIMS)))
  assert hit["data"], hit
  assert hit["save"], hit
  for stage in STAGES:
    assert found(together, stage) == found(alone, stage), stage
  assert (together / "ppo_ptx-test" / "report.html").exists()
  assert not list(together.glob(".*.lock"))


def losses(workdir):
  """By step, those that training and validation have logged."""
  lines = (workdir / "pretrain-test" / "metrics.jsonl").read_text().splitlines()
  found = {}
  for row in map(json.loads, lines):
    is_training = "rate/steps_per_second" in row
    assert is_training == ("rate/model_tflops_per_second" in row)
    named = {k: x for k, x in row.items() if k.endswith("loss")}
    found.setdefault(row["step"], {}).update(named)
  return found


@pytest.mark.slow
def test_what_two_processes_began_goes_on_on_other_devices(tmp_path):
  """Bit for bit on as many; on one and on four the losses to 1e-5."""
  options = {"config": "pretrain.py:test"}
  whole = tmp_path / "whole"
  once = start(tmp_path, "whole", f"--workdir={whole}", devices=2, **options)
  assert codes([once]) == [0], output(tmp_path, "whole")
  begun = tmp_path / "begun"
  started = start_two(tmp_path, f"--workdir={begun}", **options)
  saved = begun / "pretrain-test" / "checkpoints" / "5"
  wait_until(saved.exists, Job(started, begun))
  started[1].send_signal(signal.SIGTERM)
  assert codes(started) == [75, 75], output(tmp_path, 0)
  for devices in (2, 1, 4):
    name = f"on-{devices}"
    shutil.copytree(begun, tmp_path / name)
    flags = f"--workdir={tmp_path / name}"
    again = start(
      tmp_path, name, flags, devices=devices, data=devices, **options
    )
    assert codes([again]) == [0], output(tmp_path, name)
    assert "pretrain-test: continues where it" in output(tmp_path, name)
    assert not list((tmp_path / name).glob("*.old*"))
    if devices == 2:
      assert found(tmp_path / name, "pretrain") == found(whole, "pretrain")
    expected = losses(whole)
    there = losses(tmp_path / name)
    assert there.keys() == expected.keys()
    assert len(expected) >= 6
    for step, values in expected.items():
      assert there[step] == pytest.approx(values, rel=1e-5), (devices, step)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_twenty_kills(tmp_path):
  alone, together = tmp_path / "alone", tmp_path / "together"
  once = start(tmp_path, "alone", f"--workdir={alone}", *SMALL, devices=2)
  assert codes([once]) == [0], output(tmp_path, "alone")
  rng = random.Random(1)
  # The first at the data build, which there is once; then whatever comes.
  aims = ["data"] * 4 + rng.choices(AIMS[1:], k=16)
  kills = [signal.SIGKILL, signal.SIGTERM] * 10
  hit = disturb(tmp_path, together, list(zip(kills, aims)))
  print(f"{sum(hit.values())} kills: {hit}")
  assert sum(hit.values()) == len(kills)
  assert hit["data"] >= 2, hit
  assert hit["save"] >= 4, hit
  for stage in STAGES:
    assert found(together, stage) == found(alone, stage), stage


def disturb(folder, workdir, kills):
  """Runs the chain to its end, however often one of the two is killed.

  `kills` are (signal, aim). Returns how many there were, by what they hit.
  """
  rng = random.Random(0)
  hit = collections.Counter()
  for number, (kill, aim) in enumerate(kills):
    job = Job(start_two(folder, f"--workdir={workdir}", *SMALL), workdir)
    if aim == "random":
      wait_until(lambda j=job, n=number: j.is_done(n / len(kills)), job)
      time.sleep(rng.uniform(0, 6))
    else:
      wait_until(job.builds_data if aim == "data" else job.saves, job)
      # Data are built in a second or two, a save in less than a tenth of one.
      time.sleep(rng.uniform(0, 0.2) if aim == "data" else 0)
    started, victim = job.started, rng.randrange(2)
    if started[victim].poll() is not None:  # It was done already.
      assert codes(started) == [0, 0], output(folder, 0)
      return hit
    began = time.monotonic()
    started[victim].send_signal(kill)
    hit[aim if aim == "save" else job.hit_now()] += 1
    print(f"kill {number}: {aim}, {kill.name}, process {victim}", flush=True)
    ended = codes(started)
    said = output(folder, 1 - victim)
    if kill == signal.SIGKILL:
      assert ended[1 - victim] == 75, said
      assert ended[victim] == -signal.SIGKILL
      assert time.monotonic() - began < 60
      assert GONE.search(said), said
    else:
      assert ended in ([75, 75], [0, 0]), said
    for name in range(2):
      text = output(folder, name)
      assert "Traceback" not in text, text
      assert "*** " not in text, text  # a stack of C++
  last = start_two(folder, f"--workdir={workdir}", *SMALL)
  assert codes(last) == [0, 0], output(folder, 0)
  return hit


class Job:
  """Two processes at work in a folder, and what they do there just now.

  What killed ones have left there, as locks and steps half-written, is none of
  it: a kill that it called would hit a process that still starts.
  """

  def __init__(self, started, workdir):
    self.started, self._workdir = started, workdir
    self._began = time.time()

  def works(self, stage="*"):
    """Whether it holds a stage's lock, which is the first process's."""
    for path in self._workdir.glob(f".{stage}-test.lock"):
      with contextlib.suppress(FileNotFoundError, ValueError):
        holder = json.loads(path.read_text())["process"]
        if holder == self.started[0].pid:
          return True
    return False

  def builds_data(self):
    data = self._workdir / f"{STAGES[0]}-test"
    is_begun = data.is_dir() and not (data / "results.json").exists()
    return is_begun and self.works(STAGES[0])

  def saves(self):
    """Whether a step is being written, which gets its name when it is whole."""
    for path in self._workdir.glob("*/checkpoints/*.orbax-checkpoint-tmp*"):
      with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ctime > self._began and self.works():
          return True
    return False

  def hit_now(self):
    aims = {"data": self.builds_data, "save": self.saves}
    return next((aim for aim, is_so in aims.items() if is_so()), "random")

  def is_done(self, share):
    """Whether a share of the stages is there, and it works on the next."""
    there = len(list(self._workdir.glob("*/results.json")))
    return there >= int(share * len(STAGES)) and self.works()


def wait_until(happens, job):
  """Until something happens, or a process has ended, which is seldom asked."""
  looks = itertools.count()
  while not happens():
    if next(looks) % 20 == 0 and any(x.poll() is not None for x in job.started):
      return
    time.sleep(0.01)
