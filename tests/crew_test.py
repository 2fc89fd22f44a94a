"""Several commands share the stages of a chain: none is built twice."""

import collections
import dataclasses
import json
import re
import signal
import types

import pytest
from etils import epath

from instruct_jax.base import chain as progress_chain
from instruct_jax.base import errors
from instruct_jax.runs import build, crew, holders, turns
from tests import crew_toys, processes

# Three branches between the data and the end; `slow` is the longest way.
CHAIN = {
  "data": {"needs": [], "seconds": 0.1},
  "quick": {"needs": ["data"], "seconds": 0.1},
  "other": {"needs": ["data"], "seconds": 0.5},
  "slow": {"needs": ["data"], "seconds": 0.5},
  "slower": {"needs": ["slow"], "seconds": 0.1},
  "last": {"needs": ["quick", "other", "slower"], "seconds": 0.1},
}


def chain(**changes):
  return {name: {**x, **changes.get(name, {})} for name, x in CHAIN.items()}


@pytest.fixture(scope="module")
def run():
  """Runs scenarios, in a process that has imported everything once."""
  server = crew_toys.Server()
  yield server
  server.close()


def log_of(folder):
  """[(begin | end | report, stage, process)], in order."""
  lines = (folder / "log").read_text().splitlines()
  return [tuple(line.split()) for line in lines]


def count(folder, word):
  return collections.Counter(s for what, s, _ in log_of(folder) if what == word)


def assert_in_order(folder, stages=CHAIN):
  """Each stage begins after all it needs has ended."""
  ended = set()
  for what, stage, _ in log_of(folder):
    if what == "begin":
      assert ended >= set(stages[stage]["needs"]), (stage, ended)
    if what == "end":
      ended.add(stage)


def hidden(folder):
  return [path.name for path in folder.iterdir() if path.name[0] == "."]


def once(names):
  return dict.fromkeys(names, 1)


def test_three_commands_share_a_chain(run, tmp_path):
  ends = run(tmp_path, CHAIN, [{"last": "last"}] * 3)
  assert [code for code, _ in ends] == [0, 0, 0], ends
  assert count(tmp_path, "begin") == count(tmp_path, "end") == once(CHAIN)
  assert count(tmp_path, "report") == {"last": 1}
  assert_in_order(tmp_path)
  log = log_of(tmp_path)
  begun = {stage: log.index(x) for x in log for what, stage, _ in [x]
           if what == "begin"}  # fmt: skip
  ended = {stage: log.index(x) for x in log for what, stage, _ in [x]
           if what == "end"}  # fmt: skip
  # At the same time, in two processes.
  assert max(begun["slow"], begun["other"]) < min(ended["slow"], ended["other"])
  assert log[begun["slow"]][2] != log[begun["other"]][2]
  assert hidden(tmp_path) == []
  again = run(tmp_path, CHAIN, [{"last": "last"}])
  assert again[0][0] == 0
  assert count(tmp_path, "begin") == once(CHAIN)
  assert count(tmp_path, "report") == {"last": 2}  # Seeds may have come.


def test_a_command_alone_goes_through_all(run, tmp_path):
  ((code, output),) = run(tmp_path, CHAIN, [{"last": "last"}])
  assert code == 0, output
  assert_in_order(tmp_path)
  assert count(tmp_path, "end") == once(CHAIN)
  starts = re.findall(r"stage (\d)/6 (\w+): starts", output)
  assert [number for number, _ in starts] == list("123456")
  assert "by 2 jobs" not in output
  assert "waiting" not in output


def test_what_a_killed_command_had_begun_another_takes_over(run, tmp_path):
  stages = chain(slow={"kills": int(signal.SIGKILL)})
  ends = run(tmp_path, stages, [{"last": "last"}] * 3)
  assert sorted(code for code, _ in ends) == [-signal.SIGKILL, 0, 0], ends
  assert count(tmp_path, "begin") == once(CHAIN) | {"slow": 2}
  assert count(tmp_path, "end") == once(CHAIN)
  assert count(tmp_path, "report") == {"last": 1}
  assert_in_order(tmp_path)
  assert "taken over" in "".join(output for _, output in ends)
  assert hidden(tmp_path) == []


def test_after_sigterm_the_others_go_on(run, tmp_path):
  stages = chain(slow={"kills": int(signal.SIGTERM)})
  ends = run(tmp_path, stages, [{"last": "last"}] * 2)
  # A toy does not look at the signal; the command does before its next stage.
  assert sorted(code for code, _ in ends) in ([0, 0], [0, 75]), ends
  assert count(tmp_path, "end") == once(CHAIN)
  assert hidden(tmp_path) == []


@pytest.mark.parametrize(
  ("kind", "code"),
  [("UserError", 2), ("Diverged", 3), ("disk", 2), ("memory", 2)],
)
def test_what_failed_is_not_tried_again_by_the_others(
  run, tmp_path, kind, code
):
  stages = chain(slow={"fails": kind})
  ends = run(tmp_path, stages, [{"last": "last"}] * 3)
  assert [each for each, _ in ends] == [code] * 3, ends
  assert count(tmp_path, "begin")["slow"] == 1
  assert count(tmp_path, "begin")["last"] == 0
  said = sorted(len(re.findall("slow: process", x)) for _, x in ends)
  assert said == [0, 1, 1], ends
  assert all(re.search("as.it.should", output) for _, output in ends)
  assert hidden(tmp_path) == []
  # The next command tries it, and nobody else's failure is in its way.
  ((found, output),) = run(tmp_path, CHAIN, [{"last": "last"}])
  assert found == 0, output
  assert count(tmp_path, "begin")["slow"] == 2
  assert count(tmp_path, "end") == once(CHAIN)


def test_a_bug_ends_each_command_once(run, tmp_path):
  stages = chain(slow={"fails": "a bug"})
  ends = run(tmp_path, stages, [{"last": "last"}] * 2)
  assert [code for code, _ in ends] == [1, 1], ends
  assert count(tmp_path, "begin")["slow"] == 2
  assert hidden(tmp_path) == []


def test_a_failure_of_before_is_in_nobody_s_way(run, tmp_path):
  """Left by a command that was killed before it could tidy up."""
  made = crew_toys.stages_of(tmp_path, CHAIN)
  note = {"stage": "slow", "digest": made["slow"].digest, "kind": "Diverged"}
  note |= {"who": "process 1", "token": "old", "text": "then"}
  (tmp_path / ".slow.failed").write_text(json.dumps(note))
  (tmp_path / ".data.failed").write_text("{ torn")
  ((code, output),) = run(tmp_path, CHAIN, [{"last": "last"}])
  assert code == 0, output
  assert hidden(tmp_path) == []


def test_who_waits_says_for_whom_and_how_far_all_is(run, tmp_path):
  stages = chain(data={"seconds": 1.5})
  ends = run(tmp_path, stages, [{"last": "last"}, {"last": "last"}])
  assert [code for code, _ in ends] == [0, 0], ends
  waited = re.compile(r"waiting for data: process \d+ on \S+ since")
  said = sorted(len(waited.findall(output)) for _, output in ends)
  assert said == [0, 1], ends
  numbers = re.findall(
    r"stage (\d)/6 (\w+): starts", "".join(output for _, output in ends)
  )
  assert sorted(name for _, name in numbers) == sorted(CHAIN)
  assert ("6", "last") in numbers


def test_with_nowait_it_ends_where_it_would_wait(run, tmp_path):
  stages = chain(data={"seconds": 1.0})
  first, second = run(
    tmp_path,
    stages,
    [{"last": "last"}, {"last": "last", "after": 0.5, "wait": False}],
  )
  assert first[0] == 0, first
  assert second[0] == 2, second
  assert "held by process" in second[1]
  assert count(tmp_path, "begin") == once(CHAIN)


def test_two_commands_share_what_both_need(run, tmp_path):
  stages = CHAIN | {"end": {"needs": ["slow", "other"], "seconds": 0.1}}
  ends = run(tmp_path, stages, [{"last": "last"}, {"last": "end"}])
  assert [code for code, _ in ends] == [0, 0], ends
  assert count(tmp_path, "end") == once(stages)
  assert count(tmp_path, "report") == {"last": 1, "end": 1}
  assert_in_order(tmp_path, stages)
  assert hidden(tmp_path) == []


@pytest.mark.parametrize("wait", [True, False])
def test_other_settings_wait_for_the_end_of_a_command(run, tmp_path, wait):
  """Both would build `slow`: one after the other, and neither is lost."""
  other = {"last": "last", "settings": {"slow": 1}, "after": 0.3, "wait": wait}
  first, second = run(tmp_path, CHAIN, [{"last": "last"}, other])
  assert first[0] == 0, first
  log = log_of(tmp_path)
  if not wait:
    assert second[0] == 2, second
    assert "needs it with other settings" in second[1]
    assert count(tmp_path, "end") == once(CHAIN)
    return
  assert second[0] == 0, second
  assert re.search(r"waiting: process \d+ .* needs slow with", second[1])
  rebuilt = ["slow", "slower", "last"]
  assert count(tmp_path, "end") == once(CHAIN) | dict.fromkeys(rebuilt, 2)
  whose = [process for what, _, process in log if what == "end"]
  assert whose == sorted(whose, key=whose.index), "the second only then"
  for name in rebuilt:
    assert (tmp_path / f"{name}.old1" / "results.json").exists()
  assert count(tmp_path, "report") == {"last": 2}
  ((code, output),) = run(tmp_path, CHAIN, [{"last": "last"}])
  assert code == 0, output
  assert "has its name again" in output
  assert count(tmp_path, "report") == {"last": 3}, "of what has come back"
  assert hidden(tmp_path) == []


def ring(size):
  """Each end reads by its path what the next builds anew, after a pause."""
  stages, commands = {}, []
  for n in range(size):
    given = f"built{(n + 1) % size}"
    stages |= {
      f"pause{n}": {"needs": [], "seconds": 1.0},
      f"built{n}": {"needs": [f"pause{n}"]},
      f"end{n}": {"needs": [f"built{n}"], "reads": [given]},
    }
    settings = {f"pause{n}": 1, f"built{n}": 1}
    commands.append({"last": f"end{n}", "settings": settings})
  # What is read by its path is known in the order of the stages.
  return dict(sorted(stages.items(), key=lambda x: "end" in x[0])), commands


@pytest.mark.parametrize(("size", "wait"), [(2, True), (2, False), (3, True)])
@pytest.mark.timeout(60)
def test_jobs_that_read_what_others_build_anew_end(run, tmp_path, size, wait):
  """Each would wait for the end of the next, for ever."""
  stages, commands = ring(size)
  before = [{"last": f"built{n}"} for n in range(size)]
  assert {code for code, _ in run(tmp_path, stages, before)} == {0}
  commands[0]["wait"] = wait
  ends = run(tmp_path, stages, commands)
  refused = [output for code, output in ends if code == 2]
  assert 0 < len(refused) < size, ends
  assert sum(code == 0 for code, _ in ends) == size - len(refused), ends
  if wait:
    assert all("another job has changed it just now" in x for x in refused)
  said = re.compile(r"waiting for built\d, to build it anew: process")
  assert any(said.search(output) for output in refused) or not wait, ends
  assert hidden(tmp_path) == []


def test_what_fails_just_before_a_lock_is_free_is_seen(tmp_path):
  """Another job fails between the look at failures and the lock."""
  made = list(crew_toys.stages_of(tmp_path, CHAIN).values())
  line = progress_chain.Chain()
  with turns.job(made, wait=True, keep_old=0) as job:

    def ready():
      note = {"stage": "data", "digest": made[0].digest, "kind": "Diverged"}
      note |= {"who": "process 1", "token": "new", "text": "at step 3"}
      (tmp_path / ".data.failed").write_text(json.dumps(note))
      return made[:1]

    with (
      pytest.raises(errors.Diverged, match=r"data: process 1 .*at step 3"),
      turns.turn(ready, job, line),
    ):
      pytest.fail("it was taken")
    assert not (tmp_path / ".data.lock").exists()
  assert hidden(tmp_path) == []


def test_what_was_refused_on_another_machine_is_tried_on_this(tmp_path):
  """Its disk was full, or its memory; here there may be room."""
  stage = crew_toys.stages_of(tmp_path, CHAIN)["data"]
  with turns.job([stage], wait=True, keep_old=0) as job:
    note = {"stage": "data", "digest": stage.digest, "who": "process 1"}
    note |= {"token": "new", "text": "out of memory", "machine": "elsewhere"}
    path = tmp_path / ".data.failed"
    path.write_text(json.dumps(note))
    job.crew.check()
    path.write_text(json.dumps(note | {"machine": holders.machine()}))
    with pytest.raises(errors.UserError, match="out of memory"):
      job.crew.check()


def test_an_evaluation_that_failed_is_in_nobody_elses_way(tmp_path):
  """The stage itself is built, and that is all that others need."""
  stage = crew_toys.stages_of(tmp_path, CHAIN)["data"]
  stage.folder.mkdir(parents=True)
  record = {"digest": stage.digest}
  results = {"seconds": {}, "metrics": {}, "tables": {}}
  results["evaluation_digest"] = ""
  (stage.folder / "config.json").write_text(json.dumps(record))
  (stage.folder / "results.json").write_text(json.dumps(results))
  with turns.job([stage], wait=True, keep_old=0) as job:
    note = {"stage": "data", "digest": stage.digest, "kind": "UserError"}
    note |= {"who": "process 1", "token": "new", "text": "no such function"}
    (tmp_path / ".data.failed").write_text(json.dumps(note))
    job.crew.check()
    (stage.folder / "results.json").unlink()
    with pytest.raises(errors.UserError, match="no such function"):
      job.crew.check()


def test_a_note_that_was_never_finished_is_nobody(tmp_path):
  """Left by a `kill -9` in the middle of its first writing."""
  made = list(crew_toys.stages_of(tmp_path, CHAIN).values())
  half = tmp_path / f"..{made[-1].folder.name}.job-dead.partial"
  half.parent.mkdir(parents=True, exist_ok=True)
  half.touch()
  with turns.job(made, wait=False, keep_old=0):
    pass


def test_a_given_run_holds_nothing_back(tmp_path):
  """It is there, also under the name of a stage of the chain."""
  (stage,) = (s for s in crew_toys.stages_of(tmp_path, CHAIN).values()
              if s.folder.name == "data")  # fmt: skip
  given = types.SimpleNamespace(folder=stage.folder)
  stage = dataclasses.replace(stage, needs={"gpt": given})
  line = types.SimpleNamespace(ways=dict)
  assert build._ready({stage.folder: stage}, line) == [stage]


def test_what_is_there_goes_first_and_then_the_longest_way(tmp_path):
  made = crew_toys.stages_of(tmp_path, CHAIN)
  left = {stage.folder: stage for stage in made.values()}
  ways = {"quick": 1.0, "other": 2.0, "slow": 3.0}
  line = types.SimpleNamespace(ways=lambda: ways)

  def ready():
    return [stage.name for stage in build._ready(left, line)]

  assert ready() == ["data"]
  left.pop(made["data"].folder)
  assert ready() == ["slow", "other", "quick"]
  ways["quick"] = 2.0  # As long as another: in the order of the plan.
  assert ready() == ["slow", "quick", "other"]
  record = {"digest": made["other"].digest}
  results = {"seconds": {}, "metrics": {}, "tables": {}}
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "config.json").write_text(json.dumps(record))
  (tmp_path / "other" / "results.json").write_text(
    json.dumps(results | {"evaluation_digest": ""})
  )
  assert ready() == ["other", "slow", "quick"]
  left.pop(made["slow"].folder)
  assert ready() == ["other", "quick", "slower"]


JOB = """
import json, pathlib
from instruct_jax.runs import build
from tests import crew_toys
folder, stages = pathlib.Path(rest[0]), json.loads(rest[1])
crew_toys.install(folder, stages)
made = crew_toys.stages_of(folder, stages)
build.build(made["last"])
print(rank)
"""


@pytest.mark.slow
def test_two_processes_of_one_job_choose_the_same(run, tmp_path):
  """They share the chain with nobody, and go through it together."""
  processes.together(JOB, tmp_path, json.dumps(CHAIN))
  assert count(tmp_path, "end") == dict.fromkeys(CHAIN, 2)
  assert count(tmp_path, "report") == {"last": 1}
  by_process = collections.defaultdict(list)
  for what, stage, process in log_of(tmp_path):
    if what == "end":
      by_process[process].append(stage)
  first, second = by_process.values()
  assert first == second
  assert hidden(tmp_path) == []


def test_a_holder_of_before_is_read(tmp_path):
  """Locks of earlier versions have no stages; none are written in a lock."""
  mine = holders.here()
  assert "stages" not in json.loads(mine.text)
  assert mine.seconds < 5
  path = tmp_path / ".a.lock"
  path.write_text(mine.text)
  assert holders.read(epath.Path(path))[0] == mine


def test_hosts_without_a_common_folder_are_told(monkeypatch, tmp_path):
  stage = crew_toys.stages_of(tmp_path, CHAIN)["data"]
  seen = []

  def gather(name, value):
    seen.append((name, value))
    return [True, False]

  monkeypatch.setattr(crew.hosts, "gather", gather)
  with (
    pytest.raises(errors.UserError, match="process 1 does not see there"),
    crew.join([stage], wait=True),
  ):
    pass
  assert seen == [("shared", True)]
  assert not list(tmp_path.iterdir())
