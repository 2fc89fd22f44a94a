"""FLOPs that the models of a program need, as `models.flops` counts them.

All texts are as long as they can be.
"""

from typing import Any

from instruct_jax.models import flops
from instruct_jax.planning import programs, setting


def of_program(
  name: str, given: setting.Setting, program: programs.Program
) -> float:
  """Of one run of a program."""
  if name == "update":
    return _of_update(given, program)
  if name == "decoding_copy":
    return 0.0
  ctx = given.ctx
  policy, scalar = ctx.policy.config, ctx.scalar.config
  P, R = ctx.config.data.prompt_length, ctx.config.data.response_length
  if name == "prefill":
    return program.rows * flops.of_text(policy, P, 1)
  if name == "decode_step":
    return program.rows * flops.forward(policy, 1, P + R / 2, 1)
  policies = 1 + ("reference" in given.state.frozen)
  scalars = ("value" in given.state.params) + ("reward" in given.state.frozen)
  each = policies * flops.of_text(policy, P + R, R) + scalars * flops.of_text(
    scalar, P + R, 0
  )
  return program.rows * each


def _of_update(given: setting.Setting, program: programs.Program) -> float:
  """Of all minibatches of a step: every part, forward and backward."""
  return sum(
    flops.TRAINED * _of_part(given, part, rows)
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
    return count * flops.of_text(c, length, 0 if is_scalar else length)
  P, R = rows["prompt"].shape[-1], rows["response"].shape[-1]
  K = rows["response"].shape[2] if rows["response"].ndim == 4 else 1
  seen = P * P / 2 + K * R * (P + R / 2)
  return count * flops.forward(c, P + K * R, seen, 0 if is_scalar else K * R)
