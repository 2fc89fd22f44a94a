"""Public data sets -> the JSON lines that `sources` reads.

  python -m instruct_jax.data convert FORMAT INPUT... --out FILE.jsonl

  format         what it is                      kinds that it can give
  hh             Anthropic HH, dialogue pairs    rankings (K = 2), prompts
  finegrained    FineGrained-RLHF, QA feedback   rankings (K = 4),
                                                 demonstrations, prompts
  pandalm        two responses, 3 annotators     rankings, prompts
  llmbar         instruction following           rankings, prompts
  ultrafeedback  scored completions              rankings, prompts
  oasst          OpenAssistant's ranked trees    rankings, demonstrations,
                                                 prompts
  tldr           comparisons of summaries        rankings, prompts
  seed_tasks     self-instruct's seed tasks      demonstrations, prompts
  self_instruct  its user-oriented instructions  demonstrations, prompts
  alpaca, dolly  instructions and answers        demonstrations, prompts
  t0             T0 and FLAN prompts             demonstrations, prompts
  chat           {"messages": [...]}             demonstrations, prompts
  text           plain text, Gutenberg books,    pretraining
                 WikiText
  jsonl          records of this project         prompts

INPUT is whatever `files` can read: JSON, Parquet, compressed, patterns,
tfds:name:split. The first kind is the default, `--kind` chooses another.
`--pairs` keeps the label sets of finegrained that are no ranking as pairs;
`--lang=en` keeps the messages of oasst in one language. What is dropped is
counted by reason, and so are files with nothing in them.
"""

import argparse
import dataclasses
import gzip
import json
import os
from collections.abc import Iterator, Sequence

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.public import (
  comparisons,
  demonstrations,
  dialogues,
  formats,
  plain_text,
)
from instruct_jax.data.read import files, kinds, specs

Counts, Record = formats.Counts, formats.Record


@dataclasses.dataclass(frozen=True)
class Format:
  """How a format is read, the kinds it can give and the options it has."""

  read: formats.Format | None  # None: the lines of plain text
  kinds: tuple[str, ...]
  options: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
  """The command line; prints the counts."""
  parser = argparse.ArgumentParser(
    prog="python -m instruct_jax.data convert",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("format", help=", ".join(FORMATS))
  parser.add_argument("inputs", nargs="+", help="files or patterns")
  parser.add_argument("--out", required=True, help="FILE.jsonl or .jsonl.gz")
  parser.add_argument("--kind", default="", help=", ".join(kinds.KINDS))
  parser.add_argument("--pairs", action="store_true", help="of finegrained")
  parser.add_argument("--lang", default="", help="of oasst, such as en")
  given = parser.parse_args(arguments)
  counts = convert(
    given.format,
    given.inputs,
    given.out,
    kind=given.kind,
    pairs=given.pairs,
    lang=given.lang,
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
  if name not in FORMATS:
    raise errors.unknown("format", name, FORMATS)
  kinds = FORMATS[name].kinds
  kind = kind or kinds[0]
  if kind not in kinds:
    raise errors.unknown(f"kind of '{name}'", kind, kinds)
  if str(out).endswith((".bz2", ".xz", ".zst")):
    raise errors.UserError(f"{out}: FILE.jsonl or FILE.jsonl.gz can be written")
  counts = Counts(read=0, written=0)
  options = {k: v for k, v in (("pairs", pairs), ("lang", lang)) if v}
  records = _records(name, inputs, kind, options, counts)
  if kind == "prompts":
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
  form = FORMATS[name]
  for option in options:
    if option not in form.options:
      raise errors.UserError(f"--{option}: not an option of '{name}'")
  parts = [part.pattern for given in inputs for part in specs.parts(given)]
  for unit in (unit for part in parts for unit in files.units(part)):
    before = counts["read"]
    if form.read is None:
      yield from _text(unit, counts)
    else:
      rows = files.unit_rows(unit)
      for record in form.read(rows, kind, counts, **options):
        yield {"source": name} | record
    if counts["read"] == before:
      counts["empty files"] += 1


def _text(unit: epath.Path | str, counts: Counts) -> Iterator[Record]:
  if isinstance(unit, str):
    raise errors.UserError(
      f"{unit}: 'text' converts plain text; a TFDS set whose rows have "
      '"text" can be named as data.pretraining as it is'
    )
  for document in plain_text.documents([x for _, x in files.lines(unit)]):
    counts["read"] += 1
    yield {"text": document}


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


_RANKINGS = ("rankings", "prompts")
_DEMONSTRATIONS = ("demonstrations", "prompts")
_BOTH = ("rankings", "demonstrations", "prompts")
FORMATS = {
  "hh": Format(comparisons.hh, _RANKINGS),
  "finegrained": Format(comparisons.finegrained, _BOTH, ("pairs",)),
  "pandalm": Format(comparisons.pandalm, _RANKINGS),
  "llmbar": Format(comparisons.llmbar, _RANKINGS),
  "ultrafeedback": Format(comparisons.ultrafeedback, _RANKINGS),
  "oasst": Format(dialogues.oasst, _BOTH, ("lang",)),
  "tldr": Format(comparisons.tldr, _RANKINGS),
  "seed_tasks": Format(demonstrations.instances, _DEMONSTRATIONS),
  "self_instruct": Format(demonstrations.instances, _DEMONSTRATIONS),
  "alpaca": Format(demonstrations.alpaca, _DEMONSTRATIONS),
  "dolly": Format(demonstrations.dolly, _DEMONSTRATIONS),
  "t0": Format(demonstrations.t0, _DEMONSTRATIONS),
  "chat": Format(dialogues.chat, _DEMONSTRATIONS),
  "text": Format(None, ("pretraining",)),
  "jsonl": Format(demonstrations.own, ("prompts",)),
}
