"""The table of claims: what the paper has, what was found here, one word.

python -m instruct_jax.figures claims                       # committed results
python -m instruct_jax.figures claims --runs=runs
python -m instruct_jax.figures claims --again               # seeds 5 to 9
python -m instruct_jax.figures claims --format=json
python -m instruct_jax.figures claims --readme=README.md    # its table anew
python -m instruct_jax.figures claims --format=criteria > docs/claims.md

What was tried for a claim that is not shown is read from FOLDER/tried.json,
{"5": "more rankings: ..."}, and has a column of its own.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import command, errors, storage, terminal
from instruct_jax.figures import claims, collected, criteria, groups, verdicts

START = "<!-- figures claims: begin -->"
STOP = "<!-- figures claims: end -->"
FORMATS = ("text", "markdown", "json", "criteria")
HEADS = (
  "claim",
  "the paper",
  "here [95 % over seeds] (what shows it)",
  "verdict",
)
_TRIED = "what was tried"


def found(measured: verdicts.Measured) -> str:
  """'57.2 % [55.1, 59.3]'; of too few seeds what each has; else '–'."""
  unit = measured.part.unit
  if measured.interval is not None:
    one = measured.interval
    ends = (unit.number(end, bare=True) for end in (one.low, one.high))
    return f"{unit.number(one.value)} [{', '.join(ends)}]"
  if not measured.values:
    return terminal.NONE
  each = (unit.number(x, bare=True) for x in measured.values.values())
  return f"{' / '.join(each)}{unit.words}"


def seeds_of(measured: verdicts.Measured) -> str:
  """'5 seeds'; 'seeds 0, 1 of 5' where some are missing."""
  due = len(measured.part.source.seeds)
  there = [str(seed) for seed in measured.values]
  if len(there) == due:
    return f"{due} seeds"
  noun = "seed" if len(there) == 1 else "seeds"
  return f"{noun} {', '.join(there)} of {due}" if there else f"0 of {due} seeds"


def line(measured: verdicts.Measured) -> str:
  """One part in one line: the number, and what would show it."""
  part = measured.part
  due = part.criterion.described(part.unit)
  guard = "guard: " if part.is_guard else ""
  return f"{guard}{part.words}: {found(measured)} ({due}; {seeds_of(measured)})"


def as_json(verdict: verdicts.Verdict, tried: str = "") -> dict[str, Any]:
  """A claim with all its numbers."""
  claim = verdict.claim
  return {
    "claim": claim.key,
    "words": claim.words,
    "paper": claim.paper,
    "why": claim.why,
    "command": claim.source.command,
    "verdict": verdict.word,
    "tried": tried,
    "parts": [_part(one) for one in verdict.parts],
  }


def _part(measured: verdicts.Measured) -> dict[str, Any]:
  part, interval = measured.part, measured.interval
  return {
    "words": part.words,
    "guard": part.is_guard,
    "criterion": part.criterion.described(part.unit),
    "outcome": measured.outcome,
    "value": _number(interval.value) if interval else None,
    "low": _number(interval.low) if interval else None,
    "high": _number(interval.high) if interval else None,
    "seeds": {str(s): _number(x) for s, x in measured.values.items()},
    "missing": measured.lacking,
  }


def _number(value: float) -> float | None:
  """JSON has no infinity."""
  return value if math.isfinite(value) else None


def markdown(
  decided: Sequence[verdicts.Verdict], tried: Mapping[str, str]
) -> str:
  """The table as the README has it."""
  heads = (*HEADS, _TRIED) if _due(decided, tried) else HEADS
  lines: list[Sequence[str]] = [heads, ["---"] * len(heads)]
  for verdict in decided:
    claim = verdict.claim
    cells = [
      f"{claim.key}. {claim.words}",
      claim.paper,
      "<br>".join(map(line, verdict.parts)),
      f"*{verdict.word}*",
      tried.get(claim.key, ""),
    ]
    lines.append([cell.replace("|", "\\|") for cell in cells[: len(heads)]])
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _due(decided: Sequence[verdicts.Verdict], tried: Mapping[str, str]) -> bool:
  return any(verdict.claim.key in tried for verdict in decided)


def text(decided: Sequence[verdicts.Verdict], tried: Mapping[str, str]) -> None:
  """Prints the table: a line a part under that of its claim."""
  rows = []
  for verdict in decided:
    claim = verdict.claim
    rows.append((f"{claim.key}. {claim.words}", "", "", verdict.word))
    for one in verdict.parts:
      part = one.part
      rows.append(
        (
          f"{'guard: ' if part.is_guard else ''}{part.words}",
          found(one),
          part.criterion.described(part.unit),
          one.outcome if one.interval else f"{one.outcome}: {one.lacking}",
        )
      )
    if claim.key in tried:
      rows.append((f"{_TRIED}: {tried[claim.key]}", "", "", ""))
  terminal.table(
    rows, ("claim", "here, 95 % over seeds", "shown if", "verdict")
  )


def document() -> str:
  """docs/claims.md: what is claimed, and what will show it."""
  lines = [
    "# What shows a claim",
    "",
    "Made by `python -m instruct_jax.figures claims --format=criteria` from"
    " `instruct_jax/figures/claims.py`, which was committed before any of it"
    " was measured on test prompts of the world that it is measured in; a test"
    " holds the two together.",
    "",
    *_rules(),
  ]
  for claim in claims.CLAIMS:
    lines += ["", f"## {claim.key}. {claim.words}", ""]
    lines += [f"The paper: {claim.paper}. {claim.why}", ""]
    for part in claim.parts:
      due = part.criterion.described(part.unit)
      guard = "guard: " if part.is_guard else ""
      count = len(part.source.seeds)
      lines.append(
        f"- {guard}{part.words}: {due} ({part.source.name}, {count} seeds)"
      )
  return "\n".join(lines)


def _rules() -> list[str]:
  """The docstrings that say how margins are chosen and words given."""
  rules = [str(claims.__doc__), str(criteria.__doc__)]
  return ["\n\n".join(x.partition("\n\n")[2].strip() for x in rules)]


def refresh(
  readme: epath.PathLike, table: str, *, marks: tuple[str, str] = (START, STOP)
) -> None:
  """Puts the table between the two marks; UserError where they are not."""
  path = epath.Path(readme)
  if not path.exists():
    raise errors.UserError(f"--readme={readme}: no such file")
  before, start, rest = path.read_text().partition(marks[0])
  _, stop, after = rest.partition(marks[1])
  if not start or not stop:
    between = " and ".join(marks)
    raise errors.UserError(
      f"--readme={readme}: has no table to replace, between {between}"
    )
  storage.write(path, f"{before}{marks[0]}\n{table}\n{marks[1]}{after}")


def parser() -> command.Parser:
  """The options."""
  made = command.Parser("instruct_jax.figures claims", __doc__)
  made.add_argument("--runs", help="finished runs; the committed results")
  made.add_argument(
    "--again", action="store_true", help="by the second set of seeds"
  )
  made.add_argument("--format", default="text", help=", ".join(FORMATS))
  made.add_argument("--readme", help="a file whose table is made anew")
  return made


def main(arguments: Sequence[str]) -> None:
  """Prints the table, or writes it into a README."""
  given = parser().parse_args(arguments)
  if given.format not in FORMATS:
    raise errors.unknown("--format", given.format, FORMATS)
  if given.format == "criteria":
    print(document())
    return
  home = collected.AGAIN if given.again else collected.COMMITTED
  there = collected.collect(given.runs or home)
  chosen = claims.CLAIMS
  if given.again:
    chosen = [claims.again(claim) for claim in chosen]
  decided = verdicts.decide(there.results, chosen)
  if given.readme:
    refresh(given.readme, markdown(decided, there.tried))
    return
  if given.format == "json":
    every = [as_json(x, there.tried.get(x.claim.key, "")) for x in decided]
    print(json.dumps({"claims": every, "left_out": there.left_out}, indent=1))
    return
  if given.format == "markdown":
    print(markdown(decided, there.tried))
    return
  text(decided, there.tried)
  left_out = groups.by_reason(there.left_out)
  if left_out:
    print()
    terminal.table(left_out, ("left out", "files", "such as"))
