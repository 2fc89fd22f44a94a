"""What is in a source, before anything is trained on it.

  python -m instruct_jax.data FILE... [--kind=rankings] [--tokenizer=FOLDER]
  python -m instruct_jax.data FILE... --out=FOLDER     # cleaned and split

Shows records by split and source, completions a prompt, lengths and what the
limits would drop or cut, duplicates, rows a user, agreement between annotators,
personal data by kind, and samples. `--json` prints one JSON object instead.
`--out` writes <kind>-<split>.jsonl and summary.json: duplicates gone, few
prompts a user, split by user (by prompt where there is none), personal data
gone from the training split. Exit codes: 0 done, 2 bad input.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table
import rich.text
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import command, errors, storage, streams
from instruct_jax.data.clean import hygiene, measures, pipeline
from instruct_jax.data.read import files, kinds, sources, specs
from instruct_jax.tokenizers import templates

Record = kinds.Record
_MOST_K = 1000  # completions a prompt; the limit of a run is data.k_max
_LONGEST = 300  # characters of a sample that are shown


def main(arguments: Sequence[str]) -> None:
  """The command line; raises UserError."""
  given = _parser().parse_args(arguments)
  settings, limits = _settings(given), _limits(given)
  kind = given.kind or guess_kind(given.inputs)
  if kind not in kinds.KINDS:
    raise errors.unknown("--kind", kind, kinds.KINDS)
  records = [
    record
    for spec in given.inputs
    for record in sources.read(spec, kind, k_max=_MOST_K)
  ]
  measured = measures.measure(records, kind, settings, limits)
  if given.out:
    measured["written"] = write(records, kind, settings, epath.Path(given.out))
  if given.json:
    print(streams.json_line(measured))
  else:
    count = min(given.samples, len(records))
    places = [n * len(records) // count for n in range(count)]
    _print(measured, [records[n] for n in places])


def guess_kind(inputs: Sequence[str]) -> str:
  """The kind of records by the keys of the first; raises UserError."""
  part = str(specs.parts(inputs[0])[0].pattern)
  if not part.startswith(files.TFDS):
    first = files.paths(part)[0]
    if not files.holds_objects(first):
      return "pretraining"
  row = next(files.rows(part), None)
  if row is None:
    raise errors.UserError(f"{part}: empty")
  where, row = row
  # The kinds with most keys first: demonstrations have prompts too.
  by_keys = sorted(kinds.KINDS.items(), key=lambda item: -len(item[1].required))
  for kind, entry in by_keys:
    if set(entry.required) <= set(row):
      return kind
  raise errors.UserError(
    f"{where}: has {', '.join(row) or 'no keys'}, which is none of "
    f"{', '.join(kinds.KINDS)}; name the --kind, or convert it first:"
    " python -m instruct_jax.data convert --help"
  )


def write(
  records: Sequence[Record],
  kind: str,
  settings: hygiene.Settings,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes <kind>-<split>.jsonl and summary.json; what was done, counted.

  They are cleaned as for training, but all kinds as prompts are there: what is
  there twice goes, and personal data from the training split.

  Raises UserError where the folder cannot be written.
  """
  cleaned = pipeline.clean({kind: records}, settings)
  by_split, counts = cleaned.by_split[kind], cleaned.counts[kind]
  sizes = {split: len(kept) for split, kept in by_split.items()}
  summary = {"folder": str(folder), "rows": sizes, "counts": counts}
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for split, kept in by_split.items():
      lines = (
        json.dumps(r | {"split": split}, ensure_ascii=False) for r in kept
      )
      storage.write_lines(folder / f"{kind}-{split}.jsonl", lines)
    storage.write_json(folder / "summary.json", summary)
  except OSError as error:
    raise errors.UserError(f"--out={folder}: {error}") from None
  return summary


def _print(measured: dict[str, Any], samples: Sequence[Record]) -> None:
  """Tables on a terminal, else plain lines."""
  console = rich.console.Console()
  title = f"{measured['records']} {measured['kind']}"
  rows = {
    name.replace("_", " "): _shown(value)
    for name, value in measured.items()
    if name not in ("kind", "records") and value
  }
  cells = [
    {_shown(name): _cut(_shown(x), _LONGEST) for name, x in record.items()}
    for record in samples
  ]
  if console.is_terminal:
    console.print(_table(title, ("", "what is there"), map(list, rows.items())))
    names = list(dict.fromkeys(name for record in cells for name in record))
    if cells:
      table = ([record.get(n, "") for n in names] for record in cells)
      console.print(_table("samples", names, table))
    return
  sections = [(title, rows)]
  sections += [(f"sample {n}", record) for n, record in enumerate(cells, 1)]
  for head, values in sections:
    print(head)
    for name, text in values.items():
      lines = (
        f"\n{text}".replace("\n", "\n    ") if "\n" in text else f" {text}"
      )
      print(f"  {name}:{lines}")


def _table(title, names, rows) -> rich.table.Table:
  table = rich.table.Table(title=title, show_lines=True)
  for name in names:
    table.add_column(rich.text.Text(name))
  for row in rows:
    table.add_row(*map(rich.text.Text, row))
  return table


def _shown(value: Any) -> str:
  """A value in lines, without what a terminal would take for a command."""
  if isinstance(value, dict):
    inner = {k: _shown(v).replace("\n", ", ") for k, v in value.items()}
    text = "\n".join(f"{k.replace('_', ' ')}: {v}" for k, v in inner.items())
  elif isinstance(value, list) and any(isinstance(x, str) for x in value):
    text = "\n".join(f"- {_cut(_shown(x), _LONGEST // 2)}" for x in value)
  else:
    text = str(value)
  return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def _cut(text: str, length: int) -> str:
  return text if len(text) <= length else f"{text[:length]} …"


def _parser() -> argparse.ArgumentParser:
  parser = command.Parser("instruct_jax.data", __doc__)
  usual, free = hygiene.Settings(), measures.Limits()
  add = parser.add_argument
  add("inputs", nargs="+", help="files, patterns, tfds:name/config:split")
  add(
    "--kind", default=None, help=f"{', '.join(kinds.KINDS)}; else by its keys"
  )
  add(
    "--tokenizer", default=None, help="a tokenizer's folder; else words count"
  )
  add("--template", default=free.template, help="as data.template of a run")
  add("--prompt_length", type=int, default=0, help="0: no limit")
  add("--response_length", type=int, default=0, help="0: no limit")
  add("--prefix", type=int, default=usual.prefix, help="that duplicates share")
  add("--per_user", type=int, default=usual.per_user, help="prompts that stay")
  for name in ("validation_fraction", "test_fraction"):
    add(f"--{name}", type=float, default=getattr(usual, name))
  add("--keep_pii", action="store_true", help="personal data stays")
  add("--samples", type=int, default=3, help="how many to show")
  add("--out", default=None, help="a folder to write cleaned, split files in")
  add("--json", action="store_true", help="one JSON object, no samples")
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
