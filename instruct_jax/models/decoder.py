"""One decoder for every family: GPT-2 and GPT-3, GPT-NeoX, Llama, Qwen.

`DecoderConfig` says which. Axes: B batch, T time, S cache slots, D model,
H query heads, G key/value heads, M = H / G query heads a key head, E head
size, N layers. Activations are [B * T, D] between the attentions: on a CPU
that is a fifth faster than [B, T, D], elsewhere it is the same program.

No token is special in here: what may be attended to is `mask`, and where a
token stands is `positions`. The cache is an argument and a result.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from instruct_jax.base import errors
from instruct_jax.parallel import sharding

CHOICES = {
  "norm": ("layernorm", "rmsnorm"),
  "positions": ("learned", "rotary"),
  "rotary_scaling": ("none", "linear", "llama3"),
  "mlp": ("gelu", "gelu_exact", "swiglu"),
  "init": ("gpt2", "fan_in"),
  "dtype": ("float32", "bfloat16"),
}
SIZES = (
  "vocab_size",
  "context_length",
  "layers",
  "width",
  "heads",
  "kv_heads",
  "head_size",
  "mlp_width",
)
MASKED = -1e30  # finite, so that a row without any key stays finite


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The shape of a decoder. Every field is a key of a config's `model`."""

  vocab_size: int
  context_length: int  # positions that a learned table holds
  layers: int
  width: int
  heads: int
  kv_heads: int  # = heads, unless the heads are grouped
  head_size: int
  mlp_width: int
  norm: str = "layernorm"
  norm_eps: float = 1e-5
  norm_bias: bool = True
  positions: str = "learned"
  rotary_base: float = 10_000.0
  rotary_fraction: float = 1.0  # share of a head that turns (NeoX: 0.25)
  rotary_scaling: str = "none"  # how a longer context was reached
  rotary_factor: float = 1.0  # by how much the slow rates are divided
  rotary_low: float = 1.0  # llama3: turns in the old context, fewer: slow
  rotary_high: float = 4.0  # llama3: turns in the old context, more: fast
  rotary_old_length: int = 8192  # llama3: the old context
  window: int = 0  # attention reaches this far back (Mistral); 0: everywhere
  mlp: str = "gelu"  # the tanh form of GPT-2; gelu_exact is erf's
  attention_bias: bool = True  # of query, key and value
  output_bias: bool = True  # of the projection after them (Qwen 2: off)
  mlp_bias: bool = True
  init: str = "gpt2"  # kernels N(0, 0.02); fan_in: N(0, 1 / sqrt(inputs))
  embedding_scale: float = 1.0  # token embeddings are multiplied by this
  tied: bool = True  # the unembedding is the token embedding
  qk_norm: bool = False  # RMS norm of each query and key head (Qwen 3)
  parallel_residual: bool = False  # attention and MLP side by side (NeoX)
  dropout: float = 0.0  # of the embedding and of both residual branches
  dtype: str = "float32"  # of activations; parameters are float32
  scan: bool = False  # layers stacked in 'blocks', compiled once
  remat: bool = False  # recompute a layer's activations going backward

  def __post_init__(self):
    for name in SIZES:
      value = getattr(self, name)
      if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise errors.UserError(
          f"model.{name} must be a whole number above 0, not {value!r}."
        )
    for name, known in CHOICES.items():
      if getattr(self, name) not in known:
        raise errors.unknown(f"model.{name}", str(getattr(self, name)), known)
    for good, message in self._conditions():
      if not good:
        raise errors.UserError(f"model.{message}.")

  def _conditions(self):
    yield (
      self.heads % self.kv_heads == 0,
      f"kv_heads = {self.kv_heads} must divide model.heads = {self.heads}",
    )
    yield 0 <= self.dropout < 1, f"dropout = {self.dropout} must be in [0, 1)"
    yield self.norm_eps > 0, f"norm_eps = {self.norm_eps} must be above 0"
    yield (
      not (self.norm == "rmsnorm" and self.norm_bias),
      "norm_bias must be False: model.norm = 'rmsnorm' has no bias",
    )
    if self.positions == "rotary":
      yield (
        0 < self.rotary_fraction <= 1,
        f"rotary_fraction = {self.rotary_fraction} must be in (0, 1]",
      )
      yield (
        self.rotary_size >= 2 and self.rotary_size % 2 == 0,
        f"rotary_fraction = {self.rotary_fraction} of model.head_size ="
        f" {self.head_size} turns {self.rotary_size} numbers of a head; it"
        " must be an even number above 0",
      )
    yield (
      self.rotary_base > 0,
      f"rotary_base = {self.rotary_base} must be above 0",
    )
    if self.rotary_scaling == "llama3":
      yield (
        0 < self.rotary_low < self.rotary_high,
        f"rotary_high = {self.rotary_high} must be above model.rotary_low ="
        f" {self.rotary_low}, and both above 0",
      )
    yield (
      self.rotary_factor > 0,
      f"rotary_factor = {self.rotary_factor} must be above 0",
    )
    yield self.window >= 0, f"window = {self.window} must not be negative"

  @property
  def rotary_size(self) -> int:
    """Numbers of a head that turn with the position."""
    return int(self.head_size * self.rotary_fraction)


@flax.struct.dataclass
class Cache:
  """Keys and values of every layer, one slot a token.

  A tuple of [B, G, S, E], one a layer; scanned layers [N, B, G, S, E].
  """

  keys: tuple[jax.Array, ...] | jax.Array
  values: tuple[jax.Array, ...] | jax.Array

  def grown(self, slots: int) -> "Cache":
    """The cache with `slots` empty slots more."""

    def grow(x):
      spare = [(0, 0)] * x.ndim
      spare[-2] = (0, slots)
      return jnp.pad(x, spare)

    return jax.tree.map(grow, self)

  def written(self, layer, index, k: jax.Array, v: jax.Array) -> "Cache":
    """The cache with k, v [B, G, T, E] in `layer`'s slots from `index` on."""
    return Cache(
      keys=_write(self.keys, layer, index, k),
      values=_write(self.values, layer, index, v),
    )


def _write(old, layer, index, new):
  put = jax.lax.dynamic_update_slice
  if isinstance(old, tuple):
    there = put(old[layer], new, (0, 0, index, 0))
    return (*old[:layer], there, *old[layer + 1 :])
  return put(old, new[None], (layer, 0, 0, index, 0))


def empty_cache(config: DecoderConfig, batch: int, slots: int) -> Cache:
  """A cache of zeros for `batch` rows of `slots` tokens."""
  shape = (batch, config.kv_heads, slots, config.head_size)
  if config.scan:
    zeros = jnp.zeros((config.layers, *shape), config.dtype)
  else:
    zeros = (jnp.zeros(shape, config.dtype),) * config.layers
  return Cache(keys=zeros, values=zeros)


class Norm(nn.Module):
  """Layer norm or RMS norm over the last axis, in float32."""

  config: DecoderConfig
  bias: bool = False
  center: bool = False

  @nn.compact
  def __call__(self, x):
    """[..., D] -> [..., D], in the dtype of x."""
    c, width = self.config, x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, width)
    h = x.astype(jnp.float32)
    if self.center:
      h -= h.mean(-1, keepdims=True)
    h *= jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + c.norm_eps) * scale
    if self.bias:
      h += self.param("bias", nn.initializers.zeros, width)
    return h.astype(x.dtype)


def _norm(config: DecoderConfig, name: str | None = None) -> Norm:
  center = config.norm == "layernorm"
  return Norm(config, bias=config.norm_bias, center=center, name=name)


def _dense(config, features: int, bias: bool, name: str, branches: int = 1):
  """A dense layer; one that ends a residual branch says how many there are."""
  if config.init == "gpt2":
    init = nn.initializers.normal(0.02 * branches**-0.5)
  else:
    init = nn.initializers.variance_scaling(1 / branches, "fan_in", "normal")
  return nn.Dense(
    features, use_bias=bias, dtype=config.dtype, kernel_init=init, name=name
  )


def rotary_table(
  positions: jax.Array, slots: int, config: DecoderConfig
) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines [B * T, 1, rotary_size / 2] of RoFormer's eq. 34.

  Looked up in a constant, because XLA computes a cosine anew wherever it is
  used. A position past `slots` is not a number, as in a learned table.
  """
  angles = np.arange(slots)[:, None] * rotary_rates(config)
  table = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
  table = jnp.take(table, positions.reshape(-1), axis=1)[:, :, None]
  return table[0], table[1]


def rotary_rates(config: DecoderConfig) -> np.ndarray:
  """Radians a position [rotary_size / 2] of each pair, float64.

  'linear' divides all by the factor. 'llama3' (Llama 3.1) divides those that
  turn less than `rotary_low` times in the old context, leaves those that turn
  more than `rotary_high` times, and goes from one to the other in between.
  """
  half = config.rotary_size // 2
  rates = config.rotary_base ** (-np.arange(half) / half)
  if config.rotary_scaling == "none":
    return rates
  slow = rates / config.rotary_factor
  if config.rotary_scaling == "linear":
    return slow
  turns = config.rotary_old_length * rates / (2 * np.pi)
  low, high = config.rotary_low, config.rotary_high
  fast = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return fast * rates + (1 - fast) * slow


def rotate(x: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Turns pairs (i, i + half) of the first numbers of each head [.., H, E]."""
  cos, sin = table
  half = cos.shape[-1]
  a, b, rest = jnp.split(x.astype(jnp.float32), [half, 2 * half], -1)
  parts = [a * cos - b * sin, b * cos + a * sin, rest]
  return jnp.concatenate(parts, -1).astype(x.dtype)


def attend(
  q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array
) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  mask [B, T, S] is True where attention may go. Scores and their softmax are
  float32 whatever the dtype of q.
  """
  B, G, M, T, E = q.shape
  if M > 1:
    mask = jnp.tile(mask, (1, M, 1))
  out = _attend(q.reshape(B, G, M * T, E) * E**-0.5, k, v, mask)
  return out.reshape(q.shape)


@jax.custom_vjp
def _attend(q, k, v, mask):
  return _attend_forward(q, k, v, mask)[0]


def _attend_forward(q, k, v, mask):
  # Dividing by the softmax's sum last leaves fewer passes over [T, S].
  scores = _matmul("bgte,bgse->bgts", q, k)
  scores = jnp.where(mask[:, None], scores, MASKED)
  weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
  total = weights.sum(axis=-1, keepdims=True)
  weights = weights.astype(v.dtype)
  out = _matmul("bgts,bgse->bgte", weights, v) / total
  out = out.astype(q.dtype)
  return out, (q, k, v, weights, total, out)


def _attend_backward(saved, g):
  """A quarter faster than what is derived on a CPU: the mask and the maximum
  play no part, and `weights` is read once."""
  q, k, v, weights, total, out = saved
  g = g / total
  inner = (g * out).sum(axis=-1, keepdims=True)
  g = g.astype(v.dtype)
  scores = weights * (_matmul("bgte,bgse->bgts", g, v) - inner)
  scores = scores.astype(k.dtype)
  d_q = _matmul("bgts,bgse->bgte", scores, k).astype(q.dtype)
  d_k = _matmul("bgts,bgte->bgse", scores, q).astype(k.dtype)
  d_v = _matmul("bgts,bgte->bgse", weights, g).astype(v.dtype)
  return d_q, d_k, d_v, None


_attend.defvjp(_attend_forward, _attend_backward)
_matmul = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@flax.struct.dataclass
class Inputs:
  """What every layer is told about the tokens, besides their activations."""

  mask: jax.Array  # [B, T, S] bool
  table: tuple[jax.Array, jax.Array] | None  # rotary_table
  index: jax.Array | int  # the first token's slot of the cache
  deterministic: bool = flax.struct.field(pytree_node=False)
  at: tuple | None = flax.struct.field(pytree_node=False, default=None)

  def kept(self, x: jax.Array) -> jax.Array:
    """The rows of x [B * T, ...] at the time positions `at`: [B * T', ...]."""
    if self.at is None:
      return x
    x = x.reshape(*self.mask.shape[:2], *x.shape[1:])
    x = x[:, slice(*self.at)]
    return x.reshape(-1, *x.shape[2:])


class Block(nn.Module):
  """One layer: attention and MLP, each normed before and added after."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, carry, layer, inputs: Inputs):
    """(x [B * T, D], cache), layer number -> (x [B * T', D], cache), None."""
    x, cache = carry
    normed = _norm(self.config, "attention_norm")(x)
    attended, cache = self._attention(normed, cache, layer, inputs)
    x = inputs.kept(x)
    if self.config.parallel_residual:
      mlp = self._mlp(_norm(self.config, "mlp_norm")(x), inputs)
      return (constrain(x + attended + mlp), cache), None
    x = x + attended
    mlp = self._mlp(_norm(self.config, "mlp_norm")(x), inputs)
    return (constrain(x + mlp), cache), None

  def _attention(self, x, cache, layer, inputs):
    c, (B, T, _) = self.config, inputs.mask.shape
    G, E = c.kv_heads, c.head_size
    q, k, v = (
      _dense(c, heads * E, c.attention_bias, name)(x).reshape(-1, heads, E)
      for name, heads, x in (
        ("query", c.heads, inputs.kept(x)),
        ("key", G, x),
        ("value", G, x),
      )
    )
    if c.qk_norm:
      q, k = Norm(c, name="query_norm")(q), Norm(c, name="key_norm")(k)
    if inputs.table is not None:
      q = rotate(q, jax.tree.map(inputs.kept, inputs.table))
      k = rotate(k, inputs.table)
    q = q.reshape(B, -1, G, c.heads // G, E).transpose(0, 2, 3, 1, 4)
    k, v = (x.reshape(B, T, G, E).swapaxes(1, 2) for x in (k, v))
    if cache is not None:
      cache = cache.written(layer, inputs.index, k, v)
      k, v = cache.keys[layer], cache.values[layer]
    mask = (
      inputs.mask if inputs.at is None else inputs.mask[:, slice(*inputs.at)]
    )
    out = attend(q, k, v, mask)
    out = out.transpose(0, 3, 1, 2, 4).reshape(-1, c.heads * E)
    out = _dense(c, c.width, c.output_bias, "output", 2 * c.layers)(out)
    return self._dropout(out, inputs), cache

  def _mlp(self, x, inputs):
    c = self.config
    h = _dense(c, c.mlp_width, c.mlp_bias, "up")(x)
    if c.mlp == "swiglu":
      h = h * nn.silu(_dense(c, c.mlp_width, c.mlp_bias, "gate")(x))
    else:
      h = nn.gelu(h, approximate=c.mlp == "gelu")
    h = _dense(c, c.width, c.mlp_bias, "down", 2 * c.layers)(h)
    return self._dropout(h, inputs)

  def _dropout(self, x, inputs):
    return nn.Dropout(self.config.dropout)(x, inputs.deterministic)


def constrain(x: jax.Array) -> jax.Array:
  """Keeps activations [B * T, D] split by rows, whatever the parameters do."""
  return sharding.constrain(x, sharding.BATCH)


class Decoder(nn.Module):
  """Token embeddings, blocks and a final norm."""

  config: DecoderConfig

  def setup(self):
    c, init = self.config, nn.initializers.normal(0.02)
    block = nn.remat(Block, prevent_cse=not c.scan) if c.remat else Block
    self.token_embedding = nn.Embed(c.vocab_size, c.width, embedding_init=init)
    if c.positions == "learned":
      self.position_embedding = nn.Embed(
        c.context_length, c.width, embedding_init=init
      )
    if c.scan:
      self.blocks = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, nn.broadcast),
        length=c.layers,
      )(c)
    else:
      self.block = [block(c) for _ in range(c.layers)]
    self.final_norm = _norm(c)
    self.dropout = nn.Dropout(c.dropout)

  def __call__(
    self,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    cache: Cache | None = None,
    index: jax.Array | int = 0,
    *,
    at: tuple[int | None, int | None] | None = None,
    deterministic: bool = True,
  ) -> tuple[jax.Array, Cache | None]:
    """Hidden states [B, T', D] after the final norm, and the cache.

    tokens and positions are [B, T]; mask [B, T, S] is True where a token may
    look: S = T without a cache, else the cache's slots, of which these tokens
    take `index` to `index + T`. `at` = (start, stop) asks for these time
    positions only, as a slice does; what the others do not need is not
    computed.
    """
    c = self.config
    x = self._embed(tokens.reshape(-1), positions.reshape(-1))
    x = constrain(self.dropout(x, deterministic))
    rotary = c.positions == "rotary"
    inputs = Inputs(
      mask=mask,
      table=rotary_table(positions, mask.shape[-1], c) if rotary else None,
      index=index,
      deterministic=deterministic,
    )
    last = inputs.replace(at=at)
    if c.scan:
      (x, cache), _ = self.blocks((x, cache), jnp.arange(c.layers), inputs)
      x = last.kept(x)
    else:
      for i, block in enumerate(self.block):
        is_last = i == c.layers - 1
        (x, cache), _ = block((x, cache), i, last if is_last else inputs)
    return self.final_norm(x).reshape(len(tokens), -1, c.width), cache

  def unembed(self, hidden: jax.Array) -> jax.Array:
    """Logits [..., V] float32 by the token embedding (a tied model's)."""
    return logits(hidden, self.token_embedding.embedding.T)

  def _embed(self, tokens, positions):
    c = self.config
    # A padding id past the table reads its last row; masks hide it.
    tokens = jnp.minimum(tokens, c.vocab_size - 1)
    x = self.token_embedding(tokens) * c.embedding_scale
    if c.positions == "learned":
      x += self.position_embedding(positions)
    return x.astype(c.dtype)


def logits(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
  """hidden [..., D] by kernel [D, V], accumulated in float32."""
  kernel = kernel.astype(hidden.dtype)
  return jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)


def stack_blocks(params: dict, config: DecoderConfig) -> dict:
  """A decoder's tree with 'block_0', ... stacked in 'blocks' (scan=True)."""
  names = [f"block_{i}" for i in range(config.layers)]
  rest = {name: x for name, x in params.items() if name not in names}
  blocks = jax.tree.map(lambda *x: jnp.stack(x), *(params[n] for n in names))
  return rest | {"blocks": blocks}


def unstack_blocks(params: dict, config: DecoderConfig) -> dict:
  """The inverse of `stack_blocks`."""
  rest = {name: x for name, x in params.items() if name != "blocks"}
  for i in range(config.layers):
    rest[f"block_{i}"] = jax.tree.map(lambda x, i=i: x[i], params["blocks"])
  return rest
