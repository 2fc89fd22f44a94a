"""One row, measured: workers made ready, turns taken, the runs judged."""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers import channel
from benchmarks.suite import (
  environments,
  figures,
  flops,
  rows,
  turns,
  work,
)
from instruct_jax.base import compilation, storage
from instruct_jax.runs import provenance

MEASURES: dict[str, Callable] = {
  "faster": figures.faster,
  "smaller": figures.smaller,
  "slower": figures.slower,
}
Result = dict[str, Any]


def peak_flops(pythons: Sequence[pathlib.Path]) -> dict[str, float]:
  """FLOP/s of the best float32 product here, by library."""
  best: dict[str, float] = {}
  for python in dict.fromkeys(map(str, pythons)):
    script = str(turns.PEERS / "peak.py")
    for name, value in json.loads(turns.done([python, script])).items():
      best[name] = max(value, best.get(name, 0.0))
  return best


def weights_of(spec: rows.Spec) -> pathlib.Path:
  """The folder of a spec's weights, which are written if they are not there.

  They lie beside the peers' environments, by size and by the version of what
  makes them.
  """
  size = spec["model"]
  numbers = "-".join(str(size[name]) for name in sorted(size))
  made_by = pathlib.Path(__file__).with_name("weights.py").read_bytes()
  version = hashlib.sha256(made_by).hexdigest()[:8]
  name = f"{numbers}-{work.SEED}-{version}"
  folder = environments.home().parent / "weights" / name
  if not all((folder / x / "config.json").exists() for x in work.ROLES):
    given = json.dumps([size, str(folder), work.SEED])
    turns.done([sys.executable, "-m", "benchmarks.suite.weights", given])
  return folder


def measure(
  row: rows.Row,
  repeats: int,
  *,
  peak: float,
  peers: Sequence[str] | None = None,
) -> Result:
  """What the table and the JSON file have of a row.

  `peers` are the environments that may be used, None for all. A side that
  fails, or that did other work, leaves the row without a ratio, and says why.
  """
  spec = row.spec()
  spec["folder"] = str(weights_of(spec))
  result: Result = {
    "title": row.title,
    "unit": row.unit,
    "measure": row.measure,
    "units": spec["units"],
    "goal": round(rows.goal(row, spec), 3),
    "lengths": rows.shares(spec),
    "flops": flops.OF_WORKLOAD[row.workload](spec),
  }
  peer = row.peer
  if peer and peers is not None and peer.environment not in ("", *peers):
    peer = None
  elif peer:
    result["peer"] = peer.name
  load = os.getloadavg()[0]
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    try:
      command = _command_of(row, peer, spec, home) if peer else None
    except environments.Unavailable as error:
      result["problems"] = [f"{peer.name} cannot be installed here: {error}"]
      command = None
    ours = turns.ours(row.workload, _written(spec, home / "ours.json"))
    sides = _turns(row, ours, command, repeats, result)
  result["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
  return _judged(row, spec, sides, peak, result)


def _command_of(row, peer, spec, home):
  """The command of the peer's worker; raises Unavailable."""
  spec = {k: v for k, v in (spec | row.changes).items() if v is not None}
  file = _written(spec, home / "peer.json")
  if not peer.environment:
    return turns.ours(row.workload, file)
  python = environments.python_of(peer.environment)
  return turns.peer(python, peer.script, row.workload, file)


def _written(spec, path):
  path.write_text(json.dumps(spec))
  return path


def _turns(row, ours, theirs, repeats, result):
  """{side: (ready, first run, runs)}; what fails stands in `problems`."""
  problems = result.setdefault("problems", [])
  with turns.open_worker("ours", ours) as one:
    try:
      ready = one.ready()
      first = one.run()
      if theirs is None:
        return {"ours": (ready, first, [one.run() for _ in range(repeats)])}
    except turns.Failed as error:
      problems.append(str(error))
      return {}
    name = row.peer.name
    with turns.open_worker(name, theirs) as other:
      try:
        other_ready = other.ready()
        other_first = other.run()
        runs = turns.alternate(one.run, other.run, repeats)
      except turns.Failed as error:
        problems.append(str(error))
        return {}
    return {
      "ours": (ready, first, runs[0]),
      name: (other_ready, other_first, runs[1]),
    }


def _judged(row, spec, sides, peak, result):
  """The result with summaries, and the ratio where both did the work."""
  seen = {name: (ready, runs) for name, (ready, _, runs) in sides.items()}
  if seen:
    result["problems"] += figures.problems(spec, seen, exact=row.exact)
  result["sides"] = {
    name: figures.summary(
      ready, first, runs, flops=result["flops"], peak_flops=peak
    )
    for name, (ready, first, runs) in sides.items()
  }
  result["runs"] = {
    name: [_kept(run) for run in runs] for name, (_, _, runs) in sides.items()
  }
  if len(sides) == 2 and not result["problems"]:
    (_, _, one), (_, _, other) = sides.values()
    ratio = MEASURES[row.measure](one, other)
    result["ratio"] = dataclasses.asdict(ratio)
  return result


def _kept(run):
  """The numbers of a run that a ratio is made of."""
  names = "seconds", "cpu_seconds", "peak_bytes", "units"
  return {name: round(run[name], 4) for name in names}


def derived(row: rows.Row, source: Result) -> Result:
  """A row that reads another's runs, as the memory of an iteration."""
  kept = ("unit", "units", "lengths", "flops", "peer", "load", "problems")
  kept += ("sides", "runs")
  result = {k: source[k] for k in kept if k in source}
  result |= {"title": row.title, "measure": row.measure, "goal": row.goal}
  runs = list(source["runs"].values())
  if len(runs) == 2 and not source["problems"]:
    ratio = MEASURES[row.measure](*runs)
    result["ratio"] = dataclasses.asdict(ratio)
  return result


def say(text: str) -> None:
  """A line about what is being done."""
  print(text, file=sys.stderr, flush=True)


def conditions(peak: dict[str, float]) -> dict[str, Any]:
  """The machine and the settings that all rows of a call share."""
  return {
    "machine": _machine(),
    "threads": channel.THREADS,
    "allocator_flags": "none on either side",
    "matmul_flops": {k: round(v / 1e9, 1) for k, v in peak.items()},
    "requirements": environments.REQUIREMENTS,
    "commit": provenance.commit(),
    "has_compilation_cache": bool(compilation.cache_home()),
  }


def _machine():
  lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  names = [x.partition(":")[2].strip() for x in lines if "model name" in x]
  return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cores"


def merge(path: os.PathLike | str, results: dict[str, Result]) -> dict:
  """The file's rows with these in their place; the file is written."""
  file = pathlib.Path(path)
  found = storage.read_json(file) if file.exists() else {"rows": {}}
  found["rows"] |= results
  storage.write_json(file, found)
  return found
