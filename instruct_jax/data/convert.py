"""Public data sets -> the JSON lines that `sources` reads.

  python -m instruct_jax.data convert FORMAT INPUT... --out FILE.jsonl

  format         what it is                      kinds that it can give
  hh             Anthropic HH, dialogue pairs    rankings (K = 2), prompts
  finegrained    FineGrained-RLHF, QA feedback   rankings (K = 4),
                                                 demonstrations, prompts
  seed_tasks     self-instruct's seed tasks      demonstrations, prompts
  self_instruct  its user-oriented instructions  demonstrations, prompts
  text           plain text, Gutenberg books,    pretraining
                 WikiText
  jsonl          lines of this project           prompts

The first kind is the default, `--kind` chooses another. What is dropped is
counted by reason.
"""

import argparse
import collections
import gzip
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from instruct_jax import errors
from instruct_jax.data import sources

Record = dict[str, Any]
Counts = collections.Counter  # "read", "written", "dropped: why"

_TURN = "\n\nAssistant:"
_PAIRS = list(itertools.combinations(range(4), 2))  # 12 13 14 23 24 34


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
  dropped = {k: n for k, n in counts.items() if k.startswith("dropped")}
  print(f"{given.out}: read {counts['read']}, written {counts['written']}")
  for reason, count in sorted(dropped.items()):
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
  files = [path for given in inputs for path in sources.paths(given)]
  records = itertools.chain.from_iterable(
    read(path, kind, counts) for path in files
  )
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


def ranks_of(labels: Sequence[int]) -> list[int] | None:
  """Ranks of four outputs from their six pair labels, None if there are none.

  The pairs come in the order 12 13 14 23 24 34; 1: the first is better, 2: the
  second, 0: neither. The labels are ranks with ties if and only if ranking each
  output behind those that beat it gives the labels back.
  """
  ranks = [1] * 4
  for (i, j), label in zip(_PAIRS, labels):
    ranks[j] += label == 1
    ranks[i] += label == 2
  again = [
    0 if ranks[i] == ranks[j] else 1 + (ranks[i] > ranks[j]) for i, j in _PAIRS
  ]
  return ranks if again == list(labels) else None


def _hh(path: epath.Path, kind: str, counts: Counts) -> Iterator[Record]:
  """The prompt is the dialogue up to the last answer, its first "Human:" off,

  so that a template such as "Human: {prompt}\\n\\nAssistant:" completes it.
  """
  del kind
  required = {"chosen": str, "rejected": str}
  for row in sources.read_jsonl(path, required=required):
    counts["read"] += 1
    chosen, rejected = row["chosen"], row["rejected"]
    prompt, _, better = chosen.rpartition(_TURN)
    other, _, worse = rejected.rpartition(_TURN)
    better, worse = better.strip(), worse.strip()
    prompt = prompt.strip().removeprefix("Human:").strip()
    if prompt != other.strip().removeprefix("Human:").strip():
      counts["dropped: the two dialogues differ before the last turn"] += 1
    elif not prompt:
      counts["dropped: no prompt"] += 1
    elif not better or not worse:
      counts["dropped: an empty response"] += 1
    elif better == worse:
      counts["dropped: the same response twice"] += 1
    else:
      pair = {"responses": [better, worse], "ranks": [1, 2]}
      yield {"prompt": prompt, **pair, "labeler": "hh"}


def _finegrained(
  path: epath.Path, kind: str, counts: Counts
) -> Iterator[Record]:
  """Questions without their passages, which are long."""
  for where, row in _array(path):
    counts["read"] += 1
    prompt = _key(row, "question", str, where).strip()
    if kind == "demonstrations":
      yield {
        "prompt": prompt,
        "response": _key(row, "gold", str, where).strip(),
      }
      continue
    names = [f"prediction {n}" for n in (1, 2, 3, 4)]
    responses = [_key(row, name, str, where).strip() for name in names]
    labels = _key(row, "preference", list, where)
    if len(labels) != len(_PAIRS) or any(n not in (0, 1, 2) for n in labels):
      raise errors.UserError(
        f'{where}: "preference" should be six of 0, 1, 2, not {labels}'
      )
    ranks = ranks_of(labels)
    if ranks is None and kind == "rankings":
      counts["dropped: the labels are not a weak order"] += 1
    else:
      more = {"responses": responses, "ranks": ranks, "labeler": "finegrained"}
      yield {"prompt": prompt, **more}


def _instructions(
  path: epath.Path, kind: str, counts: Counts
) -> Iterator[Record]:
  """An instruction and, below it, the input of each of its instances."""
  required = {"instruction": str, "instances": list}
  for n, row in enumerate(sources.read_jsonl(path, required=required), 1):
    for instance in row["instances"]:
      counts["read"] += 1
      where = f"{path}, task {n}"
      parts = [row["instruction"], _key(instance, "input", str, where)]
      response = _key(instance, "output", str, where).strip()
      prompt = "\n\n".join(part.strip() for part in parts if part.strip())
      if response or kind == "prompts":
        yield {"prompt": prompt, "response": response}
      else:
        counts["dropped: an empty response"] += 1


def _jsonl(path: epath.Path, kind: str, counts: Counts) -> Iterator[Record]:
  del kind
  for row in sources.read_jsonl(path, required={"prompt": str}):
    counts["read"] += 1
    yield row


def _prompts_of(records: Iterator[Record], counts: Counts) -> Iterator[Record]:
  seen = set()
  for record in records:
    if record["prompt"] in seen:
      counts["dropped: a prompt for the second time"] += 1
    else:
      seen.add(record["prompt"])
      split = {"split": record["split"]} if "split" in record else {}
      yield {"prompt": record["prompt"], **split}


def _text(path: epath.Path, kind: str, counts: Counts) -> Iterator[Record]:
  """Articles of WikiText; else paragraphs, gathered to 8,000 characters."""
  del kind
  lines = [line for _, line in sources.lines(path)]
  is_wiki = any(_WIKI_TITLE.match(line) for line in lines[:20])
  documents = _articles(lines) if is_wiki else _sections(_book(lines))
  for document in documents:
    counts["read"] += 1
    yield {"text": document}
  if not lines:
    raise errors.UserError(f"{path}: empty; there is no text in it")


_BOOK_START = re.compile(r"\*\*\* ?START OF TH(IS|E) PROJECT GUTENBERG", re.I)
_BOOK_END = re.compile(
  r"\*\*\* ?END OF TH(IS|E) PROJECT GUTENBERG|End of (the )?Project Gutenberg",
  re.I,
)
_WIKI_TITLE = re.compile(r"\s*= [^=].* =\s*$")
_WIKI_MARKS = (
  (re.compile(r" @(.)@ "), r"\1"),
  (re.compile(r'" ([^"]*?) "'), r'"\1"'),
  (re.compile(r" (['’](s|t|re|ve|ll|d|m)\b|n['’]t\b|[,.;:!?)\]%])"), r"\1"),
  (re.compile(r"([(\[$£]) "), r"\1"),
)
_DOCUMENT = 8000  # characters


def _book(lines: Sequence[str]) -> list[str]:
  """What stands between Project Gutenberg's header and footer, if any."""
  starts = [n for n, line in enumerate(lines) if _BOOK_START.match(line)]
  if not starts:
    return list(lines)
  body = lines[starts[0] + 1 :]
  ends = (n for n, line in enumerate(body) if _BOOK_END.match(line))
  return list(body[: next(ends, len(body))])


def _sections(lines: Sequence[str]) -> Iterator[str]:
  """Paragraphs, each on one line, gathered to about 8,000 characters."""
  section, size = [], 0
  for empty, block in itertools.groupby(lines, lambda line: not line.strip()):
    if empty:
      continue
    paragraph = " ".join(" ".join(block).split())
    section.append(paragraph)
    size += len(paragraph)
    if size >= _DOCUMENT:
      yield "\n".join(section)
      section, size = [], 0
  if section:
    yield "\n".join(section)


def _articles(lines: Sequence[str]) -> Iterator[str]:
  """WikiText's articles, its token spacing undone (<unk> stays)."""
  article = []
  for line in filter(str.strip, lines):
    if _WIKI_TITLE.match(line) and article:
      yield "\n".join(article)
      article = []
    line = line.strip()
    for pattern, plain in _WIKI_MARKS:
      line = pattern.sub(plain, line)
    article.append(line)
  if article:
    yield "\n".join(article)


def _array(path: epath.Path) -> Iterator[tuple[str, Record]]:
  """(where, object) of a file that holds one JSON array of objects."""
  try:
    rows = json.loads("\n".join(line for _, line in sources.lines(path)))
  except ValueError as error:
    raise errors.UserError(f"{path}: not JSON ({error})") from None
  if not isinstance(rows, list):
    raise errors.UserError(f"{path}: a JSON array of objects is right")
  for n, row in enumerate(rows, 1):
    yield f"{path}, record {n}", row


def _key(row: Any, key: str, kind: type, where: str) -> Any:
  value = row.get(key) if isinstance(row, dict) else None
  if not isinstance(value, kind):
    name = {str: "a string", list: "a list"}[kind]
    raise errors.UserError(f'{where}: "{key}" should be {name}')
  return value


def _write(path: epath.Path, content: bytes) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f".{path.name}.part")
  if path.name.endswith(".gz"):
    content = gzip.compress(content, mtime=0)
  part.write_bytes(content)
  part.replace(path)


Reader = Callable[[epath.Path, str, Counts], Iterator[Record]]
FORMATS: dict[str, tuple[Reader, tuple[str, ...]]] = {
  "hh": (_hh, ("rankings", "prompts")),
  "finegrained": (_finegrained, ("rankings", "demonstrations", "prompts")),
  "seed_tasks": (_instructions, ("demonstrations", "prompts")),
  "self_instruct": (_instructions, ("demonstrations", "prompts")),
  "text": (_text, ("pretraining",)),
  "jsonl": (_jsonl, ("prompts",)),
}
