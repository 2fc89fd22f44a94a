"""All findings on a run and on what it was built on."""

import dataclasses

from etils import epath

from instruct_jax.doctor import (
  finding,
  leaks,
  policy,
  record,
  responses,
  reward,
  updates,
)

GROUPS = (updates, policy, reward, responses, leaks)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """What was found, and in what."""

  findings: list[finding.Finding]  # evidence begins with the run's name
  runs: list[record.Record]  # that were read, the one that was named first
  missing: list[str]  # names of what it was built on that is not there


def run(folder: epath.PathLike) -> Diagnosis:
  """Examines a run, and as far as they are there those it was built on.

  Raises UserError where `folder` is no run.
  """
  runs = list(record.chain(record.read(folder)))
  there = {str(each.folder.resolve()) for each in runs}
  missing = {
    path.name
    for each in runs
    for path in each.needs.values()
    if str(path.resolve()) not in there
  }
  findings = [f for each in runs for f in of_record(each)]
  return Diagnosis(findings, runs, sorted(missing))


def of_record(one: record.Record) -> list[finding.Finding]:
  """The findings on one run; what follows from another is told with it."""
  found = [
    result
    for group in GROUPS
    for find in group.FINDINGS
    if (result := find(one)) is not None
  ]
  roots = [each for each in found if not any(_explains(x, each) for x in found)]
  return [
    dataclasses.replace(
      each, evidence=f"{one.name}: {each.evidence}.{_also(each, found, roots)}"
    )
    for each in roots
  ]


def _explains(cause: finding.Finding, other: finding.Finding) -> bool:
  if cause.name not in other.follows:
    return False
  first, second = (cause.since, cause.name), (other.since, other.name)
  return other.name not in cause.follows or first < second


def _also(
  cause: finding.Finding,
  found: list[finding.Finding],
  roots: list[finding.Finding],
) -> str:
  """What may well come of it, each told with the first of its causes."""
  names = [each.name for each in roots]
  told = [
    each
    for each in found
    if each not in roots
    and next((n for n in each.follows if n in names), names[0]) == cause.name
  ]
  return "".join(f" With it, {x.name}: {x.evidence}." for x in told)
