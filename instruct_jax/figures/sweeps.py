"""Figures 33 and 34, and what else the paper swept: one number, all else equal.

What was swept is read from the table `models`, never from a name.
"""

import dataclasses
from collections.abc import Mapping

from instruct_jax.figures import groups, plots, style, subjects, tasks, values

COMMAND = "python -m instruct_jax.main --config=experiments/sweeps.py"
SETTINGS = ("ptx_coef", "kl_coef", "learning_rate", "episodes", "init_ptx")
_OTHERS = (*SETTINGS, "init_epochs", "size", "best_of", "epochs")
_AXES = {
  "ptx_coef": "pretraining coefficient γ",
  "kl_coef": "KL coefficient β",
  "learning_rate": "learning rate of the policy",
  "episodes": "episodes",
  "init_ptx": "share of pretraining text in the initialisation",
}
_SHORT = {"ptx_coef": "γ", "kl_coef": "β", "learning_rate": "rate"}
SFT = "sft"
_POINTS = " points"
_HELD = ("gpt", SFT)  # lines that the sweep does not move
_FEWEST = 3  # points of the longest line: PPO beside PPO-ptx is no sweep
# One method, or PPO and PPO-ptx, which a γ of 0 makes the same.
_SWEPT = ("ppo", "ppo_ptx")


@dataclasses.dataclass(frozen=True)
class Measure:
  """What subjects are measured by, and how it is drawn."""

  metric: str  # with a place for the subject
  y: str
  unit: str
  decimals: int
  factor: float
  even: float | None = None
  is_level: bool = True  # GPT's and SFT's are drawn beside
  less: str = ""  # of several seeds: less what this has in the same seed,
  paired: str = ""  # and what that is called


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Subjects that differ in one setting alone: {its value: subject}."""

  group: groups.Group
  key: str
  points: Mapping[float, str]
  fixed: Mapping[str, object]  # what their other settings are


def sweeps(runs: groups.Runs, key: str, least: int = 2) -> list[Sweep]:
  """The sweeps of a setting, of the group with the longest; longest first."""
  best: list[Sweep] = []
  for group in runs.groups:
    lines: dict[tuple, dict[float, str]] = {}
    for subject, row in group.models.items():
      if row.get("method") in _SWEPT and groups.is_finite(row.get(key)):
        fixed = tuple(row.get(name) for name in _OTHERS if name != key)
        lines.setdefault(fixed, {})[float(row[key])] = subject
    found = [
      Sweep(
        *(group, key, points),
        dict(zip([name for name in _OTHERS if name != key], fixed)),
      )
      for fixed, points in lines.items()
      if len(points) >= least
    ]
    found.sort(key=lambda sweep: -len(sweep.points))
    longest = len(best[0].points) if best else _FEWEST - 1
    if found and len(found[0].points) > longest:
      best = found
  return best


def ptx(runs: groups.Runs) -> plots.Plot:
  """Figure 33: tasks and preference against γ."""
  return _plot(
    runs,
    "ptx_coef",
    "More pretraining gradient, the alignment tax and the reward (figure 33)",
  )


def kl(runs: groups.Runs) -> plots.Plot:
  """Figure 34: the same against β, without the pretraining gradient."""
  return _plot(runs, "kl_coef", "More KL penalty instead (figure 34)")


def learning_rate(runs: groups.Runs) -> plots.Plot:
  """Appendix E: the policy's learning rate."""
  return _plot(runs, "learning_rate", "The policy's learning rate (appendix E)")


def episodes(runs: groups.Runs) -> plots.Plot:
  """Appendix E: the length of training."""
  return _plot(runs, "episodes", "The length of training (appendix E)")


def initialisation(runs: groups.Runs) -> plots.Plot:
  """Appendix C.3: pretraining text in the initialisation for RL."""
  return _plot(
    runs, "init_ptx", "Pretraining text in the initialisation (appendix E)"
  )


def _plot(runs: groups.Runs, key: str, title: str) -> plots.Plot:
  found = sweeps(runs, key)
  if not found:
    raise subjects.missing(runs, f"a sweep of the {_AXES[key]}", COMMAND)
  group = found[0].group
  names = _line_names(found)
  measures = _measures(group, found)
  panels = []
  for measure in measures:
    series = _series(group, names, found, measure)
    paired = _less(group, series, measure)
    if paired:
      series, measure = paired, _as_difference(measure)
    if series:
      panels.append(
        plots.Panel(
          y=measure.y,
          x=_AXES[key],
          series=series,
          kind=plots.LINES,
          scale=plots.STEPS,
          bounds=plots.SHARE if measure.unit == " %" else None,
          unit=measure.unit,
          decimals=measure.decimals,
          even=measure.even,
          labels=dict(zip(names, names)) if len(names) > 1 else {},
        )
      )
  return plots.Plot(
    title,
    tuple(panels),
    plots.about(panels, subjects.whose(runs, group)),
    notes=_notes(found, is_paired=any(p.unit == _POINTS for p in panels)),
    columns=3 if len(panels) == 3 else 2,
    height=2.3,
  )


def _line_names(found: list[Sweep]) -> list[str]:
  """A method where one was swept, else in what the sweeps differ."""
  if len(found) == 1:
    methods = {
      str(found[0].group.models[s]["method"]) for s in found[0].points.values()
    }
    return ["ppo" if methods == {"ppo"} else "ppo_ptx"]
  differ = [
    key
    for key in found[0].fixed
    if len({str(sweep.fixed[key]) for sweep in found}) > 1
  ]
  return [
    ", ".join(f"{_SHORT.get(k, k)} = {_said(s.fixed[k])}" for k in differ)
    for s in found
  ]


def _said(value: object) -> str:
  return f"{value:g}" if isinstance(value, int | float) else str(value)


def _series(
  group: groups.Group,
  names: list[str],
  found: list[Sweep],
  measure: Measure,
) -> dict[str, dict[plots.X, values.Value]]:
  """The line of each sweep, and of the models that nothing was swept of."""
  series: dict[str, dict[plots.X, values.Value]] = {}
  for name, sweep in zip(names, found):
    line: dict[plots.X, values.Value] = {}
    for x, subject in sorted(sweep.points.items()):
      value = group.value(measure.metric.format(subject))
      if value is not None:
        line[x] = value.times(measure.factor)
    if line:
      series[name] = line
  xs = dict.fromkeys(x for line in series.values() for x in line)
  for method in _HELD if measure.is_level else ():
    for subject in (method, f"{subjects.MIDDLE}_{method}"):
      value = group.value(measure.metric.format(subject))
      if value is not None and xs:
        series[method] = {x: value.times(measure.factor) for x in xs}
        break
  return series


def _less(
  group: groups.Group,
  series: dict[str, dict[plots.X, values.Value]],
  measure: Measure,
) -> dict[str, dict[plots.X, values.Value]]:
  """The lines less what another subject has in the same seed; {} of one seed.

  Seeds have tasks of their own, and differ in them by more than what is swept
  does: an interval over their levels would be wider than any effect.
  """
  level = group.value(measure.metric.format(measure.less))
  if not measure.less or level is None:
    return {}
  level = level.times(measure.factor)
  found: dict[str, dict[plots.X, values.Value]] = {}
  for name, line in series.items():
    for x, value in line.items():
      one = values.difference(value, level)
      if one is None:
        return {}
      if name != SFT:
        found.setdefault(name, {})[x] = dataclasses.replace(one, n=value.n)
  return found


def _as_difference(measure: Measure) -> Measure:
  return dataclasses.replace(measure, y=measure.paired, unit=_POINTS, even=0)


def _measures(group: groups.Group, found: list[Sweep]) -> list[Measure]:
  """What the subjects of the sweeps were measured by."""
  sft = next(
    (one for one in (SFT, f"{subjects.MIDDLE}_{SFT}") if one in group.models),
    "",
  )
  measures = [
    Measure(
      *(f"{room}/{tasks.MEAN}/{{}}", f"tasks right, {words}, %", " %", 1, 100),
      less=sft,
      paired=f"{words} tasks less SFT's",
    )
    for room, words in ((tasks.ZERO, "zero-shot"), (tasks.FEW, "few-shot"))
  ]
  baseline = subjects.baseline(
    groups.Runs("", (group,), {}), "preference/{a}_over_{b}/training"
  )
  if baseline:
    metric = f"preference/{{}}_over_{baseline}/training"
    name = style.label(baseline)
    measures.append(
      Measure(
        metric, f"preferred to {name}, %", " %", 1, 100, 50, is_level=False
      )
    )
  measures += [
    Measure("likert/{}", "Likert, 1 to 7", "", 2, 1),
    Measure("score/{}", "reward model's score", "", 2, 1),
    Measure("kl/{}", "KL from SFT, nats", " nats", 2, 1, is_level=False),
  ]
  there = [subject for sweep in found for subject in sweep.points.values()]
  shown = [
    measure
    for measure in measures
    if any(group.value(measure.metric.format(name)) for name in there)
  ]
  # Labelers' preference says what a grade says, and is the paper's measure.
  if len(shown) > 4:
    shown = [one for one in shown if not one.metric.startswith("likert")]
  return shown


def _notes(found: list[Sweep], *, is_paired: bool) -> tuple[str, ...]:
  """What stayed the same, and what is drawn beside."""
  same = {
    key: value
    for key, value in found[0].fixed.items()
    if key in SETTINGS and value is not None
    and all(sweep.fixed[key] == value for sweep in found)
  }  # fmt: skip
  notes = []
  if same:
    listed = ", ".join(f"{k} = {_said(v)}" for k, v in same.items())
    notes.append(f"All else equal: {listed}.")
  notes.append(
    "Steps of the axis are as far apart as they were tried; GPT and SFT, which"
    " nothing was swept of, are level lines."
  )
  if is_paired:
    notes.append(
      "Tasks: each seed's, less what its own SFT has right, which is at 0."
    )
  return tuple(notes)
