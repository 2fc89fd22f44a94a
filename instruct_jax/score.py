"""Scores samples that somebody made, per group, with standard errors.

  python -m instruct_jax.score --task squadv2 --samples squadv2_samples.csv
  python -m instruct_jax.score --task wmt --samples FILE --column sample=output
  python -m instruct_jax.score --task drop --samples FILE --by=model --json

Task           Reads             Metrics
squadv2, drop  ref_text, sample  f1, em: percent, by the official normalisation
wmt            ref_text, sample  bleu: sacrebleu's, percent
summarization  ref_text, sample  rougeL: rouge-score's F measure, a fraction
truthfulqa     true, info        true, info, true_info: fractions at 0.5 or more
toxicity       toxicity          toxicity: the mean

The file is CSV, TSV, JSON lines or Parquet, compressed or not. `|` stands
between the alternatives of ref_text, of which the best counts; of DROP each is
one span. Groups are the values of --by: model_type and prompt_type where the
file has them. A standard error is that of a mean over independent samples, of
BLEU that of 1,000 bootstrap draws. --json prints a line a group and metric.
Exit codes: 0 done, 2 bad input.
"""

import argparse
import dataclasses
import sys

from instruct_jax.base import command, errors, progress, streams, terminal
from instruct_jax.scoring import samples, tasks


def main() -> None:
  """Reads, measures, prints."""
  given = _parser().parse_args()
  if given.task not in tasks.TASKS:
    raise errors.unknown("--task", given.task, tasks.TASKS)
  task = tasks.TASKS[given.task]
  by = None if given.by is None else _names(given.by)
  columns, groups = samples.read(
    given.samples_file, task, named=_named(given.column), by=by
  )
  found = {}
  with progress.Progress(f"{given.task} samples", len(groups)) as line:
    for number, (group, rows) in enumerate(groups.items(), start=1):
      if task.has_unanswerable:
        rows = [tasks.with_no_answer(row, given.no_answer) for row in rows]
      found[group] = task.measure(rows)
      line.update(number)
  (_print_json if given.json else _print_table)(columns, found)


def _parser() -> argparse.ArgumentParser:
  parser = command.Parser("instruct_jax.score", __doc__)
  parser.add_argument("--task", required=True, help=", ".join(tasks.TASKS))
  parser.add_argument(
    "--samples",
    required=True,
    dest="samples_file",
    metavar="FILE",
    help="what to score",
  )
  parser.add_argument(
    "--by", help="columns to group by, with commas; '': all are one group"
  )
  parser.add_argument(
    "--column",
    action="append",
    default=[],
    metavar="NAME=COLUMN",
    help="what the file calls a column; repeat it for several",
  )
  parser.add_argument(
    "--no_answer",
    default=tasks.NO_ANSWER,
    help="squadv2: the text for 'there is no answer'",
  )
  parser.add_argument("--json", action="store_true", help="JSON lines")
  return parser


def _names(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(",") if name.strip())


def _named(pairs: list[str]) -> dict[str, str]:
  """{'ref_text': 'answer'} of ['ref_text=answer']."""
  named = {}
  for pair in pairs:
    ours, _, theirs = pair.partition("=")
    if not ours or not theirs:
      raise errors.UserError(
        f"--column={pair}: NAME=COLUMN is right, as ref_text=answer"
      )
    if ours in named:
      raise errors.UserError(f"--column={pair}: {ours} is named twice")
    named[ours] = theirs
  return named


def _print_json(
  columns: tuple[str, ...], found: dict[samples.Group, tasks.Measured]
) -> None:
  for group, metrics in found.items():
    for metric, estimate in metrics.items():
      line = {"group": dict(zip(columns, group)), "metric": metric}
      print(streams.json_line(line | dataclasses.asdict(estimate)))


def _print_table(
  columns: tuple[str, ...], found: dict[samples.Group, tasks.Measured]
) -> None:
  rows = [
    (*group, metric, x.value, x.stderr, x.n)
    for group, metrics in found.items()
    for metric, x in metrics.items()
  ]
  headers = (*columns, "metric", "value", "standard error", "samples")
  terminal.table(rows, headers, stream=sys.stdout)


if __name__ == "__main__":
  command.run(main)
