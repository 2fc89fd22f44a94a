"""What a run's folder holds, as findings read it.

A run may be finished or not, diverged, or copied without its parameters: what
is not there, or cannot be read, is empty.
"""

import dataclasses
import difflib
import functools
import json
import math
import statistics
from collections.abc import Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors, logged, run_folder, storage

ENOUGH = 8  # logged steps, at least, before an early and a late part differ
_ELSEWHERE = "hf:"
_SHOWN = 8  # names in an error


@dataclasses.dataclass(frozen=True)
class Series:
  """A metric where it was logged and is finite, by step."""

  name: str
  steps: tuple[int, ...]
  values: tuple[float, ...]

  def __len__(self) -> int:
    return len(self.values)

  @property
  def early(self) -> tuple[float, ...]:
    """The first third."""
    return self.values[: self._third]

  @property
  def late(self) -> tuple[float, ...]:
    """The last third."""
    return self.values[-self._third :]

  @property
  def start(self) -> float:
    """The median of the first third: one odd step does not move it."""
    return statistics.median(self.early)

  @property
  def end(self) -> float:
    """The median of the last third."""
    return statistics.median(self.late)

  @property
  def _third(self) -> int:
    return max(1, len(self.values) // 3)

  @property
  def at_end(self) -> str:
    """'policy/entropy 0.05 (median of steps 10 to 14)'."""
    return f"{self.name} {self.end:.3g} ({_span(self.steps[-self._third :])})"

  @property
  def way(self) -> str:
    """'objective/score from 0.1 (median of steps 1 to 4) to 0.3 (...)'."""
    first, last = self.steps[: self._third], self.steps[-self._third :]
    return (
      f"{self.name} from {self.start:.3g} ({_span(first)}) to {self.end:.3g}"
      f" ({_span(last).removeprefix('median of ')})"
    )

  def first_above(self, limit: float) -> int:
    """The first step at which it is above a limit; else the last."""
    above = (n for n, x in zip(self.steps, self.values) if x > limit)
    return next(above, self.steps[-1])


def _span(steps: tuple[int, ...]) -> str:
  if len(steps) == 1:
    return f"step {steps[0]}"
  return f"median of steps {steps[0]} to {steps[-1]}"


@dataclasses.dataclass(frozen=True)
class Record:
  """One run: its config, its results and what it logged."""

  folder: epath.Path
  config: dict[str, Any]
  needs: dict[str, epath.Path]  # the folders that it was built on, by name
  results: dict[str, Any]
  log: list[dict[str, Any]]
  samples: list[dict[str, Any]]

  @property
  def name(self) -> str:
    """The folder's name."""
    return self.folder.name

  @property
  def job(self) -> str:
    """'train', 'dataset', 'rankings', ..., '' where it is not said."""
    return str(self.config.get("job", ""))

  @property
  def algorithm(self) -> str:
    """'ppo', 'rm', ..., '' of what does not train."""
    return str(self.config.get("algorithm", ""))

  @property
  def steps(self) -> int:
    """The last step that was logged."""
    return self.log[-1]["step"] if self.log else 0

  def setting(self, name: str, default: Any = None) -> Any:
    """A key of the config by its dotted name."""
    found: Any = self.config
    for part in name.split("."):
      if not isinstance(found, dict) or part not in found:
        return default
      found = found[part]
    return found

  def number(self, name: str) -> float | None:
    """The same, where it is a finite number."""
    return _number(self.setting(name))

  def metric(self, name: str) -> float | None:
    """A final metric, where it is a finite number."""
    metrics = self.results.get("metrics")
    return _number(metrics.get(name)) if isinstance(metrics, dict) else None

  def table(self, name: str) -> list[dict[str, Any]]:
    """The rows of a table of the results."""
    tables = self.results.get("tables")
    rows = tables.get(name) if isinstance(tables, dict) else None
    listed = rows if isinstance(rows, list) else []
    return [row for row in listed if isinstance(row, dict)]

  def series(self, name: str) -> Series | None:
    """A metric over the steps; None where it was never logged."""
    points = [
      (line["step"], value)
      for line in self.log
      if (value := _number(line.get(name))) is not None
    ]
    if not points:
      return None
    steps, values = zip(*points)
    return Series(name, steps, values)

  def long(self, *names: str) -> Series | None:
    """The first of these that was logged ENOUGH times to have an end."""
    for name in names:
      found = self.series(name)
      if found and len(found) >= ENOUGH:
        return found
    return None

  @functools.cached_property
  def last_samples(self) -> list[dict[str, Any]]:
    """What the policy said last, to some validation prompts."""
    steps = [row["step"] for row in self.samples]
    return [row for row in self.samples if row["step"] == max(steps)]

  @property
  def subject(self) -> str:
    """What the run's own policy is called in its evaluation; '': nothing."""
    subjects = self.setting("evaluation.subjects", {})
    for name, section in subjects.items() if isinstance(subjects, dict) else ():
      if isinstance(section, dict) and not section.get("run"):
        return name
    return ""


def lines(path: epath.Path) -> Iterator[dict[str, Any]]:
  """The objects in a file of JSON lines; none where it is not there."""
  for line in path.read_bytes().split(b"\n") if path.exists() else ():
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(row, dict):
      yield row


def _number(value: Any) -> float | None:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return float(value) if is_number and math.isfinite(value) else None


def read(folder: epath.PathLike) -> Record:
  """What a folder holds.

  Raises UserError where it is no run: there is nothing in it to read.
  """
  folder = epath.Path(folder)
  files = run_folder.files(folder)
  if not folder.is_dir():
    hint = _beside(folder)
    raise errors.UserError(f"{folder}: there is no such folder.{hint}")
  written = _json(files.config)
  config = written.get("config")
  needs = written.get("needs")
  found = Record(
    folder=folder,
    config=config if isinstance(config, dict) else {},
    needs={
      name: folder / path
      for name, path in (needs if isinstance(needs, dict) else {}).items()
      if isinstance(path, str) and not path.startswith(_ELSEWHERE)
    },
    results=_json(files.results),
    log=logged.read_metrics(folder),
    samples=logged.read_samples(folder),
  )
  if not (found.config or found.results or found.log or found.samples):
    raise errors.UserError(
      f"{folder}: not a run: there is nothing in it of {files.config.name},"
      f" {files.metrics.name}, {files.results.name} and {files.samples.name}"
      f" that can be read.{_inside(folder)}"
    )
  return found


def _json(path: epath.Path) -> dict[str, Any]:
  try:
    return storage.read_json(path) if path.exists() else {}
  except errors.UserError:
    return {}


def _inside(folder: epath.Path) -> str:
  names = _runs_in(folder)
  more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
  listed = f"{', '.join(names[:_SHOWN])}{more}"
  return f" It holds the runs {listed}: name one." if names else ""


def _beside(folder: epath.Path) -> str:
  """What else could have been meant."""
  names = _runs_in(folder.parent)
  near = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.5)
  return f" Did you mean {folder.parent / near[0]}?" if near else ""


def _runs_in(folder: epath.Path) -> list[str]:
  found = folder.glob(f"*/{run_folder.NAMES['config']}")
  return sorted(path.parent.name for path in found)


def chain(first: Record) -> Iterator[Record]:
  """A run, and each once those it was built on, as far as they are there."""
  queue: list[Record] = [first]
  seen = {str(first.folder.resolve())}
  while queue:
    found = queue.pop(0)
    yield found
    for path in found.needs.values():
      where = str(path.resolve())
      if where in seen:
        continue
      seen.add(where)
      try:
        queue.append(read(path))
      except errors.UserError:
        continue  # It is not there, or was moved aside.
