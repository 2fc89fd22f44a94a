"""FLOPs that a step's models need, by what is really read and said.

Padding and what is computed again count nothing, so that they show as a smaller
share of what the devices could do (MFU, Chowdhery et al. 2022,
arXiv:2204.02311, appendix B). M minibatches, B rows, K completions, P prompt, R
response, T text.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from instruct_jax.base import chips
from instruct_jax.inference import context
from instruct_jax.models import flops

COUNT = "count/model_flops"  # of a step, on its way to `rates`
# jax's names of the GPUs in the table.
_GPUS = {
  "NVIDIA A100-SXM4-80GB": "a100-80gb",
  "NVIDIA H100 80GB HBM3": "h100",
  "NVIDIA H200": "h200",
}


def of_step(
  ctx: context.Context,
  frozen: Mapping[str, Any],
  batch: Mapping[str, Any],
  minibatches: Mapping[str, Any],
  metrics: Mapping[str, Any],
) -> jax.Array | None:
  """Of a step: its updates and, where episodes were played, those.

  Args:
    ctx: whose models they are.
    frozen: networks that score episodes beside those that are trained.
    batch: rows by kind of data.
    minibatches: rows [M, B, ...] by part.
    metrics: of `collect`; "count/episodes" says how many were played.

  Returns an array [] float32 on the devices, which nothing waits for; None
  where a part's rows have no masks of prompts and responses, nor of a text.
  """
  masks = {
    part: {name: rows[name] for name in _MASKS if name in rows}
    for part, rows in minibatches.items()
  }
  if not all("is_token" in x or set(x) >= _BOTH for x in masks.values()):
    return None
  played = {
    name: metrics[name] for name in ("count/episodes", "response/length")
    if name in metrics and "prompts" in batch
  }  # fmt: skip
  is_prompt = batch["prompts"]["is_prompt"] if played else None
  roles = tuple(role for role in ("reference", "reward") if role in frozen)
  return _of_step(ctx, roles, masks, played, is_prompt)


_MASKS = ("is_prompt", "is_response", "is_token", "is_target")
_BOTH = {"is_prompt", "is_response"}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_step(ctx, roles, masks, played, is_prompt):
  # Of weights that are not trained themselves no gradient is needed.
  passes = flops.TRAINED - bool("lora" in ctx.config and ctx.config.lora.rank)
  total = sum(passes * _of_part(ctx, part, x) for part, x in masks.items())
  if played:
    total += _of_episodes(ctx, roles, played, is_prompt)
  return total


def _of_part(ctx, part, masks):
  """The forward pass of the rows that a part of the loss reads."""
  is_scalar = part == "value" or "policy" not in ctx.config.optimizer
  c = (ctx.scalar if is_scalar else ctx.policy).config
  if "is_token" in masks:
    T = masks["is_token"].sum(axis=-1, dtype=jnp.float32)
    target = masks.get("is_target", masks["is_token"])
    read = 0.0 if is_scalar else target.sum(dtype=jnp.float32)
    return flops.forward(c, T.sum(), (T * T).sum() / 2, read)
  P = masks["is_prompt"].sum(axis=-1, dtype=jnp.float32)
  R = masks["is_response"].sum(axis=-1, dtype=jnp.float32)
  # A prompt is read once for all of its completions, which it has K of.
  each = P[..., None] if R.ndim > P.ndim else P
  seen = (P * P).sum() / 2 + (R * (each + R / 2)).sum()
  read = 0.0 if is_scalar else R.sum()
  return flops.forward(c, P.sum() + R.sum(), seen, read)


def _of_episodes(ctx, roles, played, is_prompt):
  """Sampling and scoring, by the mean lengths of prompts and responses."""
  episodes, _ = played["count/episodes"]
  said, count = played["response/length"]
  P = is_prompt.sum(dtype=jnp.float32) / jnp.maximum(
    is_prompt.any(axis=-1).sum(), 1
  )
  R = said / jnp.maximum(count, 1)
  seen = (P + R) * (P + R) / 2
  # The policy samples, and reads what it sampled.
  policies = 2 + ("reference" in roles)
  scalars = ("value" in ctx.config.optimizer) + ("reward" in roles)
  policy, scalar = ctx.policy.config, ctx.scalar.config
  return episodes * (
    policies * flops.forward(policy, P + R, seen, R)
    + scalars * flops.forward(scalar, P + R, seen, 0.0)
  )


def rates(
  needed: float, seconds: float, devices: list[jax.Device]
) -> dict[str, float]:
  """Metrics: TFLOPs a second and device; and their share of what it can do.

  The share, rate/mfu, only of devices whose peak is known. CPUs have none that
  their makers publish.
  """
  each = needed / seconds / len(devices)
  found = {"rate/model_tflops_per_second": each / 1e12}
  kind = devices[0].device_kind
  chip = chips.of_kind(kind) or chips.CHIPS.get(_GPUS.get(kind, ""))
  return found | ({"rate/mfu": each / chip.flops} if chip else {})
