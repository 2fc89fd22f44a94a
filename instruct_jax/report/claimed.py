"""Which of the paper's claims a run shows, with the seeds beside it.

One run decides nothing: its models, labels and samples are those of one seed.
So its numbers are said to point somewhere, and a verdict stands only where all
seeds that decide a claim are there (`figures.claims`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax.base import terminal
from instruct_jax.figures import claim_table, claims, criteria, verdicts

WORLD = "microworld"  # in which the margins were set
POINTS = {
  criteria.SHOWN: "points to it",
  criteria.NOT_SHOWN: "points to neither",
  criteria.REVERSED: "points the other way",
}


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of the table: a claim, or a part of the one above."""

  words: str
  paper: str = ""
  run: str = ""
  seeds: str = ""
  verdict: str = ""
  is_claim: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
  """What the page shows; nothing of it is empty."""

  lines: tuple[Line, ...]
  missing: tuple[tuple[str, str], ...]  # (what is missing, of which claims)

  @property
  def has_seeds(self) -> bool:
    """Whether other seeds are beside this run."""
    return any(line.seeds for line in self.lines)


def section(
  results: verdicts.Results, seed: int, config: Mapping[str, Any]
) -> Section | None:
  """The claims of which a run has a number; None for none, or elsewhere.

  Args:
    results: by experiment and seed, this run's and those beside it.
    seed: this run's.
    config: this run's.
  """
  data = config.get("data")
  if not isinstance(data, Mapping) or data.get("source") != WORLD:
    return None
  lines: list[Line] = []
  missing: dict[str, list[str]] = {}
  for verdict in verdicts.decide(results):
    values = [verdicts.of_seed(x.part, results, seed) for x in verdict.parts]
    if any(value is not None for value in values):
      lines += _lines(verdict, values)
    else:
      what = _lacking(verdict.claim)
      missing.setdefault(what, []).append(verdict.claim.key)
  if not lines:
    return None
  listed = [(what, _joined(keys)) for what, keys in missing.items()]
  return Section(tuple(lines), tuple(listed))


def _lines(
  verdict: verdicts.Verdict, values: Sequence[float | None]
) -> list[Line]:
  claim = verdict.claim
  heading = Line(
    f"{claim.key}. {claim.words}",
    paper=claim.paper,
    verdict=_decided(verdict),
    is_claim=True,
  )
  parts = [_part(x, value) for x, value in zip(verdict.parts, values)]
  return [heading, *parts]


def _decided(verdict: verdicts.Verdict) -> str:
  """The word, or what it lacks."""
  if verdict.word != criteria.NOT_MEASURED:
    return verdict.word
  there = [len(one.values) for one in verdict.parts]
  if absent := there.count(0):
    return f"not decided: {absent} of {len(there)} parts missing"
  due = [len(one.part.source.seeds) for one in verdict.parts]
  lacking = max(d - n for d, n in zip(due, there))
  noun = "seed" if lacking == 1 else "seeds"
  return f"not decided: {lacking} {noun} missing"


def _part(measured: verdicts.Measured, value: float | None) -> Line:
  part, unit = measured.part, measured.part.unit
  guard = "guard: " if part.is_guard else ""
  words = f"{guard}{part.words}, {part.criterion.described(unit)}"
  if value is None:
    return Line(words, run=terminal.NONE, verdict=_lacking_part(part))
  seeds = ""
  if measured.interval or len(measured.values) > 1:
    seeds = claim_table.found(measured)
  verdict = POINTS[part.criterion.points_to(value)]
  if measured.interval is not None:
    verdict = measured.outcome
  return Line(words, run=unit.number(value), seeds=seeds, verdict=verdict)


def _lacking_part(part: claims.Part) -> str:
  if part.source.is_default:
    return "not measured"
  return "needs the sweep"


def _lacking(claim: claims.Claim) -> str:
  """What would measure a claim."""
  if claim.source.is_default:
    return "not measured in this run"
  return f"measured by the sweep, {claim.source.command}"


def _joined(keys: Sequence[str]) -> str:
  """'Claims 2, 8 and 12'."""
  noun = "Claim" if len(keys) == 1 else "Claims"
  *first, last = keys
  return f"{noun} {', '.join(first)} and {last}" if first else f"{noun} {last}"
