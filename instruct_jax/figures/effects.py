"""Effects of one seed, from its results: what a claim is about, as a number.

A measure is a function of what was found in one seed. Models are named by
their method (`ppo_ptx`), or by size and method (`small_ppo_ptx`); a run of
several sizes calls those of the default size `medium_ppo_ptx`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_jax.figures import groups

TRAINING, HELD_OUT = "training", "held_out"
CHANCE = 0.5  # of pairs that a coin orders as labelers do
MOST_PENALTY = 10  # times the default β that a sweep must reach
POINTS = 6  # of a way, at least: two in each third

Results = Mapping[str, Any]  # of one run: "metrics" and "tables"


class Missing(LookupError):
  """What an effect needs was not measured; says what."""


@dataclasses.dataclass(frozen=True)
class Found:
  """The results of one seed, of one run or of several that belong together.

  Attributes:
    runs: whose results; of two that have a metric, the first.
    size: in front of the names of models that have no size in their own.
  """

  runs: Sequence[Results]
  size: str = ""

  def value(self, name: str, *models: str) -> float:
    """The metric `name` with a model in each {}; Missing where it is not."""
    full = name.format(*(f"{self.size}{model}" for model in models))
    for results in self.runs:
      value = (results.get("metrics") or {}).get(full)
      if groups.is_finite(value):
        return float(value)
    raise Missing(full)

  def rows(self, table: str) -> list[Mapping[str, Any]]:
    """A table's rows; Missing where there are none."""
    for results in self.runs:
      rows = (results.get("tables") or {}).get(table)
      if isinstance(rows, list) and rows:
        return [row for row in rows if isinstance(row, Mapping)]
    raise Missing(f"the table {table}")

  def names(self, prefix: str) -> list[str]:
    """What follows `prefix` in the names of metrics."""
    metrics = [results.get("metrics") or {} for results in self.runs]
    names = dict.fromkeys(name for one in metrics for name in one)
    return [x.removeprefix(prefix) for x in names if x.startswith(prefix)]


Measure = Callable[[Found], float]


def value(name: str, *models: str) -> Measure:
  """The metric itself."""
  return lambda found: found.value(name, *models)


def wins(model: str, other: str, labelers: str = TRAINING) -> Measure:
  """How often labelers prefer a model to another, ties counting half."""

  def measure(found: Found) -> float:
    try:
      return found.value(f"preference/{{}}_over_{{}}/{labelers}", model, other)
    except Missing as error:
      name = f"preference/{{}}_over_{{}}/{labelers}"
      try:
        return 1 - found.value(name, other, model)
      except Missing:
        raise error from None

  return measure


def difference(one: Measure, other: Measure) -> Measure:
  """One less the other, of the same seed."""
  return lambda found: one(found) - other(found)


def beyond_chance(measure: Measure) -> Measure:
  """An accuracy on pairs, less what a coin has."""
  return lambda found: measure(found) - CHANCE


def wrong(measure: Measure) -> Measure:
  """The share that is left."""
  return lambda found: 1 - measure(found)


def parameters(model: str) -> Measure:
  """How many a model has, from the table of models."""

  def measure(found: Found) -> float:
    for row in found.rows("models"):
      count = row.get("parameters")
      if row.get("subject") == model and groups.is_finite(count):
        return float(count)
    raise Missing(f"the parameters of {model} in the table models")

  return measure


def shortfall_of_penalties(found: Found) -> float:
  """What the best β lacks of PPO-ptx, on the worse of tasks and preference.

  Of PPO without pretraining text, each β beyond the default's: the greater of
  what it lacks in tasks (share right) and in wins over SFT; of those the least.
  Above 0: every one of them is worse in one of the two. That the best of a
  sweep is taken favours the penalty.
  """
  tasks, preferred = value("nlp/mean/{}", "ppo_ptx"), wins("ppo_ptx", "sft")
  ours = tasks(found), preferred(found)
  lacks = []
  for name in _penalised(found):
    there = found.value(f"nlp/mean/{name}"), wins_of(found, name, "sft")
    lacks.append(max(a - b for a, b in zip(ours, there)))
  return min(lacks)


def wins_of(found: Found, named: str, other: str) -> float:
  """As `wins`, of a model by its whole name over one by its method."""
  return found.value(f"preference/{named}_over_{{}}/{TRAINING}", other)


def _penalised(found: Found) -> list[str]:
  """The models of PPO that differ from the default's in a larger β alone."""
  rows = [
    row
    for row in found.rows("models")
    if row.get("method") == "ppo" and not row.get("ptx_coef")
    if groups.is_finite(row.get("kl_coef"))
  ]
  default = next(
    (row for row in rows if row.get("subject") == f"{found.size}ppo"), None
  )
  if default is None:
    raise Missing(f"{found.size}ppo with its kl_coef in the table models")
  same = ("size", "learning_rate", "episodes", "init_ptx")
  more = [
    row
    for row in rows
    if row["kl_coef"] > default["kl_coef"]
    and all(row.get(key) == default.get(key) for key in same)
  ]
  most = max((row["kl_coef"] for row in more), default=0)
  if most < MOST_PENALTY * default["kl_coef"]:
    raise Missing(f"PPO with a β of {MOST_PENALTY} times the default's")
  return [str(row["subject"]) for row in more]


def epochs(found: Found) -> list[tuple[float, float]]:
  """(validation loss, reward-model score) by epoch of SFT, from the first.

  From the table of epochs, else from what chose the epoch.
  """
  try:
    rows = found.rows("epochs")
  except Missing:
    steps = sorted(int(x) for x in found.names("select/loss/"))
    if len(steps) < 2:
      raise
    kinds = ("select/loss/{}", "select/score/{}")
    return [
      (found.value(kinds[0].format(n)), found.value(kinds[1].format(n)))
      for n in steps
    ]
  rows = sorted((r for r in rows if r.get("epoch", 0) >= 1), key=_epoch)
  if len(rows) < 2 or rows[0]["epoch"] != 1:
    raise Missing("the first epoch and later ones in the table epochs")
  if not all(
    groups.is_finite(r.get(k)) for r in rows for k in ("loss", "score")
  ):
    raise Missing("loss and score of every epoch in the table epochs")
  return [(row["loss"], row["score"]) for row in rows]


def _epoch(row: Mapping[str, Any]) -> float:
  return row["epoch"]


def loss_after_the_first_epoch(found: Found) -> float:
  """The least validation loss of a later epoch, less the first's.

  That the least is taken favours later epochs.
  """
  first, *later = (loss for loss, _ in epochs(found))
  return min(later) - first


def score_after_the_first_epoch(found: Found) -> float:
  """The last epoch's reward-model score, less the first's."""
  scores = [score for _, score in epochs(found)]
  return scores[-1] - scores[0]


def last_third(column: str) -> Measure:
  """How a column of PPO's way changes from the middle third to the last.

  The way is in the table `overoptimization`, by KL; nothing is picked from it.
  """

  def measure(found: Found) -> float:
    rows = [
      row
      for row in found.rows("overoptimization")
      if row.get("method") == "ppo"
      if all(groups.is_finite(row.get(key)) for key in ("kl", column))
    ]
    if len(rows) < POINTS:
      raise Missing(f"{POINTS} points of PPO in the table overoptimization")
    values = [row[column] for row in sorted(rows, key=lambda row: row["kl"])]
    third = len(values) // 3
    middle, last = values[-2 * third : -third], values[-third:]
    return sum(last) / third - sum(middle) / third

  return measure
