"""What is in a source, before anything is trained on it.

  python -m instruct_jax.data FILE... [--kind=rankings] [--tokenizer=FOLDER]
  python -m instruct_jax.data FILE... --out=FOLDER     # cleaned and split

Of what is larger than --most_mb it looks at a sample, and says so; --all holds
everything in memory.
Shows records by split and source, completions a prompt, lengths and what the
limits would drop or cut, duplicates, rows a user, agreement between annotators,
personal data by kind, and samples. `--json` prints one JSON object instead.
`--out` writes <kind>-<split>.jsonl of splits that have a row, and summary.json:
duplicates gone, few prompts a user, split by user (by prompt where there is
none), personal data gone from the training split; over files that it has not
written itself only with --overwrite, and never over what it reads. Exit codes:
0 done, 2 bad input.
"""

import argparse
import sys
from collections.abc import Sequence

from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import (
  claims,
  command,
  errors,
  streams,
)
from instruct_jax.data import showing, written
from instruct_jax.data.clean import hygiene, measures
from instruct_jax.data.public import convert
from instruct_jax.data.read import (
  files,
  kinds,
  sampled,
  shapes,
  sources,
  specs,
)
from instruct_jax.data.read import (
  records as records_lib,
)
from instruct_jax.tokenizers import templates

Record = kinds.Record
_MOST_MB = 64
_MB = 10**6


def main(arguments: Sequence[str]) -> None:
  """The command line; raises UserError."""
  given = _parser().parse_args(arguments)
  settings, limits = _settings(given), _limits(given)
  kind = given.kind or guess_kind(given.inputs)
  if kind not in kinds.KINDS:
    raise errors.unknown("--kind", kind, kinds.KINDS)
  if given.out:
    _claim(given, kind)
  most = 0 if given.all else given.most_mb * _MB
  sample = sampled.read(given.inputs, kind, most)
  records = sample.records
  measured = measures.measure(records, kind, settings, limits)
  if not sample.is_whole:
    measured["sample"] = {"of_about": sample.about, "first_of": sample.first}
  if given.out:
    source = records
    if not sample.is_whole:
      every = sources.Source(given.inputs[0], kind, others=given.inputs[1:])
      source = written.Shown(every, sampled.size_of(given.inputs), kind)
    measured["written"] = written.write(
      source, kind, settings, epath.Path(given.out)
    )
  if given.json:
    print(streams.json_line(measured))
  else:
    count = min(given.samples, len(records))
    places = [n * len(records) // count for n in range(count)]
    showing.print_measured(measured)
    showing.print_samples([kinds.written(records[n], kind) for n in places])


def guess_kind(inputs: Sequence[str]) -> str:
  """The kind of records by the keys of the first; raises UserError."""
  part = str(specs.parts(inputs[0])[0].pattern)
  if not part.startswith(files.TFDS):
    first = files.paths(part)[0]
    if not files.holds_objects(first):
      _check_text(first, inputs)
      return "pretraining"
  row = next(files.rows(part), None)
  if row is None:
    raise errors.UserError(f"{part}: empty")
  where, row = row
  kind = kinds.guess(row)
  if kind == "prompts" and "messages" not in row:
    hint = shapes.hint(row, part, kind)
    near = records_lib.near_misses("response", row)
    if near and not hint:
      hint = f'; did you mean "response", where it has "{near[0][:40]}"?'
    if hint:
      raise errors.UserError(
        f"{where}: has {', '.join(row)[:400]}; --kind=prompts takes its "
        f"prompts alone{hint}"
      )
  if kind:
    return kind
  raise errors.UserError(
    f"{where}: has {', '.join(row)[:400] or 'no keys'}, which is none of "
    f"{', '.join(kinds.KINDS)}; name the --kind, or convert it first:"
    " python -m instruct_jax.data convert --help"
    f"{shapes.hint(row, part, '')}"
  )


def _check_text(first: epath.Path, inputs: Sequence[str]) -> None:
  """UserError for a file of text beside others whose records are no text."""
  for path in (path for spec in inputs for path in specs.paths(spec)):
    row = next(files.rows(path), None) if files.holds_objects(path) else None
    if row and "text" not in row[1]:
      raise errors.UserError(
        f"{first}: plain text, but {path} holds records; leave one of the two "
        "out, or name the --kind"
      )


def _claim(given: argparse.Namespace, kind: str) -> None:
  reads = [path for spec in given.inputs for path in specs.paths(spec)]
  tokenizer = (given.tokenizer or "").removeprefix("hf:")
  for path in written.targets(epath.Path(given.out), kind):
    claims.claim(
      path,
      reads=[*reads, *filter(None, [tokenizer])],
      overwrite=given.overwrite,
    )


def print_help() -> None:
  """What --help prints, on stderr: stdout is for results."""
  _parser().print_help(sys.stderr)


def _parser() -> argparse.ArgumentParser:
  parser = command.Parser("instruct_jax.data", __doc__, convert.overview())
  usual, free = hygiene.Settings(), measures.Limits()
  add = parser.add_argument
  add("inputs", nargs="+", help="files, patterns, tfds:name/config:split")
  add(
    "--kind",
    help=f"what the records are: {', '.join(kinds.KINDS)}; without it their"
    " keys say so",
  )
  add(
    "--tokenizer",
    help="the folder of a tokenizer, in whose tokens lengths are; without it"
    " they are in words",
  )
  add(
    "--template",
    default=free.template,
    help="what is put around a prompt, as data.template of a run"
    " (default: %(default)s)",
  )
  for name in ("prompt", "response"):
    add(
      f"--{name}_length",
      type=int,
      default=0,
      help=f"the most tokens of a {name}; what is longer is counted (default:"
      " 0, no limit)",
    )
  add(
    "--prefix",
    type=int,
    default=usual.prefix,
    help="how many first characters two prompts share to be duplicates"
    " (default: %(default)s)",
  )
  add(
    "--per_user",
    type=int,
    default=usual.per_user,
    help="the most prompts of one user that stay (default: %(default)s)",
  )
  for name in ("validation", "test"):
    add(
      f"--{name}_fraction",
      type=float,
      default=getattr(usual, f"{name}_fraction"),
      help=f"the share of users or prompts that goes to the {name} split"
      " (default: %(default)s)",
    )
  add(
    "--keep_pii",
    action="store_true",
    help="leave personal data in the training split",
  )
  add(
    "--samples",
    type=int,
    default=3,
    help="how many records to show (default: %(default)s)",
  )
  add(
    "--most_mb",
    type=int,
    default=_MOST_MB,
    help="how many MB are looked at of files that are larger together"
    " (default: %(default)s); --out reads all",
  )
  add("--all", action="store_true", help="look at all, however large")
  add("--out", help="a folder to write cleaned and split files in")
  add("--overwrite", action="store_true", help="replace what stands in --out")
  add(
    "--json",
    action="store_true",
    help="print one JSON object, without samples, instead of tables",
  )
  return parser


def _settings(given: argparse.Namespace) -> hygiene.Settings:
  return hygiene.Settings(
    prefix=given.prefix,
    per_user=given.per_user,
    validation_fraction=given.validation_fraction,
    test_fraction=given.test_fraction,
    remove_pii=not given.keep_pii,
    every_kind=True,
  )


def _limits(given: argparse.Namespace) -> measures.Limits:
  templates.check(given.template)
  folder = (given.tokenizer or "").removeprefix("hf:")
  return measures.Limits(
    tokenizer=tokenizers.load(folder) if given.tokenizer else None,
    template=given.template,
    prompt_length=given.prompt_length,
    response_length=given.response_length,
  )
