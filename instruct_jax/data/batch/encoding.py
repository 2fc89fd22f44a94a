"""Records with prompts -> rows of tokens: demonstrations, prompts, rankings.

N records, K completions, P prompt, R response. A prompt is what
`templates.encode` makes of it; a response ends with end-of-text if it ended by
itself and that still fits.
"""

import itertools
from collections.abc import Sequence

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import packing, rows, streams
from instruct_jax.data.read import kinds
from instruct_jax.tokenizers import templates

Ids = list[list[int]]


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
  ids, fitting = fitting_prompts(
    [r["prompt"] for r in records], tokenizer, data.template, data.prompt_length
  )
  used = [records[i] for i in fitting]
  part = np.asarray([r["part"] for r in used], np.int32) if weights else None
  response = kinds.KINDS[kind].response
  if packed and kinds.KINDS[kind].can_pack:
    parts = len(weights) or None
    answers = [record[response] for record in used]
    table, part, counts = _packed(answers, ids, part, parts, tokenizer, data)
    index, source = np.arange(len(table), dtype=np.int32), ()
  else:
    table, good, counts = _padded(kind, used, ids, tokenizer, data)
    index, source = fitting[good], records
    part = None if part is None else part[good]
  counts = {
    "records": len(records),
    "prompts_too_long": len(records) - len(used),
    **counts,
    "rows": len(table),
    "padding": round(table.padding, 4),
  }
  if not len(table):
    raise errors.UserError(_nothing_left(where, counts, data))
  return rows.Rows(kind, table, index, counts, source, weights, part)


def fitting_prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[Ids, np.ndarray]:
  """The tokens of the prompts that fit, and which [N'] int32 those are."""
  every = templates.encode(texts, tokenizer, template)
  # Appendix C: prompts that are longer than the limit are dropped.
  kept = [n for n, ids in enumerate(every) if len(ids) <= prompt_length]
  return [every[n] for n in kept], np.asarray(kept, np.int32)


def left_padded(
  ids: Ids, width: int, tokenizer: tokenizers.Tokenizer
) -> rows.Batch:
  """prompt [N, P] and prompt_length [N], as `rows.Padded` takes them."""
  shape = (len(ids), width)
  prompt = np.full(shape, tokenizer.pad_id, streams.dtype_of(tokenizer))
  for row, tokens in zip(prompt, ids):
    row[width - len(tokens) :] = tokens
  return {"prompt": prompt, "prompt_length": _lengths(ids)}


def _right_padded(
  ids: Ids, width: int, tokenizer: tokenizers.Tokenizer
) -> rows.Batch:
  shape = (len(ids), width)
  response = np.full(shape, tokenizer.pad_id, streams.dtype_of(tokenizer))
  for row, tokens in zip(response, ids):
    row[: len(tokens)] = tokens
  return {"response": response, "response_length": _lengths(ids)}


def _lengths(ids: Ids) -> np.ndarray:
  return np.fromiter(map(len, ids), np.int32, count=len(ids))


def _responses(
  texts: Sequence[str],
  ended: Sequence[bool],
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[Ids, int]:
  """The responses' tokens, and how many had to be cut."""
  limit, end = data.response_length, [tokenizer.eot_id]
  whole = [
    ids + end if by_itself else ids
    for ids, by_itself in zip(tokenizer.encode_batch(list(texts)), ended)
  ]
  cut = sum(len(ids) > limit for ids in whole)
  return [ids[:limit] for ids in whole], cut


def _padded(
  kind: str,
  used: Sequence[kinds.Record],
  prompts: Ids,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Padded, np.ndarray, dict[str, int]]:
  """The rows, which [N] of the records they are of, and counts."""
  arrays, counts = left_padded(prompts, data.prompt_length, tokenizer), {}
  good = np.arange(len(used))
  response = kinds.KINDS[kind].response
  if kinds.KINDS[kind].has_several:
    more, counts["responses_cut"] = _completions(
      used, response, tokenizer, data
    )
    good = np.flatnonzero(_differ(more))
    counts["too_few_completions"] = len(used) - len(good)
    arrays = {n: array[good] for n, array in (arrays | more).items()}
  elif response:
    texts = [record[response] for record in used]
    ids, counts["responses_cut"] = _responses(
      texts, [True] * len(texts), tokenizer, data
    )
    arrays |= _right_padded(ids, data.response_length, tokenizer)
  return rows.Padded(arrays), good, counts


def _packed(
  texts: Sequence[str],
  prompts: Ids,
  part: np.ndarray | None,
  parts: int | None,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[packing.Pieces, np.ndarray | None, dict[str, int]]:
  """Demonstrations, several a row of `data.row_length`; each row's part."""
  longest = data.prompt_length + data.response_length
  if longest > data.row_length:
    raise errors.UserError(
      f"data.packing: rows of data.row_length={data.row_length} tokens must "
      f"hold a prompt and its response, which may take {longest} "
      "(data.prompt_length + data.response_length)"
    )
  responses, cut = _responses(texts, [True] * len(texts), tokenizer, data)
  streams_, where = [], []
  for n in range(parts or 1):
    of_part = range(len(texts)) if parts is None else np.flatnonzero(part == n)
    both = [prompts[i] + responses[i] for i in of_part]
    lengths, context = _lengths(both), _lengths([prompts[i] for i in of_part])
    tokens = itertools.chain.from_iterable(both)
    streams_.append(np.fromiter(tokens, streams.dtype_of(tokenizer)))
    where.append((np.cumsum(lengths) - lengths, lengths, context))
  table, of_row = packing.pack(
    streams_, where, data.row_length, tokenizer.pad_id
  )
  counts = {"responses_cut": cut, "documents": len(texts)}
  return table, None if parts is None else of_row, counts


def _completions(
  records: Sequence[kinds.Record],
  response: str,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Batch, int]:
  """The rankings' arrays [N, K, ...] and how many responses were cut."""
  N, K = len(records), data.k_max
  texts, ended, slots = [], [], []
  ranks, beats = np.zeros((N, K), np.int32), np.zeros((N, K, K), bool)
  for n, record in enumerate(records):
    k = len(record[response])
    texts += record[response]
    ended += record.get("ended") or [True] * k
    ranks[n, :k] = record.get("ranks") or 1
    slots += range(n * K, n * K + k)
    if record.get("pairs") is None:
      beats[n, :k, :k] = ranks[n, :k, None] < ranks[n, :k]
    for winner, loser in record.get("pairs") or ():
      beats[n, winner, loser] = True
  responses, cut = _responses(texts, ended, tokenizer, data)
  every: Ids = [[] for _ in range(N * K)]
  for slot, ids in zip(slots, responses):
    every[slot] = ids
  padded = _right_padded(every, data.response_length, tokenizer)
  return {
    "response": padded["response"].reshape(N, K, data.response_length),
    "response_length": padded["response_length"].reshape(N, K),
    "ranks": ranks,
    "beats": beats,
  }, cut


def _differ(arrays: rows.Batch) -> np.ndarray:
  """Whether two completions of a ranking [N] differ, as the model sees them."""
  response, length = arrays["response"], arrays["response_length"]
  other = (response != response[:, :1]).any(axis=2) | (length != length[:, :1])
  return (other & (arrays["ranks"] > 0)).any(axis=1)


def _nothing_left(
  where: str, counts: dict[str, int | float], data: ml_collections.ConfigDict
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
