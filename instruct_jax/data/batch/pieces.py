"""A piece of a data set: records in, shards out.

Functions of their arguments alone, which know nothing of what runs them: this
process, several, or Beam.
"""

import dataclasses
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.data.batch import (
  encoding,
  histograms,
  limits,
  shards,
  streams,
)
from instruct_jax.data.read import kinds

Manifest = dict[str, Any]  # what is known of a piece's shards, as JSON holds it
_HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True)
class Piece:
  """Records of one split, and one part of a mixture, that follow each other."""

  kind: str
  split: str
  number: int  # of the piece in its split
  part: int  # of the mixture; 0 where it is none
  size: int  # bytes
  digest: str  # of the records
  records: Sequence[kinds.Record]
  beside: int = 0  # bytes of other pieces that are held and not whole yet


@dataclasses.dataclass(frozen=True)
class Texts(Sequence):
  """Records that have a text alone, as bytes: one thing to hand over."""

  key: str
  content: bytes | bytearray  # of all, in UTF-8, a space before each
  ends: np.ndarray  # [N] int64, of each in them

  def __len__(self) -> int:
    return len(self.ends)

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return [self[n] for n in range(len(self))[index]]
    n = range(len(self))[index]
    return self._record(int(self.ends[n - 1]) if n else 0, int(self.ends[n]))

  def __iter__(self) -> Iterator[kinds.Record]:
    return ({self.key: text} for text in self.texts())

  def texts(self) -> Iterator[str]:
    """The text of each."""
    ends, view = self.ends.tolist(), memoryview(self.content)
    for before, end in zip([0, *ends], ends):
      yield str(view[before + 1 : end], "utf-8", "surrogatepass")

  def __reduce_ex__(self, protocol: Any) -> Any:
    """Pickled without a copy of the bytes, where that is asked for."""
    is_new = protocol >= 5
    content = pickle.PickleBuffer(self.content) if is_new else self.content
    return Texts, (self.key, content, self.ends)

  def _record(self, before: int, end: int) -> kinds.Record:
    content = self.content[before + 1 : end]
    return {self.key: content.decode("utf-8", "surrogatepass")}


def texts_of(records: Sequence[kinds.Record], key: str) -> Iterator[str]:
  """What records have under a key."""
  if isinstance(records, Texts):
    return records.texts()
  return (record[key] for record in records)


class Growing:
  """What `Texts` are made of."""

  def __init__(self):
    self._content, self._ends = bytearray(), [np.zeros(0, np.int64)]
    self._count = 0

  def __len__(self) -> int:
    return self._count

  def add(self, content: bytes, starts: np.ndarray, stops: np.ndarray) -> None:
    """Those texts more that lie there."""
    view, size = memoryview(content), len(self._content)
    spans = zip(starts.tolist(), stops.tolist())
    self._content += b" ".join([b"", *[view[at:stop] for at, stop in spans]])
    self._ends.append(size + np.cumsum(stops - starts + 1))
    self._count += len(starts)

  def grown(self, key: str) -> Texts:
    """What it has grown to, under this key of each record."""
    return Texts(key, self._content, np.concatenate(self._ends))


def without_records(piece: Piece) -> Piece:
  """What to call a piece by, once its records are not needed any more."""
  return dataclasses.replace(piece, records=())


def layouts_of(kind: str, data: ml_collections.ConfigDict) -> tuple[str, ...]:
  """What rows are written of a kind: each in a row, and packed ones."""
  entry = kinds.KINDS[kind]
  longest = data.prompt_length + data.response_length
  fits = entry.is_stream or longest <= data.row_length
  return shards.LAYOUTS if entry.can_pack and fits else (shards.ROWS,)


def write(
  piece: Piece,
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  root: epath.PathLike,
) -> Manifest:
  """Writes the shards of a piece, one for each layout.

  Raises OSError, which names the file, where the disk says no, and UserError
  where rows would take more memory than there is.
  """
  made = tables(piece.kind, piece.records, data, tokenizer)
  layouts = {}
  for layout, (table, counts) in made.of_layout.items():
    path = shards.path(root, piece.kind, layout, piece.split, piece.number)
    layouts[layout] = shards.write(path, table) | {
      "filled": table.filled,
      "columns": table.columns,
      "counts": to_json(counts),
    }
  return {
    "number": piece.number,
    "part": piece.part,
    "size": piece.size,
    "digest": piece.digest,
    "records": len(piece.records),
    "rows_of": made.rows_of,
    "lengths": to_json(made.lengths),
    "layouts": layouts,
  }


@dataclasses.dataclass(frozen=True)
class Tables:
  """The rows of some records, and what there is to say of them."""

  of_layout: Mapping[str, tuple[shards.Table, Mapping[str, Any]]]
  # How many unpacked rows are of a record, where it is not one.
  rows_of: list[tuple[int, int]]
  lengths: Mapping[str, histograms.Histogram]  # tokens of texts, uncut


def tables(
  kind: str,
  records: Sequence[kinds.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
) -> Tables:
  """The rows of records in each layout; raises UserError as `write`."""
  entry, of_layout, rows_of = kinds.KINDS[kind], {}, []
  if entry.is_stream:
    texts = texts_of(records, entry.key)
    stream = streams.joined(streams.token_stream(texts, tokenizer))
    for layout in layouts_of(kind, data):
      table, _, counts = streams.text_piece(
        [stream], tokenizer, data.row_length, packed=layout == shards.PACKED
      )
      of_layout[layout] = table, counts
    return Tables(of_layout, [], {})
  lengths = encoding.lengths(records, kind, tokenizer)
  if entry.has_several:
    limits.check_memory(lengths[encoding.SEVERAL], data)
  for layout in layouts_of(kind, data):
    packed = layout == shards.PACKED
    found = encoding.encode_piece(records, data, tokenizer, kind, packed=packed)
    assert isinstance(found.table, shards.Table)
    of_layout[layout] = found.table, found.counts
    if not packed:
      sizes = np.bincount(found.index, minlength=len(records)).tolist()
      rows_of = [(n, size) for n, size in enumerate(sizes) if size != 1]
  return Tables(of_layout, rows_of, lengths)


def to_json(counts: Mapping[str, Any]) -> dict[str, Any]:
  """Counts, histograms among them, as JSON holds them."""
  return {
    name: {_HISTOGRAM: value.to_json()}
    if isinstance(value, histograms.Histogram)
    else value
    for name, value in counts.items()
  }


def from_json(counts: Mapping[str, Any]) -> dict[str, Any]:
  """What `to_json` was given."""
  return {
    name: histograms.from_json(value[_HISTOGRAM])
    if isinstance(value, dict)
    else value
    for name, value in counts.items()
  }
