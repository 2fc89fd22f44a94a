"""Attention: who may look at whom, described by structure, and its computing.

Callers say what a row is made of (`padded`, `packed`, `shared_prompt`,
`following`); how a device computes that is decided here alone. Axes: B rows,
T queries, S keys (T without a cache, else its slots), K completions, P prompt,
R response, G key/value heads, M query heads a key head, E head size, N layers.
Masks are bool and named for what is True.
"""

import dataclasses
from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from instruct_jax.models import config as model_config
from instruct_jax.models import cudnn, dense, flash, tiles, visible
from instruct_jax.parallel import sharding

EVERYWHERE = visible.EVERYWHERE
FEW = 8  # queries of which all scores may be held, whatever the device
# Time positions: (start, stop) as of a slice, or those of each row, [B, T'].
At = tuple[int | None, int | None] | jax.Array


@flax.struct.dataclass
class Structure:
  """What rows are made of. Attention is causal in all of them.

  A query sees the real tokens at or before it, of its own text, and itself
  even where it is a pad, so that no row of a softmax is empty.
  """

  positions: jax.Array  # [B, T] int32, where each query stands in its text
  is_key: jax.Array  # [B, S] bool, which keys are real tokens
  segments: jax.Array | None = None  # [B, T] int32, the text of a packed row
  # [T] or [B, T] int32: 0 the prompt, which all branches of its text see.
  branches: jax.Array | None = None
  first: jax.Array | int | None = None  # the slot of what follows a cache
  # [B, S] int32, where each key stands in its text, if slots are in no order.
  key_positions: jax.Array | None = None


def padded(is_token: jax.Array) -> Structure:
  """Rows [B, T] of one text each, padded on either side."""
  return Structure(positions_of(is_token), is_token)


def packed(segments: jax.Array) -> Structure:
  """Rows [B, T] of several texts, numbered from 1; 0 is padding.

  Every text is computed as if it stood alone.
  """
  return Structure(segment_positions(segments), segments > 0, segments=segments)


def shared_prompt(is_prompt: jax.Array, is_response: jax.Array) -> Structure:
  """A prompt [B, P] once, followed by its K responses [B, K, R] side by side.

  T = P + K * R. Each response sees the prompt and itself, never another
  response, and its positions continue the prompt's: every response is computed
  as if it stood alone.
  """
  chex.assert_rank([is_prompt, is_response], [2, 3])
  batch, completions, width = is_response.shape
  count = jnp.cumsum(is_response, axis=2, dtype=jnp.int32) - jnp.int32(1)
  length = is_prompt.sum(axis=1, dtype=jnp.int32)
  after = jnp.maximum(length[:, None, None] + count, jnp.int32(0))
  flat = (batch, completions * width)
  number = jnp.arange(1, completions + 1, dtype=jnp.int32)
  prompt = jnp.zeros(is_prompt.shape[1], jnp.int32)
  return Structure(
    positions=jnp.concatenate(
      [positions_of(is_prompt), after.reshape(flat)], axis=1
    ),
    is_key=jnp.concatenate([is_prompt, is_response.reshape(flat)], axis=1),
    branches=jnp.concatenate([prompt, jnp.repeat(number, width)]),
  )


def following(
  is_key: jax.Array, positions: jax.Array, first: jax.Array | int
) -> Structure:
  """T tokens that follow what a cache of S slots holds.

  They are real tokens, stand at `positions` [B, T] of their texts and take the
  slots from `first` on; is_key [B, S] is True of those, and may be of slots
  after them.
  """
  return Structure(positions, is_key, first=first)


def around(
  positions: jax.Array, time: jax.Array | int, slots: int
) -> Structure:
  """The newest token of each row, where a cache's slots go round.

  At `time` every row writes slot time mod S, so a slot's age is the same in all
  rows, and tokens that end a text at `positions` [B] have the ages 0 to their
  position; what is older is of an earlier text.
  """
  column = time % slots
  age = (column - jnp.arange(slots, dtype=jnp.int32)) % slots
  key_positions = positions[:, None] - age
  return Structure(
    positions=positions[:, None],
    is_key=key_positions >= 0,
    first=column,
    key_positions=key_positions,
  )


def positions_of(is_token: jax.Array) -> jax.Array:
  """Positions [B, T] int32 that count the real tokens only.

  A pad has the position of the token before it, or 0 before the first token.
  """
  chex.assert_rank(is_token, 2)
  count = jnp.cumsum(is_token, axis=1, dtype=jnp.int32)
  return jnp.maximum(count - jnp.int32(1), jnp.int32(0))


def segment_positions(segments: jax.Array) -> jax.Array:
  """Positions [B, T] int32 that start again at 0 in every segment."""
  chex.assert_rank(segments, 2)
  column = jnp.arange(segments.shape[1], dtype=jnp.int32)
  is_first = segments != jnp.roll(segments, 1, axis=1)
  first = jnp.where(is_first, column, jnp.int32(0))
  return column - jax.lax.cummax(first, axis=1)


@flax.struct.dataclass
class Plan:
  """How a structure is computed, made once for all layers by `plan`."""

  marks: tuple[visible.Marks, visible.Marks]  # queries [B, T], keys [B, S]
  mask: jax.Array | None = None  # [B, T, S] bool; None: kernels make it
  cap: float = flax.struct.field(pytree_node=False, default=0.0)
  scalar: float = flax.struct.field(pytree_node=False, default=0.0)
  window: jax.Array | int | None = None
  mixed: bool = flax.struct.field(pytree_node=False, default=False)

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and queries: B, T."""
    B, T = self.marks[0].slot.shape
    return B, T

  def sliced(self, at: At) -> "Plan":
    """The plan of the queries at these time positions alone."""
    query, key = self.marks
    marks = query.map(lambda x: taken(x, at)), key
    mask = None if self.mask is None else taken(self.mask, at)
    return dataclasses.replace(self, mask=mask, marks=marks)

  def within(self, window: int | jax.Array) -> "Plan":
    """The plan of a layer whose queries see the `window` newest positions.

    Every query is in its own window, so none is left without a key. Where the
    layers are not mixed it is the plan of all.
    """
    if not self.mixed:
      return self
    mask = self.mask
    if mask is not None:
      mask &= visible.is_near(*self.marks, window=window)
    return dataclasses.replace(self, mask=mask, window=window, mixed=False)


def taken(x: jax.Array, at: At) -> jax.Array:
  """x [B, T, ...] at these time positions: [B, T', ...]."""
  if isinstance(at, tuple):
    return x[:, slice(*at)]
  return jax.vmap(lambda x, i: x[i])(x, at)


def plan(
  structure: Structure,
  *,
  window: int = 0,
  mixed: bool = False,
  cap: float = 0.0,
  scalar: float = 0.0,
) -> Plan:
  """Prepares attention over a structure.

  With a `window` a query sees the `window` newest positions up to its own
  (Mistral); where layers are `mixed`, each asks `within` its own. With a `cap`
  scores s become cap * tanh(s / cap) before they are masked (Gemma 2); they
  are divided by the root of `scalar` (0: of the head's size).
  """
  marks = _marks(structure, has_places=mixed or window > 0)
  far = window or None
  is_flash = sharding.platform() == "tpu"
  return Plan(
    marks=marks,
    mask=None if is_flash else visible.mask(*marks, window=far),
    cap=cap,
    scalar=scalar,
    window=far,
    mixed=mixed,
  )


def _marks(structure, *, has_places):
  """Marks of queries [B, T] and of keys [B, S]."""
  positions, is_key = structure.positions, structure.is_key
  first = 0 if structure.first is None else structure.first
  slots = jnp.arange(positions.shape[1]) + first, jnp.arange(is_key.shape[1])
  if structure.key_positions is not None:  # Slots are in no order.
    slots = positions, structure.key_positions
  text = jnp.int32(0) if structure.segments is None else structure.segments
  branch, places = structure.branches, _places(structure)

  def of(side, slot, text):
    like = (positions, is_key)[side].shape
    return visible.Marks(
      slot=jnp.broadcast_to(slot, like),
      text=jnp.broadcast_to(text, like),
      branch=None if branch is None else jnp.broadcast_to(branch, like),
      place=places[side] if has_places else None,
    )

  real = jnp.where(is_key, text, jnp.int32(visible.NO_TEXT))
  return of(0, slots[0], text), of(1, slots[1], real)


def _places(structure):
  """Positions of queries [B, T] and keys [B, S] in their texts."""
  of_query, is_key = structure.positions, structure.is_key
  if structure.key_positions is not None:
    return of_query, structure.key_positions
  is_same = of_query.shape == is_key.shape
  return of_query, of_query if is_same else positions_of(is_key)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, plan_: Plan) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  Scores and their softmax are float32 whatever the dtype of q. Where there are
  many queries, the scores [B, G, M, T, S] are no array: a TPU has `flash`, a
  GPU `cudnn` (but for what cuDNN refuses), a CPU `tiles`.
  """
  q *= (plan_.scalar or q.shape[-1]) ** -0.5
  mask, cap, T = plan_.mask, plan_.cap, q.shape[-2]
  if mask is None:
    if T > FEW:
      return _by_tokens(flash.attend, q, k, v, plan_)
    mask = visible.mask(*plan_.marks, window=plan_.window)
  elif sharding.platform() == "gpu" and not sharding.stands_in():
    if T > FEW and cudnn.takes(q, k, v, mask, cap):
      return _by_device(cudnn.attend, q, k, v, mask)
  elif T > tiles.FEW:
    return _by_tokens(tiles.attend, q, k, v, plan_)
  return dense.attend(q, k, v, mask, cap)


def _by_tokens(function, q, k, v, plan_):
  """By a function that takes marks of tokens and, if it is there, the mask."""

  def computed(q, k, v, of_rows, window=None):
    query, key, mask = of_rows
    if mask is None:
      return function(q, k, v, query, key, window, cap=plan_.cap)
    return function(q, k, v, query, key, mask, window, cap=plan_.cap)

  of_rows = (*plan_.marks, plan_.mask)
  return _by_device(computed, q, k, v, of_rows, plan_.window)


def _by_device(function, q, k, v, of_rows, window=None):
  """function(...), each device of the mesh with its rows and its heads.

  A compiler cannot divide what a kernel does. Where the mesh does not divide
  rows or heads, every device computes all of them.
  """
  given = (q, k, v, of_rows)
  if window is not None:
    given += (jnp.asarray(window, jnp.int32),)
  if sharding.ways(*sharding.AXES) == 1:
    return function(*given)
  (rows,), heads = sharding.BATCH, "tensor"
  split = P(
    rows if q.shape[0] % sharding.ways(rows) == 0 else None,
    heads if q.shape[1] % sharding.ways(heads) == 0 else None,
  )
  return jax.shard_map(
    function,
    in_specs=(split, split, split, P(split[0]), P())[: len(given)],
    out_specs=split,
    check_vma=False,
  )(*given)


@flax.struct.dataclass
class Cache:
  """Keys and values of every layer, one slot a token.

  A tuple of [B, G, S, E], one a layer; scanned layers [N, B, G, S, E].
  """

  keys: tuple[jax.Array, ...] | jax.Array
  values: tuple[jax.Array, ...] | jax.Array

  def last(self, slots: int) -> "Cache":
    """The cache of the last so many slots."""
    return jax.tree.map(lambda x: x[..., -slots:, :], self)

  def rolled(self, slots: int, first: jax.Array) -> "Cache":
    """The cache in so many slots that go round, its own from `first` on."""

    def roll(x):
      spare = [(0, 0)] * x.ndim
      spare[-2] = (0, slots - x.shape[-2])
      return jnp.roll(jnp.pad(x, spare), first, axis=-2)

    return jax.tree.map(roll, self)

  def with_rows(
    self, rows: "Cache", put: Callable[[jax.Array, jax.Array], jax.Array]
  ) -> "Cache":
    """The cache with other rows, as `put` puts [m, ...] into [B, ...]."""
    if not isinstance(self.keys, tuple):  # scanned layers
      put = jax.vmap(put)
    return jax.tree.map(put, self, rows)

  def written(
    self,
    layer: int | jax.Array,
    index: int | jax.Array,
    k: jax.Array,
    v: jax.Array,
  ) -> "Cache":
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


def empty_cache(
  config: model_config.DecoderConfig, batch: int, slots: int
) -> Cache:
  """A cache of zeros for `batch` rows of `slots` tokens."""
  shape = (batch, config.kv_heads, slots, config.head_size)
  if config.scan:
    zeros = jnp.zeros((config.layers, *shape), config.dtype)
  else:
    zeros = (jnp.zeros(shape, config.dtype),) * config.layers
  return Cache(keys=zeros, values=zeros)
