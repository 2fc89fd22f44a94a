"""Tokens of prompts and responses as arrays: padded, cut, and their lengths.

N texts, P prompt, R response. A response ends with end-of-text if it ended by
itself and that still fits.
"""

from collections.abc import Sequence

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.data.batch import limits, rows

Ids = list[list[int]]


def dtype_of(tokenizer: tokenizers.Tokenizer) -> np.dtype:
  """The smallest type that holds every id, that of padding included."""
  ids = max(tokenizer.vocab_size, tokenizer.pad_id + 1)
  return np.dtype(np.uint16 if ids <= 2**16 else np.int32)


def left_padded(
  ids: Ids, width: int, tokenizer: tokenizers.Tokenizer
) -> rows.Batch:
  """prompt [N, P] and prompt_length [N], as `rows.Padded` takes them."""
  shape = (len(ids), width)
  prompt = np.full(shape, tokenizer.pad_id, dtype_of(tokenizer))
  for row, tokens in zip(prompt, ids):
    row[width - len(tokens) :] = tokens
  return {"prompt": prompt, "prompt_length": lengths_of(ids)}


def right_padded(
  ids: Ids, width: int, tokenizer: tokenizers.Tokenizer
) -> rows.Batch:
  """response [N, R] and response_length [N], as `rows.Padded` takes them."""
  shape = (len(ids), width)
  response = np.full(shape, tokenizer.pad_id, dtype_of(tokenizer))
  for row, tokens in zip(response, ids):
    row[: len(tokens)] = tokens
  return {"response": response, "response_length": lengths_of(ids)}


def lengths_of(ids: Ids) -> np.ndarray:
  """How many tokens each has, [N] int32."""
  return np.fromiter(map(len, ids), np.int32, count=len(ids))


def responses(
  texts: Sequence[str],
  ended: Sequence[bool],
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[Ids, np.ndarray, dict[str, int]]:
  """The responses' tokens, their lengths before they were cut, and counts."""
  limit, end = data.response_length, [tokenizer.eot_id]
  whole = [
    ids + end if by_itself else ids
    for ids, by_itself in zip(tokenizer.encode_batch(list(texts)), ended)
  ]
  lengths = lengths_of(whole)
  counts = {
    "responses": len(whole),
    "responses_cut": int((lengths > limit).sum()),
    **limits.lengths("response", lengths),
  }
  return [ids[:limit] for ids in whole], lengths, counts
