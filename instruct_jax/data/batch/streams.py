"""Plain text -> rows of tokens, by streams: <eot> document <eot> document ...

That is so where prompts start with end-of-text or with nothing. A tokenizer
whose prompts start with another token gives <start> document <eot> <start>
document <eot> ...
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import limits, packing, padding, rows
from instruct_jax.data.read import kinds

_CHUNK = 1024  # texts that are encoded in one call


def token_stream(
  texts: Iterable[str], tokenizer: tokenizers.Tokenizer
) -> Iterator[np.ndarray]:
  """The tokens of all texts, in pieces of many documents."""
  dtype, texts = padding.dtype_of(tokenizer), iter(texts)
  end = () if _starts_with_end(tokenizer) else (tokenizer.eot_id,)
  before, after = (
    np.asarray(ids, np.int32).tobytes() for ids in (_before(tokenizer), end)
  )
  between = after + before
  while chunk := list(itertools.islice(texts, _CHUNK)):
    # As bytes: numpy takes as long for a short array as for a long one.
    every = tokenizer.encode_arrays(chunk)
    # pyrefly: ignore[bad-argument-type]  # An array is a buffer.
    content = between.join(every)
    content = b"".join((before, content, after))
    yield np.frombuffer(content, np.int32).astype(dtype)


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
  table, part, counts = text_piece(
    streams, tokenizer, row_length, packed=packed
  )
  counts = limits.finished(counts)
  if not len(table):
    raise errors.UserError(too_little(where, counts, row_length))
  counts["padding"] = round(table.padding, 4)
  index = np.arange(len(table), dtype=np.int32)
  part = part if weights else None
  return rows.Rows(kind, table, index, counts, (), weights, part)


def text_piece(
  streams: Sequence[np.ndarray],
  tokenizer: tokenizers.Tokenizer,
  row_length: int,
  *,
  packed: bool,
) -> tuple[packing.Pieces, np.ndarray, dict[str, Any]]:
  """Rows, maybe none, the stream [N] of each, and counts for `limits.merged`.

  As `text_rows` makes them.
  """
  if packed:
    table, part, counts = _packed(streams, tokenizer, row_length)
  else:
    table, part = packing.whole(streams, row_length, tokenizer.pad_id)
    total = sum(map(len, streams))
    dropped = total - len(table) * row_length
    counts = {"tokens": total, "tokens_dropped": dropped}
  return table, part, counts | {"rows": len(table)}


def too_little(where: str, counts: limits.Counts, row_length: int) -> str:
  """Why there is no row of the text that `where` names."""
  return (
    f"{where} has {counts['tokens']} tokens, fewer than one row "
    f"(data.row_length={row_length}); give more text"
  )


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
    **limits.lengths("document", every),
  }
  return table, part, counts


def _starts_with_end(tokenizer: tokenizers.Tokenizer) -> bool:
  return _before(tokenizer) == (tokenizer.eot_id,)


def _before(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
  """What stands in front of a document."""
  return tuple(tokenizer.start_ids) or (tokenizer.eot_id,)
