"""One decoder for every family: GPT-2 and 3, NeoX, Llama, Qwen, Gemma.

`DecoderConfig` says which. Axes: B batch, T time, S cache slots, D model,
H query heads, G key/value heads, M = H / G query heads a key head, E head
size, N layers. Activations are [B * T, D] between the attentions: on a CPU
that is a fifth faster than [B, T, D], elsewhere it is the same program.

No token is special in here: what may be attended to and where a token stands
is an `attention.Structure`. The cache is an argument and a result.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from instruct_jax.models import attention, lora, product, rotary, turned
from instruct_jax.models import config as model_config
from instruct_jax.parallel import sharding


class Norm(nn.Module):
  """Layer norm or RMS norm over the last axis, in float32."""

  config: model_config.DecoderConfig
  bias: bool = False
  center: bool = False

  @nn.compact
  def __call__(self, x):
    """[..., D] -> [..., D], in the dtype of x."""
    c, width = self.config, x.shape[-1:]
    init = nn.initializers.constant(1 - c.norm_offset)
    scale = self.param("scale", init, width)
    if c.norm_offset:
      scale += c.norm_offset
    h = x.astype(jnp.float32)
    if self.center:
      h -= h.mean(-1, keepdims=True)
    h *= jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + c.norm_eps) * scale
    if self.bias:
      h += self.param("bias", nn.initializers.zeros, width)
    return h.astype(x.dtype)


def _norm(config: model_config.DecoderConfig, name: str | None = None) -> Norm:
  center = config.norm == "layernorm"
  return Norm(config, bias=config.norm_bias, center=center, name=name)


class Dense(nn.Module):
  """A dense layer; where its parameters have adapters, those count, too.

  Without them it is `nn.Dense`. A key for dropout switches the adapters' on.
  """

  features: int
  use_bias: bool
  dtype: str
  kernel_init: nn.initializers.Initializer
  adapters: model_config.Adapters

  @nn.compact
  def __call__(self, x):
    """[rows, inputs] -> [rows, features]."""
    y = self._product(x.astype(self.dtype))
    if self.has_variable("params", lora.A):
      y += self._adapted(x.astype(self.dtype))
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      # A row, as there: a sum's gradient in bfloat16 is then rounded once.
      y += bias.astype(self.dtype).reshape(1, -1)
    return y

  def _product(self, x):
    if self.has_variable("params", turned.TURNED):
      return turned.product(x, self.get_variable("params", turned.TURNED))
    shape = x.shape[-1], self.features
    kernel = self.param("kernel", self.kernel_init, shape)
    return product.product(x, kernel.astype(self.dtype))

  def _adapted(self, x):
    """scale * dropout(x) A B (`lora`)."""
    a, b = (
      self.get_variable("params", name).astype(self.dtype)
      for name in (lora.A, lora.B)
    )
    x = nn.Dropout(self.adapters.dropout)(x, not self.has_rng("dropout"))
    return jnp.dot(jnp.dot(x, a), b) * self.adapters.scale


def _dense(config, features: int, bias: bool, name: str, branches: int = 1):
  """A dense layer; one that ends a residual branch says how many there are."""
  if config.init == "gpt2":
    init = nn.initializers.normal(0.02 * branches**-0.5)
  else:
    init = nn.initializers.variance_scaling(1 / branches, "fan_in", "normal")
  return Dense(features, bias, config.dtype, init, config.adapters, name=name)


@flax.struct.dataclass
class Inputs:
  """What every layer is told about the tokens, besides their activations."""

  plan: attention.Plan
  angles: tuple[jax.Array, ...] | None  # rotary.table
  local_angles: tuple[jax.Array, ...] | None  # of layers that slide, if others
  index: jax.Array | int  # the first token's slot of the cache
  deterministic: bool = flax.struct.field(pytree_node=False)
  part: tuple | None = flax.struct.field(pytree_node=False, default=None)
  chosen: jax.Array | None = None  # [B, T'] int32; either is the `at` below

  def of_layer(
    self, layer: int | jax.Array, config: model_config.DecoderConfig
  ) -> tuple[attention.Plan, tuple[jax.Array, ...] | None]:
    """How a layer attends, and the angles by which its heads turn.

    The number of a layer is traced where layers are stacked, so both are
    chosen by value; a number that is known leaves no choice in the program.
    """
    if not self.plan.mixed and self.local_angles is None:
      return self.plan, self.angles
    slides = jnp.asarray(config.slides)[layer]
    window = jnp.where(slides, config.window, attention.EVERYWHERE)
    angles = self.angles
    if self.local_angles is not None:
      choose = functools.partial(jnp.where, slides)
      angles = jax.tree.map(choose, self.local_angles, angles)
    return self.plan.within(window), angles

  def kept(self, x: jax.Array) -> jax.Array:
    """The rows of x [B * T, ...] that are asked for: [B * T', ...]."""
    if self.at is None:
      return x
    x = x.reshape(*self.plan.shape, *x.shape[1:])
    x = attention.taken(x, self.at)
    return x.reshape(-1, *x.shape[2:])

  @property
  def at(self) -> attention.At | None:
    return self.part if self.chosen is None else self.chosen

  def asked(self, at: attention.At | None) -> "Inputs":
    """What a layer is told of which only the positions `at` are wanted."""
    if at is None or isinstance(at, tuple):
      return dataclasses.replace(self, part=at)
    return dataclasses.replace(self, chosen=at)


class Block(nn.Module):
  """One layer: attention and MLP, each normed before and added after.

  With `post_norms` each is normed once more before it is added.
  """

  config: model_config.DecoderConfig

  @nn.compact
  def __call__(self, carry, layer, inputs: Inputs):
    """(x [B * T, D], cache), layer number -> (x [B * T', D], cache), None."""
    x, cache = carry
    normed = _norm(self.config, "attention_norm")(x)
    attended, cache = self._attention(normed, cache, layer, inputs)
    attended = self._finished(attended, "attention_post_norm", inputs)
    x = inputs.kept(x)
    if self.config.parallel_residual:
      mlp = self._mlp(_norm(self.config, "mlp_norm")(x))
      mlp = self._finished(mlp, "mlp_post_norm", inputs)
      return (constrain(x + attended + mlp), cache), None
    x = x + attended
    mlp = self._mlp(_norm(self.config, "mlp_norm")(x))
    mlp = self._finished(mlp, "mlp_post_norm", inputs)
    return (constrain(x + mlp), cache), None

  def _attention(self, x, cache, layer, inputs):
    c, (B, T) = self.config, inputs.plan.shape
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
    plan, angles = inputs.of_layer(layer, c)
    if angles is not None:
      q = rotary.rotate(q, jax.tree.map(inputs.kept, angles))
      k = rotary.rotate(k, angles)
    q = q.reshape(B, -1, G, c.heads // G, E).transpose(0, 2, 3, 1, 4)
    k, v = (x.reshape(B, T, G, E).swapaxes(1, 2) for x in (k, v))
    if cache is not None:
      cache = cache.written(layer, inputs.index, k, v)
      k, v = cache.keys[layer], cache.values[layer]
    plan = plan if inputs.at is None else plan.sliced(inputs.at)
    out = attention.attend(q, k, v, plan)
    out = out.transpose(0, 3, 1, 2, 4).reshape(-1, c.heads * E)
    return _dense(c, c.width, c.output_bias, "output", 2 * c.layers)(out), cache

  def _mlp(self, x):
    c = self.config
    h = _dense(c, c.mlp_width, c.mlp_bias, "up")(x)
    if c.mlp == "swiglu":
      h = h * nn.silu(_dense(c, c.mlp_width, c.mlp_bias, "gate")(x))
    elif c.mlp == "geglu":
      h = h * nn.gelu(_dense(c, c.mlp_width, c.mlp_bias, "gate")(x))
    else:
      h = nn.gelu(h, approximate=c.mlp == "gelu")
    return _dense(c, c.width, c.mlp_bias, "down", 2 * c.layers)(h)

  def _finished(self, branch, norm, inputs):
    """What a branch adds to the residual."""
    if self.config.post_norms:
      branch = _norm(self.config, norm)(branch)
    return nn.Dropout(self.config.dropout)(branch, inputs.deterministic)


_SAVED = {  # what is kept of a layer for its gradient, by `remat`
  "full": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims(
    "device", sharding.HOST_MEMORY
  ),
}


def constrain(x: jax.Array) -> jax.Array:
  """Keeps activations [B * T, D] split by rows, whatever the parameters do."""
  return sharding.constrain(x, sharding.BATCH)


# What a table that is divided by its width says of rows, and on to the rows of
# each device: every step is one collective, there and for the gradient back.
# XLA finds none for all at once, and would copy all rows to every device.
_STEPS = (P("data", ("fsdp", "tensor")), P("data", "fsdp"))


def looked_up(x: jax.Array) -> jax.Array:
  """Rows [B * T, D] of a table of embeddings, on their way to `constrain`."""
  is_needed = sharding.ways("fsdp") > 1 and sharding.ways("data", "tensor") > 1
  for spec in _STEPS if is_needed else ():
    x = sharding.constrain(x, spec)
  return x


class Decoder(nn.Module):
  """Token embeddings, blocks and a final norm."""

  config: model_config.DecoderConfig

  def setup(self) -> None:
    c, init = self.config, nn.initializers.normal(0.02)
    block = Block
    if c.remat != "none":  # A single layer's number, argument 2, stays one.
      block = nn.remat(
        Block,
        prevent_cse=not c.scan,
        static_argnums=() if c.scan else (2,),
        policy=_SAVED[c.remat],
      )
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
    structure: attention.Structure,
    cache: attention.Cache | None = None,
    *,
    at: attention.At | None = None,
    deterministic: bool = True,
  ) -> tuple[jax.Array, attention.Cache | None]:
    """Hidden states [B, T', D] after the final norm, and the cache.

    tokens are [B, T]; the structure has S = T keys without a cache, else the
    cache's slots. `at` = (start, stop) asks for these time positions only, as
    a slice does; or `at` [B, T'] int32 for those of each row. What the others
    do not need is not computed.
    """
    c = self.config
    positions, angles, local = structure.positions, None, None
    # Who samples has a few rows at a time, and maybe whole tables (`decoding`).
    taken = looked_up if cache is None else lambda x: x
    x = self._embed(tokens.reshape(-1), positions.reshape(-1), taken)
    x = constrain(self.dropout(x, deterministic))
    if c.positions == "rotary":
      slots = structure.is_key.shape[1]
      angles = rotary.table(positions, slots, c)
      if c.rotary_local_base:
        local = rotary.table(positions, slots, c, local=True)
    is_mixed = len(set(c.slides)) > 1
    inputs = Inputs(
      plan=attention.plan(
        structure,
        window=0 if is_mixed else c.window,
        mixed=is_mixed,
        cap=c.attention_cap,
        scalar=c.query_scalar,
      ),
      angles=angles,
      local_angles=local,
      index=0 if structure.first is None else structure.first,
      deterministic=deterministic,
    )
    last = inputs.asked(at)
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
    table = self.token_embedding.embedding
    return logits(hidden, table, is_turned=True, cap=self.config.logit_cap)

  def _embed(self, tokens, positions, taken):
    c = self.config
    # A padding id past the table reads its last row; masks hide it.
    tokens = jnp.minimum(tokens, c.vocab_size - 1)
    # Gemma's root of the width is as coarse as the activations.
    scale = float(jnp.dtype(c.dtype).type(c.embedding_scale))
    x = taken(self.token_embedding(tokens)).astype(jnp.float32) * scale
    if c.positions == "learned":
      x += taken(self.position_embedding(positions)).astype(jnp.float32)
    return x.astype(c.dtype)


def logits(
  hidden: jax.Array,
  kernel: jax.Array,
  *,
  is_turned: bool = False,
  cap: float = 0.0,
) -> jax.Array:
  """hidden [..., D] by kernel [D, V] (turned: [V, D]), in float32.

  With a `cap` each logit x becomes cap * tanh(x / cap) (Gemma 2).
  """
  rows = hidden.reshape(-1, hidden.shape[-1])
  if is_turned and turned.helps(len(rows)):
    out = turned.product(rows, kernel, jnp.float32)
    out = out.reshape(*hidden.shape[:-1], -1)
  else:
    kernel = (kernel.T if is_turned else kernel).astype(hidden.dtype)
    out = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
  return cap * jnp.tanh(out / cap) if cap else out


def stack_blocks(params: dict, config: model_config.DecoderConfig) -> dict:
  """A decoder's tree with 'block_0', ... stacked in 'blocks' (scan=True)."""
  names = [f"block_{i}" for i in range(config.layers)]
  rest = {name: x for name, x in params.items() if name not in names}
  blocks = jax.tree.map(lambda *x: jnp.stack(x), *(params[n] for n in names))
  return rest | {"blocks": blocks}


def unstack_blocks(params: dict, config: model_config.DecoderConfig) -> dict:
  """The inverse of `stack_blocks`."""
  rest = {name: x for name, x in params.items() if name != "blocks"}
  for i in range(config.layers):
    rest[f"block_{i}"] = jax.tree.map(lambda x, i=i: x[i], params["blocks"])
  return rest
