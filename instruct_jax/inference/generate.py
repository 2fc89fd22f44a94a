"""Sampling: prompts are read, and answered in slots, in one device program.

Axes: N prompts, P their width (left-padded), R response, B slots, S = P + R
cache columns, V vocabulary. The draw that picks a token depends on the key, the
prompt's episode id and the token's place in its response alone: not on the
prompts beside it, nor on their number, their order, the slots, the padding, the
devices or `max_tokens`. Callers choose the ids: two rows with one id make the
same draws.
"""

import dataclasses
import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.base import memory
from instruct_jax.inference import choice, slots
from instruct_jax.models import attention, config, heads, turned
from instruct_jax.parallel import sharding, slices


@flax.struct.dataclass
class Generation:
  """Responses, one a row."""

  tokens: jax.Array  # [N, R] int32, padded after the end
  is_response: jax.Array  # [N, R] bool, True up to the end token, with it
  ended: jax.Array  # [N] bool, False where max_tokens cut the response off
  stop_ids: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())

  @property
  def judged(self) -> jax.Array | np.ndarray:
    """The tokens as judges and reward models see them: with one end token.

    The first of the stop tokens, which training ends a response with, stands
    for whichever was sampled.
    """
    if not self.stop_ids:
      return self.tokens
    # Of what is on the host no program is made, a new one for each length.
    numbers = np if isinstance(self.tokens, np.ndarray) else jnp
    stops = np.asarray(self.stop_ids, np.int32)
    is_stop = numbers.isin(self.tokens, stops)
    return numbers.where(is_stop, stops[0], self.tokens)


def generate(
  model: heads.LanguageModel,
  params: dict,
  prompt: jax.Array,
  is_prompt: jax.Array,
  episodes: jax.Array,
  key: jax.Array,
  sampling: choice.Sampling,
  *,
  limits: jax.Array | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> Generation:
  """One response to each prompt [N, P]; one program, whatever the temperature.

  `params` is the model's tree; `episodes` [N] int32 are the ids that the rows'
  draws come from (see `choice.draws`). A response has `limits` [N] tokens at
  most, unless given `max_tokens`; where that is 0 the row only fills up, and
  costs nothing. On a `mesh` every device has slots of its own.
  """
  chex.assert_equal_shape([prompt, is_prompt])
  chex.assert_shape(episodes, prompt.shape[:1])
  few = usual_slots(len(prompt), sampling.slots)
  return _generate(
    model,
    shared(dataclasses.replace(sampling, slots=few)),
    mesh,
    params,
    key,
    jax.device_put(np.float32(sampling.temperature)),
    (prompt, is_prompt, episodes, limits),
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(model, sampling, mesh, params, key, temperature, asked):
  queue = queue_of(*asked, sampling=sampling)
  started = begin(model, sampling, mesh, queue)
  done = advance(
    *(model, sampling, mesh, params, key, temperature, queue, started, None),
    is_long=True,
  )
  return said(done, sampling, mesh)


def shared(sampling: choice.Sampling) -> choice.Sampling:
  """What a program is compiled for: all temperatures share one."""
  return dataclasses.replace(sampling, temperature=1.0)


def usual_slots(prompts: int, most: int) -> int:
  """How many responses grow at a time, 0 for all; `most` bounds it if not 0.

  On a CPU an eighth of the prompts, 16 to 64. More slots cost more a step,
  also in the end, when the last responses grow alone; fewer leave its matrix
  products too small (measured with 64 and 512 prompts).
  """
  if sharding.platform() != "cpu":
    return most
  few = min(64, max(16, prompts // 8))
  return min(few, most) if most else few


def fitting_slots(
  model: config.DecoderConfig,
  tokens: int,
  mesh: jax.sharding.Mesh,
  *,
  besides: float = 0,
) -> int:
  """As many slots of so many tokens as a quarter of the memory holds, without
  so many bytes of a device besides; a fifth of a GPU's.

  While prompts are read the slots are there almost four times over, as plans
  for GPUs say (more often than on TPUs), beside what is trained.
  At least one of a device with rows of its own, and at most DEVICE_SLOTS.
  """
  numbers = 2 * model.layers * model.kv_heads * model.head_size * tokens
  size = numbers * jnp.dtype(model.dtype).itemsize / mesh.shape["tensor"]
  parts = 5 if sharding.platform() == "gpu" else 4
  there = memory.of_device(mesh.local_devices[0])
  fit = int((there - besides) / parts / size)
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  return max(1, min(fit, DEVICE_SLOTS)) * ways


DEVICE_SLOTS = 256  # of a device at most


def queue_of(
  prompt: jax.Array,
  is_prompt: jax.Array,
  episodes: jax.Array,
  limits: jax.Array | None,
  *,
  sampling: choice.Sampling,
) -> slots.Queue:
  """What is asked, as `generate` is given it."""
  if limits is None:
    limits = jnp.full(len(prompt), sampling.max_tokens, jnp.int32)
  return slots.Queue(prompt, is_prompt, episodes, limits)


def begin(
  model: heads.LanguageModel,
  sampling: choice.Sampling,
  mesh: jax.sharding.Mesh | None,
  queue: slots.Queue,
) -> slots.Slots:
  """Slots for the prompts, of nobody yet."""
  shape = _shape(sampling, mesh, queue)
  network = reader(model, {}, *_sizes(queue, sampling), shape)
  return slots.begin(network, queue, shape)


def advance(
  model: heads.LanguageModel,
  sampling: choice.Sampling,
  mesh: jax.sharding.Mesh | None,
  params: dict,
  key: jax.Array,
  temperature: jax.Array,
  queue: slots.Queue,
  state: slots.Slots,
  steps: jax.Array | None,
  *,
  is_long: bool = False,
) -> slots.Slots:
  """At most so many steps more, None: all; see `slots.advance`.

  Where they are many (`is_long`), kernels are turned for them if that helps.
  """
  shape = _shape(sampling, mesh, queue)
  network = reader(
    model, params, *_sizes(queue, sampling), shape, is_long=is_long
  )
  return slots.advance(
    network,
    shape.whole(queue),
    state,
    shape,
    sampling,
    key,
    temperature=temperature,
    steps=steps,
  )


def said(
  state: slots.Slots,
  sampling: choice.Sampling,
  mesh: jax.sharding.Mesh | None,
) -> Generation:
  """What has been said by now."""
  N, R = state.said.shape
  is_response = jnp.arange(R) < state.said_count[:, None]
  generation = Generation(
    tokens=jnp.where(is_response, state.said, sampling.pad_id),
    is_response=is_response,
    ended=state.said_ended,
    stop_ids=sampling.stop_ids,
  )
  shape = slots.shape_of(N, sampling.slots, R, mesh)
  return generation if N % shape.groups else shape.rows(generation)


def _shape(sampling, mesh, queue):
  N = len(queue.limits)
  return slots.shape_of(N, sampling.slots, sampling.max_tokens, mesh)


def _sizes(queue, sampling):
  P = queue.prompt.shape[1]
  return P, P + sampling.max_tokens


def reader(
  model: heads.LanguageModel,
  params: dict,
  P: int,
  S: int,
  shape: slots.Shape,
  *,
  is_long: bool = False,
) -> slots.Network:
  """The model, for slots of S columns and prompts of P."""
  of_steps = params
  if is_long and turned.helps_layers(model.config, shape.slots // shape.groups):
    of_steps = turned.layers(params)

  def empty():
    return shape.cache(attention.empty_cache(model.config, shape.slots, S))

  def read(prompt, is_prompt):
    return prefill(model, params, prompt, is_prompt)

  def placed(cache, read, time, put):
    return cache.with_rows(read.rolled(S, time - P), put)

  def step(tokens, positions, time, cache):
    structure = attention.around(positions, time, S)
    logits, cache = model.apply(
      {"params": of_steps}, tokens[:, None], structure, cache
    )
    return logits[:, 0], cache

  return slots.Network(empty, read, placed, step)


# Prompts are read in so many chunks of columns at most, of so many at least.
CHUNKS, CHUNK = 8, 16


def prefill(
  model: heads.LanguageModel,
  params: dict,
  prompt: jax.Array,
  is_prompt: jax.Array,
) -> tuple[jax.Array, attention.Cache]:
  """The logits [B, V] after each prompt [B, P], and its cache of P columns.

  Read in chunks of columns; those before the longest prompt are left out.
  """
  c, (B, P) = model.config, prompt.shape
  width = max(min(CHUNK, P), -(-P // CHUNKS))
  chunks = -(-P // width)
  pad = ((0, 0), (chunks * width - P, 0))
  prompt, is_prompt = jnp.pad(prompt, pad), jnp.pad(is_prompt, pad)
  positions = attention.positions_of(is_prompt)

  def chunk(n, carry):
    first = n * width
    tokens, places = (
      jax.lax.dynamic_slice_in_dim(x, first, width, 1)
      for x in (prompt, positions)
    )
    hidden, cache = model.apply(
      {"params": params},
      tokens,
      attention.following(is_prompt, places, first),
      carry[1],
      at=(-1, None),
      method="hidden",
    )
    return hidden[:, 0], cache

  empty = attention.empty_cache(c, *prompt.shape)
  if chunks == 1:
    hidden, cache = chunk(0, (None, empty))
  else:
    hidden = jnp.zeros((B, c.width), c.dtype)
    longest = is_prompt.sum(axis=1, dtype=jnp.int32).max()
    begun = jnp.minimum(chunks - -(-longest // width), chunks - 1)
    hidden, cache = slices.loop(
      *(chunks, chunk, (hidden, empty)), most=chunks, first=begun
    )
  logits = model.apply({"params": params}, hidden, method="logits")
  # pyrefly: ignore[missing-attribute, bad-return]  # of what linen returns
  return logits, cache.last(P)
