"""tpu_scripts against a cloud in a folder (fake_gcloud.py), failures included.

Whatever a script is made to go through, what it leaves in the cloud is named at
its end with the command that deletes it: `Cloud.run` holds every run to that.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = ROOT / "tpu_scripts"
NASTY = [
  "python",
  "-m",
  "instruct_jax.main",
  "--config=experiments/ppo_ptx.py:1.3b",
  "two  words ",
  'it\'s "quoted" `date`',
  "$HOME ${PATH} $(id) \\ \\n !",
  "line\nline\n",
  "",
  "*",
  "~",
  "γ -- #&;|<>(){}[]?",
  "--",
]
SETTINGS = {
  "name": "ppo",
  "project": "my-project",
  "zone": "us-west4-a",
  "accelerator": "v5litepod-16",
  "poll": "0.05",
  "grace": "1",
  "attempts": "3",
  "patience": "2",
  "ssh-seconds": "30",
}


def read_lines(path):
  """The JSON lines of a file that may be written at this moment."""
  text = path.read_text() if path.exists() else ""
  return [
    json.loads(line)
    for line in text.splitlines(keepends=True)
    if line.endswith("\n")
  ]


class Cloud:
  """A fake cloud in `folder`, and what scripts did in it."""

  def __init__(self, folder):
    self.folder, self.fake = folder, folder / "fake"
    for name in ("bin", "bin_of_hosts"):
      (self.fake / name).mkdir(parents=True)
    self._program("bin/gcloud", "fake_gcloud.py", str(self.fake))
    self._program("bin_of_hosts/python3.14", "fake_trainer.py")
    self.repository = folder / "checkout"
    shutil.copytree(SCRIPTS, self.repository / "tpu_scripts")
    (self.repository / "experiments").mkdir()
    (self.repository / "experiments" / "mine.py").write_text("rate = 1\n")
    (self.repository / ".gitignore").write_text("/ignored\n")
    (self.repository / "ignored").write_text("not sent")
    subprocess.run(["git", "init", "--quiet", str(self.repository)], check=True)
    self.play()

  def _program(self, path, module, *arguments):
    line = shlex.join(
      [sys.executable, "-IS", str(ROOT / "tests" / module), *arguments]
    )
    file = self.fake / path
    file.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    file.chmod(0o755)

  def play(self, **scenario):
    """What goes wrong from now on."""
    (self.fake / "scenario.json").write_text(json.dumps(scenario))

  def start(self, script, *arguments, **settings):
    """A script under way, in a session of its own as in a terminal."""
    settings = {"command": NASTY} | SETTINGS | settings
    command = settings.pop("command")
    flags = [f"--{k}={v}" for k, v in settings.items() if v is not None]
    words = [*arguments, *(["--", *command] if command else [])]
    return subprocess.Popen(
      ["bash", str(self.repository / "tpu_scripts" / script), *flags, *words],
      cwd=self.folder,
      env={"PATH": f"{self.fake}/bin:/usr/bin:/bin", "HOME": str(self.folder)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      errors="replace",
      start_new_session=True,
    )

  def run(self, script, *arguments, **settings):
    """(exit code, stdout, stderr) of a script; what is left must be named."""
    return self.end(self.start(script, *arguments, **settings))

  def end(self, process):
    out, err = process.communicate(timeout=300)
    if process.returncode not in (0, 2) or "train.sh" in process.args[1]:
      for what in [*self.state["slices"], *self.left_nodes()]:
        assert re.search(rf"gcloud compute tpus \S+ delete {what} ", err), err
    return process.returncode, out, err

  def left_nodes(self):
    owned = [n for s in self.state["slices"].values() for n in s["nodes"]]
    return [node for node in self.state["nodes"] if node not in owned]

  @property
  def state(self):
    path = self.fake / "state.json"
    if not path.exists():
      return {"slices": {}, "nodes": {}}
    return json.loads(path.read_text())

  def calls(self, *words):
    """The calls that had these words."""
    path = self.fake / "calls.jsonl"
    every = read_lines(path)
    return [c for c in every if all(any(w in x for x in c) for w in words)]

  def ran(self):
    """What was run on hosts: (host, arguments, cwd, $X), by host."""
    path = self.fake / "ran.jsonl"
    return read_lines(path)

  def local(self, path):
    return self.folder / "tpu_runs" / "ppo" / path


@pytest.fixture
def cloud(tmp_path):
  made = Cloud(tmp_path)
  yield made
  for process in made.fake.glob("hosts/*/.instruct_jax/*/process"):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(int(process.read_text().split()[0]), signal.SIGKILL)


def until(condition, seconds=120.0):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_all_of_it_and_a_second_time(cloud):
  cloud.play(hosts=2)
  code, out, err = cloud.run("train.sh")
  assert code == 0, err
  assert [r["argv"] for r in cloud.ran()] == [NASTY[1:]] * 2
  assert {r["host"] for r in cloud.ran()} == {"ppo-0-life1", "ppo-1-life1"}
  for host in (0, 1):
    theirs = cloud.fake / f"hosts/ppo-{host}-life1/.instruct_jax/ppo/log"
    ours = cloud.local(f"hosts/slice0-host{host}.log")
    assert ours.read_bytes() == theirs.read_bytes()
    assert f"[slice0-host{host}] stage 2/3 ppo  3/100  3 %" in out
  assert (
    cloud.local("results/runs/ppo/results.json").read_text().startswith("ppo-0")
  )
  assert (cloud.local("results/runs/ppo/checkpoints/1")).exists()
  assert not cloud.state["slices"]
  assert not cloud.state["nodes"]
  before = len(cloud.calls())
  code, _, err = cloud.run("train.sh")
  assert (code, len(cloud.calls())) == (0, before)
  assert "done already" in err


def test_slices_are_named_nodes_and_their_hosts_all_run(cloud):
  cloud.play(hosts=2)
  code, _, err = cloud.run("train.sh", slices=2, tier="on-demand")
  assert code == 0, err
  (made,) = cloud.calls("queued-resources", "create")
  assert {"--node-count=2", "--node-prefix=ppo", "--async"} <= set(made)
  assert "--spot" not in made
  hosts = {r["host"].removesuffix("-life1") for r in cloud.ran()}
  assert hosts == {"ppo-0-0", "ppo-0-1", "ppo-1-0", "ppo-1-1"}


def test_words_reach_every_host_as_they_are(cloud):
  """Flags, and the lists of an env file, with all that a shell would touch."""
  variable = "X=a 'b' \"c\" $HOME\n`id` \\ γ"
  cloud.play(hosts=1)
  env = cloud.folder / "my settings.env"
  env.write_text(
    f"NAME=ppo\nCOMMAND=({shlex.join(NASTY)})\n"
    f"ENVIRONMENT=({shlex.join([variable, 'Y='])})\n"
  )
  code, _, err = cloud.run(
    "train.sh", f"--env={env}", name=None, command=None, results="runs/a b"
  )
  assert code == 0, err  # (there is no 'runs/a b' to be fetched: said)
  assert "there is no " in err
  (ran,) = cloud.ran()
  assert ran["argv"] == NASTY[1:]
  assert ran["mine"] == variable.removeprefix("X=")
  assert ran["cwd"].endswith("/.instruct_jax/ppo/work")


def test_quoting_survives_any_shell(tmp_path):
  words = [chr(n) + "x" + chr(n) for n in range(1, 128)] + NASTY
  program = f'. {SCRIPTS}/lib.sh; quoted "$@"'
  line = subprocess.run(
    ["bash", "-c", program, "bash", *words],
    capture_output=True,
    check=True,
  ).stdout
  for shell in ("bash", "sh"):
    out = subprocess.run(
      [shell, "-c", b"printf '%s\\0' " + line], capture_output=True, check=True
    ).stdout
    assert out.decode().split("\0")[:-1] == words


def test_dry_run_prints_the_commands_and_runs_none(cloud):
  code, out, err = cloud.run("train.sh", "--dry-run")
  assert (code, cloud.calls()) == (0, []), err
  assert not (cloud.folder / "tpu_runs").exists()
  lines = [line for line in printed(out) if line[:1] == ["gcloud"]]
  cloud.run("train.sh")
  real = cloud.calls()
  for what in (["create"], ["ssh", "start"], ["ssh", "pack"], ["delete"]):
    shown = [
      line[1:] for line in lines if all(any(w in x for x in line) for w in what)
    ]
    assert shown, (what, out)
    assert shown[0] in real, what
  assert {x for line in lines for x in line} >= {"scp", "list", "--force"}


def printed(out):
  """The commands of a dry run, as a shell reads them."""
  done = [[]]
  text = re.sub(r"(?m)^# .*\n", "", out)
  for word in shlex.split(
    text.replace("\ngcloud ", "\n\0 gcloud "), posix=True
  ):
    if word == "\0":
      done.append([])
    else:
      done[-1].append(word)
  return done


def test_a_quota_that_is_used_up_is_said(cloud):
  cloud.play(create=["quota"])
  code, _, err = cloud.run("train.sh")
  assert code == 77
  assert "the project's quota is used up" in err
  assert "Quota limit 'TPUV5s" in err
  assert "nothing of ppo is left" in err
  assert len(cloud.calls("create")) == 1
  assert "Traceback" not in err


def test_waiting_says_for_what_and_ends(cloud):
  waits = ["ACCEPTED"] + ["WAITING_FOR_RESOURCES"] * 4
  cloud.play(states=[[*waits, "PROVISIONING", "ACTIVE"]])
  code, _, err = cloud.run("create.sh")
  assert code == 0, err
  assert err.count("no v5litepod-16 (spot) is free in us-west4-a") == 2
  assert err.index("are being started") < err.index("now on it is billed")
  code, _, err = cloud.run("create.sh")
  assert (code, len(cloud.calls("create"))) == (0, 1)
  assert "ppo is there already (ACTIVE)" in err


@pytest.mark.parametrize(("script", "left"), [("create", 1), ("train", 0)])
def test_a_slice_that_does_not_come_is_not_left_in_the_queue(
  cloud, script, left
):
  """By train.sh; create.sh leaves it there, and says how it is deleted."""
  cloud.play(states=[["WAITING_FOR_RESOURCES"]])
  code, _, err = cloud.run(f"{script}.sh", wait="1")
  assert code == {"create": 78, "train": 75}[script]
  assert "not there after 1 s (WAIT)" in err
  assert len(cloud.state["slices"]) == left


def test_preempted_in_the_middle_it_is_made_anew_and_goes_on(cloud):
  plays = [{"steps": [1, 5], "forever": 1}, {"steps": [6, 8]}]
  cloud.play(hosts=2, train=plays, **{"preempt at report": 5})
  code, _, err = cloud.run("train.sh")
  assert code == 0, err
  # Seen while it is watched, or, where its hosts fell silent first, at the next
  # start.
  assert re.search(r"ppo (was preempted|is there, but of no use).*SUSP", err)
  assert len(cloud.calls("queued-resources", "create")) == 2
  hosts = [r["host"] for r in cloud.ran()]
  assert len(set(hosts)) == len(hosts)
  first, second = (
    {host for host in hosts if host.endswith(f"life{n}")} for n in (1, 2)
  )
  assert second == {"ppo-0-life2", "ppo-1-life2"}
  assert first  # one may be preempted before it has begun
  assert all(r["argv"] == NASTY[1:] for r in cloud.ran())
  for host in (0, 1):
    text = (
      cloud.local(f"hosts/slice0-host{host}.log")
      .read_bytes()
      .decode(errors="replace")
    )
    steps = [int(n) for n in re.findall(r"ppo  (\d+)/", text)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 8


def test_exit_75_starts_again_on_the_same_slice(cloud):
  plays = [{"exit": 75, "ppo-1": {"exit": 0}}, {"steps": [4, 6]}]
  cloud.play(hosts=2, train=plays)
  code, _, err = cloud.run("train.sh")
  assert code == 0, err
  assert len(cloud.calls("queued-resources", "create")) == 1
  assert len(cloud.ran()) == 4
  assert len((cloud.fake / "pip.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("wanted", [2, 3])
def test_an_end_that_no_restart_mends_ends_it(cloud, wanted):
  cloud.play(hosts=2, train=[{"ppo-0": {"exit": wanted}, "exit": 75}])
  code, _, err = cloud.run("train.sh")
  assert code == wanted, err
  assert len(cloud.ran()) == 2
  assert cloud.state["slices"] == {}
  assert (cloud.local("results/runs/ppo/results.json")).exists()
  assert not cloud.local("finished").exists()


@pytest.mark.slow
def test_attempts_are_counted_while_there_is_no_progress(cloud):
  plays = [{"steps": [1, n], "exit": 75} for n in (2, 4, 6, 8)] + [{"exit": 75}]
  cloud.play(train=plays)
  code, _, err = cloud.run("train.sh")
  assert code == 75
  assert "3 attempts in a row brought nothing further" in err
  assert len(cloud.ran()) == 6  # the fourth got furthest; it and two more
  assert cloud.state["slices"] == {}


@pytest.mark.slow
def test_others_that_do_not_end_are_stopped(cloud):
  plays = [{"ppo-0": {"exit": 134}, "ppo-1": {"forever": 1}}, {}]
  cloud.play(hosts=2, train=plays)
  code, _, err = cloud.run("train.sh")
  assert code == 0, err
  assert "the others have not ended: they are stopped" in err
  assert len(cloud.calls("queued-resources", "create")) == 1


@pytest.mark.slow  # it waits for the silent one each time
def test_a_host_that_never_answers_is_named(cloud):
  cloud.play(hosts=3, silent=["ppo-2-life1"])
  seconds = {"setup-seconds": "6", "ssh-seconds": "6"}
  code, _, err = cloud.run("train.sh", **seconds)
  assert code == 0, err
  assert "slice0-host2 did not answer within 6 s" in err
  assert "host1 did not answer" not in err
  assert len(cloud.calls("queued-resources", "create")) == 2
  assert {r["host"] for r in cloud.ran()} == {
    f"ppo-{n}-life2" for n in range(3)
  }


def test_a_login_that_expires_is_said_and_training_goes_on(cloud):
  cloud.play(train=[{"forever": 1}])
  process = cloud.start("train.sh")
  until(cloud.ran)
  (cloud.fake / "logged_out").touch()
  code, _, err = cloud.end(process)
  assert code == 77
  assert "run 'gcloud auth login', then the same command again" in err
  assert "STILL THERE, perhaps" in err
  assert is_running(cloud)
  (cloud.fake / "logged_out").unlink()
  code, _, err = cloud.run("watch.sh", "--once")
  assert code == 0
  assert "1 hosts: 1 running; stage 2/3 ppo  3/100" in err


def is_running(cloud):
  (process,) = cloud.fake.glob("hosts/*/.instruct_jax/*/process")
  stat = pathlib.Path(f"/proc/{process.read_text().split()[0]}/stat")
  return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


def test_a_creation_that_failed_but_was_heard_is_used(cloud):
  cloud.play(create=["half"])
  code, _, err = cloud.run("train.sh")
  assert code == 0, err
  assert "reported an error, but ppo was made" in err
  assert len(cloud.calls("queued-resources", "create")) == 1


def test_a_creation_that_left_only_a_node_is_cleared_away(cloud):
  cloud.play(create=["node only"])
  code, _, err = cloud.run("create.sh")
  assert code == 75
  assert "tpu-vm delete ppo --project=my-project --zone=us-west4-a" in err
  code, _, err = cloud.run("train.sh")
  assert code == 0, err
  assert "ppo is left of it: it is deleted" in err
  assert cloud.state["nodes"] == {}


def test_deleting_is_asked_for_again_and_others_are_left_alone(cloud):
  cloud.play(delete=["fail"])
  for name in ("ppo", "ppo-2", "other"):
    cloud.run("create.sh", name=name)
  code, _, err = cloud.run("tear_down.sh")
  assert code == 0, err
  assert "ppo could not be deleted" in err
  assert "gone: ppo" in err
  assert sorted(cloud.state["slices"]) == ["other", "ppo-2"]
  assert sorted(cloud.state["nodes"]) == ["other", "ppo-2"]
  assert "also in us-west4-a, not of this run: other, ACTIVE" in err
  code, _, err = cloud.run("tear_down.sh")
  assert code == 0
  assert "there is no ppo" in err


def test_a_deletion_that_never_succeeds_is_named(cloud):
  cloud.play(delete=["fail"] * 99)
  cloud.run("create.sh")
  code, _, err = cloud.run("tear_down.sh", attempts="1")
  assert code == 75
  assert "queued-resources delete ppo --force" in err


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("when", ["creating", "waiting", "training"])
def test_a_script_that_is_ended_names_what_it_leaves(cloud, when, kind):
  states = ["WAITING_FOR_RESOURCES"] * (999 if when == "waiting" else 1)
  creates = ["slow"] if when == "creating" else []
  plays = [{"forever": 1}]
  cloud.play(create=creates, states=[[*states, "ACTIVE"]], train=plays)
  process = cloud.start("train.sh")
  until(
    {
      "creating": lambda: cloud.calls("queued-resources", "create"),
      "waiting": lambda: len(cloud.calls("describe")) > 3,
      "training": lambda: cloud.calls("ssh", "report"),
    }[when]
  )
  begun = time.monotonic()
  if kind == "SIGINT":  # a terminal sends it to all
    os.killpg(process.pid, signal.SIGINT)
  else:
    process.terminate()
  code, _, err = cloud.end(process)
  assert code == {"SIGINT": 130, "SIGTERM": 143}[kind]
  assert time.monotonic() - begun < 60
  assert "STILL THERE: ppo" in err  # a creation under way was waited for
  assert err.count("STILL THERE") == 1
  assert not cloud.local(".lock").exists()
  if when == "training":
    assert is_running(cloud)
  line = re.search(r"gcloud (compute .* delete .*)", err)[1]
  fake = [str(cloud.fake / "bin" / "gcloud"), *shlex.split(line)]
  subprocess.run(fake, check=True)
  assert cloud.state["slices"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("ended", [False, True])
def test_what_was_left_is_taken_up_by_the_same_command(cloud, ended):
  """What runs is watched; what has ended in the meantime is not run again."""
  cloud.play(hosts=2, train=[{"until": "go"}])
  process = cloud.start("train.sh")
  until(lambda: cloud.calls("ssh", "report"))
  process.terminate()
  assert cloud.end(process)[0] == 143
  reports = len(cloud.calls("ssh", "report"))
  if ended:
    (cloud.fake / "go").touch()
    until(lambda: len(list(cloud.fake.glob("hosts/*/.i*/ppo/exit"))) == 2)
    code, _, err = cloud.run("train.sh")
    assert "it was done before, on all hosts" in err
  else:
    process = cloud.start("train.sh")
    until(lambda: len(cloud.calls("ssh", "report")) > reports)
    (cloud.fake / "go").touch()
    code, _, err = cloud.end(process)
    assert err.count("running already") == 2
  assert code == 0, err
  assert err.count("set up already") == 2
  assert len(cloud.ran()) == 2
  for host in (0, 1):
    theirs = cloud.fake / f"hosts/ppo-{host}-life1/.instruct_jax/ppo/log"
    ours = cloud.local(f"hosts/slice0-host{host}.log")
    assert ours.read_bytes() == theirs.read_bytes()


def test_two_at_a_time_on_one_name_are_refused(cloud):
  cloud.play(train=[{"forever": 1}])
  process = cloud.start("train.sh")
  until(cloud.ran)
  code, _, err = cloud.run("train.sh")
  assert code == 2
  assert f"process {process.pid} works on ppo already" in err
  process.terminate()
  assert cloud.end(process)[0] == 143


def test_each_step_alone(cloud):
  """Twice each: what is there already is said and left."""
  code, _, err = cloud.run("launch.sh")
  assert code == 2
  assert "there is no ppo in us-west4-a: create.sh" in err
  cloud.run("create.sh")
  code, _, err = cloud.run("watch.sh")
  assert code == 2
  assert "nothing was launched" in err
  assert cloud.run("set_up.sh")[0] == 0
  code, _, err = cloud.run("set_up.sh")
  assert (code, "slice0-host0: set up already" in err) == (0, True)
  cloud.play(train=[{"forever": 1}])
  assert cloud.run("launch.sh")[0] == 0
  code, _, err = cloud.run("launch.sh")
  assert (code, "slice0-host0: running already" in err) == (0, True)
  code, _, err = cloud.run("launch.sh", command=["python", "other"])
  assert code == 2
  assert "slice0-host0: another command runs here" in err
  (cloud.repository / "experiments" / "mine.py").write_text("rate = 2\n")
  code, _, err = cloud.run("set_up.sh")
  assert (code, "runs here with other code" in err) == (2, True)
  assert cloud.run("stop.sh")[0] == 0
  assert not is_running(cloud)
  assert cloud.run("watch.sh")[0] == 75
  assert cloud.run("set_up.sh")[0] == 0
  home = cloud.fake / "hosts/ppo-0-life1/.instruct_jax/ppo/work"
  assert (home / "experiments/mine.py").read_text() == "rate = 2\n"
  assert not (home / "ignored").exists()
  assert not list((cloud.repository / ".git").glob("objects/??"))
  assert cloud.run("tear_down.sh")[0] == 0


def test_a_set_up_that_fails_says_where_and_is_not_left_billed(cloud):
  cloud.play(hosts=2, pip=1)
  code, _, err = cloud.run("train.sh")
  assert code == 2
  assert "slice0-host1: pip could not install the package" in err
  assert cloud.state["slices"] == {}
  assert cloud.ran() == []


@pytest.mark.slow
def test_a_set_up_that_is_under_way_is_waited_for_and_then_said(cloud):
  """20 seconds; another attempt may find it done."""
  assert cloud.run("create.sh")[0] == 0
  assert cloud.run("set_up.sh")[0] == 0
  root = cloud.fake / "hosts/ppo-0-life1/.instruct_jax/ppo"
  with open(root / "lock") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, _, err = cloud.run("launch.sh")
  assert code == 75
  assert "slice0-host0: another set-up or start is under way" in err
  assert cloud.ran() == []


def test_a_slice_of_somebody_else_of_that_name_is_left(cloud):
  cloud.play(train=[{"forever": 1}])
  for script in ("create", "set_up", "launch"):
    assert cloud.run(f"{script}.sh", command=["python", "theirs"])[0] == 0
  code, _, err = cloud.run("train.sh")
  assert code == 2
  assert "another command runs here" in err
  assert is_running(cloud)
  assert "STILL THERE: ppo" in err


def test_results_in_a_bucket_are_fetched_without_checkpoints(cloud):
  bucket = cloud.fake / "buckets" / "b" / "runs"
  (bucket / "ppo" / "checkpoints").mkdir(parents=True)
  (bucket / "ppo" / "results.json").write_text("{}")
  command = ["python", "-m", "instruct_jax.main", "--workdir=gs://b/runs"]
  code, _, err = cloud.run("train.sh", command=command)
  assert code == 0, err
  assert cloud.local("results/ppo/results.json").exists()
  assert not cloud.local("results/ppo/checkpoints").exists()
  assert "--exclude=(^|.*/)checkpoints/.*" in cloud.calls("rsync")[0]
  assert "a spot slice takes its disks along" not in err


WRONG = [
  ({"name": None}, "NAME is missing"),
  ({"name": "My Slice"}, "NAME='My Slice' is wrong"),
  ({"project": None}, "PROJECT is missing"),
  ({"zone": "us-west4"}, "ZONE='us-west4' is wrong"),
  ({"zone": "us-west4-a\nx"}, "is wrong: it is a zone"),
  ({"accelerator": "v5e:4x4"}, "ACCELERATOR='v5e:4x4' is wrong"),
  ({"slices": "0"}, "SLICES='0' is wrong: it is a whole number"),
  ({"tier": "cheap"}, "it is spot, on-demand or reserved"),
  ({"poll": "-1"}, "POLL='-1' is wrong"),
  ({"ssh": "tunnel"}, "SSH='tunnel' is wrong"),
  ({"commit": "main"}, "a whole git commit"),
  ({"commit": "a" * 40}, "REPOSITORY is missing"),
  ({"repository": "https://example.org/x"}, "COMMIT is missing"),
  ({"results": "../x"}, "RESULTS='../x' is wrong"),
  ({"zonne": "x"}, "--zonne is not known"),
  ({"env": "nowhere.env"}, "there is no such file"),
  ({"command": None}, "COMMAND is missing"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG)
def test_a_wrong_value_is_a_sentence_and_costs_nothing(
  cloud, settings, sentence
):
  code, _, err = cloud.run("train.sh", **settings)
  assert (code, cloud.calls()) == (2, []), err
  assert err.startswith("error: ")
  assert sentence in err
  assert err.count("\n") <= 1 + sum("\n" in str(x) for x in settings.values())


ENV_FILES = [
  ("ZONNE=x\n", "ZONNE is no key; there are: NAME PROJECT"),
  ("NAME='open\n", "bash cannot read it"),
  ("NAME=$unset\n", "unset: unbound variable"),
  ("false\n", "bash cannot read it"),
  ("ENVIRONMENT=(no)\n", "ENVIRONMENT: 'no' is wrong: it is NAME=VALUE"),
]


@pytest.mark.parametrize(("text", "sentence"), ENV_FILES)
def test_a_wrong_env_file_is_a_sentence(cloud, text, sentence):
  (cloud.folder / "my.env").write_text(text)
  code, _, err = cloud.run("train.sh", "--env=my.env")
  assert (code, cloud.calls()) == (2, []), err
  assert sentence in err


def test_the_example_is_complete_and_help_shows_it(cloud):
  env = SCRIPTS / "example.env"
  code, out, err = cloud.run(
    "train.sh", f"--env={env}", "--dry-run", **dict.fromkeys(SETTINGS),
    command=None,
  )  # fmt: skip
  assert code == 0, err
  assert "--accelerator-type=v5litepod-16" in out
  assert "gs://my-bucket/runs" in out
  code, out, _ = cloud.run("train.sh", "--help", command=None)
  assert code == 0
  config = (SCRIPTS / "config.sh").read_text()
  for keys in re.findall(r"^(?:KEYS|LISTS)='([^']*)'", config, re.MULTILINE):
    for key in keys.split():
      assert re.search(rf"\b{key}\b", out), key


def test_shellcheck_finds_nothing():
  if not shutil.which("shellcheck"):
    pytest.skip("shellcheck is not here: apt-get install shellcheck")
  scripts = sorted(path.name for path in SCRIPTS.glob("*.sh"))
  done = subprocess.run(
    ["shellcheck", *scripts],
    cwd=SCRIPTS,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
