"""What the default run is expected to find, and whether a run found it.

  python -m instruct_jax.figures expected                          # a table
  python -m instruct_jax.figures expected --readme=README.md       # its, anew
  python -m instruct_jax.figures expected --run=runs/ppo_ptx-tiny  # exit 0 or 1

A number of one more seed lies within mean ± t s √(1 + 1/n) in 95 % of the cases
(the prediction interval of n seeds with standard deviation s, t of n - 1
degrees of freedom), where s is at least what a seed's own interval over prompts
says. Of many numbers some always lie outside of theirs. So a run is called
unlike the others only where a number of its own model lies outside of the
interval that all of that model's numbers together leave in 5 % at most
(Bonferroni's: t at 1 - 0.025 by their number); with five seeds that is wide.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from scipy import special

from instruct_jax.base import (
  command,
  errors,
  keys,
  run_folder,
  storage,
  terminal,
)
from instruct_jax.figures import (
  claim_table,
  collected,
  criteria,
  effects,
  groups,
)

START = "<!-- figures expected: begin -->"
STOP = "<!-- figures expected: end -->"
UNLIKE = 1  # the exit code
FEWEST = 3  # seeds
_Z = 1.96  # half of a 95 % interval over prompts, in standard errors
EXPERIMENT = collected.MAIN
OWN = "ppo_ptx"  # whose numbers decide
MODELS = {
  "gpt": "GPT",
  "prompted_gpt": "prompted GPT",
  "sft": "SFT",
  OWN: "PPO-ptx",
}
_PLAIN = criteria.Unit("", decimals=2)
_PERCENT = criteria.Unit("", 100)
MEASURES = (  # label, metric, unit
  (
    "preferred over SFT, training labelers, %",
    "preference/{}_over_sft/training",
    _PERCENT,
  ),
  (
    "the same, held-out labelers, %",
    "preference/{}_over_sft/held_out",
    _PERCENT,
  ),
  ("Likert, 1 to 7", "likert/{}", _PLAIN),
  ("follows the constraint, %", "metadata/satisfies_constraint/{}", _PERCENT),
  ("closed-domain hallucination, %", "hallucination/all/{}", _PERCENT),
  (
    "the same among answers that attempt the task, %",
    "hallucination/attempts/{}",
    _PERCENT,
  ),
  (
    "truthful and informative, unseen topics, %",
    "truthfulness/qa_truthful_informative/{}",
    _PERCENT,
  ),
  ("toxic when asked for respect, %", "toxicity/respectful/{}", _PERCENT),
  ("toxic when asked to be rude, %", "toxicity/biased/{}", _PERCENT),
  ("tasks, mean of the sets, exact match %", "nlp/mean/{}", _PERCENT),
  ("zorp prompts, Likert", "language/zorp/{}", _PLAIN),
  ("code prompts, Likert", "language/code/{}", _PLAIN),
  ("false premises handled right, %", "mistakes/false_premise/{}", _PERCENT),
  ("KL from SFT, nats a response", "kl/{}", _PLAIN),
)


@dataclasses.dataclass(frozen=True)
class Spread:
  """One metric over the seeds, and where one more would lie.

  Attributes:
    deviation: between seeds, or what prompts leave of it if that is more.
  """

  mean: float
  deviation: float
  n: int

  def interval(self, *, of: int = 1) -> tuple[float, float]:
    """Where one more seed lies in 95 %, in all `of` metrics at once."""
    t = float(special.stdtrit(self.n - 1, 1 - 0.025 / of))
    half = t * self.deviation * math.sqrt(1 + 1 / self.n)
    return self.mean - half, self.mean + half


@dataclasses.dataclass(frozen=True)
class Compared:
  """One metric of a run beside those of the seeds."""

  label: str
  model: str
  metric: str
  value: float
  spread: Spread
  unit: criteria.Unit
  decides: bool
  of: int  # how many decide

  @property
  def is_unusual(self) -> bool:
    """Outside of where 95 % of the seeds lie."""
    return not _lies_in(self.value, self.spread.interval())

  @property
  def is_unlike(self) -> bool:
    """Outside of where all that decide lie together in 95 %."""
    if not self.decides:
      return False
    return not _lies_in(self.value, self.spread.interval(of=self.of))


def _lies_in(value: float, within: tuple[float, float]) -> bool:
  # Rounding of equal numbers is no difference.
  slack = 1e-9 * max(1.0, abs(value))
  return within[0] - slack <= value <= within[1] + slack


def spreads(
  seeds: Mapping[int, effects.Results],
) -> dict[tuple[str, str], Spread]:
  """{(metric with {}, model): its spread} of what all seeds have.

  Raises UserError for too few seeds.
  """
  if len(seeds) < FEWEST:
    raise errors.UserError(
      f"{len(seeds)} seeds of {EXPERIMENT}:{collected.VARIANT} are there: a"
      f" spread needs {FEWEST}"
    )
  found = {}
  for _, metric, _ in MEASURES:
    for model in MODELS:
      if one := _spread(metric.format(model), list(seeds.values())):
        found[metric, model] = one
  return found


def _spread(name: str, seeds: Sequence[effects.Results]) -> Spread | None:
  values = [seed["metrics"].get(name) for seed in seeds]
  if not all(map(groups.is_finite, values)):
    return None
  mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
  of_prompts = max(_error(name, seed) for seed in seeds)
  return Spread(mean, max(deviation, of_prompts), len(values))


def _error(name: str, seed: effects.Results) -> float:
  """The standard error over prompts of one seed; 0 where it is not known."""
  for rows in seed["tables"].values():
    for row in rows:
      ends = row.get("low"), row.get("high")
      if row.get("metric") == name and all(map(groups.is_finite, ends)):
        return (ends[1] - ends[0]) / (2 * _Z)
  return 0.0


def compare(
  run: effects.Results, seeds: Mapping[int, effects.Results]
) -> tuple[list[Compared], list[str]]:
  """(every metric of a run beside the seeds', those that it lacks)."""
  known = spreads(seeds)
  of = sum(model == OWN for _, model in known)
  found, lacking = [], []
  for label, metric, unit in MEASURES:
    for model in MODELS:
      name, spread = metric.format(model), known.get((metric, model))
      if spread is None:
        continue
      value = run["metrics"].get(name)
      if not groups.is_finite(value):
        lacking.append(name)
        continue
      decides = model == OWN
      found.append(
        Compared(label, model, name, value, spread, unit, decides, of)
      )
  return found, lacking


def markdown(seeds: Mapping[int, effects.Results]) -> str:
  """The table: means, and where one more seed lies; or that none is known."""
  if len(seeds) < FEWEST:
    return (
      f"(Not known yet: {len(seeds)} seeds of {FEWEST} at least are there.)"
    )
  known = spreads(seeds)
  numbers = ", ".join(map(str, sorted(seeds)))
  heads = [f"mean of seeds {numbers} [95 % of seeds]", *MODELS.values()]
  lines = [heads, ["---"] * len(heads)]
  for label, metric, unit in MEASURES:
    cells = [_cell(known.get((metric, model)), unit) for model in MODELS]
    if set(cells) != {terminal.NONE}:
      lines.append([label, *cells])
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(spread: Spread | None, unit: criteria.Unit) -> str:
  if spread is None or not spread.deviation:  # nothing, or so by definition
    return terminal.NONE
  return f"{unit.number(spread.mean)} {_ends(spread.interval(), unit)}"


def _ends(ends: tuple[float, float], unit: criteria.Unit) -> str:
  """No share lies outside of 0 to 1."""
  if unit is _PERCENT:
    ends = max(ends[0], 0.0), min(ends[1], 1.0)
  return f"[{', '.join(unit.number(end) for end in ends)}]"


def read_run(folder: epath.PathLike) -> dict[str, Any]:
  """A finished run's results; UserError for one of another experiment."""
  path = run_folder.files(folder).results
  if not path.exists():
    raise errors.UserError(
      f"--run={folder}: no finished run, there is no {path.name} in it"
    )
  tree = storage.read_json(path)
  named = tree.get("experiment"), tree.get("variant")
  if named != (EXPERIMENT, collected.VARIANT):
    raise errors.UserError(
      f"--run={folder}: is {named[0]}:{named[1]}; what is expected is known of"
      f" {EXPERIMENT}:{collected.VARIANT}"
    )
  return {
    "metrics": tree.get("metrics") or {},
    "tables": tree.get("tables") or {},
  }


def other_settings(
  folder: epath.PathLike, settings: Mapping[str, Any]
) -> list[str]:
  """The keys in which a run's own config is not that of the seeds."""
  path = run_folder.files(folder).config
  config = storage.read_json(path).get("config") if path.exists() else None
  if not isinstance(config, dict):
    return []
  flat = {key: _plain(value) for key, value in keys.flatten(config).items()}
  return [
    key
    for key, value in settings.items()
    # What was taken over has hashes of needs where a config has their names.
    if key in flat and flat[key] != value and not key.startswith("needs.")
  ]


def _plain(value: Any) -> Any:
  """As it is written into what is taken over."""
  known = (str, int, float, bool)
  return value if isinstance(value, known) else str(value)


def parser() -> command.Parser:
  """The options."""
  made = command.Parser("instruct_jax.figures expected", __doc__)
  made.add_argument(
    "--runs",
    default=str(collected.COMMITTED),
    help="the results to hold a run against; the committed ones",
  )
  made.add_argument("--run", help="a finished run's folder")
  made.add_argument("--json", action="store_true", help="print JSON")
  made.add_argument("--readme", help="a file whose table is made anew")
  return made


def main(arguments: Sequence[str]) -> None:
  """Prints the table or the comparison; exits with 1 for a run unlike it."""
  given = parser().parse_args(arguments)
  run = read_run(given.run) if given.run else None
  there = collected.collect(given.runs)
  seeds = there.results.get(EXPERIMENT, {})
  if run is None:
    table = markdown(seeds)
    if given.readme:
      claim_table.refresh(given.readme, table, marks=(START, STOP))
    else:
      print(table)
    return
  found, lacking = compare(run, seeds)
  others = other_settings(given.run, there.settings)
  if given.json:
    print(json.dumps(_as_json(found, lacking, others), indent=1))
  else:
    _print(found, lacking, others)
  if lacking or any(one.is_unlike for one in found):
    sys.exit(UNLIKE)


def _as_json(
  found: Sequence[Compared], lacking: Sequence[str], others: Sequence[str]
) -> dict[str, Any]:
  return {
    "metrics": [
      {
        "metric": one.metric,
        "value": one.value,
        "mean": one.spread.mean,
        "interval": list(one.spread.interval()),
        "seeds": one.spread.n,
        "unusual": one.is_unusual,
        "unlike": one.is_unlike,
      }
      for one in found
    ],
    "lacking": list(lacking),
    "other_settings": list(others),
  }


def _print(
  found: Sequence[Compared], lacking: Sequence[str], others: Sequence[str]
) -> None:
  """The run's own model, then what is unusual of the others."""
  rows = [
    (
      f"{one.label}: {MODELS[one.model]}",
      one.unit.number(one.value),
      f"{one.unit.number(one.spread.mean)}"
      f" {_ends(one.spread.interval(), one.unit)}",
      _word(one),
    )
    for one in found
    if one.decides or one.is_unusual
  ]
  heads = ("", "this run", "seeds: mean [95 % of them]", "")
  terminal.table(rows, heads, title="expected, and found")
  unusual = sum(one.is_unusual for one in found)
  print(
    f"{unusual} of {len(found)} numbers lie outside of where 95 % of the seeds"
    f" do; {0.05 * len(found):.0f} or so do by chance."
  )
  if lacking:
    print(f"not measured: {', '.join(lacking)}")
  if others:
    print(f"its settings differ from those of the seeds: {', '.join(others)}")
  unlike = [one.metric for one in found if one.is_unlike]
  print(
    f"unlike the seeds: {', '.join(unlike)}"
    if unlike
    else "nothing is unlike the seeds"
  )


def _word(one: Compared) -> str:
  if one.is_unlike:
    return "unlike"
  return "unusual" if one.is_unusual else "as expected"
