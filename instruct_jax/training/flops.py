"""FLOPs that a step's models need, by what is really read and said.

2 for each weight of a matrix and token forward, 4 backward (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1), and attention's two products over the tokens
that a token may see. Padding and what is computed again count nothing, so that
they show as a smaller share of what the devices could do (MFU, Chowdhery et al.
2022, arXiv:2204.02311, appendix B). The vocabulary counts where it is read.
M minibatches, B rows, K completions, P prompt, R response, T text.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from instruct_jax.inference import context
from instruct_jax.models import config as model_config

COUNT = "count/model_flops"  # of a step, on its way to `rates`
TRAINED = 3  # forward, and twice as much backward
# Dense bfloat16 FLOPs a second, by jax's name of a device, as their makers
# publish them: cloud.google.com/tpu/docs; data sheets of the SXM modules.
PEAK = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "NVIDIA A100-SXM4-40GB": 312e12,
  "NVIDIA A100-SXM4-80GB": 312e12,
  "NVIDIA H100 80GB HBM3": 989e12,
  "NVIDIA H200": 989e12,
}


def weights(c: model_config.DecoderConfig) -> int:
  """Weights of the matrices of all blocks."""
  attention = 2 * (c.heads + c.kv_heads) * c.head_size * c.width
  gated = c.mlp in ("swiglu", "geglu")
  return c.layers * (attention + (3 if gated else 2) * c.width * c.mlp_width)


def forward(
  c: model_config.DecoderConfig, tokens: Any, seen: Any, read: Any
) -> Any:
  """Of so many tokens, which see `seen` tokens in all; the vocabulary is read
  at `read` of them."""
  heads = c.heads * c.head_size
  return (
    2.0 * weights(c) * tokens
    + 4.0 * c.layers * heads * seen
    + 2.0 * c.vocab_size * c.width * read
  )


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
  passes = TRAINED - bool("lora" in ctx.config and ctx.config.lora.rank)
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
    return forward(c, T.sum(), (T * T).sum() / 2, read)
  P = masks["is_prompt"].sum(axis=-1, dtype=jnp.float32)
  R = masks["is_response"].sum(axis=-1, dtype=jnp.float32)
  # A prompt is read once for all of its completions, which it has K of.
  each = P[..., None] if R.ndim > P.ndim else P
  seen = (P * P).sum() / 2 + (R * (each + R / 2)).sum()
  read = 0.0 if is_scalar else R.sum()
  return forward(c, P.sum() + R.sum(), seen, read)


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
    policies * forward(policy, P + R, seen, R)
    + scalars * forward(scalar, P + R, seen, 0.0)
  )


def rates(
  flops: float, seconds: float, devices: list[jax.Device]
) -> dict[str, float]:
  """Metrics: TFLOPs a second and device; and their share of what it can do.

  The share, rate/mfu, only of devices whose peak is known. CPUs have none that
  their makers publish.
  """
  each = flops / seconds / len(devices)
  found = {"rate/model_tflops_per_second": each / 1e12}
  peak = PEAK.get(devices[0].device_kind)
  return found | ({"rate/mfu": each / peak} if peak else {})
