"""Sampling: prefill once, then decode in a loop on the device.

Axes: B rows, P prompt (left-padded), R response, S = P + R cache slots, V
vocabulary. The draw that picks a token depends on the key, the row's episode
id and the token's place in its response alone: not on the rows beside it, nor
on their number, their order, the padding, the devices or `max_tokens`. Callers
choose the ids: two rows with one id make the same draws.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp

from instruct_jax.base import errors
from instruct_jax.models import attention, heads

# (tokens [B], the number chosen by now, cache) -> (logits [B, V], cache)
Step = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to choose tokens, and when to stop."""

  max_tokens: int  # R
  stop_ids: tuple[int, ...]  # each of them ends a response
  pad_id: int  # fills what follows the end; is never chosen
  temperature: float = 1.0  # 0 takes the likeliest token
  top_k: int = 0  # only the k likeliest; 0 is all of them
  top_p: float = 1.0  # only the likeliest that together reach p
  # Rows decoded at a time, 0 for all; changes no sample. On a CPU 64 is half
  # as fast again as 512, because so small a cache stays in the processor's.
  rows: int = 0

  def __post_init__(self):
    for good, what in (
      (self.max_tokens >= 1, "max_tokens must be at least 1"),
      (self.temperature >= 0, "temperature must not be negative"),
      (self.top_k >= 0, "top_k must not be negative"),
      (0 < self.top_p <= 1, "top_p must be in (0, 1]"),
      (self.rows >= 0, "rows must not be negative"),
      (self.pad_id not in self.stop_ids, "pad_id must not be a stop token"),
    ):
      if not good:
        raise errors.UserError(f"sampling: {what}; got {self}.")


@flax.struct.dataclass
class Generation:
  """Responses, one a row."""

  tokens: jax.Array  # [B, R] int32, padded after the end
  is_response: jax.Array  # [B, R] bool, True up to the end token, with it
  ended: jax.Array  # [B] bool, False where max_tokens cut the response off
  stop_ids: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())

  @property
  def judged(self) -> jax.Array:
    """The tokens as judges and reward models see them: with one end token.

    The first of the stop tokens, which training ends a response with, stands
    for whichever was sampled.
    """
    if not self.stop_ids:
      return self.tokens
    stop = is_stop(self.tokens, self.stop_ids)
    return jnp.where(stop, self.stop_ids[0], self.tokens)


@flax.struct.dataclass
class DecodeState:
  """What the loop carries. `count` tokens are chosen in every row."""

  count: jax.Array  # [] int32
  generation: Generation
  cache: Any  # the step's own: a attention.Cache

  @property
  def is_running(self) -> jax.Array:
    """[] bool: there is room, and a row that has not ended."""
    room = self.count < self.generation.tokens.shape[1]
    return room & ~self.generation.ended.all()

  @property
  def last_tokens(self) -> jax.Array:
    """[B] the newest token of each row."""
    return jax.lax.dynamic_index_in_dim(
      self.generation.tokens, self.count - 1, axis=1, keepdims=False
    )


def generate(
  model: heads.LanguageModel,
  params: dict,
  prompt: jax.Array,
  is_prompt: jax.Array,
  episodes: jax.Array,
  key: jax.Array,
  sampling: Sampling,
) -> Generation:
  """One response to each prompt [B, P]; one program, whatever the temperature.

  `params` is the model's tree; `episodes` [B] int32 are the ids that the rows'
  draws come from (see `draws`).
  """
  chex.assert_equal_shape([prompt, is_prompt])
  chex.assert_shape(episodes, prompt.shape[:1])
  temperature = sampling.temperature
  if temperature:
    sampling = dataclasses.replace(sampling, temperature=1.0)
  return _generate(
    model,
    sampling,
    params,
    key,
    jnp.float32(temperature),
    prompt,
    is_prompt,
    episodes,
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
  model, sampling, params, key, temperature, prompt, is_prompt, episodes
):
  B = prompt.shape[0]
  respond = functools.partial(
    _respond, model, sampling, params, key, temperature
  )
  if not 0 < sampling.rows < B:
    return respond(prompt, is_prompt, episodes)
  count = -(-B // sampling.rows)  # parts; the last rows are repeated to fit

  def split(x):  # Every part has rows of every device.
    x = x[jnp.minimum(jnp.arange(count * sampling.rows), B - 1)]
    return x.reshape(sampling.rows, count, *x.shape[1:]).swapaxes(0, 1)

  parts = jax.lax.map(
    lambda rows: respond(*rows),
    tuple(map(split, (prompt, is_prompt, episodes))),
  )
  return jax.tree.map(
    lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:B], parts
  )


def _respond(
  model, sampling, params, key, temperature, prompt, is_prompt, episodes
):
  """Prefill and decode of some rows."""
  logits, cache = prefill(
    model, params, prompt, is_prompt, slots=sampling.max_tokens
  )
  P = prompt.shape[1]
  is_token = jnp.pad(
    is_prompt, ((0, 0), (0, sampling.max_tokens)), constant_values=True
  )
  lengths = is_prompt.sum(axis=1, dtype=jnp.int32)

  def step(tokens, count, cache):
    structure = attention.following(
      is_token, (lengths + count - 1)[:, None], P + count - 1
    )
    logits, cache = model.apply(
      {"params": params}, tokens[:, None], structure, cache
    )
    return logits[:, 0], cache

  return decode(
    step, logits, cache, episodes, key, sampling, temperature=temperature
  ).generation


def prefill(
  model: heads.LanguageModel,
  params: dict,
  prompt: jax.Array,
  is_prompt: jax.Array,
  *,
  slots: int = 0,
) -> tuple[jax.Array, attention.Cache]:
  """The logits [B, V] after each prompt, and its cache with `slots` more."""
  empty = attention.empty_cache(model.config, *prompt.shape)
  logits, cache = model.apply(
    {"params": params},
    prompt,
    attention.padded(is_prompt),
    empty,
    at=(-1, None),
  )
  # pyrefly: ignore[missing-attribute]  # linen says nothing of a cache
  return logits[:, 0], cache.grown(slots)


def decode(
  step: Step,
  logits: jax.Array,
  cache: Any,
  episodes: jax.Array,
  key: jax.Array,
  sampling: Sampling,
  *,
  temperature: jax.Array,
) -> DecodeState:
  """Chooses tokens until every row has ended or is full: the last state.

  `step` reads the newest token of each row; `logits` are those before the
  first token, `episodes` [B] the ids of the rows.
  """
  shape = (logits.shape[0], sampling.max_tokens)

  def extend(generation, count, logits):
    uniforms = draws(key, episodes, count)
    tokens = choose(logits, uniforms, sampling, temperature=temperature)
    return _append(generation, count, tokens, sampling)

  def body(state):
    logits, cache = step(state.last_tokens, state.count, state.cache)
    return DecodeState(
      count=state.count + 1,
      generation=extend(state.generation, state.count, logits),
      cache=cache,
    )

  empty = Generation(
    tokens=jnp.full(shape, sampling.pad_id, jnp.int32),
    is_response=jnp.zeros(shape, bool),
    ended=jnp.zeros(shape[:1], bool),
    stop_ids=sampling.stop_ids,
  )
  first = DecodeState(jnp.int32(1), extend(empty, jnp.int32(0), logits), cache)
  return jax.lax.while_loop(lambda state: state.is_running, body, first)


def draws(
  key: jax.Array, episodes: jax.Array, position: jax.Array | int
) -> jax.Array:
  """Draws [B] of [0, 1) for the response tokens at `position` (from 0)."""

  def draw(episode):
    token_key = jax.random.fold_in(jax.random.fold_in(key, episode), position)
    return jax.random.uniform(token_key)

  return jax.vmap(draw)(episodes)


def _append(generation, count, tokens, sampling) -> Generation:
  """The generation with the next token of the rows that have not ended."""
  running = ~generation.ended
  tokens = jnp.where(running, tokens, sampling.pad_id)
  put = functools.partial(
    jax.lax.dynamic_update_index_in_dim, index=count, axis=1
  )
  return generation.replace(
    tokens=put(generation.tokens, tokens),
    is_response=put(generation.is_response, running),
    ended=generation.ended | is_stop(tokens, sampling.stop_ids),
  )


def choose(
  logits: jax.Array,
  uniforms: jax.Array,
  sampling: Sampling,
  *,
  temperature: jax.Array | float,
) -> jax.Array:
  """The next tokens [B] int32, from logits [B, V] and a draw of [0, 1) each.

  Temperature first, then top-k, then top-p; tokens that tie with the last one
  kept are kept.
  """
  logits = logits.astype(jnp.float32).at[:, sampling.pad_id].set(-jnp.inf)
  if sampling.temperature == 0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits /= temperature
  if 0 < sampling.top_k < logits.shape[-1]:
    least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
  if sampling.top_p < 1:
    weights = _nucleus(weights, sampling.top_p)
  return invert_cdf(weights, uniforms)


def _nucleus(weights: jax.Array, top_p: float) -> jax.Array:
  """Zero for all but the largest weights [B, V] that reach `top_p` of all."""
  down = -jnp.sort(-weights, axis=-1)
  total = jnp.cumsum(down, axis=-1)
  needed = total - down < top_p * total[:, -1:]
  least = jnp.where(needed, down, jnp.inf).min(axis=-1, keepdims=True)
  return jnp.where(weights < least, 0.0, weights)


def invert_cdf(weights: jax.Array, uniforms: jax.Array) -> jax.Array:
  """Draws an index [B] int32 in proportion to weights [B, V] >= 0.

  `uniforms` [B] in [0, 1) picks a block of about sqrt(V) indices first, then
  an index in it: one random number a row and two short cumulative sums,
  where Gumbel noise takes V random numbers. A weight of 0 is never drawn.
  """
  B, V = weights.shape
  size = int(V**0.5) or 1
  blocks = jnp.pad(weights, ((0, 0), (0, -V % size))).reshape(B, -1, size)
  sums = blocks.sum(axis=-1)
  target = uniforms * sums.sum(axis=-1)
  block, target = _first_above(sums, target)
  inner = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  index, _ = _first_above(inner, target)
  return (block * size + index).astype(jnp.int32)


def _first_above(weights, target):
  """The first index whose cumulative weight passes target [B], and the rest.

  Rounding may leave none: then the last index with a weight.
  """
  total = jnp.cumsum(weights, axis=-1)
  positive = weights > 0
  hit = positive & (total > target[:, None])
  last = weights.shape[-1] - 1 - jnp.argmax(positive[:, ::-1], axis=-1)
  index = jnp.where(hit.any(axis=-1), jnp.argmax(hit, axis=-1), last)
  before = jnp.take_along_axis(total - weights, index[:, None], axis=-1)[:, 0]
  return index, target - before


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
  """Where `tokens` are any of `stop_ids`: bool, the shape of `tokens`."""
  return jnp.isin(tokens, jnp.asarray(stop_ids, jnp.int32))
