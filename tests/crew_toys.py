"""Commands with stages that take no work, several at once, in little time.

`python -m tests.crew_toys` imports once and then, for each line of JSON on its
stdin, forks the commands of a scenario and answers with how they ended:

  {"folder": ..., "stages": {NAME: {"needs": [...], "seconds": 0.3, ...}},
   "commands": [{"last": NAME, "after": 0.1, "wait": true, ...}, ...]}

What a stage `reads` are other stages, named by their paths and finished. Its
`fails` is an error that it raises; `kills` is a signal by which the
first command that builds it ends. Every build of a stage writes two lines to
`log` in the folder: begin and end.
"""

import contextlib
import errno
import json
import os
import pathlib
import subprocess
import sys
import time
import traceback

from experiments import dataset
from instruct_jax.base import errors
from tests import processes

FAILURES = {
  "UserError": errors.UserError("as it should"),
  "Diverged": errors.Diverged("as it should"),
  "disk": OSError(errno.ENOSPC, "No space left on device", "as/it/should"),
  "memory": MemoryError("as it should"),
}


def stages_of(folder, described, **settings):
  """{name: plan.Stage} of a scenario, `settings` those of single stages."""
  from etils import epath

  from instruct_jax.runs import digests, plan, references

  made = {}
  for name, stage in described.items():
    config = dataset.get_config("test").unlock()
    config.update(experiment=name, job="toy", setting=settings.get(name, 0))
    needs = {need: made[need] for need in stage["needs"]}
    for read in stage.get("reads", ()):
      path = epath.Path(folder) / read
      with contextlib.suppress(errors.UserError):  # It is yet to be built.
        needs[read] = references.resolve(read, str(path))
    digest = digests.of_stage(config, needs)
    where = epath.Path(folder) / name
    made[name] = plan.Stage(config, where, needs, digest)
  return made


def install(folder, described):
  """Gives the toys their jobs; times of waiting become short."""
  from instruct_jax.report import page
  from instruct_jax.runs import crew, holders, jobs, machine, turns

  def say(*words):
    with open(folder / "log", "a", encoding="utf-8") as file:
      file.write(" ".join([*words, str(os.getpid())]) + "\n")

  def toy(config, place, needs):
    stage = described[place.name]
    say("begin", place.name)
    for need in needs.values():
      assert (need / "results.json").exists(), f"{place}: {need} is not done"
    begun = folder / f"begun-{place.name}"
    if "kills" in stage and not begun.exists():
      begun.touch()
      os.kill(os.getpid(), stage["kills"])
    time.sleep(stage.get("seconds", 0.0))
    if "fails" in stage:
      raise FAILURES.get(stage["fails"], RuntimeError("as it should"))
    say("end", place.name)
    return jobs.Result({})

  def write(place, *_):
    say("report", place.name)
    (place / "report.html").write_text(f"by {os.getpid()}")

  jobs.JOBS["toy"] = toy
  page.write = write
  machine.check = lambda config: None
  crew._LOOK, holders.POLL, turns._PATIENCE = 0.1, 0.05, 0.2


def run(folder, described, command):
  """One command, to its end; never returns."""
  from instruct_jax.base import command as door
  from instruct_jax.runs import build

  install(folder, described)
  made = stages_of(folder, described, **command.get("settings", {}))
  time.sleep(command.get("after", 0.0))
  wait = command.get("wait", True)
  door.run(lambda: build.build(made[command["last"]], wait=wait), resumes="on")


def scenario(folder, stages, commands):
  """[(exit code, output)] of commands at the same time."""
  children = []
  for number, one in enumerate(commands):
    path = folder / f"output-{number}"
    child = os.fork()
    if not child:
      code = 99
      try:
        output = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
        run(folder, stages, one)
      except SystemExit as left:
        code = left.code
      except BaseException:
        traceback.print_exc()
      finally:
        os._exit(code)
    children.append((child, path))
  ended = [(os.waitpid(child, 0)[1], path) for child, path in children]
  return [
    (os.waitstatus_to_exitcode(status), path.read_text())
    for status, path in ended
  ]


class Server:
  """A process that has imported everything and forks what is asked for."""

  def __init__(self):
    self._process = subprocess.Popen(
      [sys.executable, "-m", "tests.crew_toys"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=processes.ROOT,
      env=processes.environment(JAX_NUM_CPU_DEVICES="1"),
    )

  def __call__(self, folder, stages, commands):
    """[(exit code, output)] of a scenario."""
    asked = {"folder": str(folder), "stages": stages, "commands": commands}
    self._process.stdin.write(json.dumps(asked) + "\n")
    self._process.stdin.flush()
    return [tuple(each) for each in json.loads(self._process.stdout.readline())]

  def close(self):
    """Ends it."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    self._process.wait(timeout=60)


def main():
  """Answers scenarios until stdin ends."""
  from instruct_jax.runs import build  # noqa: F401  once, for all of them

  for line in sys.stdin:
    asked = json.loads(line)
    asked["folder"] = pathlib.Path(asked["folder"])
    print(json.dumps(scenario(**asked)), flush=True)


if __name__ == "__main__":
  main()
