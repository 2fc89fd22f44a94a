"""Records with prompts -> rows of tokens: demonstrations, prompts, rankings.

N records, K completions, P prompt, R response. A prompt is what
`templates.encode` makes of it; a response ends with end-of-text if it ended by
itself and that still fits.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import (
  histograms,
  limits,
  packing,
  padding,
  rows,
)
from instruct_jax.data.read import kinds
from instruct_jax.tokenizers import templates


def encode_records(
  records: Sequence[kinds.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  where: str,
  *,
  packed: bool = False,
  weights: tuple[float, ...] = (),
) -> rows.Rows:
  """Rows of demonstrations, prompts or rankings; `packed` demonstrations.

  With `weights`, records say of which "part" of the mixture they are.

  Raises:
    UserError: not one record is left (`where` names the source), or packed
      rows are shorter than a prompt and its response may be.
  """
  found = encode_piece(
    records, data, tokenizer, kind, packed=packed, weights=weights
  )
  counts = limits.finished(found.counts)
  if not len(found):
    raise errors.UserError(nothing_left(where, counts, data))
  counts["padding"] = round(found.table.padding, 4)
  return dataclasses.replace(found, counts=counts)


def encode_piece(
  records: Sequence[kinds.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  *,
  packed: bool = False,
  weights: tuple[float, ...] = (),
) -> rows.Rows:
  """Rows, maybe none, of some records; their counts are for `limits.merged`.

  Raises UserError where packed rows are shorter than a prompt and its response
  may be.
  """
  every = templates.encode(
    [record["prompt"] for record in records], tokenizer, data.template
  )
  fitting = _fitting(every, data.prompt_length)
  counts = {
    "records": len(records),
    "prompts_too_long": len(records) - len(fitting),
    **limits.lengths("prompt", padding.lengths_of(every)),
  }
  used = [records[i] for i in fitting]
  ids = [every[i] for i in fitting]
  entry, answers = kinds.KINDS[kind], None
  if entry.response and not entry.has_several:
    texts = [record[entry.response] for record in used]
    every, lengths, more = padding.responses(
      texts, [True] * len(texts), tokenizer, data
    )
    there = np.flatnonzero(lengths > 1).tolist()  # more than the end
    fitting, answers = fitting[there], [every[n] for n in there]
    used, ids = [used[n] for n in there], [ids[n] for n in there]
    counts |= {**more, "responses_empty": len(texts) - len(there)}
  part = np.asarray([r["part"] for r in used], np.int32) if weights else None
  if packed and entry.can_pack and answers is not None:
    parts = len(weights) or None
    table, part = _packed(answers, ids, part, parts, tokenizer, data)
    counts["documents"] = len(used)
    index, source = np.arange(len(table), dtype=np.int32), ()
  else:
    table, good, more = _padded(kind, used, ids, answers, tokenizer, data)
    counts |= more
    index, source = fitting[good], records
    part = None if part is None else part[good]
  counts["rows"] = len(table)
  return rows.Rows(kind, table, index, counts, source, weights, part)


SEVERAL = "responses"  # of `lengths`: how many a record has


def lengths(
  records: Sequence[kinds.Record], kind: str, tokenizer: tokenizers.Tokenizer
) -> dict[str, histograms.Histogram]:
  """How many tokens each text of the records has, uncut, by its key.

  They are what `data.prompt_length` (plus the template and one token) and
  `data.response_length` (plus one) are chosen by. Of lists of responses also
  how long those are.
  """
  entry = kinds.KINDS[kind]
  texts = {key: [r[key] for r in records] for key in entry.required}
  sizes = {}
  if entry.has_several:
    several = texts.pop(entry.response)
    texts["response"] = list(itertools.chain.from_iterable(several))
    sizes = {SEVERAL: histograms.of([len(some) for some in several])}
  return {
    name: histograms.of(padding.lengths_of(tokenizer.encode_batch(some)))
    for name, some in texts.items()
  } | sizes


def fitting_prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[padding.Ids, np.ndarray]:
  """The tokens of the prompts that fit, and which [N'] int32 those are."""
  every = templates.encode(texts, tokenizer, template)
  kept = _fitting(every, prompt_length)
  return [every[n] for n in kept], kept


def _fitting(every: padding.Ids, prompt_length: int) -> np.ndarray:
  # Appendix C: prompts that are longer than the limit are dropped.
  kept = [n for n, ids in enumerate(every) if len(ids) <= prompt_length]
  return np.asarray(kept, np.int32)


def _padded(
  kind: str,
  used: Sequence[kinds.Record],
  prompts: padding.Ids,
  answers: padding.Ids | None,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Padded, np.ndarray, dict[str, int]]:
  """The rows, which [N] of the records they are of, and counts."""
  arrays, counts = (
    padding.left_padded(prompts, data.prompt_length, tokenizer),
    {},
  )
  good = np.arange(len(used))
  if kinds.KINDS[kind].has_several:
    response = kinds.KINDS[kind].response
    more, good, counts = _completions(used, response, tokenizer, data)
    arrays = {n: array[good] for n, array in (arrays | more).items()}
  elif answers is not None:
    arrays |= padding.right_padded(answers, data.response_length, tokenizer)
  return rows.Padded(arrays), good, counts


def _packed(
  responses: padding.Ids,
  prompts: padding.Ids,
  part: np.ndarray | None,
  parts: int | None,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[packing.Pieces, np.ndarray | None]:
  """Demonstrations, several a row of `data.row_length`; each row's part."""
  longest = data.prompt_length + data.response_length
  if longest > data.row_length:
    raise errors.UserError(
      f"data.packing: rows of data.row_length={data.row_length} tokens must "
      f"hold a prompt and its response, which may take {longest} "
      "(data.prompt_length + data.response_length)"
    )
  streams_, where = [], []
  for n in range(parts or 1):
    every = range(len(responses))
    of_part = every if parts is None else np.flatnonzero(part == n)
    both = [prompts[i] + responses[i] for i in of_part]
    lengths, context = (
      padding.lengths_of(both),
      padding.lengths_of([prompts[i] for i in of_part]),
    )
    tokens = itertools.chain.from_iterable(both)
    streams_.append(np.fromiter(tokens, padding.dtype_of(tokenizer)))
    where.append((np.cumsum(lengths) - lengths, lengths, context))
  table, of_row = packing.pack(
    streams_, where, data.row_length, tokenizer.pad_id
  )
  return table, None if parts is None else of_row


def _completions(
  records: Sequence[kinds.Record],
  response: str,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Batch, np.ndarray, dict[str, int]]:
  """The rankings' arrays [N, K, ...], which of them to keep, and counts.

  K is as many responses as one of them has: `data.k_max` makes no row wider.
  """
  sizes = [len(record[response]) for record in records]
  N, K = len(records), max(sizes, default=0)
  texts, ended, slots = [], [], []
  ranks, beats = np.zeros((N, K), np.int32), np.zeros((N, K, K), bool)
  for n, (record, k) in enumerate(zip(records, sizes)):
    texts += record[response]
    ended += record.get("ended") or [True] * k
    ranks[n, :k] = record.get("ranks") or 1
    slots += range(n * K, n * K + k)
    # Ranks order all responses: pairs beside them say some of it again.
    beats[n, :k, :k] = ranks[n, :k, None] < ranks[n, :k]
    for winner, loser in () if record.get("ranks") else record["pairs"]:
      beats[n, winner, loser] = True
  every: padding.Ids = [[] for _ in range(N * K)]
  answers, _, counts = padding.responses(texts, ended, tokenizer, data)
  for slot, ids in zip(slots, answers):
    every[slot] = ids
  counts["pairs"] = int(beats.sum())
  tells, counts["pairs_alike"] = _telling(every, beats, sizes)
  good = np.flatnonzero(tells)
  counts["too_few_completions"] = N - len(good)
  padded = padding.right_padded(every, data.response_length, tokenizer)
  arrays = {
    "response": padded["response"].reshape(N, K, data.response_length),
    "response_length": padded["response_length"].reshape(N, K),
    "ranks": ranks,
    "beats": beats,
  }
  return arrays, good, counts


def _telling(
  every: padding.Ids, beats: np.ndarray, sizes: Sequence[int]
) -> tuple[np.ndarray, int]:
  """Which rankings [N] say something of what the model sees.

  Not those whose completions are all the same tokens, nor those that order
  the same ones only. Takes such pairs out of `beats` and counts them.
  """
  tells, alike, K = np.ones(len(sizes), bool), 0, beats.shape[1]
  for n, k in enumerate(sizes):
    places: dict[tuple[int, ...], list[int]] = {}
    for i in range(k):
      places.setdefault(tuple(every[n * K + i]), []).append(i)
    if len(places) == k:
      continue
    before = int(beats[n].sum())
    for twins in places.values():
      beats[n][np.ix_(twins, twins)] = False
    lost = before - int(beats[n].sum())
    alike += lost
    tells[n] = len(places) > 1 and not (lost and lost == before)
  return tells, alike


def nothing_left(
  where: str, counts: limits.Counts, data: ml_collections.ConfigDict
) -> str:
  """Why there is no row of what `where` names."""
  if not counts["records"]:
    return (
      f"{where} is empty; give more data, raise its fraction "
      "(data.validation_fraction, data.test_fraction), or mark lines with "
      '"split"'
    )
  return f"nothing is left of {where}: {limits.in_words(counts, data)}"
