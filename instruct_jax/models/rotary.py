"""Rotary positions (RoFormer): tables of angles, and heads turned by them."""

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.models import config as model_config


def table(
  positions: jax.Array,
  slots: int,
  config: model_config.DecoderConfig,
  *,
  local: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines [B * T, 1, rotary_size / 2] of RoFormer's eq. 34.

  Looked up in a constant, because XLA computes a cosine anew wherever it is
  used. A position past `slots` is not a number, as in a learned table. `local`
  asks for those of the layers that slide.
  """
  angles = np.arange(slots)[:, None] * rates(config, local=local)
  both = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
  both = jnp.take(both, positions.reshape(-1), axis=1)[:, :, None]
  return both[0], both[1]


def rates(
  config: model_config.DecoderConfig, *, local: bool = False
) -> np.ndarray:
  """Radians a position [rotary_size / 2] of each pair, float64.

  'linear' divides all by the factor. 'llama3' (Llama 3.1) divides those that
  turn less than `rotary_low` times in the old context, leaves those that turn
  more than `rotary_high` times, and goes from one to the other in between.
  The `local` ones have a base of their own and are not scaled (Gemma 3).
  """
  half = config.rotary_size // 2
  if local:
    return config.rotary_local_base ** (-np.arange(half) / half)
  plain = config.rotary_base ** (-np.arange(half) / half)
  if config.rotary_scaling == "none":
    return plain
  slow = plain / config.rotary_factor
  if config.rotary_scaling == "linear":
    return slow
  turns = config.rotary_old_length * plain / (2 * np.pi)
  low, high = config.rotary_low, config.rotary_high
  fast = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return fast * plain + (1 - fast) * slow


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Turns pairs (i, i + half) of the first numbers of each head [.., H, E]."""
  cos, sin = angles
  half = cos.shape[-1]
  a, b, rest = jnp.split(x.astype(jnp.float32), [half, 2 * half], -1)
  parts = [a * cos - b * sin, b * cos + a * sin, rest]
  return jnp.concatenate(parts, -1).astype(x.dtype)
