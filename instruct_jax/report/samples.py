"""Responses and samples, chosen without looking at them."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import logged, run_folder, terminal
from instruct_jax.report import exhibits, wording

SAMPLES = 24  # validation prompts that are shown
RESPONSES = 240  # test prompts that are shown, and can be filtered
FIRST = 24  # of them at a time, where the page's script runs
MANY = 8  # subjects; of more, outcomes are shown against the baseline
LETTERS = 600  # of a text that is shown
ALL_LETTERS = 400_000  # of all texts together

# What decides who won, the first that all responses have: its name in a record,
# and in words.
MEASURES = {
  "preferred": "most training labelers prefer it",
  "score": "the judge's score is higher",
  "reward": "the reward model's score is higher",
}

_REMEDY = (
  "To have it whole again, delete results.json in the same folder and give the"
  " command of this run again: it evaluates again, and does not train again."
)


@dataclasses.dataclass(frozen=True)
class Said:
  """The whole records of responses.jsonl, and what is wrong with the file."""

  records: tuple[dict[str, Any], ...]
  problem: str = ""  # sentences, with the remedy


def read(folder: epath.Path, *, is_due: bool, prompts: int = 0) -> Said:
  """The responses of a run; nothing that is wrong with the file is raised.

  `is_due` says that the run was evaluated, so that the file should be there;
  `prompts`, where it is known, how many lines it should have.
  """
  path = run_folder.files(folder).responses
  if not path.exists():
    missing = f"{path.name} is missing from this run's folder, so that what the"
    missing += " models said to the test prompts cannot be shown."
    return Said((), f"{missing} {_REMEDY}" if is_due else "")
  try:
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
  except OSError as error:
    return Said((), f"{path.name} could not be read ({error}). {_REMEDY}")
  read_lines = [_record(line) for line in lines]
  records = tuple(record for record in read_lines if record is not None)
  problems = []
  if bad := len(lines) - len(records):
    what = "1 line" if bad == 1 else f"{bad} lines"
    problems.append(f"{what} of {path.name} could not be read.")
  if (fewer := prompts - len(lines)) > 0:
    what = "1 line" if fewer == 1 else f"{fewer} lines"
    problems.append(f"{what} of {prompts} are missing from {path.name}.")
  return Said(records, " ".join([*problems, _REMEDY]) if problems else "")


def side_by_side(
  records: Sequence[dict[str, Any]], baseline: str = ""
) -> dict[str, Any] | None:
  """Responses of all subjects to some of the test prompts.

  A row's "won" are 'a>b' for each pair of subjects of which the first has the
  better liked response, 'a=b' for a tie; where subjects are many, of each and
  the `baseline`.
  """
  if not records:
    return None
  shown = _spread(records)
  names = list(dict.fromkeys(n for r in shown for n in r["responses"]))
  pairs = _pairs(names, baseline)
  measure = _measure(shown, names)
  differ = len(_temperatures(shown)) > 1
  rows = [
    {
      "prompt": _cut(record.get("prompt", "")),
      "use_case": wording.words(record.get("use_case", "")),
      "won": " ".join(_won(record["responses"], pairs, measure)),
      "answers": [
        {"subject": wording.subject(n), "name": n}
        | _answer(record["responses"].get(n), temperature=differ)
        for n in names
      ],
    }
    for record in shown
  ]
  for row in rows:
    for answer in row["answers"]:
      answer["won"] = _standing(answer["name"], row["won"].split(" "))
  return {
    "rows": rows,
    "total": len(records),
    "first": FIRST,
    "measure": MEASURES.get(measure, ""),
    "use_cases": sorted({row["use_case"] for row in rows} - {""}),
    "outcomes": _outcomes(pairs) if measure else [],
  }


def _temperatures(records: list[dict[str, Any]]) -> set[float]:
  """What the responses were sampled at, as far as they say so."""
  said = [one for record in records for one in record["responses"].values()]
  found = [one.get("temperature") for one in said if isinstance(one, dict)]
  return {value for value in found if exhibits.is_number(value)}


def _measure(records: list[dict[str, Any]], names: list[str]) -> str:
  """What every response of every subject has; "" for nothing."""
  said = [r["responses"].get(name) for r in records for name in names]
  return next((m for m in MEASURES if all(_has(one, m) for one in said)), "")


def _has(said: Any, measure: str) -> bool:
  if not isinstance(said, dict):
    return False
  kind = dict if measure == "preferred" else (int, float)
  return isinstance(said.get(measure), kind)


def _pairs(names: list[str], baseline: str) -> list[tuple[str, str]]:
  """The pairs whose outcomes are shown: all, of many those of the baseline."""
  pairs = list(itertools.combinations(names, 2))
  if len(names) <= MANY or baseline not in names:
    return pairs
  return [pair for pair in pairs if baseline in pair]


def _won(
  said: dict[str, Any], pairs: list[tuple[str, str]], measure: str
) -> Iterator[str]:
  if not measure:
    return
  for a, b in pairs:
    if said[a].get("text") == said[b].get("text"):
      ahead = 0.0
    elif measure == "preferred":
      share = said[a]["preferred"].get(b)
      ahead = share - 0.5 if exhibits.is_number(share) else 0.0
    else:
      ahead = said[a][measure] - said[b][measure]
    yield f"{a}>{b}" if ahead > 0 else f"{b}>{a}" if ahead < 0 else f"{a}={b}"


def _standing(name: str, won: Sequence[str]) -> str:
  """'wins over SFT; level with PPO' of one subject, from a row's "won"."""
  pairs = [w.partition(">") if ">" in w else w.partition("=") for w in won if w]
  over = [b for a, sign, b in pairs if sign == ">" and a == name]
  level = [
    b if a == name else a
    for a, sign, b in pairs
    if sign == "=" and name in (a, b)
  ]
  said = [
    f"{verb} {', '.join(map(wording.subject, others))}"
    for verb, others in (("wins over", over), ("level with", level))
    if others
  ]
  return "; ".join(said)


def _outcomes(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
  """(as in "won", in words) of all that can be asked for, the last first."""
  outcomes, names = [], list(dict.fromkeys(itertools.chain(*pairs)))
  places = sorted(((names.index(a), names.index(b)) for a, b in pairs),
                  key=lambda pair: pair[::-1], reverse=True)  # fmt: skip
  for a, b in ((names[i], names[j]) for i, j in places):
    one, other = wording.subject(b), wording.subject(a)
    outcomes += [
      (f"{b}>{a}", f"{one} over {other}"),
      (f"{a}>{b}", f"{other} over {one}"),
      (f"{a}={b}", f"{one} and {other} alike"),
    ]
  return outcomes


def _answer(said: Any, *, temperature: bool = False) -> dict[str, str]:
  """The text of a response, and what judge and reward model made of it.

  With the `temperature` that it was sampled at, where that is asked for.
  """
  if said is None:
    return {"text": "", "note": ""}
  said = {"text": said} if isinstance(said, str) else said
  notes = []
  if exhibits.is_number(said.get("likert")):
    notes.append(f"Likert {terminal.number(said['likert'])}")
  if exhibits.is_number(said.get("reward")):
    notes.append(f"reward {said['reward']:+.2f}")
  if temperature and exhibits.is_number(said.get("temperature")):
    notes.append(f"temperature {terminal.number(said['temperature'])}")
  text = _cut(said.get("text", ""))
  if said.get("ended") is False:
    text += " …"
  return {"text": text, "note": ", ".join(notes)}


def _spread(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
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
  every = logged.read_samples(folder)
  newest = max((row["step"] for row in every), default=None)
  rows = [row for row in every if row["step"] == newest and "prompt" in row]
  if not rows:
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


def _record(line: bytes) -> dict[str, Any] | None:
  """The record that a line of responses.jsonl holds; None where it is none."""
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  said = record.get("responses") if isinstance(record, dict) else None
  if not isinstance(said, dict):
    return None
  known = (dict, str, type(None))
  return record if all(isinstance(x, known) for x in said.values()) else None


def _cut(text: Any) -> str:
  text = str(text)
  return text if len(text) <= LETTERS else text[:LETTERS] + " …"
