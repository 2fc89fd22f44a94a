"""The data set of an experiment by a Beam runner: its command, and the runner.

What it makes is tested without Beam (data_spread_test); with it where it is
installed, in an environment of its own (README).
"""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import made_text
from instruct_jax.base import errors
from instruct_jax.data import beam, building, prepare, tasks
from instruct_jax.runs import dataset
from tests import data_spread_test

needs_beam = pytest.mark.skipif(
  importlib.util.find_spec("apache_beam") is None,
  reason="apache-beam is not installed (an environment of its own: README)",
)
FILES = "--config=experiments/dataset.py:files"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--config is missing: name an experiment"),
    (["--config=experiments/sfd.py"], "there is no experiment 'sfd.py'"),
    ([FILES, "--runner=dataflo"], "unknown --runner 'dataflo'. Did you mean"),
    ([FILES, "--runer=direct"], "unknown option --runer. Did you mean --run"),
    ([FILES, "--workers=-1"], "--workers=-1: must be a whole number from 0"),
    ([FILES, "--workers=two"], "--workers=two: must be a whole number"),
    ([FILES, "--runner=flink", "--workers=3"], "it is for --runner=direct"),
    ([FILES, "texts.txt"], "unexpected argument 'texts.txt'"),
    ([FILES, "--config.data.pretrainin=x"], "pretrainin"),
    ([FILES, "--config.data.pretraining=none.txt"], "none.txt: no such file"),
    (["--config=experiments/dataset.py:tiny"], "by instruct_jax.main"),
    (
      ["--config=experiments/sft.py:test", "--runner=direct"],
      "config.data.source=microworld: a runner is for files",
    ),
  ],
)
def test_a_bad_command_line(arguments, message):
  with pytest.raises(errors.UserError) as error:
    dataset.main(arguments)
  assert message in str(error.value)


def test_what_no_worker_could_read_is_refused(tmp_path, monkeypatch):
  text = tmp_path / "text.txt"
  text.write_text("the fox\n\njumps\n")
  given = [FILES, f"--config.data.pretraining={text}", "--runner=dataflow"]
  for more, named in (
    ([], "--workdir=runs: lies on this machine"),
    (["--workdir=gs://bucket/runs"], "config.data.pretraining="),
  ):
    with monkeypatch.context() as patched:
      patched.setattr(dataset.plan.claims, "check_place", lambda folder: None)
      patched.setattr(dataset.plan, "written_digest", lambda stage: "")
      with pytest.raises(errors.UserError) as error:
        dataset.main([*given, *more])
    assert named in str(error.value)
    assert "name a bucket" in str(error.value)


def test_without_beam_it_is_said_where_it_goes(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  for name in list(sys.modules):
    if name.startswith("apache_beam."):
      monkeypatch.delitem(sys.modules, name)
  monkeypatch.chdir(tmp_path)
  (tmp_path / "text.txt").write_text("the fox\n\njumps\n")
  experiment = data_spread_test.__file__.rpartition("/tests/")[0]
  config = f"--config={experiment}/experiments/dataset.py:files"
  with pytest.raises(errors.UserError, match="an environment of its own"):
    dataset.main([config, "--config.data.pretraining=text.txt"])
  assert os.listdir(tmp_path) == ["text.txt"]  # Nothing was begun.


def test_help_names_every_option(capsys):
  dataset.main(["--help"])
  said = capsys.readouterr().out
  for name in ("--config", "--workdir", "--runner", "--workers", "-- --"):
    assert name in said
  for name in beam.RUNNERS:
    assert name in said


@needs_beam
@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--projet=x"], "unknown option of Beam '--projet'. Did you mean"),
    (["x"], "x: behind -- stands --name=value"),
    (["--runner=FlinkRunner"], "they stand before --"),
    (["--num_workers=many"], "invalid int value: 'many'"),
  ],
)
def test_options_of_beam_that_are_wrong(options, message):
  with pytest.raises(errors.UserError) as error:
    beam.runner("direct", options)
  assert message in str(error.value)


@needs_beam
def test_options_of_the_other_runners_are_beam_s():
  beam.runner("dataflow", ["--project=p", "--region=r", "--num_workers=9"])
  beam.runner("flink", ["--flink_master=h:8081", "--parallelism=8"])
  beam.runner("spark", ["--spark_master_url=spark://h:7077"])
  options = ["--job_endpoint=h:8099", "--environment_type=DOCKER"]
  beam.runner("portable", [*options, "--environment_config=image"])


@needs_beam
def test_a_runner_that_fails_says_so(tmp_path):
  run = beam.runner(
    "portable", ["--job_endpoint=localhost:1", "--job_server_timeout=3"]
  )
  with pytest.raises(errors.UserError, match="--runner=PortableRunner gave up"):
    run([tasks.Task("scan", str(tmp_path), {}, ())], lambda: None)


files = data_spread_test.files


@needs_beam
@pytest.mark.slow
def test_two_workers_make_what_this_process_makes(files, tmp_path, monkeypatch):
  monkeypatch.setattr(building, "PIECE", 900)
  made = data_spread_test.config(files)
  prepare.build(made, tmp_path / "alone")
  run = beam.runner("direct", [], workers=2)
  data_spread_test.built(
    made, tmp_path / "out", data_spread_test.engine(run, group=5000)
  )
  contents = data_spread_test.contents
  assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def _command(module, workdir, *more):
  return [
    *(sys.executable, "-m", module, FILES, f"--workdir={workdir}"),
    *more,
  ]


def _data(tmp_path):
  """Options that name some text: several tasks, and many pieces."""
  rng, words = random.Random(0), data_spread_test.WORDS
  text = tmp_path / "text.txt"
  with open(text, "w") as file:
    for _ in range(250_000):
      file.write(" ".join(rng.choices(words, k=40)) + "\n\n")
  return [f"--config.data.pretraining={text}", "--config.data.vocab_size=400"]


def _in_the_middle(command, folder):
  """The command, started, when it has made two pieces."""
  started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
  pieces = folder / "pretraining" / "pieces"
  end = time.monotonic() + 900
  while len(list(pieces.glob("*.json")) if pieces.exists() else []) < 2:
    assert started.poll() is None
    assert time.monotonic() < end
    time.sleep(0.05)
  return started


@needs_beam
@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "whom", "code", "says"),
  [
    (signal.SIGKILL, "worker", 2, "a process of the direct runner was ended"),
    (signal.SIGTERM, "it", 75, "the same command goes on from what is there"),
  ],
)
def test_it_ends_with_all_its_workers(tmp_path, number, whom, code, says):
  command = _command("instruct_jax.data", tmp_path / "runs", *_data(tmp_path))
  command[3:3] = ["build"]
  folder = tmp_path / "runs" / "dataset-files"
  started = _in_the_middle([*command, "--workers=2"], folder)
  workers = [
    pid
    for pid in beam._below(started.pid)
    if "python" in os.readlink(f"/proc/{pid}/exe")
  ]
  assert len(workers) == 2
  os.kill(workers[0] if whom == "worker" else started.pid, number)
  _, said = started.communicate(timeout=120)
  assert started.returncode == code
  assert says in said.splitlines()[-1]
  end = time.monotonic() + 20  # Whose parent ends, too, init has to reap.
  while any(os.path.exists(f"/proc/{pid}") for pid in workers):
    assert time.monotonic() < end
    time.sleep(0.1)
  assert not (folder / "summary.json").exists()


@needs_beam
@pytest.mark.slow
def test_killed_and_started_again_and_taken_by_the_chain(tmp_path):
  data = _data(tmp_path)
  command = _command("instruct_jax.data", tmp_path / "runs")
  command[3:3] = ["build"]
  command += [*data, "--workers=2"]
  folder = tmp_path / "runs" / "dataset-files"
  started = _in_the_middle(command, folder)
  os.kill(started.pid, signal.SIGKILL)
  started.communicate()
  assert not (folder / "summary.json").exists()
  subprocess.run(command, check=True)
  alone = _command("instruct_jax.main", tmp_path / "alone", *data)
  subprocess.run(alone, check=True)
  ours, theirs = (
    data_spread_test.contents(path)
    for path in (folder, tmp_path / "alone" / "dataset-files")
  )
  changing = {"results.json", "report.html"}
  assert ours.keys() == theirs.keys()
  assert all(ours[k] == theirs[k] for k in ours.keys() - changing)
  chain = _command("instruct_jax.main", tmp_path / "runs", *data)
  said = subprocess.run(chain, check=True, capture_output=True, text=True)
  assert "dataset-files: is there, and fits" in said.stderr


@needs_beam
@pytest.mark.long
def test_four_workers_and_two_gigabytes(tmp_path):
  """Hours of one core; needs 8 GB of disk."""
  text = tmp_path / "text.txt"
  made_text.write(text, 2000)
  data = [f"--config.data.pretraining={text}", "--config.data.row_length=512"]
  data.append("--config.data.vocab_size=8000")
  spread = _command("instruct_jax.data", tmp_path / "spread", *data)
  spread[3:3] = ["build"]
  subprocess.run([*spread, "--workers=4"], check=True)
  subprocess.run(
    _command("instruct_jax.main", tmp_path / "alone", *data), check=True
  )
  ours, theirs = (
    tmp_path / name / "dataset-files" for name in ("spread", "alone")
  )
  for name in ("summary.json", "pretraining/shards.json"):
    one, other = (json.loads((x / name).read_text()) for x in (ours, theirs))
    assert one == other  # with the digest of every shard
