"""Kernels that stand as a CPU reads them where few rows are multiplied.

For a product x W of few rows XLA's libraries lay all of W [K, N] out anew on a
CPU, each time, which costs more than the product. A turned kernel [N, K] is the
left operand, is read as it lies, and gives [N, rows]; a product with the
identity, which is exact, brings the rows back to the front (a transposition
takes ten times as long there). Measured on two cores: the layers of GPT-2 small
for 16 rows 39 ms instead of 50, its vocabulary 18 instead of 28.

A tree whose dense layers have a leaf `turned` in the place of `kernel` is read
so by the decoder; `layers` makes one, for as long as it is decoded from.
"""

import jax
import jax.numpy as jnp

from instruct_jax.models import config as model_config
from instruct_jax.parallel import sharding

TURNED = "turned"
ROWS = 32  # at most; more pay for the laying out themselves
WIDTH = 512  # at least; smaller kernels stay in the cache, however they lie


def helps(rows: int) -> bool:
  """Whether products of so many rows are faster by turned kernels here."""
  return sharding.platform() == "cpu" and rows <= ROWS


def helps_layers(config: model_config.DecoderConfig, rows: int) -> bool:
  """Whether it pays to turn a model's layers, for many steps of `rows`."""
  return helps(rows) and config.width >= WIDTH


def layers(params: dict) -> dict:
  """A tree with turned kernels; adapters and embeddings stay as they are.

  Stacked layers are turned one by one. What is left of the old kernels is
  what others hold of them.
  """

  def one(name, x):
    if isinstance(x, dict):
      return name, dict(one(*item) for item in x.items())
    if name != "kernel":
      return name, x
    return TURNED, x.swapaxes(-1, -2)

  return one("", params)[1]


def product(
  x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None = None
) -> jax.Array:
  """x [rows, K] by a turned kernel [N, K]: [rows, N], accumulated in `dtype`.

  A row that is not finite makes all of them so.
  """
  dtype = dtype or x.dtype
  eye = jnp.eye(len(x), dtype=dtype)
  return _of_last(eye, _of_last(kernel.astype(x.dtype), x, dtype), dtype)


def _of_last(a, b, dtype):
  """[m, k], [n, k] -> [m, n]."""
  axes = (((1,), (1,)), ((), ()))
  return jax.lax.dot_general(a, b, axes, preferred_element_type=dtype)
