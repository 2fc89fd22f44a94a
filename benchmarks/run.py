"""Runs this package and its peers side by side, on the same work.

  python -m benchmarks.run --suite=smoke            # seconds, our side alone
  python -m benchmarks.run --suite=ppo,sft --repeats=5
  python -m benchmarks.run                          # all rows against all peers
  python -m benchmarks.run --suite=chain --parent=COMMIT
  python -m benchmarks.run --suite=growth           # how cost grows, drawn

Each side is a process of its own and takes turns with the other, A B B A; a
peer lives in an environment that this command makes, under
~/.cache/instruct_jax/peers. Both read the same weights and token lists, have
two threads and no allocator's flags. What a side gave is checked before a
number is believed: units of work, tokens, finite losses, the weights' digest,
logits of a probe. A ratio is the median of those of the pairs of runs, with
the least and the greatest.

What is measured is merged into benchmarks/results/suite.json and into the
README's table; with --out=FILE into that file alone.
"""

import json
import pathlib
import sys

from benchmarks.suite import (
  environments,
  growth,
  measuring,
  parent,
  rows,
  table,
  turns,
)
from instruct_jax.base import claims, command, errors, storage, terminal

RESULTS = turns.ROOT / "benchmarks" / "results" / "suite.json"
README = turns.ROOT / "README.md"
DEFAULT = ",".join(dict.fromkeys(row.suite for row in rows.ROWS))


def parser() -> command.Parser:
  """The options."""
  made = command.Parser("benchmarks.run", __doc__)
  made.add_argument(
    "--suite", default=DEFAULT, help="suites or rows, with commas"
  )
  made.add_argument("--peers", default="all", help="environments; all, none")
  made.add_argument(
    "--parent", default="HEAD~1", help="the other commit of --suite=chain"
  )
  made.add_argument(
    "--experiment", default=parent.EXPERIMENT, help="what --suite=chain runs"
  )
  made.add_argument("--repeats", type=int, default=5)
  made.add_argument("--json", action="store_true", help="print JSON")
  made.add_argument("--out", help="a file instead of the committed results")
  made.add_argument("--overwrite", action="store_true")
  return made


def peers_of(text: str) -> list[str] | None:
  """The environments that --peers names; None for all of them."""
  if text in ("all", "none"):
    return None if text == "all" else []
  names = text.split(",")
  for name in names:
    if name not in environments.REQUIREMENTS:
      raise errors.unknown(
        "--peers", name, (*environments.REQUIREMENTS, "all", "none")
      )
  return names


def measured(
  wanted: list[rows.Row], peers: list[str] | None, repeats: int
) -> dict[str, measuring.Result]:
  """The results of these rows; those of others' runs after the others."""
  peak = measuring.peak_flops([pathlib.Path(sys.executable)])
  found: dict[str, measuring.Result] = {}
  shared = measuring.conditions(peak)
  for row in wanted:
    if row.of:
      if row.of in found:
        found[row.name] = measuring.derived(row, found[row.of])
      continue
    measuring.say(f"{row.name}: {row.title}")
    result = measuring.measure(
      row, repeats, peak=max(peak.values()), peers=peers
    )
    found[row.name] = result | {"conditions": shared}
    for problem in result["problems"]:
      measuring.say(f"  {problem}")
  return found


def show(results: dict[str, measuring.Result]) -> None:
  """Prints the table."""
  terminal.table(table.lines(results), list(table.COLUMNS))
  print(table.loads(results))


def grown(repeats: int, out: str | None) -> None:
  """Measures how cost grows; writes the numbers and the figure."""
  found = growth.measure(repeats)
  for name, line in found.items():
    if name != "load":
      print(f"{name}: exponent {line.get('exponent', '–')}", *line["problems"])
  storage.write_json(out or growth.RESULTS, found)
  if not out:
    growth.draw(found, growth.FIGURE)


def main() -> None:
  """Measures, prints, writes."""
  given = parser().parse_args()
  names = given.suite.split(",")
  wanted = rows.chosen(names)
  peers = peers_of(given.peers)
  if "chain" in names:
    parent.commit_of(given.parent)
  if given.out:
    claims.claim(given.out, overwrite=given.overwrite)
  if "growth" in names:
    if len(names) > 1:
      raise errors.UserError("--suite=growth writes a file of its own: alone")
    grown(given.repeats, given.out)
    return
  results = measured(wanted, peers, given.repeats) if wanted else {}
  if "chain" in names:
    made = parent.measure(given.parent, given.experiment, given.repeats)
    results[parent.ROW] = made
  print(json.dumps(results, indent=1)) if given.json else show(results)
  if given.out:
    storage.write_json(given.out, {"rows": results})
    claims.sign(given.out)
  elif not all(name.startswith("smoke") for name in results):
    everything = measuring.merge(RESULTS, results)
    table.refresh(README, everything["rows"])


if __name__ == "__main__":
  command.run(main)
