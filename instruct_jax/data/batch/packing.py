"""Several texts a row: first-fit packing, and rows that are made of pieces.

N rows of T columns, M pieces. A piece is a run of tokens of a stream that is
one text, or one cut of a text that is longer than a row.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

Batch = dict[str, np.ndarray]


def first_fit(lengths: np.ndarray, row_length: int) -> np.ndarray:
  """The row [M] int64 of each piece: first-fit, the longest pieces first.

  Pieces of one length are placed together, so a million take seconds. Those of
  equal length keep their order. Every length must be in 1..row_length.
  """
  lengths = np.asarray(lengths)
  order = np.argsort(-lengths.astype(np.int64), kind="stable")
  row_of = np.empty(len(lengths), np.int64)
  free = np.empty(len(lengths), np.int32)  # tokens left in each open row
  rows = placed = 0
  sizes, counts = np.unique(lengths, return_counts=True)
  for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist()):
    # A row that fits takes at least one, so `count` of them are enough.
    fits = np.flatnonzero(free[:rows] >= size)[:count]
    takes = free[fits] // size
    takes = np.minimum(takes, np.maximum(count - np.cumsum(takes) + takes, 0))
    left, each = count - int(takes.sum()), row_length // size
    new = -(-left // each)
    free[rows : rows + new] = row_length
    fits = np.concatenate([fits, np.arange(rows, rows + new)])
    more = np.full(new, each)
    if new:
      more[-1] = left - each * (new - 1)
    takes = np.concatenate([takes, more])
    row_of[order[placed : placed + count]] = np.repeat(fits, takes)
    free[fits] -= (takes * size).astype(np.int32)
    rows, placed = rows + new, placed + count
  return row_of


def cut(
  starts: np.ndarray, lengths: np.ndarray, row_length: int
) -> tuple[np.ndarray, np.ndarray]:
  """(start, length) of the pieces of texts, none longer than a row."""
  count = np.maximum(-(-lengths // row_length), 1)
  text = np.repeat(np.arange(len(lengths)), count)
  nth = np.arange(len(text)) - np.repeat(np.cumsum(count) - count, count)
  begin = nth * row_length
  return starts[text] + begin, np.minimum(lengths[text] - begin, row_length)


@dataclasses.dataclass(frozen=True)
class Pieces:
  """Rows whose tokens lie in streams, which may be files mapped to memory.

  Row n holds the pieces first[n] .. first[n + 1]. Where it may hold several,
  `is_packed`, batches carry `segments` [B, T] int32, which number the pieces of
  a row from 1 (0 is padding), and `is_target` [B, T] bool.
  """

  streams: tuple[np.ndarray, ...]
  stream: np.ndarray  # [M], the stream of a piece
  start: np.ndarray  # [M] int64, its place there
  length: np.ndarray  # [M] int32
  context: np.ndarray  # [M] int32, its first tokens, which are no targets
  first: np.ndarray  # [N + 1] int64
  row_length: int
  pad_id: int
  is_packed: bool
  # Of each token of the streams whether a loss counts it; () for all of them
  # that are no context.
  targets: tuple[np.ndarray, ...] = ()

  def __len__(self) -> int:
    return len(self.first) - 1

  @property
  def is_text(self) -> bool:
    """Whether a piece's first token is no target, and all others are."""
    if len(self.streams) != 1 or self.targets:
      return False
    return not self.is_packed or bool(np.all(self.context == 1))

  @property
  def padding(self) -> float:
    """The share of columns without a token."""
    size = len(self) * self.columns
    return 1 - self.filled / size if size else 0.0

  @property
  def columns(self) -> int:
    """Columns of a row."""
    return self.row_length

  @property
  def filled(self) -> int:
    """Columns of all rows that have a token."""
    return int(self.length.sum(dtype=np.int64))

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> Batch:
    """tokens, is_token and, of packed rows, segments and is_target [B, T]."""
    rows = np.arange(len(self))[indices]
    count = self.first[rows + 1] - self.first[rows]
    ends = np.cumsum(count)
    nth = np.arange(count.sum()) - np.repeat(ends - count, count)
    piece = np.repeat(self.first[rows], count) + nth
    length = self.length[piece].astype(np.int64)
    begin = np.cumsum(length) - length  # of a piece, in the batch's tokens
    row_begin = np.append(begin, 0)[ends - count]
    column = begin - np.repeat(row_begin, count)
    column += np.repeat(np.arange(len(rows)) * self.row_length, count)
    flat = np.arange(length.sum())
    at = flat + np.repeat(column - begin, length)

    def spread(values, fill):
      out = np.full(len(rows) * self.row_length, fill, np.asarray(values).dtype)
      out[at] = values
      return out.reshape(len(rows), self.row_length)

    batch = {
      "tokens": spread(
        self._of(self.streams, np.int32, piece, flat, begin, length),
        self.pad_id,
      ),
      "is_token": spread(np.ones(len(flat), bool), False),
    }
    if self.is_packed:
      numbers = np.repeat((nth + 1).astype(np.int32), length)
      free = begin + self.context[piece]
      batch["segments"] = spread(numbers, 0)
      is_target = flat >= np.repeat(free, length)
      if self.targets:
        is_target &= self._of(self.targets, bool, piece, flat, begin, length)
      batch["is_target"] = spread(is_target, False)
    return batch

  def _of(self, streams, dtype, piece, flat, begin, length):
    """What streams hold of the pieces, one after another."""
    source = flat + np.repeat(self.start[piece] - begin, length)
    if len(streams) == 1:
      return streams[0][source].astype(dtype)
    found = np.empty(len(flat), dtype)
    stream = np.repeat(self.stream[piece], length)
    for n, values in enumerate(streams):
      of_stream = stream == n
      found[of_stream] = values[source[of_stream]]
    return found


def pack(
  streams: Sequence[np.ndarray],
  texts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
  row_length: int,
  pad_id: int,
  targets: Sequence[np.ndarray] = (),
) -> tuple[Pieces, np.ndarray]:
  """Packed rows of texts (start, length, context), one tuple a stream.

  Texts longer than a row are cut; of every further cut only the first token
  is no target. Returns the stream [N] of each row too: rows do not mix them.
  """
  pieces_of, rows, stream_of_row = [], 0, []
  for n, (starts, lengths, context) in enumerate(texts):
    count = np.maximum(-(-lengths // row_length), 1)
    start, length = cut(starts, lengths, row_length)
    free = np.ones(len(start), np.int32)
    free[np.cumsum(count) - count] = context
    row = first_fit(length, row_length)
    total = int(row.max()) + 1 if len(row) else 0
    pieces_of.append((np.full(len(row), n), start, length, free, row + rows))
    stream_of_row += [n] * total
    rows += total
  stream, start, length, context, row = map(np.concatenate, zip(*pieces_of))
  # Longest first in a row, as they were placed.
  order = np.lexsort((np.arange(len(row)), -length, row))
  first = np.searchsorted(row[order], np.arange(rows + 1))
  pieces = Pieces(
    streams=tuple(streams),
    stream=stream[order].astype(np.int32),
    start=start[order].astype(np.int64),
    length=length[order].astype(np.int32),
    context=context[order].astype(np.int32),
    first=first,
    row_length=row_length,
    pad_id=pad_id,
    is_packed=True,
    targets=tuple(targets),
  )
  return pieces, np.asarray(stream_of_row, np.int32)


def whole(
  streams: Sequence[np.ndarray], row_length: int, pad_id: int
) -> tuple[Pieces, np.ndarray]:
  """Streams cut into full rows, and the stream [N] of each row.

  What is left at the end of a stream is dropped.
  """
  counts = [len(stream) // row_length for stream in streams]
  stream = np.repeat(np.arange(len(streams), dtype=np.int32), counts)
  starts = [np.arange(n, dtype=np.int64) * row_length for n in counts]
  rows = len(stream)
  pieces = Pieces(
    streams=tuple(streams),
    stream=stream,
    start=np.concatenate(starts),
    length=np.full(rows, row_length, np.int32),
    context=np.zeros(rows, np.int32),
    first=np.arange(rows + 1),
    row_length=row_length,
    pad_id=pad_id,
    is_packed=False,
  )
  return pieces, stream
