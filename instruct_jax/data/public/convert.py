"""Public data sets -> the JSON lines that `sources` reads.

  python -m instruct_jax.data convert FORMAT INPUT... --out=FILE.jsonl

INPUT is whatever `files` can read: JSON, CSV, TSV, Parquet, compressed,
patterns, tfds:name:split. The first kind is the default, --kind chooses
another. What is dropped or merged is counted by reason, and so are files with
nothing in them. A file that was there before is replaced where it was written
so, else with --overwrite only, and never one that is read.

Your own data, by the keys that hold it (`a.b`, `turns[0].content`):

  convert pairs a.csv --prompt=question --a=answer_1 --b=answer_2 --label=winner
      --labeler=annotator --labels='1=a,2=b,0=tie' --out=rankings.jsonl
  convert pairs a.jsonl --a=chosen --b=rejected --better=a --out=rankings.jsonl
  convert columns a.tsv --prompt=question --response=answer --out=answers.jsonl
"""

import contextlib
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from etils import epath

from instruct_jax.base import (
  claims,
  command,
  errors,
  outside,
  storage,
  terminal,
)
from instruct_jax.data.public import formats, options
from instruct_jax.data.read import files, kinds, specs

Counts, Record = formats.Counts, formats.Record
# What it writes is JSON lines, so their name says that.
_WRITTEN = re.compile(r".+\.(jsonl|ndjson)(\.gz)?", re.S)
_encoded = json.JSONEncoder(ensure_ascii=False).encode


# name -> the module that has its FORMAT.
FORMATS = {
  "pairs": "instruct_jax.data.public.pairs",
  "columns": "instruct_jax.data.public.columns",
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
  if name not in FORMATS and ("." not in name or files.exists(name)):
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
  given = vars(_parser(_asked(arguments)).parse_args(arguments))
  given["kind"] = given["kind"] or ""
  options.check_given(given)
  name, inputs, out = (given.pop(x) for x in ("format", "inputs", "out"))
  counts = convert(name, inputs, out, **given)
  rows = [(what, counts.pop(what)) for what in ("read", "written")]
  rows += sorted((reason, n) for reason, n in counts.items() if n)
  terminal.table(rows, ("records", "count"), title=str(out))


def convert(
  name: str,
  inputs: Sequence[os.PathLike | str],
  out: os.PathLike | str,
  *,
  kind: str = "",
  overwrite: bool = False,
  **given: Any,
) -> Counts:
  """Converts files of the format `name` into `out`; returns the counts.

  `given` are the options of the format (`options.OPTIONS`), the others empty.

  Raises:
    UserError: an unknown format or kind, an option that the format has not, a
      file that is not of the format, nothing to write, or an `out` that is
      read, is there and not written so, or is called otherwise than .jsonl or
      .jsonl.gz. `out` is left alone then.
  """
  form = format_of(name)
  kind = kind or next(iter(form.kinds))
  if kind not in form.kinds:
    raise errors.unknown(f"kind of '{name}'", kind, form.kinds)
  if not _WRITTEN.fullmatch(epath.Path(out).name):
    raise errors.UserError(
      f"--out={out}: FILE.jsonl or FILE.jsonl.gz can be written"
    )
  more = options.of_format(name, form, given)
  parts = [part.pattern for x in inputs for part in specs.parts(x)]
  units = [unit for part in parts for unit in files.units(part)]
  reads = [path for part in parts for path in files.paths(part)]
  claims.claim(out, reads=reads, overwrite=overwrite)
  counts = Counts(read=0, written=0)
  records = _records(form, units, kind, more, counts)
  if kinds.KINDS[kind].of_users:
    records = _prompts_of(records, counts)
  source = {} if kinds.KINDS[kind].is_stream else {"source": name}
  meant = _without_contradictions(records, kind, counts)
  lines = (_line(source | record, kind) for record in meant)
  _write(epath.Path(out), _counted(lines, inputs, counts))
  claims.sign(out)
  return counts


def _records(
  form: formats.Format,
  units: Sequence[epath.Path | str],
  kind: str,
  given: dict[str, Any],
  counts: Counts,
) -> Iterator[Record]:
  """The records of all inputs."""
  if form.of_all:
    opened = _opened(form, units, counts)
    yield from form.kinds[kind](opened, counts, **given)
    return
  for unit in units:
    before = counts["read"]
    yield from form.kinds[kind](form.open(unit), counts, **given)
    if counts["read"] == before:
      counts["empty files"] += 1


def _opened(
  form: formats.Format, units: Sequence[epath.Path | str], counts: Counts
) -> Callable[[], files.Rows]:
  """What opens all inputs, one after the other, as often as it is called."""

  def rows() -> files.Rows:
    empty = 0
    for unit in units:
      row = None
      for row in form.open(unit):
        yield row
      empty += row is None
    if empty:
      counts["empty files"] = empty

  return rows


def _without_contradictions(
  records: Iterator[Record], kind: str, counts: Counts
) -> Iterator[Record]:
  for record in records:
    if kinds.KINDS[kind].contradiction(record):
      counts["dropped: one text with two ranks"] += 1
    else:
      yield record


def _line(record: Record, kind: str) -> str:
  """A record as it is written; UserError for one that nobody could read."""
  wrong = kinds.wrong(record, kind, 0)
  if wrong:
    text = json.dumps(record, ensure_ascii=False)[:80]
    raise errors.UserError(f"{wrong}; in what would be written: {text}")
  return _encoded(record) + "\n"


def _counted(
  lines: Iterable[str], inputs: Sequence[os.PathLike | str], counts: Counts
) -> Iterator[str]:
  """The lines, of which there must be one."""
  for line in lines:
    counts["written"] += 1
    yield line
  if not counts["written"]:
    told = ", ".join(f"{what} {count}" for what, count in counts.items())
    raise errors.UserError(
      f"{', '.join(map(str, inputs))}: nothing to write ({told})"
    )


def _prompts_of(records: Iterator[Record], counts: Counts) -> Iterator[Record]:
  seen = set()
  for record in records:
    asked = kinds.with_prompt(record, "prompts")["prompt"]
    if asked in seen:
      counts["dropped: a prompt for the second time"] += 1
    else:
      seen.add(asked)
      names = ("id", "prompt", "messages", "user", "split", "source")
      yield {name: record[name] for name in names if name in record}


def _write(path: epath.Path, lines: Iterator[str]) -> None:
  """Writes lines as they come; nothing where there is an error."""
  first = next(lines)  # no folder is made for what cannot be read
  new = [x for x in (path.parent, *path.parent.parents) if not x.exists()]
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.writing(path, "wb") as file, _packed(file, path) as packed:
      packed.write(first)
      packed.writelines(lines)
  except BaseException:
    for folder in new:
      with contextlib.suppress(OSError):
        folder.rmdir()
    raise


@contextlib.contextmanager
def _packed(file: IO[bytes], path: epath.Path) -> Iterator[IO[str]]:
  """A file of text in one of bytes, compressed where its name says so."""
  with contextlib.ExitStack() as stack:
    packed: Any = file
    if path.name.endswith(".gz"):
      packed = stack.enter_context(
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
      )
    text = io.TextIOWrapper(packed, "utf-8", newline="\n")
    yield text
    text.flush()
    text.detach()


def _asked(arguments: Sequence[str] | None) -> str:
  """The format whose help is asked for; '' for that of all, or for none."""
  given = list(sys.argv[1:] if arguments is None else arguments)
  if {"-h", "--help"}.isdisjoint(given):
    return ""
  return given[0] if given[0] in FORMATS else ""


def _parser(of: str = "") -> command.Parser:
  """The parser; with the options and the help of one format alone."""
  form = format_of(of) if of else None
  what, listed = __doc__, _list_of_formats()
  if form:
    what = f"{of}: {form.about} -> {', '.join(form.kinds)}"
    listed = "python -m instruct_jax.data convert --help: the other formats"
  parser = command.Parser("instruct_jax.data convert", what, listed)
  add = parser.add_argument
  add("format", help="one of the list below, or my_package.my_format")
  add("inputs", nargs="+", help="files, patterns, tfds:name/config:split")
  add("--out", required=True, help="FILE.jsonl or FILE.jsonl.gz")
  add(
    "--kind",
    help=f"of records: {', '.join(form.kinds if form else kinds.KINDS)}",
  )
  add("--overwrite", action="store_true", help="replace what stands in --out")
  options.add_to(parser, form)
  return parser


def overview() -> str:
  """That there is a converter, with its formats; for the help of others."""
  return f"""What is not of these kinds yet is converted first:

  python -m instruct_jax.data convert FORMAT FILE... --out=FILE.jsonl
  python -m instruct_jax.data convert pairs FILE --prompt=KEY --a=KEY --b=KEY \\
      --label=KEY --out=rankings.jsonl
  python -m instruct_jax.data convert --help        # all options, examples

{_list_of_formats()}"""


def _list_of_formats() -> str:
  lines = [("FORMAT", "what it is", "kinds that it can give")]
  for name in FORMATS:
    form = format_of(name)
    lines.append((name, form.about, ", ".join(form.kinds)))
  return "\n".join(f"{a:<15}{b:<39}{c}" for a, b, c in lines)
