"""FLOPs that a decoder needs, whatever a program computes again.

2 for each weight of a matrix and token forward and 4 backward (the 6 N of
Kaplan et al. 2020, arXiv:2001.08361, section 2.1), and attention's two products
over the tokens that a token may see. Embeddings that are only looked up count
nothing, the vocabulary where it is read.
"""

from typing import Any

from instruct_jax.models import config as model_config

TRAINED = 3  # forward, and twice as much backward


def weights(c: model_config.DecoderConfig) -> int:
  """Weights of the matrices of all blocks."""
  attention = 2 * (c.heads + c.kv_heads) * c.head_size * c.width
  gated = c.mlp in ("swiglu", "geglu")
  return c.layers * (attention + (3 if gated else 2) * c.width * c.mlp_width)


def forward(
  c: model_config.DecoderConfig, tokens: Any, seen: Any, read: Any
) -> Any:
  """Of so many tokens, which see `seen` tokens in all; the vocabulary is read
  at `read` of them. Numbers, or arrays of them."""
  heads = c.heads * c.head_size
  return (
    2.0 * weights(c) * tokens
    + 4.0 * c.layers * heads * seen
    + 2.0 * c.vocab_size * c.width * read
  )


def of_text(c: model_config.DecoderConfig, length: Any, read: Any) -> Any:
  """Of a causal text of so many tokens, read at `read` of them."""
  return forward(c, length, length * length / 2, read)
