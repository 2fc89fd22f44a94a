"""The whole default command against another commit of this package, in turn.

Both run `python -m instruct_jax.main --config=EXPERIMENT` from nothing, each
in a working tree of its own and with an empty cache of compiled programs, A B
B A. They must have the same stages and steps; the numbers that the README
reports must not differ by more than those of the committed seeds do among
themselves.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import results as committed
from benchmarks.peers import channel
from benchmarks.suite import figures, measuring, turns
from instruct_jax.base import compilation, errors
from instruct_jax.runs import provenance

EXPERIMENT = "experiments/ppo_ptx.py:tiny"
GOAL = 0.75  # of the parent's time
ROW = "chain"


def commit_of(name: str) -> str:
  """The full name of a commit; UserError where there is none of it."""
  done = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
  if done.returncode:
    raise errors.UserError(
      f"--parent={name}: no commit of this repository; a name that `git log`"
      " shows is right"
    )
  return done.stdout.strip()


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[pathlib.Path]:
  """A working tree of a commit, until the block ends."""
  with tempfile.TemporaryDirectory() as folder:
    tree = pathlib.Path(folder) / "tree"
    done = _git("worktree", "add", "--detach", str(tree), commit)
    if done.returncode:
      raise errors.UserError(f"git worktree: {done.stderr.strip()}")
    try:
      yield tree
    finally:
      _git("worktree", "remove", "--force", str(tree))


def run_once(tree: pathlib.Path, experiment: str) -> dict[str, Any]:
  """The command from nothing: its time, and what its stages say.

  Raises turns.Failed, with the end of what it printed.
  """
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    variables = {
      "PYTHONPATH": str(tree),
      "JAX_COMPILATION_CACHE_DIR": str(home / "cache"),
      compilation.FOLDER_VARIABLE: str(home / "cache"),
    }
    command = [sys.executable, "-m", "instruct_jax.main"]
    command += [f"--config={experiment}", f"--workdir={home / 'runs'}"]
    run = _timed(command, tree, turns.environment() | variables, home)
    return run | {"stages": stages(home / "runs")}


def _timed(command, tree, variables, home):
  log = home / "log.txt"
  start = time.perf_counter()
  with log.open("wb") as file:
    process = subprocess.Popen(
      command, cwd=tree, env=variables, stdout=file, stderr=file
    )
    try:
      _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
      process.terminate()
      process.wait()
      raise
  seconds = time.perf_counter() - start
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    lines = log.read_text(errors="replace").splitlines()
    raise turns.Failed(" | ".join([f"in {tree}", *lines[-3:]]))
  return {
    "seconds": seconds,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "peak_bytes": usage.ru_maxrss * 1024,
    "units": 1,
  }


def stages(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
  """What each finished stage's results say: steps, digest, seconds, metrics."""
  found = {}
  for path in sorted(workdir.glob("*/results.json")):
    results = json.loads(path.read_text())
    found[path.parent.name] = {
      "steps": results.get("steps"),
      "digest": results.get("parameters_digest"),
      "seconds": results.get("seconds", {}),
      "metrics": results.get("metrics", {}),
    }
  return found


def differences(
  ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]
) -> list[str]:
  """Why two commands did not do the same, by their stages; [] if they did."""
  if sorted(ours) != sorted(theirs):
    return [f"other stages: {', '.join(sorted(set(ours) ^ set(theirs)))}"]
  found = [
    f"{name}: {ours[name]['steps']} steps, not {theirs[name]['steps']}"
    for name in ours
    if ours[name]["steps"] != theirs[name]["steps"]
  ]
  for name, stage in ours.items():
    other = theirs[name]["metrics"]
    for metric, spread in seeds_spread().items():
      if metric in stage["metrics"] and metric in other:
        one, two = stage["metrics"][metric], other[metric]
        if abs(one - two) > spread:
          found.append(
            f"{name}: {metric} {one:.4g}, not {two:.4g}: more than seeds"
            f" differ ({spread:.2g})"
          )
  return found


def seeds_spread() -> dict[str, float]:
  """How far apart the committed seeds are, of each reported metric."""
  results = committed.read()
  by_seed = list(results[committed.MAIN].values())
  spread = {}
  for _, metric, _, _ in committed.listed(results):
    name = f"{metric}/{committed.MAIN}"
    values = [x["metrics"][name] for x in by_seed if name in x["metrics"]]
    if len(values) > 1:
      spread[name] = max(values) - min(values)
  return spread


def measure(parent: str, experiment: str, repeats: int) -> measuring.Result:
  """The row of the default command; the first of each pair is this tree's."""
  commit = commit_of(parent)
  channel.pin()
  load = os.getloadavg()[0]
  result: measuring.Result = {
    "title": f"the whole command, {experiment}, against its parent: time",
    "unit": "command",
    "measure": "slower",
    "units": 1,
    "goal": GOAL,
    "peer": commit[:12],
    "problems": [],
    "sides": {},
    "runs": {},
    "commit": provenance.commit(),
  }
  with tree_of(commit) as tree:
    try:
      ours, theirs = turns.alternate(
        lambda: run_once(turns.ROOT, experiment),
        lambda: run_once(tree, experiment),
        repeats,
      )
    except turns.Failed as error:
      result["problems"].append(str(error))
      ours = theirs = []
  result["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
  return judged(result, ours, theirs) if ours else result


def judged(
  result: measuring.Result, ours: list[dict], theirs: list[dict]
) -> measuring.Result:
  """The result with both sides' numbers, and the ratio if they did the same."""
  found = differences(ours[0]["stages"], theirs[0]["stages"])
  result["problems"] += found
  for name, runs in (("ours", ours), (result["peer"], theirs)):
    result["sides"][name] = figures.summary(
      {}, runs[0], runs, flops=0, peak_flops=0
    ) | {
      "stages": {
        stage: {k: said[k] for k in ("steps", "digest", "seconds")}
        for stage, said in runs[-1]["stages"].items()
      }
    }
    kept = ("seconds", "cpu_seconds", "peak_bytes", "units")
    result["runs"][name] = [{k: run[k] for k in kept} for run in runs]
  if not found:
    ratio = figures.slower(ours, theirs)
    result["ratio"] = vars(ratio)
  return result


def _git(*arguments):
  return subprocess.run(
    ["git", *arguments], cwd=turns.ROOT, capture_output=True, text=True
  )
