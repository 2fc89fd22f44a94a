"""A source in spans, each of which can be read by itself, by many at once.

All spans of a source, one after the other, give what `sources.Source` gives, in
its order. Cut are files that lie as they are read: plain text between its
documents, JSON lines between lines. What is compressed, a table, an array,
Parquet or a TFDS set is a span of its own, so several files of such are better
than one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import ml_collections
from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import (
  answers,
  bundles,
  compressed,
  files,
  kinds,
  objects,
  pieces,
  sources,
  specs,
  text,
  typed,
)

T = TypeVar("T")
WHOLE, LINES, TEXT = "whole", "lines", "text"  # how a unit is cut


@dataclasses.dataclass(frozen=True)
class Span:
  """What follows each other in a file or a set; all of it where it is WHOLE.

  It has what begins from `start` on and before `stop`, bytes: so nobody needs
  to look for lines to say what the spans of a file are.
  """

  kind: str
  unit: str
  form: str
  part: int | None  # of the mixture; None where it is none
  start: int = 0
  stop: int = 0

  @property
  def place(self) -> epath.Path | str:
    """The file, or the name of the set, as `files` reads it."""
    return self.unit if files.is_set(self.unit) else epath.Path(self.unit)


def cut(data: ml_collections.ConfigDict, kind: str, size: int) -> list[Span]:
  """The spans of all that `data` names of a kind, about `size` bytes each.

  Raises UserError as `specs.paths`, and for a folder of people's labels.
  """
  found = []
  for n, part in enumerate(specs.parts(data[kind])):
    number = None if part.weight is None else n
    for unit in files.units(part.pattern):
      form = _form(unit, kind)
      length = 0 if isinstance(unit, str) else unit.stat().length
      each = length if form == WHOLE else size
      found += [
        Span(kind, str(unit), form, number, start, min(start + each, length))
        for start in range(0, max(length, 1), max(each, 1))
      ]
  return found


def _form(unit: epath.Path | str, kind: str) -> str:
  if isinstance(unit, str) or files.is_table(unit):
    return WHOLE
  if answers.is_one(unit):
    raise errors.UserError(
      f"data.{kind}: {unit.parent} holds people's labels, which may grow while"
      " several machines read them; write them to a file first: python -m"
      f" instruct_jax.label export --dir={unit.parent} --out=FOLDER"
    )
  if compressed.is_one(unit):
    return WHOLE
  if kinds.KINDS[kind].is_stream and not files.holds_objects(unit):
    return TEXT
  first = text.head(unit)
  is_array = first.startswith((b"[", typed.PARQUET))
  if is_array or text.suffix(unit) == ".parquet":
    return WHOLE
  return LINES if objects.has_lines(unit) else WHOLE


def records(span: Span, *, k_max: int = 0) -> Iterator[kinds.Record]:
  """Its records, as `sources.Source` gives them; raises as that does."""
  place = span.place
  if span.form == LINES:
    assert isinstance(place, epath.Path)
    path = place
    every = _numbered(
      span,
      lambda extent: sources.of_lines(path, span.kind, extent, k_max=k_max),
    )
  else:
    rows = files.unit_rows(place, span.kind)
    every = sources.of_rows(rows, place, span.kind, k_max=k_max)
  part = {} if span.part is None else {"part": span.part}
  return (record | part for record in every) if part else iter(every)


def texts(span: Span) -> Iterator[bundles.Bundle]:
  """Its texts, of a kind of text, as `sources.Source.bundles` gives them."""
  place = span.place
  if span.form == LINES:
    key = kinds.KINDS[span.kind].key
    every = bundles.of_records(records(span), key)
  elif span.form == TEXT:
    assert isinstance(place, epath.Path)
    path = place
    every = _numbered(
      span,
      lambda extent: (some for _, some in text.documents(path, extent)),
    )
  else:
    every = sources.of_unit(place, span.kind)
  part = span.part or 0
  return (dataclasses.replace(bundle, part=part) for bundle in every)


def _numbered(
  span: Span, read: Callable[[pieces.Extent], Iterable[T]]
) -> Iterator[T]:
  """What is read of a span's bytes; of an error says the line in its file.

  Lines before it are counted only then.
  """
  path, of_documents = epath.Path(span.unit), span.form == TEXT
  extent = pieces.Extent(
    _border(path, span.start, of_documents=of_documents),
    _border(path, span.stop, of_documents=of_documents),
  )
  if extent.start >= extent.stop:
    return
  try:
    yield from read(extent)
  except errors.UserError:
    if not extent.start:
      raise
    for _ in read(extent._replace(line=1 + _newlines(path, extent.start))):
      pass
    raise


def _border(path: epath.Path, at: int, *, of_documents: bool) -> int:
  length = path.stat().length
  if at >= length:
    return length
  return text.border(path, at, of_documents=of_documents)


def _newlines(path: epath.Path, stop: int) -> int:
  """How many lines end before a byte of a file."""
  count = 0
  with path.open("rb") as file:
    while stop and (block := file.read(min(stop, pieces.SIZE))):
      count += block.count(b"\n")
      stop -= len(block)
  return count
