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

from instruct_jax.parallel import sharding

# Of a device. On a CPU blocks of this size are read a fifth faster than all of
# 128 MiB at once, and a gradient a sixth slower where it computes them again.
BLOCK_BYTES, BLOCK_ROWS = 16 * 2**20, 512  # logits read at a time, at least
KEPT_BYTES = 128 * 2**20  # logits that are kept for a gradient
MASKED = -1e30  # the logit of no token; finite, so that 0 times it is 0


@dataclasses.dataclass(frozen=True)
class Reading:
  """How logits are made, and on what mesh."""

  vocab_size: int
  tied: bool
  cap: float
  temperature: float
  entropies: bool  # are wanted, too
  groups: int = 1  # of devices, each with rows of its own
  parts: int = 1  # of the vocabulary, in each group

  def laid_out(self, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The kernel in the dtype of the hidden states, the vocabulary in parts."""
    kernel = kernel.astype(dtype)
    if self.parts == 1:
      return kernel
    spare, layout = (-self.vocab_size % self.parts, 0), ("tensor", None)
    if not self.tied:
      spare, layout = spare[::-1], layout[::-1]
    kernel = jnp.pad(kernel, [(0, n) for n in spare])
    return sharding.constrain(kernel, P(*layout))

  def logits(self, hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    """[N, V] of hidden states [N, D] and a kernel that is laid out."""
    axes = "nd,vd->nv" if self.tied else "nd,dv->nv"
    out = jnp.einsum(axes, hidden, kernel, preferred_element_type=jnp.float32)
    if self.cap:
      out = self.cap * jnp.tanh(out / self.cap)
    if self.temperature != 1:
      out = out / jnp.float32(self.temperature)
    if out.shape[1] > self.vocab_size:
      out = jnp.where(jnp.arange(out.shape[1]) < self.vocab_size, out, MASKED)
    return sharding.constrain(out, P(*sharding.BATCH, "tensor"))

  def slope(self, logits: jax.Array) -> jax.Array | float:
    """d logits / d (hidden kernel)."""
    slope = 1 / self.temperature
    if self.cap:
      most = self.cap / self.temperature
      slope *= 1 - jnp.square(jnp.maximum(logits, -most) / most)
    return slope

  def transposed(
    self, d: jax.Array, hidden: jax.Array, kernel: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The gradients of hidden states and, by group, of the kernel, by d [N, V].

    Groups of devices are added up once, not after each block.
    """
    axes = ("nv,vd->nd", "gnv,gnd->gvd")
    if not self.tied:
      axes = ("nv,dv->nd", "gnv,gnd->gdv")
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    of_hidden = product(axes[0], d, kernel).astype(hidden.dtype)
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

  def positions(self, shape: tuple[int, int]) -> int:
    """How many of the T positions of [B, T] a block has."""
    B, T = shape
    rows = BLOCK_BYTES * self.parts // (4 * self.vocab_size)
    most = max(1, max(rows, BLOCK_ROWS) * self.groups // max(B, 1))
    blocks = max(1, -(-T // most))
    return max(1, -(-T // blocks))

  def keeps(self, shape: tuple[int, int]) -> bool:
    """Whether the logits of [B, T] are kept for a gradient."""
    size = 4 * math.prod(shape) * self.vocab_size
    return 0 < size <= KEPT_BYTES * self.parts * self.groups


def logprobs(
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  kernel: jax.Array,
  tied: bool,
  cap: float = 0.0,
  temperature: float = 1.0,
) -> jax.Array:
  """log π(token) [B, T] in nats, where hidden states [B, T, D] predict tokens.

  log softmax(logits / temperature)[token] for logits = hidden kernel; with a
  `cap` each logit x is cap * tanh(x / cap) (Gemma 2).
  """
  how = _reading(
    hidden, tokens, kernel, tied, cap, temperature, entropies=False
  )
  return _read(hidden, kernel, tokens, how)["logprobs"]


def logprobs_and_entropies(
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  kernel: jax.Array,
  tied: bool,
  cap: float = 0.0,
  temperature: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """As `logprobs`, and the entropies [B, T], H = - Σ_v π_v log π_v in nats.

  They fall out of the same pass. They are a metric: no gradient comes of them.
  """
  how = _reading(hidden, tokens, kernel, tied, cap, temperature, entropies=True)
  said = _read(hidden, kernel, tokens, how)
  return said["logprobs"], said["entropies"]


def _reading(hidden, tokens, kernel, tied, cap, temperature, *, entropies):
  chex.assert_rank([hidden, tokens, kernel], [3, 2, 2])
  chex.assert_equal_shape_prefix([hidden, tokens], 2)
  chex.assert_equal(hidden.shape[2], kernel.shape[1 if tied else 0])
  groups = sharding.ways(*sharding.BATCH)
  return Reading(
    vocab_size=kernel.shape[0 if tied else 1],
    tied=tied,
    cap=cap,
    temperature=temperature,
    entropies=entropies,
    groups=1 if len(hidden) % groups else groups,
    parts=sharding.ways("tensor"),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _read(hidden, kernel, tokens, how):
  """{"logprobs": [B, T], "entropies": the same, if they are wanted}."""
  return _in_blocks(hidden, kernel, tokens, how, kept=False)[0]


def _forward(hidden, kernel, tokens, how):
  kept = how.keeps(tokens.shape)
  said, saved = _in_blocks(hidden, kernel, tokens, how, kept=kept)
  return said, (hidden, kernel, tokens, *saved)


def _in_blocks(hidden, kernel, tokens, how, *, kept):
  """What is said, and of each block its normalisers and its logits, if kept."""
  size = tokens.shape[1] if kept else how.positions(tokens.shape)
  laid = how.laid_out(kernel, hidden.dtype)

  def one(block):
    logits = how.logits(block[0], laid)
    return *_said(how, logits, block[1]), logits if kept else None

  blocks = _split(hidden, size), _split(tokens, size)
  said, sums, logits = jax.lax.map(one, blocks)
  said = {name: _joined(x, tokens.shape) for name, x in said.items()}
  return said, (sums, logits)


def _said(how, logits, tokens):
  """What is said of N tokens; the highest logits and their sums' logs [N, 1].

  Those two are not added: a high logit would round the sum's log away.
  """
  highest = logits.max(axis=1, keepdims=True)
  shifted = logits - highest
  weights = jnp.exp(shifted)
  total = weights.sum(axis=1, keepdims=True)
  log_sum = jnp.log(total)
  said = {"logprobs": _chosen(how, logits, tokens) - highest - log_sum}
  if how.entropies:
    mean = (weights * shifted).sum(axis=1, keepdims=True) / total
    said["entropies"] = log_sum - mean
  return {name: x[:, 0] for name, x in said.items()}, (highest, log_sum)


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


def _backward(how, saved, grads):
  """d log π(token) / d logits = onehot(token) - softmax(logits)."""
  hidden, kernel, tokens, sums, logits = saved
  laid = how.laid_out(kernel, hidden.dtype)
  size = how.positions(tokens.shape) if logits is None else tokens.shape[1]

  def add(d_kernel, block):
    hidden, tokens, grad, (highest, log_sum), logits = block
    if logits is None:
      logits = how.logits(hidden, laid)
    probs = jnp.exp(logits - highest - log_sum)
    onehot = _is_token(logits, tokens).astype(jnp.float32)
    d = grad[:, None] * (onehot - probs) * how.slope(logits)
    d_hidden, more = how.transposed(d.astype(hidden.dtype), hidden, laid)
    return d_kernel + more, d_hidden

  given = (_split(x, size) for x in (hidden, tokens, grads["logprobs"]))
  d_kernel, d_hidden = jax.lax.scan(
    add, how.no_gradient(laid), (*given, sums, logits)
  )
  d_kernel = how.cut(d_kernel.sum(axis=0)).astype(kernel.dtype)
  return _joined(d_hidden, hidden.shape), d_kernel, None


_read.defvjp(_forward, _backward)


def _split(x: jax.Array, size: int) -> jax.Array:
  """[B, T, ...] -> [blocks, B * size, ...], every device's rows in each."""
  B, T = x.shape[:2]
  blocks = -(-T // size)
  x = jnp.pad(x, [(0, 0), (0, blocks * size - T), *[(0, 0)] * (x.ndim - 2)])
  x = x.reshape(B, blocks, size, *x.shape[2:]).swapaxes(0, 1)
  return x.reshape(blocks, B * size, *x.shape[3:])


def _joined(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """The inverse, [B, T, ...] as `shape` says."""
  blocks, size = len(x), x.shape[1] // shape[0]
  x = x.reshape(blocks, shape[0], size, *shape[2:]).swapaxes(0, 1)
  return x.reshape(shape[0], blocks * size, *shape[2:])[:, : shape[1]]
