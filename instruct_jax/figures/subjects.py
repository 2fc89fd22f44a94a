"""Which models a figure holds against each other, and their numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.figures import groups, plots, public, style, values

SIZED = "python -m instruct_jax.main --config=experiments/sizes.py"
DEFAULT = "python -m instruct_jax.main --config=experiments/ppo_ptx.py"
MIDDLE = "medium"  # the size of the default run


def missing(runs: groups.Runs, what: str, command: str) -> groups.Missing:
  """What to say where a folder lacks what a figure needs."""
  return groups.Missing(
    f"no results of {what} in {runs.folder}: make them with `{command}`, and"
    " name the folder that it writes to"
  )


def by_method(
  runs: groups.Runs,
  metric: str,
  methods: Iterable[str] = style.MAIN,
  *,
  factor: float = 100,
) -> dict[str, values.Value]:
  """{method: its value} of a metric such as 'likert/{}', of those there are.

  Of several sizes the middle one, which the default run shares; of public sets
  whatever models were measured.
  """
  found = {}
  for method in (*methods, *_others(runs, metric)):
    for subject in (method, f"{MIDDLE}_{method}"):
      value = runs.value(metric.format(subject))
      if value is not None:
        found.setdefault(method, value.times(factor))
  return found


def _others(runs: groups.Runs, metric: str) -> Iterator[str]:
  """Models of public sets that are called as somebody named them."""
  before, _, after = metric.partition("{}")
  for group in runs.groups:
    if group.experiment == public.EXPERIMENT:
      for name in group.names(before):
        subject = name.removesuffix(after)
        ours = subject in style.METHODS or "/" in subject or "_over_" in subject
        if name.endswith(after) and not ours:
          yield subject


def baseline(runs: groups.Runs, metric: str) -> str | None:
  """The subject whom others are held against: SFT, else whom most are.

  `metric` has the places {a} and {b}, as 'preference/{a}_over_{b}/training'.
  """
  against: dict[str, int] = {}
  for group in runs.groups:
    for name in group.names(metric.partition("{a}")[0]):
      pair, _, rest = name.partition("/")
      if f"/{rest}" == metric.rpartition("{b}")[2] and "_over_" in pair:
        against[pair.partition("_over_")[2]] = (
          against.get(pair.partition("_over_")[2], 0) + 1
        )
  if "sft" in against:
    return "sft"
  return max(against, key=lambda name: against[name], default=None)


def sized(group: groups.Group) -> dict[str, dict[str, str]]:
  """{method: {size: subject}} of a group of several sizes, from its table."""
  found: dict[str, dict[str, str]] = {}
  rows = sorted(group.models.values(), key=lambda row: row.get("parameters", 0))
  for row in rows:
    if row.get("size") and row.get("method") and row.get("parameters"):
      sizes = found.setdefault(str(row["method"]), {})
      sizes.setdefault(str(row["size"]), str(row["subject"]))
  return found


def with_sizes(runs: groups.Runs, *prefixes: str) -> groups.Group | None:
  """The group with most models of several sizes, and such metrics.

  A stage that compares one size has the largest SFT beside it: two sizes of one
  method are not enough.
  """
  best, most = None, 0
  for group in runs.groups:
    lines = [x for x in sized(group).values() if len(x) > 1]
    count = sum(map(len, lines)) if len(lines) > 1 else 0
    if count > most and all(map(group.names, prefixes)):
      best, most = group, count
  return best


def by_size(
  group: groups.Group,
  metric: str,
  methods: Sequence[str] = style.BASELINES,
  *,
  factor: float = 100,
) -> dict[str, dict[plots.X, values.Value]]:
  """{method: {parameters: value}} of a metric such as 'likert/{}'."""
  found: dict[str, dict[plots.X, values.Value]] = {}
  for method, sizes in sized(group).items():
    if method not in methods:
      continue
    for subject in sizes.values():
      value = group.value(metric.format(subject))
      if value is not None:
        size = float(group.models[subject]["parameters"])
        found.setdefault(method, {})[size] = value.times(factor)
  return {m: found[m] for m in methods if m in found}


def whose(runs: groups.Runs, group: groups.Group | None = None) -> str:
  """Whose numbers a figure shows, for its small print."""
  chosen = group or runs.groups[0]
  if chosen.experiment == public.EXPERIMENT:
    return "Models measured by instruct_jax.evaluate"
  variant = chosen.variant.partition("-")[0]
  data = "files" if chosen.variant.startswith("files") else "microworld"
  models = {
    "files": "Models of one's own data",
    "microworld": "The microworld's models",
  }[data]
  note = ", which learn nothing" if "test" in chosen.variant.split("-") else ""
  return f"{models} (:{variant}{note})"


def turned(
  found: Mapping[str, values.Value], x: plots.X
) -> dict[str, dict[plots.X, values.Value]]:
  """{method: {x: value}} of {method: value}."""
  return {method: {x: value} for method, value in found.items()}


def joined(
  columns: Mapping[Any, Mapping[str, values.Value]],
) -> dict[str, dict[plots.X, values.Value]]:
  """{method: {x: value}} of {x: {method: value}}, methods in their order."""
  methods = dict.fromkeys(m for column in columns.values() for m in column)
  return {
    method: {x: column[method] for x, column in columns.items()
             if method in column}
    for method in methods
  }  # fmt: skip
