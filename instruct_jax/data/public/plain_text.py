"""Books, articles and other plain text -> documents.

Project Gutenberg's header and footer go; WikiText is split into its articles
and its token spacing undone; other text is gathered to 8,000 characters.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files


def pretraining(
  lines: Iterable[str], counts: formats.Counts
) -> Iterator[formats.Record]:
  """The documents of a file's lines, as records."""
  for document in documents(list(lines)):
    counts["read"] += 1
    yield {"text": document}


def documents(lines: Sequence[str]) -> Iterator[str]:
  """The documents of a file's lines."""
  is_wiki = any(_WIKI_TITLE.match(line) for line in lines[:20])
  return _articles(lines) if is_wiki else _sections(_book(lines))


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


def _lines(unit: epath.Path | str) -> Iterator[str]:
  if isinstance(unit, str):
    raise errors.UserError(
      f"{unit}: 'text' converts plain text; a TFDS set whose rows have "
      '"text" can be named as data.pretraining as it is'
    )
  if files.holds_objects(unit):
    raise errors.UserError(
      f"{unit}: holds records, and 'text' converts plain text; the column with"
      f" the documents is taken by python -m instruct_jax.data convert columns"
      f" {unit} --kind=pretraining --text=KEY --out=FILE.jsonl"
    )
  return (line for _, line in files.lines(unit))


FORMAT = formats.Format(
  "plain text, Gutenberg books, WikiText",
  {"pretraining": pretraining},
  open=_lines,
)
