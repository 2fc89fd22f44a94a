"""FLOPs that a model needs, whatever a program computes again.

2 for each weight of a matrix and token forward and 4 backward (the 6 N of
Kaplan et al. 2020, arXiv:2001.08361, section 2.1), and attention's two products
over what a token may see: half of a causal text. All texts are as long as they
can be. Embeddings that are only looked up count nothing, the vocabulary where
it is read.
"""

from typing import Any

from instruct_jax.models import config as model_config
from instruct_jax.planning import programs, setting

TRAINED = 3  # forward, and twice as much backward


def weights(c: model_config.DecoderConfig) -> int:
  """Weights of the matrices of all blocks."""
  attention = 2 * (c.heads + c.kv_heads) * c.head_size * c.width
  gated = c.mlp in ("swiglu", "geglu")
  return c.layers * (attention + (3 if gated else 2) * c.width * c.mlp_width)


def forward(
  c: model_config.DecoderConfig, tokens: float, seen: float, read: float
) -> float:
  """Of so many tokens, which see `seen` tokens in all; the vocabulary is read
  at `read` of them."""
  heads = c.heads * c.head_size
  return (
    2 * weights(c) * tokens
    + 4 * c.layers * heads * seen
    + 2 * c.vocab_size * c.width * read
  )


def of_text(c: model_config.DecoderConfig, length: int, read: int) -> float:
  """Of a text of so many tokens, read at `read` of them."""
  return forward(c, length, length * length / 2, read)


def of_program(
  name: str, given: setting.Setting, program: programs.Program
) -> float:
  """Of one run of a program."""
  if name == "update":
    return _of_update(given, program)
  ctx = given.ctx
  policy, scalar = ctx.policy.config, ctx.scalar.config
  P, R = ctx.config.data.prompt_length, ctx.config.data.response_length
  if name == "prefill":
    return program.rows * of_text(policy, P, 1)
  if name == "decode_step":
    return program.rows * forward(policy, 1, P + R / 2, 1)
  policies = 1 + ("reference" in given.state.frozen)
  scalars = ("value" in given.state.params) + ("reward" in given.state.frozen)
  each = policies * of_text(policy, P + R, R) + scalars * of_text(
    scalar, P + R, 0
  )
  return program.rows * each


def _of_update(given: setting.Setting, program: programs.Program) -> float:
  """Of all minibatches of a step: every part, forward and backward."""
  return sum(
    TRAINED * _of_part(given, part, rows)
    for part, rows in program.minibatches.items()
  )


def _of_part(given: setting.Setting, part: str, rows: dict[str, Any]) -> float:
  ctx = given.ctx
  is_scalar = part == "value" or "policy" not in ctx.config.optimizer
  c = (ctx.scalar if is_scalar else ctx.policy).config
  first = next(iter(rows.values())).shape  # [minibatches, rows, ...]
  count = first[0] * first[1]
  if "tokens" in rows:
    length = rows["tokens"].shape[-1]
    return count * of_text(c, length, 0 if is_scalar else length)
  P, R = rows["prompt"].shape[-1], rows["response"].shape[-1]
  K = rows["response"].shape[2] if rows["response"].ndim == 4 else 1
  seen = P * P / 2 + K * R * (P + R / 2)
  return count * forward(c, P + K * R, seen, 0 if is_scalar else K * R)
