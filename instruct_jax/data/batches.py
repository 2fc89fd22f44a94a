"""Records -> token rows -> batches of numpy arrays.

B rows of a batch, K completions, P prompt, R response, T row of text. Prompts
are padded on the left, responses on the right; masks are made here, where the
padding is, and travel with the tokens:

  pretraining     tokens [B, T], is_token [B, T]
  demonstrations  prompt [B, P], is_prompt [B, P], response, is_response [B, R]
  prompts         prompt [B, P], is_prompt [B, P], index [B]
  rankings        prompt [B, P], is_prompt [B, P], response, is_response
                  [B, K, R], ranks [B, K], is_completion [B, K]

Tokens, ranks and index are int32, masks bool. A prompt is the end-of-text
token and the filled-in template; a response ends with end-of-text if it ended
by itself and that still fits.
"""

import dataclasses
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import errors, tokenizers
from instruct_jax.data import sources

Batch = dict[str, np.ndarray]
_CHUNK = 1024  # texts that are encoded in one call


@dataclasses.dataclass(frozen=True)
class Rows:
  """Every row of one kind and split, in the order of its source.

  Tokens are kept in as few bytes as the vocabulary allows, with lengths in
  place of masks; `take` makes the batch.
  """

  kind: str
  arrays: Batch  # tokens and lengths, [N, ...]
  index: np.ndarray  # [N] int32, the record in the source that a row is from
  counts: dict[str, int]  # what was read, dropped and cut
  source: Sequence[sources.Record]  # () for pretraining

  def __len__(self) -> int:
    return len(self.index)

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> Batch:
    """The batch of these rows."""
    a = {name: array[indices] for name, array in self.arrays.items()}
    batch = {}
    if "tokens" in a:
      batch["tokens"] = a["tokens"].astype(np.int32)
      batch["is_token"] = np.ones(a["tokens"].shape, bool)
    if "prompt" in a:
      column = np.arange(a["prompt"].shape[-1], dtype=np.int32)
      batch["prompt"] = a["prompt"].astype(np.int32)
      first = len(column) - a["prompt_length"]
      batch["is_prompt"] = column >= first[..., None]
    if "response" in a:
      column = np.arange(a["response"].shape[-1], dtype=np.int32)
      batch["response"] = a["response"].astype(np.int32)
      batch["is_response"] = column < a["response_length"][..., None]
    if "ranks" in a:
      batch["ranks"] = a["ranks"].astype(np.int32)
      batch["is_completion"] = a["ranks"] > 0
    if self.kind == "prompts":
      batch["index"] = self.index[indices]
    return batch

  def in_order(self, size: int) -> Iterator[Batch]:
    """All rows once, `size` at a time.

    The last batch is filled up with row 0, masks and `index` switched off
    (False; -1), so that every batch has one shape and no row counts twice.
    """
    for start in range(0, len(self), size):
      real = min(size, len(self) - start)
      indices = np.zeros(size, np.int64)
      indices[:real] = np.arange(start, start + real)
      batch = self.take(indices)
      for name in ("is_token", "is_response", "is_completion"):
        if name in batch:
          batch[name][real:] = False
      if "index" in batch:
        batch["index"][real:] = -1
      yield batch


def make(
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> Rows:
  """The rows of one kind and split (`sources.open_source` says of which)."""
  where = f"the {split} split of data.{kind}"
  if kind == "pretraining" and "data" in folders:
    stream = stream_path(folders["data"], split)
    if stream.exists():
      return text_rows(read_stream(stream), data.row_length, where)
  records = sources.open_source(data, kind, split, folders)
  if kind != "pretraining":
    return encode_records(records, data, tokenizer, kind, where)
  pieces = list(token_stream((r["text"] for r in records), tokenizer))
  tokens = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
  return text_rows(tokens, data.row_length, where)


def encode_records(
  records: Sequence[sources.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  where: str,
) -> Rows:
  """Rows of demonstrations, prompts or rankings.

  Raises:
    UserError: not one record is left; `where` names the source.
  """
  prompt, length, kept = _prompts(
    [r["prompt"] for r in records], tokenizer, data.template, data.prompt_length
  )
  counts = {
    "records": len(records),
    "prompts_too_long": len(records) - len(kept),
  }
  arrays = {"prompt": prompt, "prompt_length": length}
  if kind == "demonstrations":
    texts = [records[i]["response"] for i in kept]
    response, lengths, cut = _responses(
      texts, [True] * len(texts), tokenizer, data.response_length
    )
    arrays |= {"response": response, "response_length": lengths}
    counts["responses_cut"] = cut
  if kind == "rankings":
    more, counts["responses_cut"] = _completions(
      [records[i] for i in kept], tokenizer, data.k_max, data.response_length
    )
    arrays |= more
    good = [n for n in range(len(kept)) if _differ(arrays, n)]
    counts["too_few_completions"] = len(kept) - len(good)
    arrays = {name: array[good] for name, array in arrays.items()}
    kept = kept[good]
  counts["rows"] = len(kept)
  if not len(kept):
    raise errors.UserError(_nothing_left(where, counts, data))
  return Rows(kind, arrays, kept, counts, records)


def encode_prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """prompt [N', P], is_prompt [N', P] and kept [N'], the texts that fitted."""
  prompt, length, kept = _prompts(texts, tokenizer, template, prompt_length)
  first = prompt_length - length
  is_prompt = np.arange(prompt_length) >= first[:, None]
  return prompt.astype(np.int32), is_prompt, kept


def decode_responses(
  tokens: np.ndarray,
  is_response: np.ndarray,
  tokenizer: tokenizers.Tokenizer,
) -> list[str]:
  """The texts of responses [B, R], end-of-text left out."""
  tokens, is_response = np.asarray(tokens), np.asarray(is_response)
  return [
    tokenizer.decode(row[mask].tolist())
    for row, mask in zip(tokens, is_response)
  ]


def token_stream(
  texts: Iterable[str], tokenizer: tokenizers.Tokenizer
) -> Iterator[np.ndarray]:
  """<eot> document <eot> document ..., in pieces of many documents."""
  dtype = _dtype(tokenizer)
  texts = iter(texts)
  while chunk := list(itertools.islice(texts, _CHUNK)):
    rows = tokenizer.encode_batch(chunk)
    ids = itertools.chain.from_iterable([tokenizer.eot_id, *r] for r in rows)
    yield np.fromiter(ids, dtype, count=sum(map(len, rows)) + len(rows))


def write_stream(path: os.PathLike | str, pieces: Iterable[np.ndarray]) -> int:
  """Writes pieces as one .npy array; its length.

  The file appears under its name when it is complete.
  """
  pieces = list(pieces)
  tokens = np.concatenate(pieces) if pieces else np.zeros(0, np.uint16)
  path = epath.Path(path)
  part = path.with_name(f".{path.name}.part")
  with part.open("wb") as file:
    np.save(file, tokens)
  part.replace(path)
  return len(tokens)


def stream_path(folder: os.PathLike | str, split: str) -> epath.Path:
  """Where a data set's folder keeps the tokens of its text."""
  return epath.Path(folder) / f"pretraining-{split}.npy"


def read_stream(path: os.PathLike | str) -> np.ndarray:
  """The tokens of `write_stream`; memory-mapped where the file is local."""
  if "://" not in os.fspath(path):
    return np.load(path, mmap_mode="r")
  with epath.Path(path).open("rb") as file:
    return np.load(file)


def text_rows(tokens: np.ndarray, row_length: int, where: str) -> Rows:
  """A stream of tokens cut into rows; what is left at its end is dropped."""
  n = len(tokens) // row_length
  if not n:
    raise errors.UserError(
      f"{where} has {len(tokens)} tokens, fewer than one row "
      f"(data.row_length={row_length}); give more text"
    )
  arrays = {"tokens": tokens[: n * row_length].reshape(n, row_length)}
  counts = {
    "tokens": len(tokens),
    "tokens_dropped": len(tokens) - n * row_length,
    "rows": n,
  }
  return Rows("pretraining", arrays, np.arange(n, dtype=np.int32), counts, ())


class Batches:
  """Endless batches of several kinds, a pure function of (seed, step).

  Every epoch of a kind is a permutation of its own, of which the rows that do
  not fill a batch are left out. A process takes its share of each batch;
  together they hold the same batch whatever their number. Use it by step,
  `batches[step]`, or as an iterator, whose state is a small JSON object.

  The order is numpy's, not Grain's: Grain's index shuffle walks a domain of at
  least 65,536, which is 1 ms a row for 50 rows (numpy: an epoch in 10 us).

  Args:
    rows: the rows by kind.
    sizes: rows a step by kind, over all processes. The first kind sets the
      length of an epoch.
  """

  def __init__(
    self,
    rows: dict[str, Rows],
    sizes: dict[str, int],
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
  ):
    for kind, size in sizes.items():
      if size % process_count:
        raise errors.UserError(
          f"config.batch.{kind}={size} does not divide over {process_count} "
          "processes"
        )
      if not 0 < size <= len(rows[kind]):
        raise errors.UserError(
          f"a batch takes {size} rows of '{kind}' (config.batch.{kind}), but "
          f"there are {len(rows[kind])}: {rows[kind].counts}. Give more data "
          "or a smaller batch"
        )
    self._rows, self._sizes, self._seed = dict(rows), dict(sizes), seed
    self._process = process_index, process_count
    self._orders: dict[str, tuple[int, np.ndarray]] = {}
    self._step = 0

  @property
  def steps_per_epoch(self) -> int:
    """Steps in which the first kind's rows are seen once."""
    kind, size = next(iter(self._sizes.items()))
    return len(self._rows[kind]) // size

  def __getitem__(self, step: int) -> dict[str, Batch]:
    """This process's rows of the batch of a step, by kind."""
    return {
      kind: self._rows[kind].take(self._indices(kind, size, step))
      for kind, size in self._sizes.items()
    }

  def __iter__(self) -> "Batches":
    return self

  def __next__(self) -> dict[str, Batch]:
    batch = self[self._step]
    self._step += 1
    return batch

  def get_state(self) -> dict[str, Any]:
    """What `set_state` needs to go on with the next batch (JSON)."""
    counts = {kind: len(self._rows[kind]) for kind in self._sizes}
    return {
      "step": self._step,
      "seed": self._seed,
      "rows": counts,
      "sizes": dict(self._sizes),
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on where `state` was taken; UserError if it was of other data."""
    ours = {**self.get_state(), "step": state["step"]}
    if ours != state:
      raise errors.UserError(
        f"the checkpoint's data iterator was of other data: {state}, now {ours}"
      )
    self._step = state["step"]

  def _indices(self, kind: str, size: int, step: int) -> np.ndarray:
    epoch, place = divmod(step, len(self._rows[kind]) // size)
    index, count = self._process
    start = place * size + index * (size // count)
    return self._order(kind, epoch)[start : start + size // count]

  def _order(self, kind: str, epoch: int) -> np.ndarray:
    """The permutation of an epoch; the last one of each kind is kept."""
    if self._orders.get(kind, (None,))[0] != epoch:
      seeds = [self._seed, zlib.crc32(kind.encode()), epoch]
      order = np.random.default_rng(seeds).permutation(len(self._rows[kind]))
      self._orders[kind] = epoch, order
    return self._orders[kind][1]


def _prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """prompt [N', P], its lengths [N'] and the indices [N'] that fitted."""
  filled = [template.replace("{prompt}", text) for text in texts]
  rows = [[tokenizer.eot_id, *ids] for ids in tokenizer.encode_batch(filled)]
  # Appendix C: prompts that are longer than the limit are dropped.
  kept = [n for n, row in enumerate(rows) if len(row) <= prompt_length]
  shape = (len(kept), prompt_length)
  prompt = np.full(shape, tokenizer.pad_id, _dtype(tokenizer))
  length = np.zeros(len(kept), np.int32)
  for n, i in enumerate(kept):
    length[n] = len(rows[i])
    prompt[n, -len(rows[i]) :] = rows[i]
  return prompt, length, np.asarray(kept, np.int32)


def _responses(
  texts: Sequence[str],
  ended: Sequence[bool],
  tokenizer: tokenizers.Tokenizer,
  response_length: int,
) -> tuple[np.ndarray, np.ndarray, int]:
  """response [N, R], its lengths [N], and how many had to be cut."""
  shape = (len(texts), response_length)
  response = np.full(shape, tokenizer.pad_id, _dtype(tokenizer))
  length = np.zeros(len(texts), np.int32)
  cut = 0
  for n, ids in enumerate(tokenizer.encode_batch(list(texts))):
    row = [*ids, tokenizer.eot_id] if ended[n] else ids
    cut += len(row) > response_length
    length[n] = min(len(row), response_length)
    response[n, : length[n]] = row[:response_length]
  return response, length, cut


def _completions(
  records: Sequence[sources.Record],
  tokenizer: tokenizers.Tokenizer,
  k_max: int,
  response_length: int,
) -> tuple[Batch, int]:
  """The rankings' arrays [N, K, ...] and how many responses were cut."""
  texts, ended, slots = [], [], []
  ranks = np.zeros((len(records), k_max), np.int32)
  for n, record in enumerate(records):
    k = len(record["responses"])
    texts += record["responses"]
    ended += record.get("ended") or [True] * k
    ranks[n, :k] = record["ranks"]
    slots += range(n * k_max, n * k_max + k)
  short, lengths, cut = _responses(texts, ended, tokenizer, response_length)
  shape = (len(records) * k_max, response_length)
  response = np.full(shape, tokenizer.pad_id, short.dtype)
  length = np.zeros(len(response), np.int32)
  response[slots], length[slots] = short, lengths
  return {
    "response": response.reshape(len(records), k_max, response_length),
    "response_length": length.reshape(len(records), k_max),
    "ranks": ranks,
  }, cut


def _differ(arrays: Batch, n: int) -> bool:
  """Whether two completions of ranking n differ, as the model sees them."""
  seen = arrays["response"][n][arrays["ranks"][n] > 0]
  lengths = arrays["response_length"][n][arrays["ranks"][n] > 0]
  return bool((seen != seen[0]).any() or (lengths != lengths[0]).any())


def _nothing_left(
  where: str, counts: dict[str, int], data: ml_collections.ConfigDict
) -> str:
  if not counts["records"]:
    return (
      f"{where} is empty; give more data, raise its fraction "
      "(data.validation_fraction, data.test_fraction), or mark lines with "
      '"split"'
    )
  return (
    f"nothing is left of {where}: {counts} with "
    f"data.prompt_length={data.prompt_length}"
  )


def _dtype(tokenizer: tokenizers.Tokenizer) -> np.dtype:
  small = tokenizer.vocab_size <= 2**16
  return np.dtype(np.uint16 if small else np.int32)
