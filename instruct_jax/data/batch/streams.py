"""Plain text -> rows of tokens, by streams: <eot> document <eot> document ...

That is so where prompts start with end-of-text or with nothing. A tokenizer
whose prompts start with another token gives <start> document <eot> <start>
document <eot> ...
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.data.batch import limits, packing, padding, rows
from instruct_jax.data.read import kinds

_CHUNK = 1024  # texts that are encoded in one call


def token_stream(
  texts: Iterable[str], tokenizer: tokenizers.Tokenizer
) -> Iterator[np.ndarray]:
  """The tokens of all texts, in pieces of many documents."""
  dtype, texts = padding.dtype_of(tokenizer), iter(texts)
  before = _before(tokenizer)
  after = () if _starts_with_end(tokenizer) else (tokenizer.eot_id,)
  while chunk := list(itertools.islice(texts, _CHUNK)):
    rows_ = tokenizer.encode_batch(chunk)
    ids = itertools.chain.from_iterable([*before, *r, *after] for r in rows_)
    extra = (len(before) + len(after)) * len(rows_)
    yield np.fromiter(ids, dtype, count=sum(map(len, rows_)) + extra)


def texts_of(
  records: Iterable[kinds.Record], parts: int
) -> list[Iterable[str]]:
  """The texts of each part of a mixture; of all of it where it has none."""
  if not parts:
    return [(record["text"] for record in records)]
  records = list(records)
  return [
    [record["text"] for record in records if record["part"] == n]
    for n in range(parts)
  ]


def joined(pieces: Iterable[np.ndarray]) -> np.ndarray:
  """Pieces of a stream as one array."""
  pieces = list(pieces)
  return np.concatenate(pieces) if pieces else np.zeros(0, np.uint16)


def documents(
  tokens: np.ndarray, tokenizer: tokenizers.Tokenizer
) -> tuple[np.ndarray, np.ndarray]:
  """(start, length) of each document of a stream, its end token included.

  Every end-of-text is a boundary: `encode` gives none. Where one both ends a
  document and starts the next, it belongs to both.
  """
  ends = np.flatnonzero(np.asarray(tokens) == tokenizer.eot_id)
  if _starts_with_end(tokenizer):
    stops = np.append(ends[1:] + 1, len(tokens))[: len(ends)]
    return ends, stops - ends
  starts = np.append(0, ends + 1)[:-1]
  return starts, ends + 1 - starts


def write_stream(path: os.PathLike | str, pieces: Iterable[np.ndarray]) -> int:
  """Writes pieces as one .npy array; its length.

  The file appears under its name when it is complete.
  """
  tokens = joined(pieces)
  with storage.writing(path, "wb") as file:
    header = np.lib.format.header_data_from_array_1_0(tokens)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(tokens.data)  # np.save hides what the disk says of it.
  return len(tokens)


def paths(
  folder: os.PathLike | str, kind: str, split: str, parts: int
) -> list[epath.Path]:
  """Where a data set's folder keeps the tokens of its text.

  Of a mixture, every part has a file of its own.
  """
  suffixes = [f"-{n}" for n in range(parts)] or [""]
  names = (f"{kind}-{split}{suffix}.npy" for suffix in suffixes)
  return [epath.Path(folder) / name for name in names]


def read_stream(path: os.PathLike | str) -> np.ndarray:
  """The tokens of `write_stream`; memory-mapped where the file is local."""
  if "://" not in os.fspath(path):
    return np.load(path, mmap_mode="r")
  with epath.Path(path).open("rb") as file:
    return np.load(file)


def text_rows(
  streams: Sequence[np.ndarray],
  tokenizer: tokenizers.Tokenizer,
  row_length: int,
  where: str,
  *,
  kind: str = "pretraining",
  packed: bool = False,
  weights: tuple[float, ...] = (),
) -> rows.Rows:
  """Rows of one stream, or of one for each part of a mixture.

  Not packed: each stream is cut into full rows, and what is left at its end is
  dropped. Packed: whole documents, first-fit.
  """
  if packed:
    table, part, counts = _packed(streams, tokenizer, row_length)
  else:
    table, part = packing.whole(streams, row_length, tokenizer.pad_id)
    total = sum(map(len, streams))
    dropped = total - len(table) * row_length
    counts = {"tokens": total, "tokens_dropped": dropped}
  if not len(table):
    raise errors.UserError(
      f"{where} has {counts['tokens']} tokens, fewer than one row "
      f"(data.row_length={row_length}); give more text"
    )
  counts |= {"rows": len(table), "padding": round(table.padding, 4)}
  index = np.arange(len(table), dtype=np.int32)
  part = part if weights else None
  return rows.Rows(kind, table, index, counts, (), weights, part)


def _packed(streams, tokenizer, row_length):
  texts, every = [], [np.zeros(0, np.int64)]
  for stream in streams:
    starts, lengths = documents(stream, tokenizer)
    texts.append((starts, lengths, np.ones(len(starts), np.int32)))
    every.append(lengths)
  every = np.concatenate(every)
  table, part = packing.pack(streams, texts, row_length, tokenizer.pad_id)
  counts = {
    "tokens": int(table.length.sum(dtype=np.int64)),
    "documents": len(every),
    "documents_cut": int((every > row_length).sum()),
    **limits.percentiles("document", every),
  }
  return table, part, counts


def _starts_with_end(tokenizer: tokenizers.Tokenizer) -> bool:
  return _before(tokenizer) == (tokenizer.eot_id,)


def _before(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
  """What stands in front of a document."""
  return tuple(tokenizer.start_ids) or (tokenizer.eot_id,)
