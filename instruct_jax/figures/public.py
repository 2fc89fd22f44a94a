"""What `instruct_jax.evaluate` found on public sets, under the world's names.

So the same figure draws either. A set's number stands for the number that the
microworld has an analogue of; its own name stays in the row as "set".

  truthfulqa            truthfulness/{qa, instruction_qa}_truthful[_informative]
  real_toxicity_prompts toxicity/{none, respectful, biased}: the mean toxicity
  winogender, crows     bias/winogender, bias/crows: entropy in bits
  likert                likert, metadata/FLAG
  preference            preference/A_over_B/LABELERS, and by the prompts' source
  others                nlp/SET, few_shot/SET with shots, by their headline
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any

EXPERIMENT = "evaluate"
SETS = "sets"  # the key of results.json, and the table of a run that did it
EVERYBODY = "all"  # labelers that are not told apart
_Z = 1.959963984540054
_HUNDRED = ("bleu",)  # out of 100 where others are shares

_TRUTH = {
  f"{theirs}_{prompt}": f"truthfulness/{ours_prompt}_{ours}"
  for prompt, ours_prompt in (("qa", "qa"), ("instruction", "instruction_qa"))
  for theirs, ours in (
    ("true", "truthful"),
    ("true_info", "truthful_informative"),
  )
}
_NAMES: dict[str, dict[str, str]] = {
  "truthfulqa": _TRUTH,
  "real_toxicity_prompts": {
    f"mean_{prompt}": f"toxicity/{prompt}"
    for prompt in ("none", "respectful", "biased")
  },
  "winogender": {"entropy": "bias/winogender"},
  "crows_pairs": {"entropy": "bias/crows"},
  "likert": {"likert": "likert"},
}
# As the judge of the microworld calls what table 3 of the paper names.
FLAGS = {"wrong_task": "fails_instruction"}
_KNOWN = (
  *("gpt", "prompted_gpt", "flan", "t0", "sft", "ppo", "ppo_ptx", "dpo"),
  *("rloo", "grpo", "best_of_n", "expert_iteration", "iterated"),
)
_OTHERWISE = {"pretrain": "gpt"}

Rows = list[dict[str, Any]]


def is_public(tree: Mapping[str, Any]) -> bool:
  """True for what `instruct_jax.evaluate` writes."""
  return isinstance(tree.get(SETS), dict) and "metrics" not in tree


def run(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The results of a run that found the same."""
  rows: Rows = []
  headlines = {}
  for name, entry in tree[SETS].items():
    if not isinstance(entry, dict):
      continue
    headlines[name] = str(entry.get("headline", ""))
    shots = (entry.get("options") or {}).get("shots", 0)
    for metric, by_model in (entry.get("metrics") or {}).items():
      for model, one in by_model.items():
        rows.append(_row(name, metric, model, one) | {"shots": shots})
  tables = {
    key: table
    for entry in tree[SETS].values()
    if isinstance(entry, dict)
    for key, table in (entry.get("tables") or {}).items()
  }
  metrics, converted = of_rows(rows, headlines, tables)
  settings = tree.get("settings") or {}
  seed = settings.get("seed", 0)
  return {
    "experiment": EXPERIMENT,
    "variant": "sets",
    "seed": seed if isinstance(seed, int) else 0,
    "metrics": metrics,
    "tables": tables | converted,
  }


def of_rows(
  rows: Rows,
  headlines: Mapping[str, str] | None = None,
  tables: Mapping[str, Rows] | None = None,
) -> tuple[dict[str, float], dict[str, Rows]]:
  """Metrics and tables under the world's names.

  `rows` are a number each: {"set": "NAME METRIC", "model", "value", "low",
  "high", "n"}, as the table `sets` of a run has them.
  """
  found: dict[str, Rows] = {}
  names = {str(row.get("model")): "" for row in rows}
  names |= {
    str(row[key]): ""
    for table in (tables or {}).values()
    for row in table
    for key in ("subject", "baseline")
    if key in row
  }
  subjects = subjects_of([*names])
  for row in rows:
    name, _, metric = str(row.get("set", "")).partition(" ")
    ours = _named(name, metric, (headlines or {}).get(name), row)
    if ours is None or not isinstance(row.get("value"), int | float):
      continue
    subject = subjects[str(row["model"])]
    kept = {**row, "subject": subject, "metric": f"{ours}/{subject}"}
    if metric in _HUNDRED:
      kept |= {k: row[k] / 100 for k in ("value", "low", "high") if k in row}
    found.setdefault(ours.split("/")[0], []).append(kept)
  for table, more in _of_tables(tables or {}, subjects):
    found.setdefault(table, []).extend(more)
  metrics = {
    row["metric"]: float(row["value"])
    for each in found.values()
    for row in each
    if "metric" in row
  }
  return metrics, found


def subjects_of(names: list[str]) -> dict[str, str]:
  """{a model's name: the method that it says it is of, else itself}.

  'ppo_ptx-tiny-seed1' is ppo_ptx; where two would be the same, each keeps its
  own name.
  """
  methods = {}
  for name in names:
    stem = re.sub(r"-seed\d+$", "", name)
    method = _OTHERWISE.get(stem.partition("-")[0], stem.partition("-")[0])
    methods[name] = method if method in _KNOWN else name
  return {
    name: method if [*methods.values()].count(method) == 1 else name
    for name, method in methods.items()
  }


def _row(name, metric, model, one):
  spread = _Z * (one.get("stderr") or 0)
  value = one["value"]
  bounds = {"low": value - spread, "high": value + spread} if spread else {}
  return {
    "set": f"{name} {metric}",
    "model": model,
    "value": value,
    "n": one.get("n", 0),
    **bounds,
  }


def _named(name, metric, headline, row) -> str | None:
  """Our name of a set's metric without its subject; None where it has none."""
  if name in ("preference",):
    return None  # of its tables, which say against whom
  if name == "likert" and metric not in _NAMES[name]:
    return f"metadata/{FLAGS.get(metric, metric)}"
  if name in _NAMES:
    return _NAMES[name].get(metric)
  is_main = (
    metric == headline
    if headline
    else any(
      fnmatch.fnmatch(metric, known)
      for known in ("f1", "accuracy*", "rougeL", "bleu")
    )
  )
  if not is_main:
    return None
  shots = row.get("shots", 0)
  room = "few_shot" if str(shots) not in ("0", "") else "nlp"
  return f"{room}/{name}"


def _of_tables(
  tables: Mapping[str, Rows], subjects: Mapping[str, str]
) -> Iterator[tuple[str, Rows]]:
  """Preferences of the set that holds models against each other."""
  for name, by in (
    ("win_rates", None),
    ("win_rates_by_labelers", "labelers"),
    ("win_rates_by_source", "source"),
  ):
    rows: Rows = []
    for row in tables.get(name, ()):
      if row.get("rate", "raw") != "raw":
        continue
      a, b = (subjects[str(row[key])] for key in ("subject", "baseline"))
      kept = {**row, "subject": a, "baseline": b}
      if by == "source":
        rows.append({**kept, "labelers": EVERYBODY})
        continue
      group = str(row.get("labelers", EVERYBODY))
      metric = f"preference/{a}_over_{b}/{group}"
      rows.append({**kept, "labelers": group, "metric": metric})
    if rows:
      yield ("preference_by_source" if by == "source" else "preference"), rows
