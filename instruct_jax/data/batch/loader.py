"""What a run reads: the rows of a kind and split, and endless batches of them.

B rows of a batch, K completions, P prompt, R response, T row of text. Prompts
are padded on the left, responses on the right; masks are made where the
padding is, and travel with the tokens:

  pretraining     tokens [B, T], is_token [B, T]
  demonstrations  prompt [B, P], is_prompt [B, P], response, is_response [B, R]
  prompts         prompt [B, P], is_prompt [B, P], index [B]
  rankings        prompt [B, P], is_prompt [B, P], response, is_response
                  [B, K, R], ranks [B, K], is_completion [B, K], beats [B, K, K]
  packed          of the first two kinds: tokens, is_token, segments, is_target
                  [B, T]

Tokens, ranks, segments and index are int32, masks bool. beats[b, i, j] says
that completion i won against j. The segments of a row count its texts from 1,
0 is padding; its targets are the tokens that a loss counts.
"""

import functools
import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors, keys
from instruct_jax.data.batch import (
  ahead,
  catalogue,
  encoding,
  limits,
  mixtures,
  padding,
  shuffle,
  stored,
  streams,
)
from instruct_jax.data.batch import rows as rows_lib
from instruct_jax.data.read import kinds, sources

Batch = rows_lib.Batch
Rows = rows_lib.Rows


def make(
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  split: str,
  folders: Mapping[str, os.PathLike | str],
  *,
  packed: bool = False,
  open_records: Callable[..., Sequence[Any]] = sources.open_source,
  weights_of: Callable[..., tuple[float, ...]] = mixtures.weights_of,
) -> Rows:
  """The rows of one kind and split.

  `packed` puts several texts or demonstrations into a row; it changes nothing
  for the other kinds. `open_records` (data, kind, split, folders) and
  `weights_of` (data, kind, folders) are a world's, or of people's own files.
  """
  where = f"the {split} split of data.{kind}"
  weights = weights_of(data, kind, folders)
  records = functools.partial(open_records, data, kind, split, folders)
  is_stream = kinds.KINDS[kind].is_stream
  written = folders.get("data")
  if written and kind not in folders and catalogue.exists(written, kind):
    found = catalogue.open_rows(
      written,
      data,
      tokenizer,
      kind,
      split,
      packed=packed,
      weights=weights,
      source=() if is_stream else records(),
    )
    if found is not None:
      return found
  if not is_stream:
    return encoding.encode_records(
      records(), data, tokenizer, kind, where, packed=packed, weights=weights
    )
  return streams.text_rows(
    [
      streams.joined(streams.token_stream(texts, tokenizer))
      for texts in streams.texts_of(records(), len(weights))
    ],
    tokenizer,
    data.row_length,
    where,
    kind=kind,
    packed=packed,
    weights=weights,
  )


def encode_prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """prompt [N', P], is_prompt [N', P] and kept [N'], the texts that fitted."""
  ids, kept = encoding.fitting_prompts(
    texts, tokenizer, template, prompt_length
  )
  padded = padding.left_padded(ids, prompt_length, tokenizer)
  batch = rows_lib.Padded(padded).take(slice(None))
  return batch["prompt"], batch["is_prompt"], kept


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


class Batches:
  """Endless batches of several kinds, a pure function of (seed, step).

  Every epoch of a kind is a permutation of its own, of which the rows that do
  not fill a batch are left out. Of a mixture, the parts take turns by weight,
  each with permutations and epochs of its own, and no row is left out. A
  process takes its share of each batch; together they hold the same batch
  whatever their number. Use it by step, `batches[step]`, or as an iterator,
  whose state is a small JSON object, and which reads ahead in a thread where
  rows are in files.

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
      _check(kind, rows[kind], size, process_count)
    self._rows, self._sizes, self._seed = dict(rows), dict(sizes), seed
    self._process = process_index, process_count
    self._mixtures = {
      kind: mixtures.Mixture(rows[kind].weights, rows[kind].part)
      for kind in sizes
      if rows[kind].weights
    }
    self._orders: dict[tuple, tuple[int, np.ndarray | shuffle.Order]] = {}
    self._lock = threading.Lock()
    self._step = 0
    is_read = any(isinstance(rows[kind].table, stored.Stored) for kind in sizes)
    self._ahead = ahead.Ahead(self.__getitem__) if is_read else None

  @property
  def steps_per_epoch(self) -> int:
    """Steps in which as many rows are seen as the first kind has."""
    kind, size = next(iter(self._sizes.items()))
    return len(self._rows[kind]) // size

  def __getitem__(self, step: int) -> dict[str, Batch]:
    """This process's rows of the batch of a step, by kind."""
    with self._lock:  # A thread may read ahead.
      chosen = {
        kind: self._indices(kind, size, step)
        for kind, size in self._sizes.items()
      }
    return {kind: self._rows[kind].take(rows) for kind, rows in chosen.items()}

  def __iter__(self) -> "Batches":
    return self

  def __next__(self) -> dict[str, Batch]:
    batch = (self._ahead or self)[self._step]
    self._step += 1
    return batch

  def close(self) -> None:
    """Ends the thread that reads ahead, where rows are read from files."""
    if self._ahead is not None:
      self._ahead.close()

  def get_state(self) -> dict[str, Any]:
    """What `set_state` needs to go on with the next batch (JSON)."""
    mixtures_ = {kind: m.state() for kind, m in self._mixtures.items()}
    return {
      "step": self._step,
      "seed": self._seed,
      "rows": {kind: len(self._rows[kind]) for kind in self._sizes},
      "sizes": dict(self._sizes),
      **({"mixtures": mixtures_} if mixtures_ else {}),
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on where `state` was taken; UserError if it was of other data."""
    current = {**self.get_state(), "step": state["step"]}
    if current != state:
      raise errors.UserError(
        "the checkpoint's data iterator was of other data: "
        f"{_differences(state, current)}"
      )
    self._step = state["step"]

  def _indices(self, kind: str, size: int, step: int) -> np.ndarray:
    index, count = self._process
    share = size // count
    if kind in self._mixtures:
      return self._mixed(kind, step * size + index * share, share)
    epoch, place = divmod(step, len(self._rows[kind]) // size)
    start = place * size + index * share
    order = self._order(kind, None, epoch, len(self._rows[kind]))
    return order[start : start + share]

  def _mixed(self, kind: str, start: int, count: int) -> np.ndarray:
    """The rows of a mixture's draws from `start` on."""
    mixture = self._mixtures[kind]
    part, nth = mixture.schedule.draws(start, count)
    chosen = np.empty(count, np.int64)
    for n, rows in enumerate(mixture.rows_of):
      of_part = np.flatnonzero(part == n)
      epoch, place = np.divmod(nth[of_part], len(rows))
      for e in np.unique(epoch).tolist():
        order = self._order(kind, n, e, len(rows))
        chosen[of_part[epoch == e]] = rows[order[place[epoch == e]]]
    return chosen

  def _order(
    self, kind: str, part: int | None, epoch: int, count: int
  ) -> np.ndarray | shuffle.Order:
    """The permutation of an epoch; the last one of each part is kept."""
    if self._orders.get((kind, part), (-1,))[0] != epoch:
      seeds = [self._seed, zlib.crc32(kind.encode()), epoch]
      seeds += [] if part is None else [part]
      self._orders[kind, part] = epoch, shuffle.order(seeds, count)
    return self._orders[kind, part][1]


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
  old, new = keys.flatten(before), keys.flatten(now)
  changed = [
    key for key in sorted({*old, *new}) if old.get(key) != new.get(key)
  ]
  return ", ".join(
    f"{key} {old.get(key)}, now {new.get(key)}" for key in changed
  )


def _check(kind: str, rows: Rows, size: int, process_count: int) -> None:
  if size % process_count:
    raise errors.UserError(
      f"config.batch.{kind}={size} does not divide over {process_count} "
      "processes"
    )
  if not 0 < size <= len(rows):
    raise errors.UserError(
      f"a batch takes {size} rows of '{kind}' (config.batch.{kind}), but "
      f"there are {len(rows)}: {limits.in_words(rows.counts)}. Give more data"
      " or a smaller batch"
    )
  for n, weight in enumerate(rows.weights):
    if not np.any(rows.part == n):
      raise errors.UserError(
        f"part {n + 1} of data.{kind} has the weight {weight:g} but not one "
        f"row to train on: {limits.in_words(rows.counts)}. Give it more data"
        " or leave it out"
      )
