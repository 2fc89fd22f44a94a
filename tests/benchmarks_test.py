"""The suite of benchmarks: its numbers by hand, its workers, its workloads."""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import run
from benchmarks.peers import channel
from benchmarks.suite import (
  environments,
  figures,
  flops,
  lengths,
  measuring,
  ours,
  rows,
  table,
  turns,
  weights,
  work,
)
from instruct_jax.base import errors

TOYS = pathlib.Path(__file__).with_name("benchmarks_toys.py")


def runs(seconds, **fields):
  """Runs of 100 units that took so long."""
  return [
    {"seconds": s, "cpu_seconds": 2 * s, "peak_bytes": 10**9, "units": 100}
    | fields
    for s in seconds
  ]


def test_ratios_are_of_pairs():
  """Not of the medians, which would be 4 / 2."""
  found = figures.faster(runs([2.0, 1.0, 4.0]), runs([3.0, 4.0, 4.0]))
  assert (found.median, found.low, found.high) == (1.5, 1.0, 4.0)


def test_a_rate_counts_each_sides_own_units():
  """Who skips half of the work is not twice as fast."""
  half = runs([1.0], units=50)
  assert figures.faster(runs([1.0]), half).median == 2.0


def test_memory_and_time_are_ours_by_theirs():
  less = runs([2.0], peak_bytes=6 * 10**8)
  assert figures.smaller(less, runs([1.0])).median == 0.6
  assert figures.slower(less, runs([1.0])).median == 2.0


def test_sides_must_pair():
  with pytest.raises(ValueError, match="shorter"):
    figures.faster(runs([1.0, 2.0]), runs([1.0]))


def test_a_summary():
  found = figures.summary(
    {"versions": {"torch": "2"}},
    runs([9.0], compile_seconds=5.0)[0],
    runs([2.0, 4.0, 3.0]),
    flops=30e9,
    peak_flops=100e9,
  )
  assert found["median_s"] == 3.0
  assert (found["min_s"], found["max_s"]) == (2.0, 4.0)
  assert found["cpu_s"] == 6.0
  assert found["first_run_s"] == 9.0
  assert found["compile_s"] == 5.0
  assert found["peak_GB"] == 1.0
  assert found["share_of_peak"] == 0.1  # 10 GFLOP/s of 100
  assert found["units_per_s"] == pytest.approx(100 / 3, abs=1e-3)
  assert found["versions"] == {"torch": "2"}


READY = {"weights": "a", "probe": [1.0, -200.0, 3.0]}


@pytest.mark.parametrize(
  ("ready", "changes", "words"),
  [
    ({}, {}, []),
    ({}, {"units": 99}, ["peer: 99 units of work, not 100"]),
    ({}, {"finite": False}, ["peer: a loss is not finite"]),
    ({}, {"skipped": 1.0}, ["peer: an update was skipped"]),
    ({}, {"tokens_as_told": False}, ["peer: other tokens"]),
    ({"weights": "b"}, {}, ["peer: other weights than ours's"]),
    ({"probe": [1.0, -200.0, 3.1]}, {}, ["peer: other logits"]),
    ({"probe": [1.0, -200.0, 3.001]}, {}, []),  # rounding
    ({"probe": [1.0, -200.0]}, {}, ["peer: other logits"]),
    ({"probe": [1.0, -200.0, math.nan]}, {}, ["peer: other logits"]),
  ],
)
def test_what_is_not_the_same_work_is_said(ready, changes, words):
  sides = {
    "ours": (READY, runs([1.0])),
    "peer": (READY | ready, runs([1.0], **changes)),
  }
  found = figures.problems({"units": 100}, sides)
  assert len(found) == len(words)
  for said, word in zip(found, words):
    assert word in said


def test_work_that_may_differ_in_units_is_compared_by_its_rate():
  sides = {"ours": (READY, runs([1.0])), "peer": (READY, runs([1.0], units=9))}
  assert figures.problems({"units": 100}, sides, exact=False) == []
  sides["peer"] = (READY, runs([1.0], units=0))
  assert figures.problems({"units": 100}, sides, exact=False)


def test_an_exponent_is_the_slope_on_logarithms():
  power, factor = figures.exponent([1, 2, 4, 8], [3 * x**1.5 for x in
                                                  (1, 2, 4, 8)])  # fmt: skip
  assert (power, factor) == (pytest.approx(1.5), pytest.approx(3.0))
  for x, y in (([2, 2], [1, 1]), ([1, 2], [0, 1])):
    with pytest.raises(ValueError, match="exponent"):
      figures.exponent(x, y)


def test_turns_are_a_b_b_a():
  said = []

  def side(name):
    return lambda: said.append(name) or {"number": len(said)}

  one, other = turns.alternate(side("A"), side("B"), 3)
  assert "".join(said) == "ABBAAB"
  assert [x["number"] for x in one] == [1, 4, 5]
  assert [x["number"] for x in other] == [2, 3, 6]


@pytest.mark.parametrize(("mean", "longest"), [(32, 128), (4, 12), (2, 4)])
def test_ragged_lengths_are_geometric_with_their_mean(mean, longest):
  end = lengths.chance_of(mean, longest)
  weight = [end * (1 - end) ** n for n in range(longest)]
  by_hand = sum((n + 1) * w for n, w in enumerate(weight)) / sum(weight)
  assert by_hand == pytest.approx(mean, rel=1e-6)
  drawn = lengths.ragged(0, 512, mean=mean, longest=longest)
  assert drawn.min() >= 1
  assert longest - 2 <= drawn.max() <= longest
  assert drawn.mean() == pytest.approx(mean, rel=0.02)
  assert list(drawn) == list(lengths.ragged(0, 512, mean=mean, longest=longest))
  assert list(drawn) != sorted(drawn)
  # A geometric distribution forgets: of those longer than n as many end.
  short = (drawn == 1).mean()
  assert short == pytest.approx(weight[0] / sum(weight), abs=0.01)


def test_a_mean_that_no_cut_geometric_has():
  for mean in (1, 7, 12):
    with pytest.raises(ValueError, match="mean"):
      lengths.chance_of(mean, 12)


def test_prompts_end_as_their_responses_are_to_be():
  spec = work.rollouts(
    count=8, shortest=3, prompt=6, response=12, mean=4, vocab_size=512
  )
  for prompt, length in zip(spec["prompts"], spec["lengths"]):
    assert 3 <= len(prompt) <= 6
    assert prompt[-1] == 1 + length
    assert min(prompt) > 1  # neither an end nor padding
  assert {len(x) for x in spec["prompts"]} == {3, 4, 5, 6}
  fixed = work.rollouts(
    count=2, shortest=6, prompt=6, response=12, mean=12, vocab_size=512
  )
  assert fixed["lengths"] == [12, 12]
  assert all(prompt[-1] > 13 for prompt in fixed["prompts"])


def test_flops_of_a_sequence():
  model = {"layers": 2, "width": 3, "vocab_size": 5}
  # A token: 2 layers x 2 x (4 + 8) x 9 = 432, and 2 x 3 x 5 = 30 for logits.
  # The second token attends to two: 2 layers x 2 products x 2 x 3 x (1 + 2).
  assert flops.trunk(model, 2) == 2 * 432 + 2 * 2 * 2 * 3 * 3
  assert flops.unembedding(model, 4) == 120
  spec = {"model": model, "prompts": [[7]], "lengths": [2]}
  generated = flops.trunk(model, 2) + 60
  assert flops.generate(spec) == generated
  assert flops.rl(spec) == generated + 10 * flops.trunk(model, 3) + 5 * 60
  text = {"texts": [[1, 2, 3]]}
  of_text = 3 * (flops.trunk(model, 2) + 90)
  assert flops.rl(spec | text) - flops.rl(spec) == of_text
  spec["responses"] = [[8, 9]]
  assert flops.sft(spec) == 3 * (flops.trunk(model, 3) + 60)
  two = {"model": model, "prompts": [[7], [7]], "responses": [[8], [9]]}
  one, both = flops.trunk(model, 1), flops.trunk(model, 2)
  assert flops.rm(two) == 3 * (2 * both - one)  # the prompt once


def test_ptx_may_take_its_flops_and_a_tenth():
  row = next(x for x in rows.ROWS if x.name == "ptx")
  spec = row.spec()
  share = flops.text(spec) / flops.rl(spec | {"texts": ()})
  assert rows.goal(row, spec) == pytest.approx(1 + 1.1 * share)
  assert 0.1 < share < 1


def worker(tmp_path, **spec):
  path = tmp_path / f"spec{len(list(tmp_path.iterdir()))}.json"
  path.write_text(json.dumps({"units": 3} | READY | spec))
  command = [sys.executable, str(TOYS), "count", str(path)]
  return turns.open_worker("peer", command)


def test_a_worker_runs_when_it_is_told(tmp_path):
  with worker(tmp_path) as one:
    ready = one.ready()
    assert ready["weights"] == "a"
    first, second = one.run(), one.run()
  assert first["units"] == second["units"] == 3
  assert 0 <= second["cpu_seconds"] <= second["seconds"] + 0.1
  assert second["peak_bytes"] > 10**6


def test_the_death_of_a_worker_is_told_with_its_last_words(tmp_path):
  with worker(tmp_path, dies_at=2) as one:
    one.ready()
    one.run()
    with pytest.raises(turns.Failed, match=r"exit code 7.*a last word"):
      one.run()


def test_a_workers_error_is_told(tmp_path):
  with worker(tmp_path, lives=0) as one:
    one.ready()
    with pytest.raises(turns.Failed, match="MemoryError: no room"):
      one.run()


def test_a_worker_that_cannot_start(tmp_path):
  spec = tmp_path / "spec.json"
  spec.write_text("{}")
  command = [sys.executable, str(TOYS), "count", str(spec)]
  with (
    turns.open_worker("peer", command) as one,
    pytest.raises(turns.Failed, match="KeyError"),
  ):
    one.ready()


def test_allocators_get_no_flags(monkeypatch):
  for name in ("LD_PRELOAD", "MALLOC_ARENA_MAX", "XLA_FLAGS"):
    monkeypatch.setenv(name, "1")
  given = turns.environment()
  assert not {"LD_PRELOAD", "MALLOC_ARENA_MAX", "XLA_FLAGS"} & set(given)
  assert given["OMP_NUM_THREADS"] == "2"


def result(**changes):
  sides = {
    "ours": {"median_s": 2.0, "cpu_s": 3.0, "share_of_peak": 0.5,
             "peak_GB": 1.0},
    "TRL": {"median_s": 8.0, "cpu_s": 9.0, "peak_GB": 2.5,
            "chosen": "eager"},
  }  # fmt: skip
  return {
    "title": "a | b",
    "peer": "TRL",
    "goal": 4.0,
    "measure": "faster",
    "ratio": {"median": 4.004, "low": 3.9, "high": 12.34},
    "problems": [],
    "sides": sides,
    "load": [0.5, 2.0],
  } | changes


def test_a_line_of_the_table():
  assert table.line(result()) == [
    "a | b",
    "TRL (eager)",
    "4.00 [3.90, 12.3]",
    "4",
    "2 / 8",
    "3 / 9",
    "50% / –",
    "1.00 / 2.50",
  ]
  assert table.line(result(measure="smaller", goal=0.6))[3] == "≤ 0.6"
  assert table.line(result(goal=0.0))[3] == "–"


def test_a_row_with_problems_has_no_number():
  failed = result(problems=["TRL: died"])
  del failed["ratio"]
  assert table.line(failed)[2] == "TRL: died"


def test_the_readme_gets_the_table_between_its_marks(tmp_path):
  readme = tmp_path / "README.md"
  readme.write_text(f"before\n{table.START}\nold\n{table.STOP}\nafter\n")
  assert table.refresh(readme, {"ppo_ragged": result()})
  text = readme.read_text()
  assert text.startswith("before\n")
  assert text.endswith("\nafter\n")
  assert "old" not in text
  assert "| a \\| b | TRL (eager) | 4.00 [3.90, 12.3] |" in text
  assert "load average before a row: 0.5 to 0.5" in text
  before = text
  assert table.refresh(readme, {"ppo_ragged": result()})
  assert readme.read_text() == before
  readme.write_text("without marks")
  assert not table.refresh(readme, {})


def test_the_readme_shows_what_was_measured():
  readme = run.README.read_text()
  assert table.START in readme
  assert table.STOP in readme
  if run.RESULTS.exists():
    found = json.loads(run.RESULTS.read_text())["rows"]
    assert table.markdown(table.lines(found)) in readme


def test_likelihoods_are_compared():
  ready = {"weights": "w", "probe": [1.0]}

  def sides(*nats):
    return {
      str(n): (ready, [{"units": 4, "seconds": 1.0, "nats": x}])
      for n, x in enumerate(nats)
    }

  assert figures.problems({"units": 4}, sides(-200.0, -200.001)) == []
  (problem,) = figures.problems({"units": 4}, sides(-200.0, -200.1))
  assert problem == "1: other likelihoods than 0's"


def test_operations_of_likelihoods_by_hand():
  """One layer of width 2, a vocabulary of 3: a context of 2 tokens with
  continuations of 1 and 3, of which 0 and 2 are read."""
  model = {"width": 2, "layers": 1, "vocab_size": 3}
  spec = {"model": model, "prompts": [[5, 6]], "choices": [[[7], [8, 9, 10]]]}
  products = 24 * 2 * 2 * (2 + 2)  # of 4 tokens
  attention = 2 * 2 * 4 * 5  # of a text of 4; that of the context is in it
  logits = 2 * 2 * 3 * 4
  assert flops.choices(spec) == products + attention + logits


def test_rows_of_a_suite_and_unknown_ones():
  assert [x.name for x in rows.chosen(["rm"])] == ["rm"]
  assert {x.suite for x in rows.chosen(["ppo", "ptx"])} == {"ppo", "ptx"}
  with pytest.raises(errors.UserError, match="generation"):
    rows.chosen(["genration"])
  names = [x.name for x in rows.ROWS]
  assert len(set(names)) == len(names)
  for row in rows.ROWS:
    if row.peer and row.peer.environment:
      assert row.peer.environment in environments.REQUIREMENTS
      assert (turns.PEERS / row.peer.script).exists()


def test_peers_by_name():
  assert run.peers_of("all") is None
  assert run.peers_of("none") == []
  assert run.peers_of("trl,peft") == ["trl", "peft"]
  with pytest.raises(errors.UserError, match="trl-ppo"):
    run.peers_of("trl-pp")


def test_an_environment_that_cannot_be_made_is_said(tmp_path, monkeypatch):
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", str(tmp_path))
  missing = (str(tmp_path / "no_such_package.whl"),)
  monkeypatch.setitem(environments.REQUIREMENTS, "trl", missing)
  monkeypatch.setattr(environments, "_VENV", ("venv", "--without-pip"))
  with pytest.raises(environments.Unavailable, match="pip"):
    environments.python_of("trl")
  assert not (tmp_path / "peers" / "trl").exists()


def test_an_environment_that_is_there_is_taken(tmp_path, monkeypatch):
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", str(tmp_path))
  folder = tmp_path / "peers" / "trl"
  (folder / "bin").mkdir(parents=True)
  (folder / "bin" / "python").write_text("")
  wanted = list(environments.REQUIREMENTS["trl"])
  (folder / "made_of.json").write_text(json.dumps(wanted))
  assert environments.python_of("trl") == folder / "bin" / "python"


def test_peers_have_the_constants_of_the_suite():
  """They cannot import them."""
  for name in ("loading.py", "llama_generate.py"):
    text = (turns.PEERS / name).read_text()
    assert f"PROBE = {work.PROBE}" in text
    assert f"PROBED = {work.PROBED}" in text
  assert (
    f"RATE = {ours.RATE:.0e}".replace("e-0", "e-")
    in (turns.PEERS / "loading.py").read_text()
  )


def test_peers_import_nothing_of_this_repository():
  code = "import sys, channel; print([m for m in sys.modules if 'jax' in m])"
  done = subprocess.run(
    [sys.executable, "-S", "-c", code],
    cwd=turns.PEERS,
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == "[]", done.stderr


class Enough(Exception):
  """Ends a workload after some runs."""


class Listener:
  """A channel whose other end is this test."""

  def __init__(self, most):
    self.said, self.runs, self._most = None, [], most

  def ready(self, **fields):
    self.said = fields

  def done(self, **fields):
    self.runs.append(fields)
    if len(self.runs) == self._most:
      raise Enough


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """The toy's weights, where the suite looks for them."""
  home = tmp_path_factory.mktemp("cache")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("INSTRUCT_JAX_CACHE", str(home))
    patch.setattr(turns, "done", lambda command: weights_here(command))
    yield measuring.weights_of({"model": rows.TOY})


def weights_here(command):
  """What the command does, in this process."""
  size, folder, seed = json.loads(command[-1])
  weights.write(work.Size(**size), folder, seed)
  return ""


SLOW = ("smoke_ppo", "smoke_rm")  # seconds of compiling


@pytest.mark.parametrize(
  "row",
  [
    pytest.param(
      x, marks=[pytest.mark.slow] if x.name in SLOW else [], id=x.name
    )
    for x in rows.SMOKE
  ],
)
def test_our_workloads_do_all_of_their_work(row, folder):
  spec = row.spec() | {"folder": str(folder)}
  link = Listener(2)
  with pytest.raises(Enough):
    ours.WORKLOADS[row.workload](spec, link)
  sides = {"ours": (link.said, [x | {"seconds": 1.0} for x in link.runs])}
  assert figures.problems(spec, sides) == []
  assert link.said["weights"] == work.digest(
    spec, "reward" if row.workload == "rm" else "policy"
  )


def test_the_weights_say_what_they_are_to_say(folder):
  """One token after the other, by the full forward pass, in numpy."""
  row = rows.SMOKE[0]
  spec = row.spec() | {"folder": str(folder)}
  link = Listener(1)
  with pytest.raises(Enough):
    ours.generate(spec, link)
  assert link.runs[0]["lengths"] == spec["lengths"]
  assert link.runs[0]["tokens_as_told"]
  told = [[4, 3, 2, 1]]
  one = {"model": {"vocab_size": 9}, "prompts": [[7, 5]]}
  assert work.are_as_told(one, told, [4])
  assert not work.are_as_told(one, [[4, 3, 1]], [3])
  assert work.are_as_told(one, [[4, 3, 2, 1, 8, 7]], [6])


def test_packed_rows_hold_each_demonstration_once(folder):
  spec = rows.SMOKE[3].spec()
  table_ = ours._packed(spec)
  found = []
  for tokens, segments, is_target in zip(
    table_["tokens"], table_["segments"], table_["is_target"]
  ):
    for number in range(1, segments.max() + 1):
      here = segments == number
      found.append((tokens[here].tolist(), int(is_target[here].sum())))
  wanted = [(p + r, len(r)) for p, r in zip(spec["prompts"], spec["responses"])]
  assert sorted(found) == sorted(wanted)
  assert np.all(table_["is_token"] == (table_["segments"] > 0))


def test_the_smoke_suite(folder, tmp_path, monkeypatch, capsys):
  """As a user types it, a worker in a process of its own, and its file."""
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", str(folder.parents[1]))
  monkeypatch.setattr(measuring, "peak_flops", lambda _: {"numpy": 1e11})
  out = tmp_path / "out.json"
  line = ["run", "--suite=smoke_generate", "--repeats=2", f"--out={out}"]
  monkeypatch.setattr(sys, "argv", line)
  run.main()
  assert "generation, toy" in capsys.readouterr().out
  (found,) = json.loads(out.read_text())["rows"].values()
  assert found["problems"] == []
  assert len(found["runs"]["ours"]) == 2
  assert found["sides"]["ours"]["compile_s"] > 0
  assert len(found["load"]) == 2


def test_the_peak_is_forgotten_between_runs():
  big = bytearray(200 << 20)
  big[:: 1 << 12] = b"x" * len(big[:: 1 << 12])
  before = channel.peak_bytes()
  del big
  channel.reset_peak()
  assert channel.peak_bytes() < before - (100 << 20)
