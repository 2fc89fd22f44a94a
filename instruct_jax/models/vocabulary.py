"""What a model says of given tokens, without the logits of all positions.

Logits [B, T, V] would be by far the largest array of training: 105 GB for 512
responses of 1024 tokens and GPT-2's vocabulary. Of each position only two
numbers are wanted, so positions are read in blocks, and a gradient computes the
logits of a block again. Where all of them are small, they are kept for it.

B rows, T positions, N = B x T, D width, V vocabulary. The kernel is [D, V], or
[V, D] where it is a tied model's embedding. Results are float32.
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from instruct_jax.maths import arrays
from instruct_jax.parallel import sharding, slices

# Of a device. On a CPU blocks of this size are read a fifth faster than all of
# 128 MiB at once, and a gradient a sixth slower where it computes them again.
BLOCK_BYTES, BLOCK_ROWS = 16 * 2**20, 512  # logits read at a time, at least
CPU_ROWS = 64  # as fast there as more, where positions are chosen
KEPT_BYTES = 128 * 2**20  # logits that are kept for a gradient


@dataclasses.dataclass(frozen=True)
class Reading:
  """How logits are made, and on what mesh."""

  vocab_size: int
  tied: bool
  cap: float
  temperature: float
  # What is wanted beside log-probabilities: "entropies", "likeliest".
  extras: tuple[str, ...] = ()
  groups: int = 1  # of devices, each with rows of its own
  parts: int = 1  # of the vocabulary, in each group

  def laid_out(self, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The kernel in the dtype of the hidden states, the vocabulary in parts."""
    kernel = kernel.astype(dtype)
    if self.parts == 1:
      return kernel
    spare, layout = (-self.vocab_size % self.parts, 0), ("tensor", None)
    turn = 1 if self.tied else -1
    kernel = jnp.pad(kernel, [(0, n) for n in spare[::turn]])
    if sharding.ways("fsdp") > 1:  # a collective each (`decoder.looked_up`)
      kernel = sharding.constrain(kernel, P(*("tensor", "fsdp")[::turn]))
    return sharding.constrain(kernel, P(*layout[::turn]))

  def logits(self, hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    """[N, V] of hidden states [N, D] and a kernel that is laid out."""
    axes = "nd,vd->nv" if self.tied else "nd,dv->nv"
    out = jnp.einsum(axes, hidden, kernel, preferred_element_type=jnp.float32)
    if self.cap:
      out = self.cap * jnp.tanh(out / self.cap)
    if self.temperature != 1:
      out = out / jnp.float32(self.temperature)
    if out.shape[1] > self.vocab_size:
      is_token = jnp.arange(out.shape[1]) < self.vocab_size
      out = jnp.where(is_token, out, arrays.MASKED)
    return sharding.constrain(out, P(*sharding.BATCH, "tensor"))

  def slope(self, logits: jax.Array) -> jax.Array | float:
    """d logits / d (hidden kernel)."""
    slope = 1 / self.temperature
    if self.cap:
      most = self.cap / self.temperature
      slope *= 1 - jnp.square(jnp.maximum(logits, -most) / most)
    return slope

  def transposed(
    self,
    d: jax.Array,
    grad: jax.Array,
    hidden: jax.Array,
    kernel: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """The gradients of hidden states and, by group, of the kernel, by grad [N]
    of what is said; d [N, V] are its derivatives by the logits.

    Groups of devices are added up once, not after each block.
    """
    axes = ("nv,vd->nd", "gnv,gnd->gvd")
    if not self.tied:
      axes = ("nv,dv->nd", "gnv,gnd->gdv")
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    grad = grad[:, None]
    of_hidden = (product(axes[0], d, kernel) * grad).astype(hidden.dtype)
    hidden = (hidden * grad).astype(hidden.dtype)
    d, hidden = (x.reshape(self.groups, -1, x.shape[1]) for x in (d, hidden))
    return of_hidden, product(axes[1], d, hidden)

  def no_gradient(self, kernel: jax.Array) -> jax.Array:
    """Zeros for the groups' gradients of a kernel that is laid out."""
    zeros = jnp.zeros((self.groups, *kernel.shape), jnp.float32)
    layout = ("tensor", None) if self.tied else (None, "tensor")
    return sharding.constrain(zeros, P(*sharding.BATCH, *layout))

  def cut(self, kernel: jax.Array) -> jax.Array:
    """A kernel that is laid out, without the padding of its vocabulary."""
    size = self.vocab_size
    return kernel[:size] if self.tied else kernel[:, :size]

  def block(self, positions: int, *, chosen: bool) -> int:
    """How many of a group's positions are read at a time; if they are chosen,
    no more of the others than that is read."""
    rows = BLOCK_BYTES * self.parts // (4 * self.vocab_size)
    most = min(max(rows, BLOCK_ROWS), max(1, positions))
    if chosen and sharding.platform() == "cpu":
      most = min(most, CPU_ROWS)
    blocks = max(1, -(-positions // most))
    return max(1, -(-positions // blocks))

  def keeps(self, positions: int) -> bool:
    """Whether as much as their logits is kept of a group's positions."""
    size = 4 * positions * self.vocab_size
    return 0 < size <= KEPT_BYTES * self.parts


def logprobs(
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  kernel: jax.Array,
  tied: bool,
  where: jax.Array | None = None,
  cap: float = 0.0,
  temperature: float = 1.0,
) -> jax.Array:
  """log π(token) [B, T] in nats, where hidden states [B, T, D] predict tokens.

  log softmax(logits / temperature)[token] for logits = hidden kernel; with a
  `cap` each logit x is cap * tanh(x / cap) (Gemma 2). With `where` [B, T] bool
  the vocabulary is read at these positions only, and 0 is said of the others.
  """
  how = _reading(hidden, tokens, kernel, tied, cap, temperature)
  return _read(hidden, kernel, tokens, where, how)["logprobs"]


def logprobs_and_entropies(
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  kernel: jax.Array,
  tied: bool,
  where: jax.Array | None = None,
  cap: float = 0.0,
  temperature: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """As `logprobs`, and the entropies [B, T], H = - Σ_v π_v log π_v in nats.

  They fall out of the same pass. They are a metric: no gradient comes of them.
  """
  how = _reading(hidden, tokens, kernel, tied, cap, temperature, "entropies")
  said = _read(hidden, kernel, tokens, where, how)
  return said["logprobs"], said["entropies"]


def logprobs_and_likeliest(
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  kernel: jax.Array,
  tied: bool,
  where: jax.Array | None = None,
  cap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """As `logprobs`, and [B, T] bool: where no token is likelier."""
  how = _reading(hidden, tokens, kernel, tied, cap, 1.0, "likeliest")
  said = _read(hidden, kernel, tokens, where, how)
  return said["logprobs"], said["likeliest"] > 0


def _reading(hidden, tokens, kernel, tied, cap, temperature, *extras):
  chex.assert_rank([hidden, tokens, kernel], [3, 2, 2])
  chex.assert_equal_shape_prefix([hidden, tokens], 2)
  chex.assert_equal(hidden.shape[2], kernel.shape[1 if tied else 0])
  groups = sharding.ways(*sharding.BATCH)
  return Reading(
    vocab_size=kernel.shape[0 if tied else 1],
    tied=tied,
    cap=cap,
    temperature=temperature,
    extras=extras,
    groups=1 if len(hidden) % groups else groups,
    parts=sharding.ways("tensor"),
  )


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Positions [G, N] of groups of devices, so many of each at a time.

  Those that are asked for come first, and what comes after their last block is
  neither read nor written.
  """

  size: int  # of a block, of each group
  count: int  # blocks of all positions
  used: jax.Array | int  # blocks with a position that is asked for
  # All are asked for, in their order, where these are None:
  order: jax.Array | None = None  # [G, count * size] int32; N: none
  places: jax.Array | None = None  # [G, N] int32, in that order

  def empty(self, *axes: int, dtype: jnp.dtype, layout: tuple) -> jax.Array:
    """[G, count * size, ...]: where what is made of the positions will be."""
    groups, *rest = axes
    zeros = jnp.zeros((groups, self.count * self.size, *rest), dtype)
    return sharding.constrain(zeros, P(*sharding.BATCH, None, *layout))

  def filled(self, x: jax.Array) -> jax.Array:
    """x [G, N, ...], with zeros for what the last block has more."""
    spare = [(0, 0)] * x.ndim
    spare[1] = (0, self.count * self.size - x.shape[1])
    return jnp.pad(x, spare) if self.order is None else x

  def taken(self, x: jax.Array, i: jax.Array) -> jax.Array:
    """Block i of what is `filled`, [G * size, ...]; 0 if not asked for."""
    if self.order is None:
      return self.saved(x, i)
    index = _slice(self.order, i, self.size)
    x = jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))(x, index)
    return sharding.constrain(x.reshape(-1, *x.shape[2:]), sharding.BATCH)

  def saved(self, x: jax.Array, i: jax.Array) -> jax.Array:
    """Block i of what was `put`, [G * size, ...]."""
    x = _slice(x, i, self.size)
    return sharding.constrain(x.reshape(-1, *x.shape[2:]), sharding.BATCH)

  def put(self, x: jax.Array, new: jax.Array, i: jax.Array) -> jax.Array:
    """x [G, count * size, ...] with its block i, [G * size, ...]."""
    new = new.reshape(len(x), self.size, *x.shape[2:])
    return jax.lax.dynamic_update_slice_in_dim(x, new, i * self.size, 1)

  def joined(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """x [G, count * size, ...] of all positions in their order, as `shape`
    says; 0 where none was asked for."""
    if self.places is None:
      x = x[:, : math.prod(shape[:2]) // len(x)]
    else:
      x = jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))(
        x, self.places
      )
    return sharding.constrain(x.reshape(shape), sharding.BATCH)


def _blocks(where, positions, how):
  """The blocks of so many positions of a group."""
  size = how.block(positions, chosen=where is not None)
  used = -(-positions // size)
  count = max(1, used)
  if where is None:
    return Blocks(size, count, used)
  where = where.reshape(how.groups, -1)
  asked = where.sum(axis=1, keepdims=True, dtype=jnp.int32)
  places = jnp.cumsum(where, axis=1, dtype=jnp.int32) - 1
  order = jnp.argsort(~where, axis=1, stable=True).astype(jnp.int32)
  is_asked = jnp.arange(positions, dtype=jnp.int32) < asked
  order = jnp.where(is_asked, order, positions)
  spare = [(0, 0), (0, size * count - positions)]
  return Blocks(
    size,
    count,
    used=-(-asked.max(initial=0) // size),
    order=jnp.pad(order, spare, constant_values=positions),
    places=jnp.where(where, places, size * count),
  )


def _slice(x, i, size):
  return jax.lax.dynamic_slice_in_dim(x, i * size, size, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _read(hidden, kernel, tokens, where, how):
  """{"logprobs": [B, T], and what else is wanted of the same shape}."""
  return _in_blocks(hidden, kernel, tokens, where, how, saves="")[0]


def _forward(hidden, kernel, tokens, where, how):
  kept = how.keeps(tokens.size // how.groups)
  said, saved = _in_blocks(
    *(hidden, kernel, tokens, where, how),
    saves="derivatives" if kept else "sums",
  )
  return said, (hidden, kernel, tokens, where, saved)


def _in_blocks(hidden, kernel, tokens, where, how, *, saves):
  """What is said, and what is saved of it for a gradient, by position."""
  shape, of_width = tokens.shape, hidden.dtype
  blocks = _blocks(where, tokens.size // how.groups, how)
  laid = how.laid_out(kernel, hidden.dtype)
  hidden, tokens = (blocks.filled(_grouped(x, how)) for x in (hidden, tokens))

  def one(i, found):
    of_block = blocks.taken(tokens, i)
    logits = how.logits(blocks.taken(hidden, i), laid)
    new, sums = _said(how, logits, of_block)
    if "d" in found:
      new["d"] = _derivatives(how, logits, of_block, sums).astype(of_width)
    return {k: blocks.put(x, (new | sums)[k], i) for k, x in found.items()}

  names = ("logprobs", *how.extras)
  numbers = functools.partial(
    blocks.empty, how.groups, dtype=jnp.float32, layout=()
  )
  found = {name: numbers() for name in names}
  if saves == "sums":
    found |= {name: numbers(1) for name in ("highest", "log_sum")}
  elif saves:
    size = laid.shape[0 if how.tied else 1]
    found["d"] = blocks.empty(
      *(how.groups, size), dtype=of_width, layout=("tensor",)
    )
  found = slices.loop(blocks.used, one, found, most=blocks.count)
  return {name: blocks.joined(found.pop(name), shape) for name in names}, found


def _grouped(x, how):
  """[B, T, ...] -> [G, N, ...]."""
  return x.reshape(how.groups, -1, *x.shape[2:])


def _said(how, logits, tokens):
  """What is said of N tokens [N]; highest logits and their sums' logs [N, 1].

  Those two are not added: a high logit would round the sum's log away.
  """
  highest = logits.max(axis=1, keepdims=True)
  shifted = logits - highest
  weights = jnp.exp(shifted)
  total = weights.sum(axis=1, keepdims=True)
  log_sum = jnp.log(total)
  chosen = _chosen(how, logits, tokens)
  said = {"logprobs": chosen - highest - log_sum}
  if "entropies" in how.extras:
    mean = (weights * shifted).sum(axis=1, keepdims=True) / total
    said["entropies"] = log_sum - mean
  if "likeliest" in how.extras:
    said["likeliest"] = (chosen >= highest).astype(jnp.float32)
  said = {name: x[:, 0] for name, x in said.items()}
  return said, {"highest": highest, "log_sum": log_sum}


def _derivatives(how, logits, tokens, sums):
  """d log π(token) / d (hidden kernel) = (onehot(token) - π) slope, [N, V]."""
  probs = jnp.exp(logits - sums["highest"] - sums["log_sum"])
  onehot = _is_token(logits, tokens).astype(jnp.float32)
  return (onehot - probs) * how.slope(logits)


def _chosen(how, logits, tokens):
  """The tokens' logits [N, 1]."""
  if how.parts == 1:
    return jnp.take_along_axis(logits, tokens[:, None], axis=1)
  # Not looked up, so that a part of the vocabulary need know no other.
  is_token = _is_token(logits, tokens)
  return jnp.where(is_token, logits, 0.0).sum(axis=1, keepdims=True)


def _is_token(logits, tokens):
  ids = jax.lax.broadcasted_iota(tokens.dtype, logits.shape, 1)
  return ids == tokens[:, None]


def _backward(how, given, grads):
  """By what was saved of each block; the rest is computed again."""
  hidden, kernel, tokens, where, saved = given
  shape = hidden.shape
  blocks = _blocks(where, tokens.size // how.groups, how)
  laid = how.laid_out(kernel, hidden.dtype)
  hidden, tokens, grad = (
    blocks.filled(_grouped(x, how)) for x in (hidden, tokens, grads["logprobs"])
  )

  def add(i, found):
    of_block, weight = (blocks.taken(x, i) for x in (hidden, grad))
    mine = {name: blocks.saved(x, i) for name, x in saved.items()}
    if "d" not in mine:
      logits = how.logits(of_block, laid)
      d = _derivatives(how, logits, blocks.taken(tokens, i), mine)
      mine["d"] = d.astype(hidden.dtype)
    of_hidden, more = how.transposed(mine["d"], weight, of_block, laid)
    return blocks.put(found[0], of_hidden, i), found[1] + more

  start = blocks.empty(
    *(how.groups, shape[2]), dtype=hidden.dtype, layout=(None,)
  )
  d_hidden, d_kernel = slices.loop(
    *(blocks.used, add, (start, how.no_gradient(laid))), most=blocks.count
  )
  d_kernel = how.cut(d_kernel.sum(axis=0)).astype(kernel.dtype)
  return blocks.joined(d_hidden, shape), d_kernel, None, None


_read.defvjp(_forward, _backward)
