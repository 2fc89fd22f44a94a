"""Public data sets -> the JSON lines that `sources` reads.

  python -m instruct_jax.data convert FORMAT INPUT... --out FILE.jsonl

  format             what it is                      kinds that it can give
  hh                 Anthropic HH, dialogue pairs    rankings (K = 2), prompts
  finegrained        FineGrained-RLHF, QA feedback   rankings (K = 4),
                                                     demonstrations, prompts
  finegrained_pairs  the same, with label sets that
                     are no ranking kept as pairs
  pandalm            two responses, 3 annotators     rankings, prompts
  llmbar             instruction following           rankings, prompts
  ultrafeedback      scored completions              rankings, prompts
  oasst              OpenAssistant's ranked trees    rankings, demonstrations,
                                                     prompts
  tldr               comparisons of summaries        rankings, prompts
  seed_tasks         self-instruct's seed tasks      demonstrations, prompts
  self_instruct      its user-oriented instructions  demonstrations, prompts
  alpaca, dolly      instructions and answers        demonstrations, prompts
  t0                 T0 and FLAN prompts             demonstrations, prompts
  chat               {"messages": [...]}             demonstrations, prompts
  text               plain text, Gutenberg books,    pretraining
                     WikiText
  jsonl              lines of this project           prompts

INPUT is whatever `readers` can read: JSON, Parquet, compressed, patterns,
tfds:name:split. The first kind is the default, `--kind` chooses another. What
is dropped is counted by reason.
"""

import argparse
import functools
import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from instruct_jax import errors
from instruct_jax.data import formats, plain_text, readers, sources

Counts, Record = formats.Counts, formats.Record


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
  parser.add_argument("--kind", default="", help=", ".join(sources.KINDS))
  given = parser.parse_args(arguments)
  counts = convert(given.format, given.inputs, given.out, kind=given.kind)
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
) -> Counts:
  """Converts files of the format `name` into `out`; returns the counts.

  Raises:
    UserError: an unknown format or kind, a file that is not of the format, or
      nothing to write. `out` is left alone then.
  """
  if name not in FORMATS:
    raise errors.unknown("format", name, FORMATS)
  read, kinds = FORMATS[name]
  kind = kind or kinds[0]
  if kind not in kinds:
    raise errors.unknown(f"kind of '{name}'", kind, kinds)
  counts = Counts(read=0, written=0)
  records = _records(name, inputs, read, kind, counts)
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


def _records(name, inputs, read, kind, counts) -> Iterator[Record]:
  """The records of all inputs, each with the source that it is from."""
  parts = [part.pattern for given in inputs for part in sources.parts(given)]
  for part in parts:
    is_set = isinstance(part, str) and part.startswith(readers.TFDS)
    for file in [part] if is_set else readers.paths(part):
      before = counts["read"]
      for record in read(file, kind, counts):
        yield record if kind == "pretraining" else record | {"source": name}
      if counts["read"] == before:
        counts["empty files"] += 1


def _objects(read, file, kind, counts) -> Iterator[Record]:
  is_path = isinstance(file, epath.Path)
  found = readers.file_rows(file) if is_path else readers.rows(file)
  return read(found, kind, counts)


def _text(path: epath.Path, kind: str, counts: Counts) -> Iterator[Record]:
  del kind
  for document in plain_text.documents([x for _, x in readers.lines(path)]):
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
  part = path.with_name(f".{path.name}.part")
  if path.name.endswith(".gz"):
    content = gzip.compress(content, mtime=0)
  part.write_bytes(content)
  part.replace(path)


def _of_objects(read: formats.Format) -> Callable:
  return functools.partial(_objects, read)


_RANKINGS = ("rankings", "prompts")
_DEMONSTRATIONS = ("demonstrations", "prompts")
_BOTH = ("rankings", "demonstrations", "prompts")
FORMATS: dict[str, tuple[Callable, tuple[str, ...]]] = {
  "hh": (_of_objects(formats.hh), _RANKINGS),
  "finegrained": (_of_objects(formats.finegrained), _BOTH),
  "finegrained_pairs": (_of_objects(formats.finegrained_pairs), _BOTH),
  "pandalm": (_of_objects(formats.pandalm), _RANKINGS),
  "llmbar": (_of_objects(formats.llmbar), _RANKINGS),
  "ultrafeedback": (_of_objects(formats.ultrafeedback), _RANKINGS),
  "oasst": (_of_objects(formats.oasst), _BOTH),
  "tldr": (_of_objects(formats.tldr), _RANKINGS),
  "seed_tasks": (_of_objects(formats.instances), _DEMONSTRATIONS),
  "self_instruct": (_of_objects(formats.instances), _DEMONSTRATIONS),
  "alpaca": (_of_objects(formats.alpaca), _DEMONSTRATIONS),
  "dolly": (_of_objects(formats.dolly), _DEMONSTRATIONS),
  "t0": (_of_objects(formats.t0), _DEMONSTRATIONS),
  "chat": (_of_objects(formats.chat), _DEMONSTRATIONS),
  "text": (_text, ("pretraining",)),
  "jsonl": (_of_objects(formats.own), ("prompts",)),
}
