"""The command that evaluates: any devices, processes, and after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import jax
import pytest

from instruct_jax.runs import readers
from tests import processes, run_folders

ASKED = "what job does ann have ?"
SETS = "hellaswag,squadv2"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  home = tmp_path_factory.mktemp("somebody")
  run_folders.dataset(home / "runs")
  run_folders.make(home / "runs", "sft")
  run_folders.make(home / "runs", "sft", name="other", seed=5)
  (home / "data").mkdir()
  questions = [
    {"question": f"{ASKED} {n}", "answers": [{"text": "a nurse"}][: n % 2]}
    for n in range(12)
  ]
  passage = {"context": "ann is a nurse . bob lives in oslo .",
             "qas": questions}  # fmt: skip
  tree = {"data": [{"title": "Ann", "paragraphs": [passage]}]}
  (home / "data" / "dev-v2.0.json").write_text(json.dumps(tree))
  lines = []
  for n in range(12):
    words = ["ann is a nurse .", "a cow , a pig", "bob lives", "in oslo ."]
    lines += [f"bob: where does bob live {'? ' * n}", str(n % 4), *words]
  (home / "data" / "hellaswag_val.txt").write_text("\n".join(lines))
  return home


@pytest.mark.parametrize(
  ("template", "form"), [("none", "{prompt}"), ("own", "{prompt} \n")]
)
def test_a_run_is_read_on_all_devices_in_its_template_or_none(
  home, template, form
):
  reader = readers.reader(home / "runs" / "sft-test", template=template)
  assert reader.template == form
  assert reader.mesh.shape["data"] == jax.device_count() == 8
  assert reader.reach == reader.ctx.policy.config.context_length


def start(home, out, *flags, devices=1):
  command = [
    *(sys.executable, "-m", "instruct_jax.evaluate", "--run=runs/sft-test"),
    *("--run=two=runs/other", f"--sets={SETS}", "--data=data", f"--out={out}"),
    *flags,
  ]
  return subprocess.Popen(
    command,
    cwd=home,
    env=processes.environment(
      INSTRUCT_JAX_CACHE="", JAX_NUM_CPU_DEVICES=str(devices)
    ),
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(home, out, *flags, devices=1):
  process = start(home, out, *flags, devices=devices)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


@pytest.fixture(scope="module")
def whole(home):
  return finish(home, "whole")


def results(home, out):
  return json.loads((home / out / "results.json").read_text())


def samples(home, out):
  return {
    name: [
      json.loads(line)
      for line in (home / out / f"{name}.jsonl").read_text().splitlines()
    ]
    for name in SETS.split(",")
  }


def assert_same(left, right):
  """Equal but for the rounding of log-probabilities."""
  if isinstance(left, dict):
    assert left.keys() == right.keys()
    for key in left:
      assert_same(left[key], right[key])
  elif isinstance(left, list):
    assert len(left) == len(right)
    for one, other in zip(left, right):
      assert_same(one, other)
  elif isinstance(left, float):
    assert math.isclose(left, right, rel_tol=1e-4, abs_tol=1e-4)
  else:
    assert left == right


@pytest.mark.slow
def test_a_table_a_page_and_the_samples(home, whole):
  assert "hellaswag accuracy_normalised, %" in whole
  assert "sft-test" in whole
  assert "two" in whole
  found = results(home, "whole")
  for name, metric in (("hellaswag", "accuracy"), ("squadv2", "f1")):
    by_model = found["sets"][name]["metrics"][metric]
    assert {x["n"] for x in by_model.values()} == {12}
    assert list(by_model) == ["sft-test", "two"]
  rows = samples(home, "whole")
  assert [len(rows[name]) for name in rows] == [24, 24]
  one, other = (
    [row["logprobs"] for row in rows["hellaswag"] if row["model"] == name]
    for name in ("sft-test", "two")
  )
  assert one != other
  assert "Ann" in (home / "whole" / "report.html").read_text()


@pytest.mark.slow
def test_eight_devices_find_the_same(home, whole):
  finish(home, "eight", devices=8)
  assert_same(results(home, "eight"), results(home, "whole"))
  assert_same(samples(home, "eight"), samples(home, "whole"))


@pytest.mark.slow
def test_after_a_kill_it_goes_on_and_finds_the_same(home, whole):
  process = start(home, "killed")
  asked = home / "killed" / "asked" / "hellaswag" / "sft-test.jsonl"
  deadline = time.monotonic() + 120
  while not (asked.exists() and asked.read_bytes().count(b"\n") > 1):
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (home / "killed" / "results.json").exists()
  before = asked.read_bytes()
  finish(home, "killed")
  assert asked.read_bytes().startswith(before)
  assert results(home, "killed") == results(home, "whole")
  assert samples(home, "killed") == samples(home, "whole")


@pytest.mark.slow
def test_a_second_time_nothing_is_computed(home, whole):
  parts = home / "whole" / "parts"
  before = {p: p.stat().st_mtime_ns for p in parts.rglob("*.json")}
  output = finish(home, "whole")
  assert "compiled" not in output
  assert {p: p.stat().st_mtime_ns for p in parts.rglob("*.json")} == before


@pytest.mark.slow
def test_what_is_missing_and_what_fails_is_said(home):
  (home / "bad").mkdir()
  bare = {"context": "ann .", "qas": [{"question": "who ?"}]}
  tree = {"data": [{"title": "a", "paragraphs": [bare]}]}
  (home / "bad" / "dev-v2.0.json").write_text(json.dumps(tree))
  lines = (home / "data" / "hellaswag_val.txt").read_text()
  (home / "bad" / "hellaswag_val.txt").write_text(lines)
  process = start(home, "bad_out", "--data=bad", "--sets=")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 2, output
  assert '"answers"' in output
  assert "dev-v2.0.json" in output
  found = results(home, "bad_out")
  assert "hellaswag" in found["sets"]
  assert '"answers"' in found["failed"]["squadv2"]
  page = (home / "bad_out" / "report.html").read_text()
  assert "dev-v2.0.json" in page


PROGRAM = """
import json, os
from instruct_jax import sets
from instruct_jax.measuring import contract, found, running
from instruct_jax.runs import measured
os.chdir(rest[0])
known = {name: sets.all_sets()[name] for name in rest[1].split(",")}
there = {name: found.of_set(one, "data", {}) for name, one in known.items()}
given = measured.models(["runs/sft-test", "two=runs/other"], template="none")
results = running.measure(given, known, there, contract.Settings(), "both")
print(json.dumps(results))
"""


@pytest.mark.slow
def test_two_processes_find_the_same_and_one_writes(home, whole):
  outputs = processes.together(PROGRAM, str(home), SETS)
  first, second = (json.loads(text.splitlines()[-1]) for text in outputs)
  assert first == second
  assert_same(first, results(home, "whole"))
  assert_same(samples(home, "both"), samples(home, "whole"))
  assert os.path.exists(home / "both" / "asked" / "squadv2" / "two.jsonl")
