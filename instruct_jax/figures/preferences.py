"""Figures 1, 3 and 5: whom labelers prefer."""

import dataclasses
from collections.abc import Mapping, Sequence

from instruct_jax import paper
from instruct_jax.figures import (
  groups,
  plots,
  public,
  style,
  subjects,
  values,
  words,
)

GROUPS = {
  "held_out": "held-out labelers",
  "training": "training labelers",
  public.EVERYBODY: "all labelers",
}
SOURCES = {"gpt": "GPT-like prompts", "instruct": "Instruct-like prompts"}
# Who over whom, and what the paper's 175B PPO-ptx won (section 4.1, figure 5).
OVER = {
  "gpt": paper.RESULTS["preferred_to_gpt3"],
  "prompted_gpt": paper.RESULTS["preferred_to_few_shot_gpt3"],
  "flan": paper.RESULTS["preferred_to_flan"],
  "t0": paper.RESULTS["preferred_to_t0"],
}
OURS, STATED = "ppo_ptx", ("gpt", "prompted_gpt")  # of figure 1
_LIMITS = (0.0, 100.0)


def by_size(runs: groups.Runs) -> plots.Plot:
  """Figure 1: preferred to the largest SFT, by size; without sizes to SFT."""
  group = subjects.with_sizes(runs, "preference/")
  if group is None:
    return _of_one_size(runs)
  sft = [*subjects.sized(group)["sft"].values()][-1]
  metric = f"preference/{{}}_over_{sft}/training"
  series = subjects.by_size(group, metric, style.BASELINES)
  # Held against itself a model wins half: no measurement, the dashed line.
  panel = plots.Panel(
    y="preferred to it, %",
    x="parameters of the model",
    series=series,
    kind=plots.LINES,
    scale=plots.LOG,
    limits=_LIMITS,
    even=50,
    called=f"preferred to the largest SFT ({sft})",
    title=f"against the largest SFT ({sft}); the dashed line is 50 %: as good",
  )
  over = _over(runs, group, _largest_and_smallest(subjects.sized(group)))
  panels = (panel, *([over] if over else []))
  return plots.Plot(
    "Which model labelers prefer, by size (the paper's figure 1)",
    panels,
    plots.about(panels, subjects.whose(runs, group)),
    notes=(
      "The paper's sizes are 1.3, 6 and 175 billion parameters; it plots its"
      " win rates without stating them.",
    ),
    height=2.9,
  )


def _of_one_size(runs: groups.Runs) -> plots.Plot:
  baseline = _baseline(runs)
  found = {
    GROUPS[group]: subjects.by_method(
      runs, f"preference/{{}}_over_{baseline}/{group}", style.BASELINES
    )
    for group in ("training", "held_out", public.EVERYBODY)
  }
  found = {x: column for x, column in found.items() if column}
  panel = plots.Panel(
    y=f"preferred to {style.label(baseline)}, %",
    series=subjects.joined(found),
    limits=_LIMITS,
    even=50,
    called=f"preferred to {style.label(baseline)}",
    title=f"one size; the dashed line is 50 %, as good as"
    f" {style.label(baseline)}",
  )
  pairs = [Pair(OURS, method, method) for method in STATED]
  over = _over(runs, runs.groups[0], pairs)
  panels = (panel, *([over] if over else []))
  return plots.Plot(
    "Which model labelers prefer (the paper's figure 1, one size)",
    panels,
    plots.about(panels, subjects.whose(runs)),
    notes=(f"Models of other sizes: {subjects.SIZED}",),
    height=2.6,
  )


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two models that are held against each other directly."""

  ours: str
  theirs: str
  method: str  # of theirs
  sizes: str = ""  # of both where they differ, in words


def _largest_and_smallest(sized: Mapping[str, Mapping[str, str]]) -> list[Pair]:
  """The largest models, as the paper states them; then the small over GPT."""
  ours, pairs = [*sized.get(OURS, {}).items()], []
  for method in STATED:
    theirs = [*sized.get(method, {}).items()]
    if ours and theirs:
      pairs.append(Pair(ours[-1][1], theirs[-1][1], method))
  gpt = [*sized.get("gpt", {}).items()]
  if len(ours) > 1 and gpt:
    (small, subject), (large, theirs) = ours[0], gpt[-1]
    pairs.append(Pair(subject, theirs, "gpt", f"{small} over {large}"))
  return pairs


def _over(
  runs: groups.Runs, group: groups.Group, pairs: Sequence[Pair]
) -> plots.Panel | None:
  """PPO-ptx over others, beside what the paper states of its largest."""
  ours: dict[plots.X, values.Value] = {}
  reported = []
  for pair in pairs:
    value = _first(
      runs,
      group,
      *(
        f"preference/{pair.ours}_over_{pair.theirs}/{of}"
        for of in ("training", public.EVERYBODY)
      ),
    )
    if value is None:
      continue
    x = f"over {style.label(pair.method)}"
    x = f"{x},\n{pair.sizes}" if pair.sizes else x
    ours[x] = value.times(100)
    if not pair.sizes:
      stated = OVER[pair.method]
      reported.append(plots.Reported(x, OURS, stated, "175B, section 4.1"))
  if not ours:
    return None
  return plots.Panel(
    y="PPO-ptx preferred, %",
    series={OURS: ours},
    limits=_LIMITS,
    even=50,
    called="how often it is preferred",
    title="PPO-ptx over others, beside the paper's numbers",
    reported=tuple(reported),
  )


def _first(
  runs: groups.Runs, group: groups.Group, *metrics: str
) -> values.Value | None:
  """The first of the metrics that the group, else anybody, has."""
  for metric in metrics:
    found = group.value(metric) or runs.value(metric)
    if found:
      return found
  return None


def _baseline(runs: groups.Runs) -> str:
  for group in ("training", public.EVERYBODY, "held_out"):
    name = subjects.baseline(runs, f"preference/{{a}}_over_{{b}}/{group}")
    if name:
      return name
  raise subjects.missing(runs, "labelers' preferences", subjects.DEFAULT)


def by_source(runs: groups.Runs) -> plots.Plot:
  """Figure 3: by where prompts come from, and by who judges."""
  baseline = _baseline(runs)
  panels: list[plots.Panel] = []
  sources = SOURCES if _knows_sources(runs) else {"instruct": ""}
  for source, prompts in sources.items():
    for group in ("held_out", "training", public.EVERYBODY):
      found = _of_source(runs, baseline, source, group)
      told_apart = any(panel.title.startswith(prompts) for panel in panels)
      if found and not (group == public.EVERYBODY and told_apart):
        panels.append(
          plots.Panel(
            y=f"preferred to {style.label(baseline)}, %",
            series=subjects.turned(found, ""),
            limits=_LIMITS,
            even=50,
            title=", ".join(x for x in (prompts, GROUPS[group]) if x),
          )
        )
  if not panels:
    raise subjects.missing(
      runs, "preferences by labelers or source", subjects.DEFAULT
    )
  lacking = [text for source, text in sources.items()
             if not any(p.title.startswith(text) for p in panels)]  # fmt: skip
  return plots.Plot(
    "Preferences by where prompts come from and who judges (figure 3)",
    tuple(panels),
    plots.about(panels, subjects.whose(runs)),
    notes=tuple(f"No results on {text} in this folder." for text in lacking),
    columns=2,
    height=2.3,
  )


def _knows_sources(runs: groups.Runs) -> bool:
  """False for prompts of one's own that say nothing of where they are from."""
  return runs.groups[0].experiment != public.EXPERIMENT or bool(
    runs.with_table("preference_by_source")
  )


def _of_source(
  runs: groups.Runs, baseline: str, source: str, group: str
) -> dict[str, values.Value]:
  """{method: its wins} on prompts of a source: of metrics, else of a table."""
  room = "preference_gpt" if source == "gpt" else "preference"
  metric = f"{room}/{{}}_over_{baseline}/{group}"
  found = subjects.by_method(runs, metric, style.BASELINES)
  if found or group != public.EVERYBODY:
    return found
  for one in runs.with_table("preference_by_source"):
    rows: dict[str, dict[int, values.Found]] = {}
    for seed, table in one.table("preference_by_source").items():
      for row in table:
        labels = [row.get(key) for key in ("source", "baseline", "labelers")]
        if labels == [source, baseline, group]:
          of_seed = rows.setdefault(str(row["subject"]), {})
          of_seed[seed] = groups.of_row(row)
    return {m: values.over_seeds(of).times(100) for m, of in rows.items()}
  return {}


def likert(runs: groups.Runs) -> plots.Plot:
  """Figure 5: Likert beside FLAN- and T0-style fine-tunes."""
  found = subjects.by_method(runs, "likert/{}", style.BASELINES, factor=1)
  if not found:
    raise subjects.missing(runs, "Likert grades", subjects.DEFAULT)
  grades = plots.Panel(
    y="Likert, 1 to 7",
    series=subjects.turned(found, ""),
    limits=plots.LIKERT,
    bounds=plots.LIKERT,
    unit="",
    decimals=2,
    title="overall quality",
  )
  pairs = [Pair(OURS, method, method) for method in ("flan", "t0")]
  over = _over(runs, runs.groups[0], pairs)
  lacking = [style.label(m) for m in ("flan", "t0") if m not in found]
  panels = (grades, *([over] if over else []))
  return plots.Plot(
    "Overall quality beside fine-tunes on public tasks (figure 5)",
    panels,
    plots.about(panels, subjects.whose(runs)),
    notes=_without(lacking),
    height=2.4,
  )


def _without(lacking: Sequence[str]) -> tuple[str, ...]:
  if not lacking:
    return ()
  return (
    f"No results of {words.listed(lacking)} models in this folder"
    " (--config.evaluation.left_out='()' has them in an evaluation).",
  )


def likert_by_size(runs: groups.Runs) -> plots.Plot:
  """Likert by size (appendix E)."""
  group = subjects.with_sizes(runs, "likert/")
  if group is None:
    raise subjects.missing(runs, "several sizes", subjects.SIZED)
  panel = plots.Panel(
    y="Likert, 1 to 7",
    x="parameters of the model",
    series=subjects.by_size(group, "likert/{}", factor=1),
    kind=plots.LINES,
    scale=plots.LOG,
    limits=plots.LIKERT,
    bounds=plots.LIKERT,
    unit="",
    decimals=2,
  )
  return plots.Plot(
    "Overall quality by size (appendix E)",
    (panel,),
    plots.about([panel], subjects.whose(runs, group)),
  )
