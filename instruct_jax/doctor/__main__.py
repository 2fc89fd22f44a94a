"""Names what is wrong with a run, with the evidence and the remedy.

  python -m instruct_jax.doctor runs/ppo_ptx-tiny
  python -m instruct_jax.doctor runs/ppo_ptx-tiny --json

RUN is the folder of a run of any algorithm, finished, unfinished or diverged;
what it was built on is read, too, as far as it is there: data set, rankings,
SFT, reward model. A finding is not proof: it is a number that no healthy run
has, and what is known to cause it. What was not measured is not accused.

--json prints {"findings": [{"name", "evidence", "remedy"}]}. Exit codes: 0
nothing found, 1 something found, 2 there is no run.
"""

import json
import shutil
import sys
import textwrap

from instruct_jax.base import command
from instruct_jax.doctor import examine, finding, record

FOUND = 1


def main() -> None:
  """Examines, prints; ends with 1 where something was found."""
  parser = command.Parser("instruct_jax.doctor", __doc__)
  parser.add_argument("run", metavar="RUN", help="the folder of a run")
  parser.add_argument("--json", action="store_true", help="print JSON")
  given = parser.parse_args()
  found = examine.run(given.run)
  if given.json:
    rows = [_row(each) for each in found.findings]
    print(json.dumps({"findings": rows}, indent=2, ensure_ascii=False))
  else:
    print("\n".join(_lines(found)))
  if found.findings:
    sys.exit(FOUND)


def _row(one: finding.Finding) -> dict[str, str]:
  return {"name": one.name, "evidence": one.evidence, "remedy": one.remedy}


def _lines(found: examine.Diagnosis) -> list[str]:
  first, *others = found.runs
  lines = [f"{first.folder}: {_state(first)}"]
  if others:
    lines.append(f"with {', '.join(each.name for each in others)}")
  if found.missing:
    lines.append(f"not there to be looked at: {', '.join(found.missing)}")
  count = len(found.findings)
  lines.append(
    f"{count} finding{'s' if count > 1 else ''}" if count else "nothing found"
  )
  for each in found.findings:
    lines += ["", each.name, *_wrapped(each.evidence), *_wrapped(each.remedy)]
  return lines


def _state(run: record.Record) -> str:
  what = run.algorithm or run.job or "a run"
  done = "finished" if run.results else "not finished"
  return f"{what}, {done}" + (f", {run.steps} steps" if run.log else "")


def _wrapped(text: str) -> list[str]:
  width = max(40, min(100, shutil.get_terminal_size((80, 24)).columns))
  return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")


if __name__ == "__main__":
  command.run(main)
