"""Flash attention for TPUs: three kernels that never store a score.

Dao, "FlashAttention-2" (2023), arXiv:2307.08691: a block of queries meets the
blocks of keys one by one, and the softmax goes on from its maximum and its sum
so far; backward, scores are computed again from their log-sum-exp. What is
masked follows from `visible.Marks`; blocks in which nothing is seen are left
out, and so are prompts and siblings that a packed row's text does not see.

Scores stand as [S, T] here: a maximum over keys is then a row of the vector
unit, and so is all that is kept for each query. Axes: B rows, H query heads, G
key/value heads, M = H / G, T queries, S keys, E head size.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from instruct_jax.maths import arrays
from instruct_jax.models import visible

BLOCK = 512  # queries and keys of a block at most
LANES = 128  # blocks are multiples of it
INTERPRET = False  # on any device, slowly: for tests
_ROWS = (((1,), (1,)), ((), ()))  # a [m, k] and b [n, k] -> [m, n]
_COLUMNS = (((0,), (0,)), ((), ()))  # a [k, m] and b [k, n] -> [m, n]
_PLAIN = (((1,), (0,)), ((), ()))


def block_of(tokens: int) -> int:
  """How many tokens a block has, of so many."""
  return min(BLOCK, -(-tokens // LANES) * LANES)


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  query: visible.Marks,
  key: visible.Marks,
  window: jax.Array | int | None = None,
  *,
  cap: float = 0.0,
) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  q is scaled already; marks are [B, T] and [B, S]; with a `cap` scores s become
  cap * tanh(s / cap). Statistics of the softmax are float32, products of
  matrices take what comes and give float32.
  """
  shape, T = q.shape, q.shape[3]
  sizes = block_of(T), block_of(k.shape[2])
  q = q.reshape(shape[0], -1, *shape[3:])
  q, query = visible.filled(q, query, 2, sizes[0], is_query=True)
  v, _ = visible.filled(v, key, 2, sizes[1], is_query=False)
  k, key = visible.filled(k, key, 2, sizes[1], is_query=False)
  seen = visible.tiles(query, key, window=window, sizes=sizes)
  far = visible.EVERYWHERE if window is None else window
  marks = _Marks(query, key, jnp.full((1,), far, jnp.int32), seen)
  return _attend(q, k, v, marks, cap)[:, :, :T].reshape(shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Marks:
  query: visible.Marks  # [B, T]
  key: visible.Marks  # [B, S]
  window: jax.Array  # [1]
  seen: jax.Array  # [B, blocks of T, blocks of S]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, marks, cap):
  return _forward(q, k, v, marks, cap)[0]


def _attend_forward(q, k, v, marks, cap):
  out, total = _forward(q, k, v, marks, cap)
  return out, (q, k, v, marks, out, total)


def _attend_backward(cap, saved, d_out):
  q, k, v, marks, out, total = saved
  # The sum over keys of weights times their gradients, [B, H, 1, T].
  inner = (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(axis=-1)
  given = q, k, v, d_out, total, inner[:, :, None], marks, cap
  d_k, d_v = _backward_keys(*given)
  return _backward_queries(*given), d_k, d_v, None


_attend.defvjp(_attend_forward, _attend_backward)


def _forward(q, k, v, marks, cap):
  """The output, and the log of the sum of exponentials [B, H, 1, T] float32."""
  call = _Call(q, k, marks, cap)
  queries, keys, totals = call.specs
  scratch = [(1, call.sizes[0])] * 2 + [(q.shape[3], call.sizes[0])]
  total = jax.ShapeDtypeStruct((*q.shape[:2], 1, q.shape[2]), jnp.float32)
  return call.run(
    _forward_kernel,
    [(queries, q), (keys, k), (keys, v)],
    [(queries, jax.ShapeDtypeStruct(q.shape, q.dtype)), (totals, total)],
    scratch,
    products=2,
  )


def _backward_queries(q, k, v, d_out, total, inner, marks, cap):
  call = _Call(q, k, marks, cap)
  queries, keys, totals = call.specs
  (d_q,) = call.run(
    _backward_queries_kernel,
    [
      *((queries, q), (keys, k), (keys, v), (queries, d_out)),
      *((totals, total), (totals, inner)),
    ],
    [(queries, jax.ShapeDtypeStruct(q.shape, q.dtype))],
    [(q.shape[3], call.sizes[0])],
    products=3,
  )
  return d_q


def _backward_keys(q, k, v, d_out, total, inner, marks, cap):
  call = _Call(q, k, marks, cap, of_keys=True)
  queries, keys, totals = call.specs
  shape = jax.ShapeDtypeStruct(k.shape, k.dtype)
  return call.run(
    _backward_keys_kernel,
    [
      *((queries, q), (keys, k), (keys, v), (queries, d_out)),
      *((totals, total), (totals, inner)),
    ],
    [(keys, shape), (keys, jax.ShapeDtypeStruct(v.shape, v.dtype))],
    [(call.sizes[1], k.shape[3])] * 2,
    products=4,
  )


class _Call:
  """A kernel's grid: (row, head, block that stays, blocks that go by).

  Blocks of queries stay and keys go by, or the other way round `of_keys`: there
  the queries of all heads that share a key head go by.
  """

  def __init__(self, q, k, marks, cap, *, of_keys=False):
    (B, H, T, E), (G, S) = q.shape, k.shape[1:3]
    self.marks, self.cap, self.of_keys = marks, cap, of_keys
    blocks = marks.seen.shape[1:]
    self.sizes, self.width = (T // blocks[0], S // blocks[1]), E
    self.shared = H // G
    self.seen = marks.seen.swapaxes(1, 2) if of_keys else marks.seen
    stays, self.passing = self.seen.shape[1:]
    last = self.passing * (self.shared if of_keys else 1)
    self.grid = (B, G if of_keys else H, stays, last)

  def _passing(self, b, i, r, fetched):
    """The number of the block that is at hand as others go by."""
    place = (b * self.grid[2] + i) * self.passing + _rem(r, self.passing)
    return fetched[place]

  def _of_query(self, b, h, i, r, fetched, _):
    """The head and the block of the queries at a place of the grid."""
    if self.of_keys:
      head = h * self.shared + _div(r, self.passing)
      return head, self._passing(b, i, r, fetched)
    return h, i

  def _of_key(self, b, h, i, r, fetched, _):
    if self.of_keys:
      return h, i
    return _div(h, self.shared), self._passing(b, i, r, fetched)

  @property
  def specs(self):
    """Blocks of [B, H, T, E], [B, G, S, E] and [B, H, 1, T]."""
    (rows, columns), width = self.sizes, self.width

    def queries(b, *place):
      return b, *self._of_query(b, *place), 0

    def keys(b, *place):
      return b, *self._of_key(b, *place), 0

    def totals(b, *place):
      head, block = self._of_query(b, *place)
      return b, head, 0, block

    return (
      pl.BlockSpec((None, None, rows, width), queries),
      pl.BlockSpec((None, None, columns, width), keys),
      pl.BlockSpec((None, None, 1, rows), totals),
    )

  def _of_marks(self):
    query = self.marks.query.stacked(1)  # [B, kinds of marks, T]
    key = self.marks.key.stacked(2)  # [B, S, kinds of marks]
    (rows, columns), kinds = self.sizes, query.shape[1]

    def queries(b, *place):
      return b, 0, self._of_query(b, *place)[1]

    def keys(b, *place):
      return b, self._of_key(b, *place)[1], 0

    return [
      (pl.BlockSpec((None, kinds, rows), queries), query),
      (pl.BlockSpec((None, columns, kinds), keys), key),
    ]

  def cost(self, arrays_, products):
    """What a compiler, and a plan, is told: it cannot look into a kernel.

    Of one causal text a row; which blocks are met in truth, the data say.
    """
    B, heads, stays, last = self.grid
    pairs = stays * last
    if stays == self.passing:
      pairs = pairs * (stays + 1) // (2 * stays)
    scores = B * heads * pairs * self.sizes[0] * self.sizes[1]
    return pl.CostEstimate(
      flops=2 * products * scores * self.width,
      transcendentals=scores,
      bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays_),
    )

  def run(self, kernel, inputs, outputs, scratch, *, products):
    """Runs a kernel; inputs and outputs are pairs of their block and array.

    For every two blocks that meet it makes so many products of matrices.
    """
    cost = self.cost([x for _, x in inputs + outputs], products)
    inputs = self._of_marks() + inputs
    kernel = functools.partial(
      kernel,
      passing=self.passing,
      kind=jax.tree.structure(self.marks.query),
      cap=self.cap,
    )
    order = ("parallel", "parallel", "parallel", "arbitrary")
    return pl.pallas_call(
      kernel,
      grid_spec=pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=2,
        grid=self.grid,
        in_specs=[spec for spec, _ in inputs],
        out_specs=[spec for spec, _ in outputs],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
      ),
      out_shape=[shape for _, shape in outputs],
      compiler_params=pltpu.CompilerParams(dimension_semantics=order),
      cost_estimate=cost,
      interpret=INTERPRET,
    )(_fetched(self.seen).ravel(), self.marks.window, *(x for _, x in inputs))


def _div(a, b):
  """As //, of numbers that are not negative."""
  return jax.lax.div(a, jnp.int32(b))


def _rem(a, b):
  return jax.lax.rem(a, jnp.int32(b))


def _fetched(seen):
  """[..., n] bool -> int32: the block to have at hand as n go by.

  Itself if it is seen, else the last that was, so that none is fetched for it.
  """
  number = jnp.arange(seen.shape[-1], dtype=jnp.int32)
  last = jax.lax.cummax(
    jnp.where(seen, number, jnp.int32(-1)), axis=seen.ndim - 1
  )
  first = jnp.argmax(seen, axis=-1, keepdims=True).astype(jnp.int32)
  return jnp.where(last < 0, first, last)


def _is_seen(fetched, passing):
  """Whether the blocks that meet at this place of the grid are to be met."""
  b, i, r = pl.program_id(0), pl.program_id(2), pl.program_id(3)
  block = _rem(r, passing)
  return fetched[(b * pl.num_programs(2) + i) * passing + block] == block


def _dot(a, b, contracted):
  return jax.lax.dot_general(
    a, b, contracted, preferred_element_type=jnp.float32
  )


def _scores(window, query, key, q, k, kind, cap):
  """Scores [S, T] of a block, masked; and the slope of their cap."""
  scores, slope = _dot(k[...], q[...], _ROWS), None
  if cap:
    bent = jnp.tanh(scores * (1 / cap))
    scores, slope = bent * cap, 1 - bent * bent
  count = kind.num_leaves
  of_query, of_key = (
    jax.tree.unflatten(kind, marks)
    for marks in (
      [query[i : i + 1, :] for i in range(count)],
      [key[:, i : i + 1] for i in range(count)],
    )
  )
  seen = visible.sees(
    of_query, of_key, None if of_query.place is None else window[0]
  )
  return jnp.where(seen, scores, arrays.MASKED), slope


def _begin_and_end(fetched, passing, *, begin, meet, end):
  """What a kernel does before, at and after the blocks that go by."""
  r = pl.program_id(3)
  pl.when(r == 0)(begin)
  pl.when(_is_seen(fetched, passing))(meet)
  pl.when(r == pl.num_programs(3) - 1)(end)


def _forward_kernel(
  fetched,
  window,
  query,
  key,
  q,
  k,
  v,
  out,
  total,
  top,
  sums,
  outs,
  *,
  passing,
  kind,
  cap,
):
  """top, sums [1, T]: maximum and sum so far; outs [E, T], not yet divided."""

  def begin():
    top[...] = jnp.full_like(top, arrays.MASKED)
    sums[...] = jnp.zeros_like(sums)
    outs[...] = jnp.zeros_like(outs)

  def meet():
    scores, _ = _scores(window, query, key, q, k, kind, cap)
    new = jnp.maximum(top[...], scores.max(axis=0, keepdims=True))
    weights = jnp.exp(scores - new)
    kept = jnp.exp(top[...] - new)
    top[...] = new
    sums[...] = kept * sums[...] + weights.sum(axis=0, keepdims=True)
    outs[...] = kept * outs[...] + _dot(
      v[...], weights.astype(v.dtype), _COLUMNS
    )

  def end():
    # Of queries that only fill a block, nothing was met.
    divisor = jnp.where(sums[...] == 0, 1, sums[...])
    out[...] = (outs[...] / divisor).T.astype(out.dtype)
    total[...] = top[...] + jnp.log(divisor)

  _begin_and_end(fetched, passing, begin=begin, meet=meet, end=end)


def _slopes(given, kind, cap):
  """Weights [S, T] of a block, and gradients of its scores."""
  window, query, key, q, k, v, d_out, total, inner = given
  scores, slope = _scores(window, query, key, q, k, kind, cap)
  weights = jnp.exp(scores - total[...])
  slopes = weights * (_dot(v[...], d_out[...], _ROWS) - inner[...])
  return weights, slopes if slope is None else slopes * slope


def _backward_queries_kernel(fetched, *refs, passing, kind, cap):
  *given, d_q, sums = refs
  k = given[4]

  def begin():
    sums[...] = jnp.zeros_like(sums)

  def meet():
    _, slopes = _slopes(given, kind, cap)
    sums[...] += _dot(k[...], slopes.astype(k.dtype), _COLUMNS)

  def end():
    d_q[...] = sums[...].T.astype(d_q.dtype)

  _begin_and_end(fetched, passing, begin=begin, meet=meet, end=end)


def _backward_keys_kernel(fetched, *refs, passing, kind, cap):
  *given, d_k, d_v, k_sums, v_sums = refs
  q, d_out = given[3], given[6]

  def begin():
    k_sums[...] = jnp.zeros_like(k_sums)
    v_sums[...] = jnp.zeros_like(v_sums)

  def meet():
    weights, slopes = _slopes(given, kind, cap)
    v_sums[...] += _dot(weights.astype(d_out.dtype), d_out[...], _PLAIN)
    k_sums[...] += _dot(slopes.astype(q.dtype), q[...], _PLAIN)

  def end():
    d_k[...] = k_sums[...].astype(d_k.dtype)
    d_v[...] = v_sums[...].astype(d_v.dtype)

  _begin_and_end(fetched, passing, begin=begin, meet=meet, end=end)
