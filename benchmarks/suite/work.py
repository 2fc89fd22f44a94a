"""The work of each row: what is given to our worker and to every peer's.

A spec is one JSON object: the model's size, the folder of its weights, token
lists, lengths and batch sizes. Workers of both sides read the same one.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.suite import lengths

PROBE = (2, 5, 11, 3, 17, 30, 7, 4)  # tokens, of whose last the logits
PROBED = 64  # of this many tokens are compared
SEED = 20_220_304  # of everything that is drawn; the paper's first day
ROLES = ("policy", "reward")  # folders of weights
END, PAD = 1, 0  # the byte tokenizer's


@dataclasses.dataclass(frozen=True)
class Size:
  """A GPT-2 by its numbers."""

  layers: int
  width: int
  heads: int
  vocab_size: int
  context_length: int


def following(token: int, vocab_size: int) -> int:
  """What the model of `weights` says after a token."""
  return token - 1 if token > END else vocab_size - 1


def size_of(spec: dict) -> Size:
  """The model's."""
  return Size(**spec["model"])


def digest(spec: dict, role: str = "policy") -> str:
  """Of a role's file of weights."""
  path = pathlib.Path(spec["folder"]) / role / "model.safetensors"
  return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def left(
  rows: Sequence[Sequence[int]], width: int
) -> tuple[np.ndarray, np.ndarray]:
  """(tokens, masks) [N, width], padded on the left."""
  tokens = np.full((len(rows), width), PAD, np.int32)
  is_token = np.zeros((len(rows), width), bool)
  for i, row in enumerate(rows):
    if row:
      tokens[i, -len(row) :], is_token[i, -len(row) :] = row, True
  return tokens, is_token


def padded_prompts(spec: dict) -> dict[str, np.ndarray]:
  """A batch of the spec's prompts."""
  tokens, is_token = left(spec["prompts"], spec["prompt"])
  index = np.arange(len(tokens), dtype=np.int32)
  return {"prompt": tokens, "is_prompt": is_token, "index": index}


def are_as_told(
  spec: dict, tokens: Sequence[Sequence[int]], found: Sequence[int]
) -> bool:
  """Whether responses are those that the weights give (see `weights`)."""
  vocab_size = spec["model"]["vocab_size"]
  for prompt, row, length in zip(spec["prompts"], tokens, found):
    token = prompt[-1]
    for one in list(row)[:length]:
      token = following(token, vocab_size)
      if int(one) != token:
        return False
  return True


def rollouts(
  *,
  count: int,
  shortest: int,
  prompt: int,
  response: int,
  mean: float,
  vocab_size: int,
  multiple: int = 1,
) -> dict[str, Any]:
  """Prompts whose responses have lengths of this mean; all of the maximum,
  without an end, where the mean is that."""
  if mean >= response:
    drawn = np.full(count, response, np.int32)
    lasts = drawn + END + response  # the end is not reached
  else:
    drawn = lengths.ragged(SEED, count, mean=mean, longest=response)
    lasts = drawn + END
  return {
    "prompts": lengths.prompts(SEED, lasts, shortest, prompt, vocab_size),
    "lengths": drawn.tolist(),
    "prompt": prompt,
    "response": response,
  }


def demonstrations(
  *,
  count: int,
  shortest: int,
  prompt: int,
  response: int,
  mean: float,
  vocab_size: int,
) -> dict[str, Any]:
  """Demonstrations with responses of this mean."""
  drawn = lengths.ragged(SEED, count, mean=mean, longest=response)
  texts = lengths.texts(SEED, drawn, shortest, prompt, vocab_size)
  return {
    "prompts": [text["prompt"] for text in texts],
    "responses": [text["response"] for text in texts],
    "lengths": drawn.tolist(),
    "prompt": prompt,
    "response": response,
  }


def choices(
  *,
  count: int,
  each: int,
  shortest: int,
  prompt: int,
  response: int,
  mean: float,
  vocab_size: int,
) -> dict[str, Any]:
  """Contexts with so many continuations each, whose lengths have this mean."""
  drawn = lengths.ragged(SEED, count * each, mean=mean, longest=response)
  lasts = np.full(count, END + 1)
  draw = np.random.default_rng(SEED + 3)
  said = [draw.integers(2, vocab_size, n).tolist() for n in drawn]
  return {
    "prompts": lengths.prompts(SEED, lasts, shortest, prompt, vocab_size),
    "choices": [said[n : n + each] for n in range(0, len(said), each)],
    "lengths": drawn.tolist(),
    "prompt": prompt,
    "response": response,
  }


def texts(count: int, length: int, vocab_size: int) -> list[list[int]]:
  """Rows of pretraining text, of random tokens."""
  draw = np.random.default_rng(SEED + 2)
  return draw.integers(2, vocab_size, (count, length)).tolist()
