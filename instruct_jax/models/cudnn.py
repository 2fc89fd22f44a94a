"""Flash attention on NVIDIA's GPUs, by cuDNN through `jax.nn`.

It takes any mask [B, T, S], which it holds once for all heads, and no score.
Axes: B rows, G key/value heads, M query heads a key head, T queries, S keys,
E head size.
"""

import functools
import logging

import jax
import jax.numpy as jnp

EVEN = 64  # queries and keys are filled up to a multiple of it
DTYPES = ("bfloat16", "float16")

_log = logging.getLogger(__name__)


def attend(
  q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array
) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  q is scaled already; mask is [B, T, S].
  """
  B, G, M, T, E = q.shape
  q = _fill(q.reshape(B, G * M, T, E), 2).swapaxes(1, 2)
  k, v = (_fill(x, 2).swapaxes(1, 2) for x in (k, v))
  out = jax.nn.dot_product_attention(
    q,
    k,
    v,
    mask=_fill(_fill(mask, 1), 2)[:, None],
    scale=1.0,
    implementation="cudnn",
  )
  return out[:, :T].swapaxes(1, 2).reshape(B, G, M, T, E)


def _fill(x, axis):
  spare = [(0, 0)] * x.ndim
  spare[axis] = (0, -x.shape[axis] % EVEN)
  return jnp.pad(x, spare)


def takes(
  q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, cap: float
) -> bool:
  """Whether cuDNN computes this; if not, the log says why, once."""
  reason = _refusal(q, k, v, mask, cap)
  if reason:
    _say(reason)
  return not reason


def _refusal(q, k, v, mask, cap):
  if q.dtype.name not in DTYPES:
    return f"its numbers are {q.dtype.name}, not {' or '.join(DTYPES)}"
  if cap:
    return f"its scores have a soft cap of {cap:g}"
  try:
    jax.eval_shape(attend, q, k, v, mask)
  except (RuntimeError, NotImplementedError, ValueError) as error:
    return str(error).strip().rstrip(".")
  return ""


@functools.cache
def _say(reason):
  _log.warning(
    "Attention holds its scores in memory: cuDNN does not take it, as %s.",
    reason,
  )
