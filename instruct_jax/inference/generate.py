"""choice.Sampling: prefill once, then decode in a loop on the device.

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
import numpy as np

from instruct_jax.inference import choice
from instruct_jax.models import attention, heads

# (tokens [B], the number chosen by now, cache) -> (logits [B, V], cache)
Step = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


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
  sampling: choice.Sampling,
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
    jax.device_put(np.float32(temperature)),
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
  step = stepper(model, params, is_prompt, sampling)
  return decode(
    step, logits, cache, episodes, key, sampling, temperature=temperature
  ).generation


def stepper(
  model: heads.LanguageModel,
  params: dict,
  is_prompt: jax.Array,
  sampling: choice.Sampling,
) -> Step:
  """Reads the newest tokens after prompts that `prefill` has read."""
  P = is_prompt.shape[1]
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

  return step


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
  sampling: choice.Sampling,
  *,
  temperature: jax.Array,
) -> DecodeState:
  """Chooses tokens until every row has ended or is full: the last state.

  `step` reads the newest token of each row; `logits` are those before the
  first token, `episodes` [B] the ids of the rows.
  """
  return jax.lax.while_loop(
    lambda state: state.is_running,
    chooser(step, episodes, key, sampling, temperature=temperature),
    first(logits, cache, episodes, key, sampling, temperature=temperature),
  )


def first(
  logits: jax.Array,
  cache: Any,
  episodes: jax.Array,
  key: jax.Array,
  sampling: choice.Sampling,
  *,
  temperature: jax.Array,
) -> DecodeState:
  """The state after the first token of each row."""
  shape = (logits.shape[0], sampling.max_tokens)
  empty = Generation(
    tokens=jnp.full(shape, sampling.pad_id, jnp.int32),
    is_response=jnp.zeros(shape, bool),
    ended=jnp.zeros(shape[:1], bool),
    stop_ids=sampling.stop_ids,
  )
  count = jnp.int32(0)
  uniforms = draws(key, episodes, count)
  generation = _appended(empty, count, logits, uniforms, sampling, temperature)
  return DecodeState(count + 1, generation, cache)


def chooser(
  step: Step,
  episodes: jax.Array,
  key: jax.Array,
  sampling: choice.Sampling,
  *,
  temperature: jax.Array,
) -> Callable[[DecodeState], DecodeState]:
  """What makes of a state that of one token more in each row."""

  def body(state):
    logits, cache = step(state.last_tokens, state.count, state.cache)
    uniforms = draws(key, episodes, state.count)
    generation = _appended(
      state.generation, state.count, logits, uniforms, sampling, temperature
    )
    return DecodeState(state.count + 1, generation, cache)

  return body


def draws(
  key: jax.Array, episodes: jax.Array, position: jax.Array | int
) -> jax.Array:
  """Draws [B] of [0, 1) for the response tokens at `position` (from 0)."""

  def draw(episode):
    token_key = jax.random.fold_in(jax.random.fold_in(key, episode), position)
    return jax.random.uniform(token_key)

  return jax.vmap(draw)(episodes)


def _appended(
  generation, count, logits, uniforms, sampling, temperature
) -> Generation:
  """The generation with the next token of the rows that have not ended."""
  running = ~generation.ended
  tokens = choice.choose(logits, uniforms, sampling, temperature=temperature)
  tokens = jnp.where(running, tokens, sampling.pad_id)
  put = functools.partial(
    jax.lax.dynamic_update_index_in_dim, index=count, axis=1
  )
  return generation.replace(
    tokens=put(generation.tokens, tokens),
    is_response=put(generation.is_response, running),
    ended=generation.ended | is_stop(tokens, sampling.stop_ids),
  )


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
  """Where `tokens` are any of `stop_ids`: bool, the shape of `tokens`."""
  return jnp.isin(tokens, jnp.asarray(stop_ids, jnp.int32))
