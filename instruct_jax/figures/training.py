"""What training shows: epochs, over-optimisation, folds, other methods."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from scipy import special

from instruct_jax import paper
from instruct_jax.figures import groups, plots, style, subjects, values

_MAIN = "python -m instruct_jax.main --config=experiments"
_SELECT = "select"  # the stage that scores the epochs of SFT
_FOLDS = {
  "trained_on": "labelers\ntrained on",
  "left_out": "labelers\nleft out",
  "nobody": "labelers of\nno group",
}
_STANDING = ("sft_best_of_n", "best_of_n", "expert_iteration", "dpo", "rloo",
             "grpo", "ppo", "ppo_ptx", "iterated")  # fmt: skip
_OPTIMIZED = {"ppo": "PPO", "best_of_n": "best of n of SFT"}


def epochs(runs: groups.Runs) -> plots.Plot:
  """C.1: SFT's validation loss and reward by epoch."""
  group, tables = _epochs(runs)
  panels = []
  for key, y in (
    ("loss", "validation loss, nats a token"),
    ("score", "reward model's score"),
    ("likert", "Likert, 1 to 7"),
    ("preferred", "preferred to the first epoch, %"),
  ):
    factor = 100 if key == "preferred" else 1
    line = _line(tables, "epoch", key, factor)
    if line:
      panels.append(
        plots.Panel(
          y=y,
          x="epoch",
          series={"sft": line},
          kind=plots.LINES,
          bounds=plots.SHARE if factor == 100 else None,
          unit=" %" if factor == 100 else "",
          decimals=1 if factor == 100 else 3,
        )
      )
  return plots.Plot(
    "SFT by epoch: loss and reward on validation prompts (appendix C.1)",
    tuple(panels),
    plots.about(panels, subjects.whose(runs, group)),
    columns=min(len(panels), 2),
    height=2.5,
  )


def _epochs(
  runs: groups.Runs,
) -> tuple[groups.Group, Mapping[int, Sequence[groups.Row]]]:
  """The tables by seed; of the stage that scores epochs where none is there."""
  for group in runs.with_table("epochs"):
    return group, group.table("epochs")
  for group in runs.groups:
    if group.experiment == _SELECT and group.names("select/score/"):
      return group, {seed: _scored(run) for seed, run in group.runs.items()}
  raise subjects.missing(runs, "SFT's epochs", f"{_MAIN}/sft_epochs.py")


def _scored(run: groups.Run) -> list[groups.Row]:
  steps = sorted(
    int(name.rpartition("/")[2])
    for name in run.metrics
    if name.startswith("select/score/")
  )
  return [
    {
      "epoch": n,
      "loss": run.metrics.get(f"select/loss/{step}"),
      "score": run.metrics[f"select/score/{step}"],
    }
    for n, step in enumerate(steps, start=1)
  ]


def _line(
  tables: Mapping[int, Sequence[groups.Row]], x: str, y: str, factor: float
) -> dict[plots.X, values.Value]:
  """{x: value over seeds} of a table's columns."""
  found: dict[float, dict[int, values.Found]] = {}
  for seed, rows in tables.items():
    for row in rows:
      if groups.is_finite(row.get(x)) and groups.is_finite(row.get(y)):
        ends = {end: row.get(f"{y}_{end}") for end in ("low", "high")}
        n = row.get(f"{y}_n", row.get("n"))
        one = groups.of_row({"value": row[y], "n": n, **ends})
        found.setdefault(float(row[x]), {})[seed] = one
  return {
    at: values.over_seeds(of).times(factor) for at, of in sorted(found.items())
  }


def overoptimization(runs: groups.Runs) -> plots.Plot:
  """Gao et al. 2022: what the reward model says, and the judge, against KL."""
  for group in runs.with_table("overoptimization"):
    tables = group.table("overoptimization")
    break
  else:
    raise subjects.missing(
      runs, "over-optimisation", f"{_MAIN}/overoptimization.py"
    )
  panels = []
  for key, y in (
    ("proxy", "reward model's score (proxy)"),
    ("gold", "judge (gold)"),
  ):
    series = {
      method: line
      for method in _OPTIMIZED
      if (line := _against_kl(tables, method, key))
    }
    if series:
      panels.append(
        plots.Panel(
          y=y,
          x="KL from the start, nats a response",
          series=series,
          kind=plots.LINES,
          scale=plots.ROOT,
          bounds=None,
          unit="",
          decimals=3,
          labels=_OPTIMIZED,
        )
      )
  return plots.Plot(
    "Over-optimisation: reward model and judge against the KL",
    tuple(panels),
    plots.about(panels, subjects.whose(runs, group)),
    notes=(
      "The axis is the root of the KL, as in Gao et al. 2022. Points of several"
      " seeds are joined by step, or by n, at their mean KL.",
    ),
    columns=2,
    height=2.9,
  )


def _against_kl(
  tables: Mapping[int, Sequence[groups.Row]], method: str, key: str
) -> dict[plots.X, values.Value]:
  """{KL: value over seeds}, a point for each step or n."""
  points: dict[float, dict[int, tuple[float, values.Found]]] = {}
  for seed, rows in tables.items():
    for row in rows:
      place = row.get("step", row.get("n"))
      if place is None or row.get("method") != method:
        continue
      if groups.is_finite(row.get(key)) and groups.is_finite(row.get("kl")):
        ends = {end: row.get(f"{key}_{end}") for end in ("low", "high")}
        size = row.get("prompts")
        one = groups.of_row({"value": row[key], "n": size, **ends})
        points.setdefault(float(place), {})[seed] = (row["kl"], one)
  line: dict[plots.X, values.Value] = {}
  for of in points.values():
    at = sum(kl for kl, _ in of.values()) / len(of)
    line[at] = values.over_seeds({seed: one for seed, (_, one) in of.items()})
  return line


def folds(runs: groups.Runs) -> plots.Plot:
  """Section 4.1: reward models, each without a fifth of the labelers."""
  found: dict[plots.X, values.Value] = {}
  for name, text in _FOLDS.items():
    value = _fold(runs, name)
    if value is not None:
      found[text] = value.times(100)
  if not found:
    raise subjects.missing(
      runs, "the cross-validation over labelers", f"{_MAIN}/rm_folds.py"
    )
  reported = [
    plots.Reported(_FOLDS[ours], "reward", paper.RM_ACCURACY[theirs],
                   "section 4.1")
    for ours, theirs in (("trained_on", "training"), ("left_out", "held_out"))
    if _FOLDS[ours] in found
  ]  # fmt: skip
  panel = plots.Panel(
    y="pairs ordered right, %",
    series={"reward": found},
    limits=(0.0, 100.0),
    even=50,
    reported=tuple(reported),
    labels={"reward": "reward models, five folds"},
    called="accuracy on held-out prompts",
    title="accuracy on held-out prompts; the dashed line is chance",
  )
  return plots.Plot(
    "Does the reward model generalise to labelers it never saw? (section 4.1)",
    (panel,),
    plots.about([panel], subjects.whose(runs)),
    notes=("A value of one seed is the mean of its five folds.",),
    height=2.6,
  )


def _fold(runs: groups.Runs, name: str) -> values.Value | None:
  """Accuracy over seeds; of one seed over its folds, Student's interval."""
  metric = f"folds/accuracy/{name}"
  group = runs.group_with(metric)
  value = group.value(metric) if group else None
  if group is None or value is None or value.over == values.SEEDS:
    return value
  error = group.value(f"folds/standard_error/{name}")
  if error is None:
    return value
  half = float(special.stdtrit(paper.RM_FOLDS - 1, 0.975)) * error.value
  return dataclasses.replace(
    value, low=value.value - half, high=value.value + half, over="folds"
  )


def methods(runs: groups.Runs) -> plots.Plot:
  """What the paper's successors compare: DPO, RLOO and others beside PPO."""
  panels = []
  for metric, y, even, factor, unit, decimals in (
    ("preference/{}_over_sft/training", "preferred to SFT, %", 50, 100, " %",
     1),
    ("nlp/mean/{}", "tasks right, %", None, 100, " %", 1),
    ("kl/{}", "KL from SFT, nats", None, 1, " nats", 2),
  ):  # fmt: skip
    found = subjects.by_method(runs, metric, _STANDING, factor=factor)
    if found:
      panels.append(
        plots.Panel(
          y=y,
          series=subjects.turned(found, ""),
          even=even,
          unit=unit,
          decimals=decimals,
          limits=(0.0, 100.0) if unit == " %" else None,
          bounds=plots.SHARE if unit == " %" else (0.0, math.inf),
        )
      )
  names = {name for panel in panels for name in panel.series}
  if len(names & {"dpo", "rloo", "grpo"}) == 0:
    raise subjects.missing(runs, "DPO or RLOO", f"{_MAIN}/dpo.py")
  return plots.Plot(
    "DPO, RLOO and others from the same SFT model and rankings",
    tuple(panels),
    plots.about(panels, subjects.whose(runs)),
    columns=3,
    height=2.7,
  )


def label(name: str) -> str:
  """What a line of over-optimisation is called."""
  return _OPTIMIZED.get(name, style.label(name))
