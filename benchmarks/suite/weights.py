"""Weights whose responses end where the workload says, on every side alike.

No hook forces the lengths, on our side or on a peer's: the weights do. After
token t the model says t - 1, down to the end token 1, with a chance that
rounds to 1; so a prompt that ends in token 1 + n has a response of n tokens,
whoever decodes it, and every side's tokens can be checked. How: the halves of
a token's embedding are codes, the second half of token t - 1's the first half
of t's, and the last MLP, which is linear here since gelu(x) - gelu(-x) = x,
copies the first half over the second before the tied unembedding reads it.
The shapes and the work are those of any GPT-2 of this size.
"""

import functools
import json
import os
import sys
from typing import Any

import jax
import numpy as np
from etils import epath

from benchmarks.suite import work
from instruct_jax import tokenizers
from instruct_jax.hf import export
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads

QUIET = 0.02  # of the branches, beside a token's own embedding
COPY = 2.0  # the copied code, beside what was in its place
# The chance of any other token than the one that is due. Not less: far below,
# chances and gradients would be denormal numbers, which are slow on some sides.
LEAK = 1e-9
DEVIATION = 0.02  # of embeddings, GPT-2's


def decoder_of(size: work.Size) -> model_config.DecoderConfig:
  """A size as this package has it."""
  return model_config.DecoderConfig(
    vocab_size=size.vocab_size,
    context_length=size.context_length,
    layers=size.layers,
    width=size.width,
    heads=size.heads,
    kv_heads=size.heads,
    head_size=size.width // size.heads,
    mlp_width=4 * size.width,
  )


def policy(size: work.Size, seed: int) -> dict[str, Any]:
  """A policy's parameters, as above."""
  params = _fresh(heads.LanguageModel(decoder_of(size)), seed)
  trunk = params["decoder"]
  half = size.width // 2
  draw = np.random.default_rng(seed)
  codes = draw.normal(size=(size.vocab_size, half)).astype(np.float32)
  codes *= half**0.5 / np.linalg.norm(codes, axis=1, keepdims=True)
  earlier = codes.copy()  # of token v, the code of whom it follows
  for token in range(size.vocab_size):
    earlier[work.following(token, size.vocab_size)] = codes[token]
  trunk["token_embedding"]["embedding"] = DEVIATION * np.hstack(
    [codes, earlier]
  )
  trunk["position_embedding"]["embedding"] *= QUIET
  for layer in range(size.layers):
    block = trunk[f"block_{layer}"]
    for name in ("output", "down"):
      block[name]["kernel"] *= QUIET
  last = trunk[f"block_{size.layers - 1}"]
  up = np.zeros_like(last["up"]["kernel"])
  down = np.zeros_like(last["down"]["kernel"])
  i = np.arange(half)
  up[i, i], up[i, half + i] = 1.0, -1.0
  down[i, half + i], down[half + i, half + i] = COPY, -COPY
  last["up"]["kernel"], last["down"]["kernel"] = up, down
  trunk["final_norm"]["scale"] *= _sharpness(codes)
  return params


def reward(size: work.Size, seed: int) -> dict[str, Any]:
  """A reward model's parameters: fresh ones."""
  return _fresh(heads.ScalarModel(decoder_of(size)), seed)


def _fresh(model, seed):
  make = jax.jit(functools.partial(forward.init_params, model))
  return jax.tree.map(np.array, make(jax.random.key(seed)))


def _sharpness(codes):
  """By what the last norm multiplies, so that other tokens are as unlikely as
  LEAK.

  After that norm the copied half is a code times sqrt(2): two halves share the
  variance, and the first is nothing beside it. A logit is its product with
  an embedding, so the next token's is sqrt(2) x DEVIATION x half.
  """
  half = codes.shape[1]
  some = codes[:: max(1, len(codes) // 512)]
  alike = np.sort(some @ codes.T / half, axis=1)[:, :-1]  # without itself
  low, high = 1.0, 1000.0  # nats of a logit
  while high - low > 0.1:
    nats = (low + high) / 2
    leak = np.exp(-nats * (1 - alike)).sum(axis=1).max()
    low, high = (nats, high) if leak > LEAK else (low, nats)
  return np.float32(high / (2**0.5 * DEVIATION * half))


def write(size: work.Size, folder: os.PathLike | str, seed: int) -> None:
  """Writes `policy` and `reward`, Hugging Face folders, that every side reads;
  what is there already stays."""
  made = {"policy": policy, "reward": reward}
  for number, (role, make) in enumerate(made.items()):
    place = epath.Path(folder) / role
    if not (place / "config.json").exists():
      params = make(size, seed + number)
      export.export(
        params, decoder_of(size), role, tokenizers.ByteTokenizer(), place
      )


if __name__ == "__main__":  # numbers of a size, a folder, a seed: as JSON
  numbers, place, number = json.loads(sys.argv[1])
  write(work.Size(**numbers), place, number)
