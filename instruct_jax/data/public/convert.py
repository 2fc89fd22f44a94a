"""Public data sets -> the JSON lines that `sources` reads.

  python -m instruct_jax.data convert FORMAT INPUT... --out FILE.jsonl

INPUT is whatever `files` can read: JSON, Parquet, compressed, patterns,
tfds:name:split. The first kind is the default, `--kind` chooses another.
`--pairs` keeps the label sets of finegrained that are no ranking as pairs;
`--lang=en` keeps the messages of oasst in one language. What is dropped is
counted by reason, and so are files with nothing in them. FORMAT may be a module
of your own that has a FORMAT, named as my_package.my_format.
"""

import gzip
import json
import os
from collections.abc import Iterator, Sequence

from etils import epath

from instruct_jax.base import command, errors, outside, storage
from instruct_jax.data.public import formats
from instruct_jax.data.read import files, kinds, specs

Counts, Record = formats.Counts, formats.Record


# name -> the module that has its FORMAT.
FORMATS = {
  "hh": "instruct_jax.data.public.hh",
  "finegrained": "instruct_jax.data.public.finegrained",
  "pandalm": "instruct_jax.data.public.pandalm",
  "llmbar": "instruct_jax.data.public.llmbar",
  "ultrafeedback": "instruct_jax.data.public.ultrafeedback",
  "oasst": "instruct_jax.data.public.oasst",
  "tldr": "instruct_jax.data.public.tldr",
  "seed_tasks": "instruct_jax.data.public.self_instruct",
  "self_instruct": "instruct_jax.data.public.self_instruct",
  "alpaca": "instruct_jax.data.public.alpaca",
  "dolly": "instruct_jax.data.public.dolly",
  "t0": "instruct_jax.data.public.t0",
  "chat": "instruct_jax.data.public.chat",
  "text": "instruct_jax.data.public.plain_text",
  "jsonl": "instruct_jax.data.public.jsonl",
}


def format_of(name: str) -> formats.Format:
  """The format of a name, or of a module of people's own; UserError else."""
  if name not in FORMATS and "." not in name:
    raise errors.unknown("format", name, FORMATS)
  module = outside.module(FORMATS.get(name, name), "FORMAT")
  form = getattr(module, "FORMAT", None)
  if not isinstance(form, formats.Format):
    raise errors.UserError(
      f"{name}: the module has no FORMAT of the type"
      " instruct_jax.data.public.formats.Format"
    )
  return form


def main(arguments: Sequence[str] | None = None) -> None:
  """The command line; prints the counts."""
  parser = command.Parser(
    "instruct_jax.data convert", __doc__, _list_of_formats()
  )
  parser.add_argument("format", help="one of the list below")
  parser.add_argument("inputs", nargs="+", help="files or patterns")
  parser.add_argument("--out", required=True, help="FILE.jsonl or .jsonl.gz")
  parser.add_argument("--kind", help=", ".join(kinds.KINDS))
  parser.add_argument("--pairs", action="store_true", help="of finegrained")
  parser.add_argument("--lang", help="of oasst, such as en")
  given = parser.parse_args(arguments)
  counts = convert(
    given.format,
    given.inputs,
    given.out,
    kind=given.kind or "",
    pairs=given.pairs,
    lang=given.lang or "",
  )
  print(f"{given.out}: read {counts['read']}, written {counts['written']}")
  for reason, count in sorted(counts.items()):
    if reason not in ("read", "written"):
      print(f"  {reason}: {count}")


def convert(
  name: str,
  inputs: Sequence[os.PathLike | str],
  out: os.PathLike | str,
  *,
  kind: str = "",
  pairs: bool = False,
  lang: str = "",
) -> Counts:
  """Converts files of the format `name` into `out`; returns the counts.

  Raises:
    UserError: an unknown format or kind, an option that the format has not, a
      file that is not of the format, or nothing to write. `out` is left alone
      then.
  """
  form = format_of(name)
  kind = kind or next(iter(form.kinds))
  if kind not in form.kinds:
    raise errors.unknown(f"kind of '{name}'", kind, form.kinds)
  if str(out).endswith((".bz2", ".xz", ".zst")):
    raise errors.UserError(f"{out}: FILE.jsonl or FILE.jsonl.gz can be written")
  counts = Counts(read=0, written=0)
  options = {k: v for k, v in (("pairs", pairs), ("lang", lang)) if v}
  records = _records(name, inputs, kind, options, counts)
  if kinds.KINDS[kind].of_users:
    records = _prompts_of(records, counts)
  lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in records]
  if not lines:
    raise errors.UserError(
      f"{', '.join(map(str, inputs))}: nothing to write; {dict(counts)}"
    )
  counts["written"] = len(lines)
  _write(epath.Path(out), "".join(lines).encode("utf-8"))
  return counts


def _records(
  name: str,
  inputs: Sequence[os.PathLike | str],
  kind: str,
  options: dict[str, bool | str],
  counts: Counts,
) -> Iterator[Record]:
  """The records of all inputs, each with the source that it is from."""
  form = format_of(name)
  for option in options:
    if option not in form.options:
      raise errors.UserError(f"--{option}: not an option of '{name}'")
  source = {} if kinds.KINDS[kind].is_stream else {"source": name}
  parts = [part.pattern for given in inputs for part in specs.parts(given)]
  for unit in (unit for part in parts for unit in files.units(part)):
    before = counts["read"]
    for record in form.kinds[kind](form.open(unit), counts, **options):
      if kinds.KINDS[kind].contradiction(record):
        counts["dropped: one text with two ranks"] += 1
      else:
        yield source | record
    if counts["read"] == before:
      counts["empty files"] += 1


def _list_of_formats() -> str:
  lines = [("FORMAT", "what it is", "kinds that it can give")]
  for name in FORMATS:
    form = format_of(name)
    lines.append((name, form.about, ", ".join(form.kinds)))
  return "\n".join(f"{a:<15}{b:<39}{c}" for a, b, c in lines)


def _prompts_of(records: Iterator[Record], counts: Counts) -> Iterator[Record]:
  seen = set()
  for record in records:
    if record["prompt"] in seen:
      counts["dropped: a prompt for the second time"] += 1
    else:
      seen.add(record["prompt"])
      names = ("prompt", "user", "split", "source")
      yield {name: record[name] for name in names if name in record}


def _write(path: epath.Path, content: bytes) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.name.endswith(".gz"):
    content = gzip.compress(content, mtime=0)
  storage.write(path, content)
