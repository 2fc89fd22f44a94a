"""Attention: who may look at whom, described by structure, and its computing.

Callers say what a row is made of (`padded`, `packed`, `shared_prompt`,
`following`); how a device computes that is decided here alone. Axes: B rows,
T queries, S keys (T without a cache, else its slots), K completions, P prompt,
R response, G key/value heads, M query heads a key head, E head size, N layers.
Masks are bool and named for what is True.
"""

import dataclasses
import functools
from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp

from instruct_jax.models import config as model_config

EVERYWHERE = 2**31 - 1  # the window of a layer that has none
MASKED = -1e30  # finite, so that a row without any key stays finite


@flax.struct.dataclass
class Structure:
  """What rows are made of. Attention is causal in all of them.

  A query sees the real tokens at or before it, of its own text, and itself
  even where it is a pad, so that no row of a softmax is empty.
  """

  positions: jax.Array  # [B, T] int32, where each query stands in its text
  is_key: jax.Array  # [B, S] bool, which keys are real tokens
  segments: jax.Array | None = None  # [B, T] int32, the text of a packed row
  branches: jax.Array | None = None  # [T] int32: 0 the prompt, k a completion
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

  mask: jax.Array  # [B, T, S] bool
  cap: float = flax.struct.field(pytree_node=False, default=0.0)
  scalar: float = flax.struct.field(pytree_node=False, default=0.0)
  # Positions of queries [B, T] and keys [B, S], for windows that come later.
  places: tuple[jax.Array, jax.Array] | None = None

  def sliced(self, at: tuple[int | None, int | None]) -> "Plan":
    """The plan of the queries `at` = (start, stop) alone."""
    places = self.places
    if places is not None:
      places = places[0][:, slice(*at)], places[1]
    mask = self.mask[:, slice(*at)]
    return dataclasses.replace(self, mask=mask, places=places)

  def within(self, window: int | jax.Array) -> "Plan":
    """The plan of a layer whose queries see the `window` newest positions.

    Every query is in its own window, so none is left without a key. Where the
    layers are not mixed it is the plan of all.
    """
    if self.places is None:
      return self
    mask = self.mask & _near(self.places, window)
    return dataclasses.replace(self, mask=mask, places=None)


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
  T, S = structure.positions.shape[1], structure.is_key.shape[1]
  slots = jnp.arange(S)
  first = 0 if structure.first is None else structure.first
  queries = (jnp.arange(T) + first)[:, None]
  mask = structure.is_key[:, None, :]
  if structure.key_positions is None:  # Slots are in the order of the text.
    mask &= slots <= queries
  if structure.segments is not None:
    segments = structure.segments
    mask &= segments[:, :, None] == segments[:, None, :]
  if structure.branches is not None:
    of_key, of_query = structure.branches, structure.branches[:, None]
    mask &= (of_key == 0) | (of_key == of_query)
  if window:
    mask &= _near(_places(structure), window)
  mask |= slots == queries
  return Plan(mask, cap, scalar, _places(structure) if mixed else None)


def _places(structure):
  """Positions of queries [B, T] and keys [B, S] in their texts."""
  of_query, is_key = structure.positions, structure.is_key
  if structure.key_positions is not None:
    return of_query, structure.key_positions
  is_same = of_query.shape == is_key.shape
  return of_query, of_query if is_same else positions_of(is_key)


def _near(places, window):
  of_query, of_key = places
  return of_query[:, :, None] - of_key[:, None, :] < window


def attend(q: jax.Array, k: jax.Array, v: jax.Array, plan_: Plan) -> jax.Array:
  """Attention of q [B, G, M, T, E] over k, v [B, G, S, E] -> like q.

  Scores and their softmax are float32 whatever the dtype of q.
  """
  B, G, M, T, E = q.shape
  mask = plan_.mask
  if M > 1:
    mask = jnp.tile(mask, (1, M, 1))
  q = q.reshape(B, G, M * T, E) * (plan_.scalar or E) ** -0.5
  out = _attend(q, k, v, mask, plan_.cap)
  return out.reshape(B, G, M, T, E)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, mask, cap):
  return _attend_forward(q, k, v, mask, cap)[0]


def _attend_forward(q, k, v, mask, cap):
  # Dividing by the softmax's sum last leaves fewer passes over [T, S].
  scores = _matmul("bgte,bgse->bgts", q, k)
  slope = None
  if cap:
    scores = jnp.tanh(scores / cap)
    slope = 1 - scores * scores
    scores *= cap
  scores = jnp.where(mask[:, None], scores, MASKED)
  weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
  total = weights.sum(axis=-1, keepdims=True)
  weights = weights.astype(v.dtype)
  out = _matmul("bgts,bgse->bgte", weights, v) / total
  out = out.astype(q.dtype)
  return out, (q, k, v, weights, total, out, slope)


def _attend_backward(cap, saved, g):
  """A quarter faster than what is derived on a CPU: the mask and the maximum
  play no part, and `weights` is read once."""
  del cap  # Its slope is saved.
  q, k, v, weights, total, out, slope = saved
  g = g / total
  inner = (g * out).sum(axis=-1, keepdims=True)
  g = g.astype(v.dtype)
  scores = weights * (_matmul("bgte,bgse->bgts", g, v) - inner)
  if slope is not None:
    scores *= slope
  scores = scores.astype(k.dtype)
  d_q = _matmul("bgts,bgse->bgte", scores, k).astype(q.dtype)
  d_k = _matmul("bgts,bgte->bgse", scores, q).astype(k.dtype)
  d_v = _matmul("bgts,bgte->bgse", weights, g).astype(v.dtype)
  return d_q, d_k, d_v, None


_attend.defvjp(_attend_forward, _attend_backward)
_matmul = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


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
