"""Responses while they grow: the tokens of `generate`, for who looks on.

What `generate` does stops after some tokens and goes on from there; its slots
stay on the devices. Neither the draws nor what is computed for a token depends
on where it stops.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from instruct_jax.inference import choice, generate
from instruct_jax.models import heads


class Growing:
  """Responses of which the first token is chosen, and more with `grow`."""

  def __init__(
    self,
    model: heads.LanguageModel,
    params: dict,
    prompt: jax.Array,
    is_prompt: jax.Array,
    episodes: jax.Array,
    key: jax.Array,
    sampling: choice.Sampling,
    *,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """What is given is as for `generate`; each prompt has a slot."""
    temperature = jnp.float32(sampling.temperature)
    sampling = generate.shared(dataclasses.replace(sampling, slots=0))
    queue = generate.queue_of(
      prompt, is_prompt, episodes, None, sampling=sampling
    )
    self._static = model, sampling, mesh
    self._given = params, key, temperature, queue
    self._slots = _begun(*self._static, queue)
    self.grow(0)

  @property
  def generation(self) -> generate.Generation:
    """What is chosen by now."""
    return _said(self._slots, *self._static[1:])

  @property
  def is_running(self) -> bool:
    """Whether there is more to choose."""
    return bool(_is_running(self._slots))

  def grow(self, tokens: int) -> None:
    """Chooses so many tokens more, fewer where every row ends before."""
    more = jnp.int32(tokens)
    self._slots = _grown(*self._static, *self._given, self._slots, more)


_begun = functools.partial(jax.jit, static_argnums=(0, 1, 2))(generate.begin)
_grown = functools.partial(
  jax.jit, static_argnums=(0, 1, 2), donate_argnames=("state",)
)(generate.advance)
_said = functools.partial(jax.jit, static_argnums=(1, 2))(generate.said)
_is_running = jax.jit(lambda slots: slots.is_running.any())
