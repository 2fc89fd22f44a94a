"""Responses and samples, chosen without looking at them."""

import json
from typing import Any

from etils import epath

from instruct_jax.base import journal, run_folder, terminal
from instruct_jax.report import captions, exhibits

SAMPLES = 24  # prompts that are shown
LETTERS = 600  # of a text that is shown


def side_by_side(folder: epath.Path) -> dict[str, Any] | None:
  """Responses of all subjects to some of the test prompts."""
  path = run_folder.files(folder).responses
  records = [r for r in _lines(path) if isinstance(r.get("responses"), dict)]
  if not records:
    return None
  shown = _spread(records)
  names = list(dict.fromkeys(n for r in shown for n in r["responses"]))
  rows = [
    {
      "prompt": _cut(record.get("prompt", "")),
      "use_case": captions.words(record.get("use_case", "")),
      "answers": [_answer(record["responses"].get(n)) for n in names],
    }
    for record in shown
  ]
  return {
    "subjects": [captions.subject(name) for name in names],
    "rows": rows,
    "total": len(records),
  }


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
  """The first records of all use cases in turn, SAMPLES together."""
  turns, seen = [], {}
  for n, record in enumerate(records):
    case = record.get("use_case", "")
    seen[case] = seen.get(case, 0) + 1
    turns.append((seen[case], n))
  chosen = sorted(turns)[:SAMPLES]
  order = sorted(chosen, key=lambda t: (records[t[1]].get("use_case", ""), t))
  return [records[n] for _, n in order]


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
