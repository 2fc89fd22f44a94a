"""What a run's folder holds: the one place that knows the names in it."""

import dataclasses

from etils import epath

NAMES = {
  "config": "config.json",  # the resolved config, and what it was built on
  "results": "results.json",  # the final numbers; there when it has finished
  "metrics": "metrics.jsonl",  # a line a logged step
  "samples": "samples.jsonl",  # what the policy said on the way
  "responses": "responses.jsonl",  # what it said to the test prompts
  "report": "report.html",
  "checkpoints": "checkpoints",
  "tensorboard": "tensorboard",
  "tokenizer": "tokenizer",  # of a data set, and of what was brought in
  "chunks": "chunks",  # of rankings, while they are made
  "begun": "begun.json",  # of a data set of files: what it is built of
  "spent": "spent.json",  # of a data set, until it is built: its seconds
  "to_rank": "to_rank.jsonl",  # candidates, as people are shown them
  "groups": "groups.json",  # of labelers, of rankings without one of them
  "origin": "hf",  # what a checkpoint that was brought in says of itself
}


@dataclasses.dataclass(frozen=True)
class Files:
  """The paths in one run's folder; `NAMES` says what each of them is."""

  config: epath.Path
  results: epath.Path
  metrics: epath.Path
  samples: epath.Path
  responses: epath.Path
  report: epath.Path
  checkpoints: epath.Path
  tensorboard: epath.Path
  tokenizer: epath.Path
  chunks: epath.Path
  begun: epath.Path
  spent: epath.Path
  to_rank: epath.Path
  groups: epath.Path
  origin: epath.Path


def files(folder: epath.PathLike) -> Files:
  """The paths in a run's folder, whether they are there or not."""
  home = epath.Path(folder)
  return Files(**{field: home / name for field, name in NAMES.items()})


def earlier(folder: epath.PathLike, number: int) -> epath.Path:
  """Where a run that no longer fits is moved aside to, counted from 1."""
  home = epath.Path(folder)
  return home.parent / f"{home.name}.old{number}"


def all_earlier(folder: epath.PathLike) -> list[epath.Path]:
  """What was moved aside from a run's folder, oldest first."""
  home = epath.Path(folder)
  start, numbers = f"{home.name}.old", []
  if home.parent.is_dir():
    ends = (p.name.removeprefix(start) for p in home.parent.iterdir()
            if p.name.startswith(start))  # fmt: skip
    numbers = sorted(int(end) for end in ends if end.isdecimal())
  return [earlier(home, number) for number in numbers]


def free(folder: epath.PathLike) -> epath.Path:
  """Where the run in a folder can be moved aside to, after all others."""
  newest = [path.name.rpartition(".old")[2] for path in all_earlier(folder)]
  return earlier(folder, max(map(int, newest), default=0) + 1)


def lock_of(folder: epath.PathLike) -> epath.Path:
  """The lock of a run's folder: beside it, for folders are moved aside."""
  home = epath.Path(folder)
  return home.parent / f".{home.name}.lock"


def mark_of(folder: epath.PathLike, token: str) -> epath.Path:
  """The note beside a run's folder that somebody reads it."""
  home = epath.Path(folder)
  return home.parent / f".{home.name}.used-{token}"


def marks_of(folder: epath.PathLike) -> list[epath.Path]:
  """The notes beside a run's folder that somebody reads it, by whomever."""
  start = mark_of(folder, "").name
  return [p for p in _hidden_beside(folder) if p.name.startswith(start)]


def marks_beside(folder: epath.PathLike) -> list[epath.Path]:
  """The notes of all readers of runs beside a folder, and of it."""
  return [p for p in _hidden_beside(folder) if ".used-" in p.name]


def job_of(folder: epath.PathLike, token: str) -> epath.Path:
  """The note beside a run's folder that a job works on it, or on its needs."""
  home = epath.Path(folder)
  return home.parent / f".{home.name}.job-{token}"


def jobs_beside(folder: epath.PathLike) -> list[epath.Path]:
  """The notes of all jobs that work on runs beside a folder, and on it."""
  return [p for p in _hidden_beside(folder) if ".job-" in p.name]


def failure_of(folder: epath.PathLike) -> epath.Path:
  """The note beside a run's folder that it failed, while others work there."""
  home = epath.Path(folder)
  return home.parent / f".{home.name}.failed"


def failures_beside(folder: epath.PathLike) -> list[epath.Path]:
  """The notes of all failures of runs beside a folder, and of it."""
  return [p for p in _hidden_beside(folder) if p.name.endswith(".failed")]


def _hidden_beside(folder: epath.PathLike) -> list[epath.Path]:
  home = epath.Path(folder)
  if not home.parent.is_dir():
    return []
  return [
    path
    for path in home.parent.iterdir()
    if path.name[0] == "." and not path.name.endswith(".partial")
  ]  # What is half-written says nothing yet, and whoever wrote it may be dead.
