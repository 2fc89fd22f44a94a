"""The settings of a labelling project: `LABELS/settings.toml`.

The file is written with its comments when a project begins, is anybody's to
edit, and is read again at each start. It may leave out keys, which then have
their defaults; a key or a value that is none is an error that names it.
"""

import dataclasses
import difflib
import pathlib
import tomllib
from collections.abc import Callable
from typing import Any

from instruct_jax.base import errors, ranges, storage

NAME = "settings.toml"
_ANY = ranges.Whole(0)
_SHARE = ranges.Real(0, 1)


@dataclasses.dataclass(frozen=True)
class Flag:
  """True or false."""

  right: str = "true or false"

  def holds(self, value: Any) -> bool:
    """As `ranges.Range`."""
    return isinstance(value, bool)


# section.key: (default, what it may be, what it means).
_KEYS: dict[str, tuple[Any, ranges.Range, str]] = {
  "tasks.seed": (0, _ANY, "of the order of answers and of the overlap"),
  "tasks.hours": (
    24.0,
    ranges.Real(0.01, 10_000),
    "an open task whose labeler is gone for so long goes to the next",
  ),
  "tasks.k_min": (4, ranges.Whole(2, 9), "fewest answers of runs a ranking"),
  "tasks.k_max": (9, ranges.Whole(2, 9), "most answers of runs a ranking"),
  "tasks.demonstrations": (
    0.25,
    _SHARE,
    "of the prompts that runs answer: labelers write the answer, instead",
  ),
  "tasks.comparisons": (
    0.0,
    _SHARE,
    "of the prompts that runs answer: two answers are compared, not ranked",
  ),
  "overlap.share": (
    0.1,
    _SHARE,
    "of the tasks, when they are added, are for several labelers: agreement",
  ),
  "overlap.labelers": (3, ranges.Whole(2, 1000), "how many do such a task"),
  "writing.plain": (0, ranges.Whole(0, 10**6), "prompts to be written"),
  "writing.few_shot": (
    0,
    ranges.Whole(0, 10**6),
    "instructions with examples to be written",
  ),
  "writing.user_based": (
    0,
    ranges.Whole(0, 10**6),
    "prompts for use cases to be written",
  ),
  "sampling.temperature": (1.0, ranges.Real(0, 10), "of answers from runs"),
  "sampling.prompts": (
    200,
    ranges.Whole(1, 10**6),
    "of a run's own data that are answered where no file of prompts is given",
  ),
  "screening.required": (True, Flag(), "new labelers do the screening first"),
  "screening.agreement": (
    0.75,
    _SHARE,
    "pass mark: share of a ranking's pairs ordered as in the gold ranking",
  ),
  "screening.sensitive": (
    0.75,
    _SHARE,
    "pass mark: share of answers rightly flagged as sensitive or not",
  ),
  "screening.demonstration": (
    6,
    ranges.Whole(1, 7, or_zero=True),
    "pass mark: grade from 1 to 7 that the admin gives; 0: none is asked for",
  ),
  "server.requests_a_minute": (
    600,
    ranges.Whole(1, 10**6),
    "of one labeler, above which the server answers 429",
  ),
  "server.body_kilobytes": (
    1024,
    ranges.Whole(16, 10**6),
    "of a request, above which the server answers 413",
  ),
}


@dataclasses.dataclass(frozen=True)
class Tasks:
  """How tasks are made and handed out."""

  seed: int
  hours: float
  k_min: int
  k_max: int
  demonstrations: float
  comparisons: float


@dataclasses.dataclass(frozen=True)
class Overlap:
  """Tasks that several labelers do."""

  share: float
  labelers: int


@dataclasses.dataclass(frozen=True)
class Writing:
  """How many prompts of each of the paper's three forms are asked for."""

  plain: int
  few_shot: int
  user_based: int


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How runs answer prompts."""

  temperature: float
  prompts: int


@dataclasses.dataclass(frozen=True)
class Screening:
  """Whether new labelers are screened, and the marks to pass."""

  required: bool
  agreement: float
  sensitive: float
  demonstration: int


@dataclasses.dataclass(frozen=True)
class Server:
  """Limits of the server."""

  requests_a_minute: int
  body_kilobytes: int


@dataclasses.dataclass(frozen=True)
class Settings:
  """settings.toml, a field for each of its sections."""

  tasks: Tasks
  overlap: Overlap
  writing: Writing
  sampling: Sampling
  screening: Screening
  server: Server


_SECTIONS: dict[str, Callable[..., Any]] = {
  "tasks": Tasks,
  "overlap": Overlap,
  "writing": Writing,
  "sampling": Sampling,
  "screening": Screening,
  "server": Server,
}


def read(folder: pathlib.Path) -> Settings:
  """The settings of a folder; the file is written where there is none.

  Raises UserError, naming file and key, for what is no setting.
  """
  path = folder / NAME
  if not path.exists():
    storage.write(path, text())
  try:
    tree = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
  except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
    raise errors.UserError(f"{path}: no TOML: {error}") from None
  try:
    return _settings(_values(tree))
  except errors.UserError as error:
    raise errors.UserError(f"{path}: {error}") from None


def defaults() -> Settings:
  """The settings that stand in a file that nobody has edited."""
  return _settings({key: row[0] for key, row in _KEYS.items()})


def text() -> str:
  """The file with all defaults, and what they mean as comments."""
  lines = ["# Settings of this labelling project, read at each start."]
  for section in _SECTIONS:
    lines += ["", f"[{section}]"]
    for key, (value, row, meaning) in _KEYS.items():
      if key.startswith(f"{section}."):
        shown = str(value).lower() if isinstance(value, bool) else value
        lines.append(f"# {meaning} ({row.right})")
        lines.append(f"{key.partition('.')[2]} = {shown}")
  return "\n".join(lines) + "\n"


def _values(tree: dict[str, Any]) -> dict[str, Any]:
  """{section.key: value}, complete, of what stands in a file."""
  given = {}
  for section, keys in tree.items():
    if section not in _SECTIONS:
      raise errors.unknown("section", section, _SECTIONS)
    if not isinstance(keys, dict):
      raise errors.UserError(f"{section}: is a section: [{section}]")
    given |= {f"{section}.{key}": value for key, value in keys.items()}
  for key, value in given.items():
    if key not in _KEYS:
      raise errors.unknown("setting", key, _near(key))
    ranges.require(key, value, _KEYS[key][1])
  values = {key: row[0] for key, row in _KEYS.items()} | given
  if values["tasks.k_min"] > values["tasks.k_max"]:
    raise errors.UserError(
      f"tasks.k_min={values['tasks.k_min']}: must be at most"
      f" tasks.k_max={values['tasks.k_max']}"
    )
  return values


def _near(key: str) -> list[str]:
  """The settings of its section, or where the same key stands elsewhere."""
  section, _, name = key.partition(".")
  known = [each for each in _KEYS if each.startswith(f"{section}.")]
  names = {each.partition(".")[2]: each for each in _KEYS}
  near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
  return known + [names[n] for n in near if names[n] not in known]


def _settings(values: dict[str, Any]) -> Settings:
  sections = {}
  for section, make in _SECTIONS.items():
    start = f"{section}."
    sections[section] = make(
      **{k.removeprefix(start): values[k] for k in _KEYS if k.startswith(start)}
    )
  return Settings(**sections)
