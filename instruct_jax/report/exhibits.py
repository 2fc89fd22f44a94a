"""Tables of the evaluations, arranged for people.

An evaluation's rows hold labels (strings), "value" with "low" and "high", its
95 % interval, "n" and "clusters". `pivot` lays them out with a column a
subject; what it cannot lay out so is shown as it is. Nothing is computed here.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax import paper
from instruct_jax.base import metrics

Rows = Sequence[Mapping[str, Any]]

SUBJECTS = {
  "gpt": "GPT",
  "prompted_gpt": "GPT (prompted)",
  "sft": "SFT",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
}
GROUPS = {"training": "training labelers", "held_out": "held-out labelers"}
WORDS = {"qa": "QA prompt", "instruction_qa": "instruction + QA prompt"}
_NUMBERS = ("value", "low", "high", "n", "clusters")
_COUNTS = ("n", "clusters", "pairs", "prompts", "tokens")


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """How one table of an evaluation is called and written."""

  title: str
  caption: str = ""
  percent: bool = False
  but: tuple[str, ...] = ()  # parts of labels for which `percent` is turned


@dataclasses.dataclass(frozen=True)
class Cell:
  """A figure and, in smaller type, its interval."""

  text: str
  note: str = ""

  def __str__(self) -> str:
    return f"{self.text} {self.note}".rstrip()


@dataclasses.dataclass(frozen=True)
class Table:
  """Ready to be shown; the first column holds labels."""

  headers: tuple[str, ...]
  rows: tuple[tuple[str | Cell, ...], ...]
  title: str = ""
  caption: str = ""


def _paper(result: paper.Result) -> str:
  margin = f" ± {result.margin}" if result.margin is not None else ""
  return f"{result.value}{margin} %"


# In the order of the report. What is not listed comes after them, as it is.
EXHIBITS = {
  "likert": Exhibit("Overall quality", "Likert, 1 to 7 (section 4.1)."),
  "score_wins": Exhibit(
    "Preferred by the reward model",
    "High here and low with labelers is over-optimisation.",
    percent=True,
  ),
  "score": Exhibit(
    "Score of the reward model", "Demonstrations score 0 on average."
  ),
  "metadata": Exhibit(
    "Metadata of the responses",
    "Share of the responses to which it applies (table 3, figure 4).",
    percent=True,
  ),
  "hallucination": Exhibit(
    "Closed-domain hallucination",
    "Share that makes up what the given text does not say. The paper: "
    + _paper(paper.RESULTS["hallucination_gpt3"])
    + " for GPT-3, "
    + _paper(paper.RESULTS["hallucination_ppo_ptx"])
    + " for PPO-ptx.",
    percent=True,
  ),
  "truthfulness": Exhibit(
    "Truthfulness",
    "On topics that alignment never touched (TruthfulQA's place, figure 6).",
    percent=True,
  ),
  "toxicity": Exhibit(
    "Toxic continuations",
    "Without instruction, asked for respect, asked for bias (figure 7).",
    percent=True,
  ),
  "bias": Exhibit(
    "Bias",
    "Entropy of the choice in bits (1: no preference), and how often the"
    " stereotype is likelier (section 4.2).",
    but=("stereotyped",),
  ),
  "nlp": Exhibit(
    "Public-NLP-like tasks",
    "Zero-shot exact match and F1; what falls below SFT is the alignment tax.",
    percent=True,
  ),
  "language": Exhibit(
    "Generalisation",
    "Likert of answers in another language and to a form never seen, and how"
    " often zorp is answered in zorp (section 4.3).",
    but=("share",),
  ),
  "kl": Exhibit(
    "KL from the SFT model", "Nats a response; then a token, for scale."
  ),
  "loss": Exhibit("Loss of held-out demonstrations", "Nats a token."),
  "length": Exhibit(
    "Length of responses",
    "In tokens, and how many end by themselves.",
    but=("ended",),
  ),
  "reward": Exhibit(
    "Reward model",
    'Accuracy on pairs of held-out prompts, beside "the longer wins", the judge'
    " or a bag of words; chance is 50 %. The paper: "
    + _paper(paper.RM_ACCURACY["training"])
    + " for labelers trained on, "
    + _paper(paper.RM_ACCURACY["held_out"])
    + " for held-out ones (4.1).",
    percent=True,
    but=("log loss",),
  ),
  "agreement": Exhibit(
    "Agreement between labelers",
    "Of pairs that both order. The paper: "
    + _paper(paper.AGREEMENT["training"])
    + " (training), "
    + _paper(paper.AGREEMENT["held_out"])
    + " (held-out).",
    percent=True,
  ),
  "preference_by_use_case": Exhibit("Preference by use case", percent=True),
  "likert_by_use_case": Exhibit("Likert by use case"),
  "departures": Exhibit("Departures from the paper"),
}


# What the closing table shows: label, table, labels of the rows in it.
CLOSING = (
  ("preferred over {}, training labelers", "preference",
   {"labelers": "training"}),
  ("preferred over {}, held-out labelers", "preference",
   {"labelers": "held_out"}),
  ("preferred over {}, reward model", "score_wins", {}),
  ("Likert, 1 to 7", "likert", {}),
  ("follows the constraint", "metadata", {"flag": "satisfies_constraint"}),
  ("hallucinates, closed domain", "hallucination", {"prompts": "all"}),
  ("truthful and informative", "truthfulness",
   {"prompt": "qa", "measure": "truthful_informative"}),
  ("toxic, asked for respect", "toxicity", {"prompt": "respectful"}),
  ("tasks, mean exact match", "nlp", {"task": "mean"}),
  ("reward model's score", "score", {}),
  ("KL from SFT, nats", "kl", {}),
  ("loss of demonstrations", "loss", {}),
  ("tokens a response", "length", {"measure": "length"}),
)  # fmt: skip


def subject(name: str) -> str:
  """A subject's name as people read it."""
  return SUBJECTS.get(name, name)


def words(label: Any) -> str:
  """A label as people read it."""
  known = SUBJECTS | GROUPS | WORDS
  return known.get(str(label), str(label).replace("_", " "))


def cell(row: Mapping[str, Any], *, percent: bool, key: str = "value") -> Cell:
  """A row's value and interval."""
  return Cell(_number(row.get(key), percent), _interval(row, percent))


def arrange(name: str, rows: Rows) -> Table:
  """The table `name` of an evaluation, with its title and caption."""
  exhibit = EXHIBITS.get(name, Exhibit(words(name).capitalize()))
  if name == "reward":
    rows = [_with_measure(row) for row in rows]
  if all("value" in row and "subject" in row for row in rows):
    table = pivot(rows, "subject", exhibit)
  elif all("value" in row and "labelers" in row for row in rows):
    table = pivot(rows, "labelers", exhibit)
  else:
    table = plain(rows, exhibit)
  caption = " ".join(filter(None, [exhibit.caption, _sizes(rows)]))
  return dataclasses.replace(table, title=exhibit.title, caption=caption)


def pivot(rows: Rows, columns: str, exhibit: Exhibit) -> Table:
  """A column for each value of the label `columns`; other labels in front.

  Numbers of a row besides its value get a line of their own.
  """
  heads = list(dict.fromkeys(row[columns] for row in rows))
  cells = {}
  for row in rows:
    label = _label(row, columns)
    percent = exhibit.percent != any(part in label for part in exhibit.but)
    found = cell(row, percent=percent)
    cells.setdefault(label, {})[row[columns]] = found
    for key, value in row.items():
      if key not in _NUMBERS and is_number(value):
        extra = f"{label}, {words(key)}".removeprefix(", ")
        found = Cell(_number(value, False))
        cells.setdefault(extra, {})[row[columns]] = found
  lines = tuple(
    (label, *(found.get(head, Cell("")) for head in heads))
    for label, found in cells.items()
  )
  return Table(("", *map(words, heads)), lines)


def plain(rows: Rows, exhibit: Exhibit) -> Table:
  """The rows as they are; an interval joins the first number before it."""
  keys = list(dict.fromkeys(k for row in rows for k in row if k != "metric"))
  hidden = ("low", "high") if {"low", "high"} <= set(keys) else ()
  keys = [key for key in keys if key not in hidden]
  lines = []
  for row in rows:
    line, interval = [], hidden
    for key in keys:
      value = row.get(key)
      if not is_number(value):
        line.append(words("" if value is None else value))
      elif interval:
        line.append(cell(row, percent=exhibit.percent, key=key))
        interval = ()
      else:
        percent = exhibit.percent and key not in _COUNTS
        line.append(Cell(_number(value, percent)))
    lines.append(tuple(line))
  return Table(tuple(map(words, keys)), tuple(lines))


def against_each_other(rows: Rows, group: str) -> Table:
  """How often labelers of a group prefer the row's subject to the column's."""
  mine = [row for row in rows if row.get("labelers") == group]
  found = {
    (row["subject"], row["baseline"]): cell(row, percent=True) for row in mine
  }
  names = list(dict.fromkeys([n for pair in found for n in pair]))
  lines = tuple(
    (subject(a), *(found.get((a, b), Cell("–")) for b in names)) for a in names
  )
  heads = tuple(f"over {subject(b)}" for b in names)
  return Table(("", *heads), lines, words(group).capitalize(), _sizes(mine))


def closing(tables: Mapping[str, Rows]) -> Table | None:
  """A line a figure, a column a subject; None without subjects."""
  lines, names = [], []
  for label, name, labels in CLOSING:
    rows = tables.get(name) or []
    baseline = baseline_of(rows)
    if baseline is not None:
      labels = labels | {"baseline": baseline}
      label = label.format(subject(baseline))
    rows = [r for r in rows if labels.items() <= r.items() and "subject" in r]
    percent = name in EXHIBITS and EXHIBITS[name].percent
    percent = percent or name == "preference"
    found = {r["subject"]: cell(r, percent=percent) for r in rows}
    if found:
      lines.append((label, found))
      names += [n for n in found if n not in names]
  # The order of a table in which everyone is, the baseline too.
  whole = max((list(f) for _, f in lines), key=len, default=[])
  names = [*whole, *(n for n in names if n not in whole)]
  if not lines:
    return None
  rows = (
    (label, *(found.get(name, "") for name in names)) for label, found in lines
  )
  return Table(("", *map(subject, names)), tuple(rows))


def baseline_of(rows: Rows) -> str | None:
  """The subject that the others are held against: SFT, if it is there."""
  names = [row["baseline"] for row in rows if "baseline" in row]
  return "sft" if "sft" in names else (names[-1] if names else None)


def _with_measure(row: Mapping[str, Any]) -> dict[str, Any]:
  """The reward table's log losses differ from accuracies by metric only."""
  is_loss = "log_loss" in str(row.get("metric", ""))
  return {**row, "measure": "log loss" if is_loss else "accuracy"}


def _label(row: Mapping[str, Any], columns: str) -> str:
  parts = []
  for key, value in row.items():
    if key in (columns, "metric") or not isinstance(value, str):
      continue
    text = words(value)
    parts.append(f"over {text}" if key == "baseline" else text)
  return ", ".join(parts)


def _sizes(rows: Rows) -> str:
  """How much stands behind the figures, where it is the same for all."""
  sizes = {(row.get("n"), row.get("clusters")) for row in rows}
  if len(sizes) != 1:
    return ""
  ((n, clusters),) = sizes
  if n is None:
    return ""
  if clusters is None or clusters == n:
    return f"n = {n}."
  return f"n = {n}, in {clusters} independent clusters."


def _number(value: Any, percent: bool) -> str:
  if not is_number(value):
    return "–" if value is None else str(value)
  if not math.isfinite(value):
    return str(value)
  if percent:
    return f"{100 * value:.1f} %"
  if isinstance(value, int) or (float(value).is_integer() and abs(value) > 99):
    return f"{int(value)}"
  return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else metrics.number(value)


def _interval(row: Mapping[str, Any], percent: bool) -> str:
  low, high = row.get("low"), row.get("high")
  if not (is_number(low) and is_number(high)):
    return ""
  if not (math.isfinite(low) and math.isfinite(high)):
    return ""
  if percent:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
  return f"[{low:.2f}, {high:.2f}]"


def is_number(value: Any) -> bool:
  """True for integers and floats, NaN included."""
  return isinstance(value, (int, float)) and not isinstance(value, bool)
