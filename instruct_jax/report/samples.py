"""Responses and samples, chosen without looking at them."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from etils import epath

from instruct_jax.base import journal, run_folder, terminal
from instruct_jax.report import captions, exhibits

SAMPLES = 24  # validation prompts that are shown
RESPONSES = 240  # test prompts that are shown, and can be filtered
FIRST = 24  # of them at a time, where the page's script runs
LETTERS = 600  # of a text that is shown
ALL_LETTERS = 400_000  # of all texts together

# What decides who won, the first that all responses have: its name in a record,
# and in words.
MEASURES = {
  "preferred": "most training labelers prefer it",
  "score": "the judge's score is higher",
  "reward": "the reward model's score is higher",
}


def side_by_side(folder: epath.Path) -> dict[str, Any] | None:
  """Responses of all subjects to some of the test prompts.

  A row's "won" are 'a>b' for each pair of subjects of which the first has the
  better liked response, 'a=b' for a tie.
  """
  path = run_folder.files(folder).responses
  records = [r for r in _lines(path) if isinstance(r.get("responses"), dict)]
  if not records:
    return None
  shown = _spread(records)
  names = list(dict.fromkeys(n for r in shown for n in r["responses"]))
  measure = _measure(shown, names)
  rows = [
    {
      "prompt": _cut(record.get("prompt", "")),
      "use_case": captions.words(record.get("use_case", "")),
      "won": " ".join(_won(record["responses"], names, measure)),
      "answers": [
        {"subject": captions.subject(n)} | _answer(record["responses"].get(n))
        for n in names
      ],
    }
    for record in shown
  ]
  return {
    "rows": rows,
    "total": len(records),
    "first": FIRST,
    "measure": MEASURES.get(measure, ""),
    "use_cases": sorted({row["use_case"] for row in rows} - {""}),
    "outcomes": _outcomes(names) if measure else [],
  }


def _measure(records: list[dict[str, Any]], names: list[str]) -> str:
  """What every response of every subject has; "" for nothing."""
  said = [r["responses"].get(name) for r in records for name in names]
  return next((m for m in MEASURES if all(_has(one, m) for one in said)), "")


def _has(said: Any, measure: str) -> bool:
  if not isinstance(said, dict):
    return False
  kind = dict if measure == "preferred" else (int, float)
  return isinstance(said.get(measure), kind)


def _won(said: dict[str, Any], names: list[str], measure: str) -> Iterator[str]:
  if not measure:
    return
  for a, b in itertools.combinations(names, 2):
    if said[a].get("text") == said[b].get("text"):
      ahead = 0.0
    elif measure == "preferred":
      ahead = said[a]["preferred"].get(b, 0.5) - 0.5
    else:
      ahead = said[a][measure] - said[b][measure]
    yield f"{a}>{b}" if ahead > 0 else f"{b}>{a}" if ahead < 0 else f"{a}={b}"


def _outcomes(names: list[str]) -> list[tuple[str, str]]:
  """(as in "won", in words) of all that can be asked for, the last first."""
  outcomes = []
  for b, a in itertools.combinations(reversed(names), 2):
    one, other = captions.subject(b), captions.subject(a)
    outcomes += [
      (f"{b}>{a}", f"{one} over {other}"),
      (f"{a}>{b}", f"{other} over {one}"),
      (f"{a}={b}", f"{one} and {other} alike"),
    ]
  return outcomes


def _answer(said: Any) -> dict[str, str]:
  """The text of a response, and what judge and reward model made of it."""
  if said is None:
    return {"text": "", "note": ""}
  said = {"text": said} if isinstance(said, str) else said
  notes = []
  if exhibits.is_number(said.get("likert")):
    notes.append(f"Likert {terminal.number(said['likert'])}")
  if exhibits.is_number(said.get("reward")):
    notes.append(f"reward {said['reward']:+.2f}")
  text = _cut(said.get("text", ""))
  if said.get("ended") is False:
    text += " …"
  return {"text": text, "note": ", ".join(notes)}


def _spread(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """The first records of all use cases in turn, as many as the page holds."""
  turns, seen = [], {}
  for n, record in enumerate(records):
    case = str(record.get("use_case", ""))
    seen[case] = seen.get(case, 0) + 1
    turns.append((seen[case], n))
  chosen, letters = [], 0
  for _, n in sorted(turns)[:RESPONSES]:
    letters += _letters(records[n])
    if chosen and letters > ALL_LETTERS:
      break
    chosen.append(records[n])
  return chosen


def _letters(record: dict[str, Any]) -> int:
  texts = [record.get("prompt", "")]
  for said in record["responses"].values():
    texts.append(said.get("text", "") if isinstance(said, dict) else said)
  return sum(min(len(str(text)), LETTERS) + 100 for text in texts)


def last(folder: epath.Path) -> exhibits.Table | None:
  """What the run said to validation prompts when it last sampled."""
  logged = journal.read_samples(folder)
  newest = max((row["step"] for row in logged), default=None)
  rows = [row for row in logged if row["step"] == newest and "prompt" in row]
  if not rows or run_folder.files(folder).responses.exists():
    return None
  keys = [key for key in rows[0] if key != "step"]
  lines = tuple(
    tuple(
      exhibits.Cell(f"{value:.2f}") if exhibits.is_number(value)
      else _cut("" if value is None else value)
      for value in (row.get(key) for key in keys)
    )
    for row in rows[:SAMPLES]
  )  # fmt: skip
  return exhibits.Table(
    tuple(keys), lines, caption=f"Validation prompts, after step {newest}."
  )


def _lines(path: epath.Path) -> list[dict[str, Any]]:
  """The objects of a JSONL file; lines that are not whole are left out."""
  records = []
  for line in path.read_text().split("\n") if path.exists() else []:
    try:
      record = json.loads(line)
    except ValueError:
      continue
    if isinstance(record, dict):
      records.append(record)
  return records


def _cut(text: Any) -> str:
  text = str(text)
  return text if len(text) <= LETTERS else text[:LETTERS] + " …"
