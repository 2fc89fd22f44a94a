"""A part of sources that are too large to be looked at whole.

Of files of lines windows from all over are read, of Parquet and TFDS rows from
all over; of the others, which can only be read from their beginning, that.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from instruct_jax.data.read import (
  answers,
  compressed,
  files,
  kinds,
  objects,
  sources,
  specs,
  text,
  typed,
  windows,
)

Record = kinds.Record
_EXPANDS = 4  # a compressed file, about


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Some records, and what they are a part of."""

  records: list[Record]
  about: int | None  # how many there are; None where that is not known
  first: tuple[str, ...]  # what only the beginning was read of
  is_whole: bool


@dataclasses.dataclass(frozen=True)
class _Found:
  records: list[Record]
  about: float | None
  is_first: bool = False


def read(inputs: Sequence[str], kind: str, most: int) -> Sampled:
  """The records of all specs, or about so many bytes of them; 0: all.

  Always the same of the same files. Raises UserError as reading all does, where
  it sees what is wrong.
  """
  size = size_of(inputs)
  if not 0 < most < size:
    every = list(sources.Source(inputs[0], kind, others=inputs[1:]))
    return Sampled(every, len(every), (), True)
  share, found, first = most / size, [], []
  for spec in inputs:
    parts = specs.parts(spec)
    for n, part in enumerate(parts):
      for unit in files.units(part.pattern):
        some = _some(unit, kind, share)
        more = {} if part.weight is None else {"part": n}
        found.append(
          dataclasses.replace(
            some, records=[record | more for record in some.records]
          )
        )
        if some.is_first:
          first.append(str(unit))
  records = [record for some in found for record in some.records]
  counts = [some.about for some in found]
  about = None if None in counts else round(sum(counts))
  return Sampled(records, about, tuple(first), False)


def _some(unit: epath.Path | str, kind: str, share: float) -> _Found:
  """About a share of what is in a file or a set."""
  if isinstance(unit, str):
    rows, count = typed.set_part(unit, share)
    return _Found(list(sources.of_rows(rows, unit, kind)), count)
  if answers.is_one(unit):  # Most of it is no answer of this kind.
    every = list(sources.Source(unit, kind))
    return _Found(every, len(every))
  first = text.head(unit)
  if text.suffix(unit) == ".parquet" or first.startswith(typed.PARQUET):
    rows, count = typed.parquet_part(unit, share)
    return _Found(list(sources.of_rows(rows, unit, kind)), count)
  has_objects = files.holds_objects(unit)
  has_lines = not has_objects or objects.has_lines(unit)
  if _is_local(unit) and has_lines and not files.is_table(unit):
    found = _in_windows(unit, kind, share, has_objects=has_objects)
    if found is not None:
      return found
  most = math.ceil(_size(unit) * share)
  records = list(_within(sources.Source(unit, kind), most))
  return _Found(records, None, is_first=True)


def _in_windows(
  path: epath.Path, kind: str, share: float, *, has_objects: bool
) -> _Found | None:
  """What windows of a file hold; None where nothing starts in them."""
  size = path.stat().length
  spans = windows.spans(size, max(1, int(size * share)))
  covered = sum(stop - start for start, stop in spans)
  read = windows.lines if has_objects else windows.documents
  found = [pair for span in spans for pair in read(path, span)]
  if not found:
    return None
  if has_objects:
    rows = objects.rows_of(found, path)
    records = list(sources.of_rows(rows, path, kind))
  else:
    records = [{kinds.KINDS[kind].key: document} for _, document in found]
  return _Found(records, len(records) * size / covered)


def _within(records: Iterable[Record], most: int) -> Iterator[Record]:
  """The first records, of about so many characters together."""
  total = 0
  for record in records:
    yield record
    total += characters(record)
    if total >= most:
      return


def size_of(inputs: Sequence[str]) -> int:
  """About how many bytes are in the files of specs, unpacked."""
  return sum(_size(path) for spec in inputs for path in specs.paths(spec))


def characters(record: Record) -> int:
  """How many characters the texts of a record have together."""
  total = 0
  for value in record.values():
    if isinstance(value, str):
      total += len(value)
    elif isinstance(value, list):
      total += sum(len(one) for one in value if isinstance(one, str))
  return total


def _size(path: epath.Path) -> int:
  """About how many bytes are in a file, unpacked."""
  size = path.stat().length
  return size * _EXPANDS if _is_packed(path) else size


def _is_packed(path: epath.Path) -> bool:
  return str(path).lower().endswith((*compressed.ENDINGS, ".parquet"))


def _is_local(path: epath.Path) -> bool:
  return "://" not in str(path) and not compressed.is_one(path)
