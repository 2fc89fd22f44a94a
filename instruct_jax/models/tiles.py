"""Attention on a CPU: tile by tile, as `flash` does on a TPU.

A loop over those tiles of queries and keys in which something is seen: what is
after a query, of another text, of another branch or padding costs nothing, and
a tile stays in the caches of a core. So a prompt with K responses costs P x P,
K x R x P and K x R x R scores instead of (P + K x R)^2: what responses see of
the prompt and of themselves is merged through the log of the sum of
exponentials, as are all tiles. Backward, scores are computed again from it
(Dao, "FlashAttention-2", 2023, arXiv:2307.08691).

Axes: B rows, G key/value heads, M query heads a key head, T queries, S keys,
E head size.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from instruct_jax.maths import arrays
from instruct_jax.models import visible
from instruct_jax.parallel import slices

# Queries and keys of a tile at most: with 32 or 128 it is slower. Up to FEW
# queries all scores at once are as fast, and the program compiles sooner.
TILE = 64
FEW = 256


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  query: visible.Marks,
  key: visible.Marks,
  mask: jax.Array,
  window: jax.Array | int | None = None,
  *,
  cap: float = 0.0,
) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  q is scaled already; mask is [B, T, S] and says what marks [B, T] and [B, S]
  say: it is faster to read than to make again for every head. With a `cap`
  scores s become cap * tanh(s / cap). Scores and their softmax are float32.
  """
  T = q.shape[3]
  sizes = min(TILE, T), min(TILE, k.shape[2])
  mask = jnp.pad(
    mask, ((0, 0), (0, -T % sizes[0]), (0, -k.shape[2] % sizes[1]))
  )
  q, query = visible.filled(q, query, 3, sizes[0], is_query=True)
  v, _ = visible.filled(v, key, 2, sizes[1], is_query=False)
  k, key = visible.filled(k, key, 2, sizes[1], is_query=False)
  seen = visible.tiles(query, key, window=window, sizes=sizes)
  B, G, M, _, E = q.shape
  # The heads of a group beside each other: a tile's rows are then one piece.
  q = q.swapaxes(2, 3).reshape(B, G, -1, E)
  out = _attend(q, k, v, _Tiles.of(seen, mask), (*sizes, cap))
  return out.reshape(B, G, -1, M, E).swapaxes(2, 3)[..., :T, :]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Tiles:
  """The tiles in which something is seen come first: `count` of them."""

  mask: jax.Array  # [B, T, S]
  rows: jax.Array  # [tiles]
  queries: jax.Array
  keys: jax.Array
  count: jax.Array
  # Of one causal text a row; where there are caches, all of them.
  most: int = dataclasses.field(metadata={"static": True})

  @classmethod
  def of(cls, seen, mask):
    """Those of which `seen` [B, tiles of T, tiles of S] is True."""
    B, queries, keys = seen.shape
    is_square = queries == keys
    order = jnp.argsort(~seen.ravel(), stable=True).astype(jnp.int32)
    place = order % (queries * keys)
    return cls(
      mask,
      order // (queries * keys),
      place // keys,
      place % keys,
      seen.sum(dtype=jnp.int32),
      B * (queries * (queries + 1) // 2 if is_square else queries * keys),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, tiles, static):
  return _forward(q, k, v, tiles, static)[0]


def _forward(q, k, v, tiles, static):
  def meet(n, carry):
    tops, sums, outs = carry
    of_query, of_key = _places(tiles, n, static)
    scores, _ = _scores(of_query(q), of_key(k), tiles, n, static)
    top = of_query(tops)
    new = jnp.maximum(top, scores.max(axis=-1, keepdims=True))
    weights, kept = jnp.exp(scores - new), jnp.exp(top - new)
    total = kept * of_query(sums) + weights.sum(axis=-1, keepdims=True)
    out = _matmul("gts,gse->gte", weights.astype(v.dtype), of_key(v))
    return (
      of_query(tops, new),
      of_query(sums, total),
      of_query(outs, kept * of_query(outs) + out),
    )

  each = (*q.shape[:-1], 1)
  tops, sums, outs = slices.loop(
    tiles.count,
    meet,
    (
      jnp.full(each, arrays.MASKED, jnp.float32),
      jnp.zeros(each, jnp.float32),
      jnp.zeros(q.shape, jnp.float32),
    ),
    most=tiles.most,
  )
  sums = jnp.where(sums == 0, 1, sums)  # of queries that only fill a tile
  out = (outs / sums).astype(q.dtype)
  return out, (q, k, v, tiles, out, tops + jnp.log(sums))


def _backward(static, saved, d_out):
  q, k, v, tiles, out, totals = saved
  wide = d_out.astype(jnp.float32) * out.astype(jnp.float32)
  inner = wide.sum(axis=-1, keepdims=True)

  def meet(n, carry):
    d_q, d_k, d_v = carry
    of_query, of_key = _places(tiles, n, static)
    qs, ks, gs = of_query(q), of_key(k), of_query(d_out)
    scores, slope = _scores(qs, ks, tiles, n, static)
    weights = jnp.exp(scores - of_query(totals))
    slopes = _matmul("gte,gse->gts", gs, of_key(v)) - of_query(inner)
    slopes *= weights if slope is None else weights * slope
    slopes, weights = slopes.astype(k.dtype), weights.astype(v.dtype)

    def added(place, sums, equation, *factors):
      return place(sums, place(sums) + _matmul(equation, *factors))

    return (
      added(of_query, d_q, "gts,gse->gte", slopes, ks),
      added(of_key, d_k, "gts,gte->gse", slopes, qs),
      added(of_key, d_v, "gts,gte->gse", weights, gs),
    )

  zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
  sums = slices.loop(tiles.count, meet, zeros, most=tiles.most)
  return (*(s.astype(x.dtype) for s, x in zip(sums, (q, k, v))), None)


_attend.defvjp(_forward, _backward)
_matmul = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _places(tiles, n, static):
  """Functions that read, or write, what a tile is of: queries [G, t * M, ...]
  and keys [G, s, ...]."""
  row = tiles.rows[n]

  def place(number, size, count):
    def at(x, new=None):
      zero = jnp.int32(0)
      rows = size * x.shape[2] // count
      start = (row, zero, number * rows, zero)
      if new is not None:
        return jax.lax.dynamic_update_slice(x, new[None], start)
      shape = (1, x.shape[1], rows, x.shape[3])
      return jax.lax.dynamic_slice(x, start, shape)[0]

    return at

  _, T, S = tiles.mask.shape
  return (
    place(tiles.queries[n], static[0], T),
    place(tiles.keys[n], static[1], S),
  )


def _scores(q, k, tiles, n, static):
  """Scores [G, t * M, s] of a tile, masked; and the slope of their cap."""
  scores, slope = _matmul("gte,gse->gts", q, k), None
  *sizes, cap = static
  if cap:
    bent = jnp.tanh(scores / cap)
    scores, slope = bent * cap, 1 - bent * bent
  corner = tiles.queries[n] * sizes[0], tiles.keys[n] * sizes[1]
  start = (tiles.rows[n], *corner)
  mask = jax.lax.dynamic_slice(tiles.mask, start, (1, *sizes))
  if q.shape[1] > sizes[0]:
    mask = jnp.repeat(mask, q.shape[1] // sizes[0], axis=1)
  return jnp.where(mask, scores, arrays.MASKED), slope
