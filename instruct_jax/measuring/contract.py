"""What a set is: one module of `sets`, and nothing else, adds one.

A module of the room `sets` with a `SET` is a set of its name:

  SET = contract.Set(
    about="Sentiment of film reviews, zero-shot (SST-2)",
    files={"rows": ("*sst*2*/dev.tsv", "*sst*2*.jsonl")},
    published="https://nlp.stanford.edu/sentiment",
    headline="accuracy",
    measure=measure,
  )

`measure(bench)` asks `bench.model` and returns what it found; whatever it asks
is remembered, so that it need not think of being broken off. A set that holds
models against each other has a `compare(bench)` instead, which opens them one
by one.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from etils import epath

from instruct_jax.inference import score as score_lib
from instruct_jax.measuring import models
from instruct_jax.scoring import tasks

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the person who measures has chosen, for all sets."""

  seed: int = 0
  limit: int = 0  # items of a set (of people's files: prompts); 0: all
  # What the flags --set_option NAME.KEY=VALUE say, by set.
  options: Mapping[str, Mapping[str, str]] = dataclasses.field(
    default_factory=dict
  )
  best_of: int = 1  # answers of which a scorer chooses each that is given


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a set found of a model."""

  metrics: dict[str, tasks.Estimate]
  samples: list[dict[str, Any]]  # an item each, as it was asked and answered
  # Numbers of what was not as it should be, for people: {"contexts cut": 3}.
  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()  # what a reader of the numbers has to know


@dataclasses.dataclass(frozen=True)
class Compared:
  """What a set found of models held against each other."""

  tables: dict[str, list[dict[str, Any]]]  # rows as those of `evals`
  samples: list[dict[str, Any]]
  metrics: dict[str, dict[str, tasks.Estimate]] = dataclasses.field(
    default_factory=dict
  )  # by model
  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scorer:
  """A reward model that somebody named.

  Attributes:
    name: what it is called.
    described: what it is, for results.json; numbers depend on it.
    accuracy: what its own run found on held-out comparisons, by metric.
    score: (prompts, answers, whether they ended by themselves) -> scores [N];
      NaN where it cannot read as much. Loads the model when it is first asked.
  """

  name: str
  described: Mapping[str, Any]
  accuracy: Mapping[str, float]
  score: score_lib.Score


@dataclasses.dataclass(frozen=True)
class Bench:
  """What a set may use."""

  name: str  # the set's
  files: Mapping[str, str]  # what was found, by role: paths or specs
  settings: Settings
  names: tuple[str, ...]  # of all models
  open: Callable[[str], models.Model]  # one of them
  folder: epath.Path  # where it may keep what it has asked others than models
  scorer: Scorer | None = None  # where somebody named one

  @property
  def model(self) -> models.Model:
    """The one that is measured."""
    (name,) = self.names
    return self.open(name)

  @property
  def options(self) -> Mapping[str, str]:
    """The set's own options, as they were given."""
    return self.settings.options.get(self.name, {})

  def some(
    self,
    items: Sequence[Item],
    of: Callable[[Item], Any] | None = None,
  ) -> list[Item]:
    """As many as are wanted, drawn by the seed, in their order.

    With `of`, all items of as many groups: of(item) says whose an item is.
    """
    whose = list(range(len(items))) if of is None else [of(x) for x in items]
    groups, limit = [*dict.fromkeys(whose)], self.settings.limit
    if not limit or limit >= len(groups):
      return list(items)
    rng = random.Random(f"{self.settings.seed} {self.name}")
    drawn = {groups[n] for n in rng.sample(range(len(groups)), limit)}
    return [item for item, group in zip(items, whose) if group in drawn]


@dataclasses.dataclass(frozen=True)
class Set:
  """What is measured, and on what."""

  about: str
  files: Mapping[str, Sequence[str]]  # by role: what they may be called
  published: str  # where
  headline: str  # the metric that stands in the table of all sets
  measure: Callable[[Bench], Measured] | None = None
  compare: Callable[[Bench], Compared] | None = None
  optional: Sequence[str] = ()  # roles that it can do without
  # What each option is, for people: {"shots": "examples before each item"}.
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  is_scored: bool = False  # whether it may use a reward model
  # False: its file may bring the answers, and the names of who gave them.
  asks_models: bool = True
  # Metrics (patterns of their names) that are no fractions; others are shown
  # in percent.
  plain: Sequence[str] = ()
