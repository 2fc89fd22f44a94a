"""Tokens of prompts and responses as arrays: padded, cut, and their lengths.

N texts, P prompt, R response. A response ends with end-of-text if it ended by
itself and that still fits.
"""

from collections.abc import Sequence

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.data.batch import limits, rows
from instruct_jax.tokenizers import answers

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


def masks(of: Sequence[list[bool]], width: int) -> np.ndarray:
  """Marks of tokens as an array [N, width] bool, False behind their end."""
  mask = np.zeros((len(of), width), bool)
  for row, marks in zip(mask, of):
    row[: len(marks)] = marks
  return mask


def responses(
  prompts: Sequence[str],
  texts: Sequence[str],
  ended: Sequence[bool],
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[Ids, dict[str, int]]:
  """The tokens of responses to prompts, cut, and counts."""
  limit = data.response_length
  said = answers.encode(prompts, texts, ended, tokenizer, data.template)
  whole = [answer.ids for answer in said]
  lengths = lengths_of(whole)
  counts = {
    "responses": len(whole),
    "responses_cut": int((lengths > limit).sum()),
    **limits.lengths("response", lengths),
  }
  return [ids[:limit] for ids in whole], counts
