"""Responses while they grow: the tokens of `generate`, for who looks on.

The loop of `generate` stops after some tokens and goes on from there; its cache
stays on the devices. Neither the draws nor what is computed for a token depends
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
  ):
    """What is given is as for `generate`."""
    temperature = jnp.float32(sampling.temperature)
    sampling = dataclasses.replace(sampling, rows=0)
    if sampling.temperature:  # one program for all of them
      sampling = dataclasses.replace(sampling, temperature=1.0)
    self._static = model, sampling
    self._given = params, key, temperature, is_prompt, episodes
    self._state = _begun(*self._static, *self._given, prompt)

  @property
  def generation(self) -> generate.Generation:
    """What is chosen by now."""
    return self._state.generation

  @property
  def is_running(self) -> bool:
    """Whether there is more to choose."""
    return bool(self._state.is_running)

  def grow(self, tokens: int) -> None:
    """Chooses so many tokens more, fewer where every row ends before."""
    more = jnp.int32(tokens)
    self._state = _grown(*self._static, *self._given, self._state, more)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begun(
  model, sampling, params, key, temperature, is_prompt, episodes, prompt
):
  logits, cache = generate.prefill(
    model, params, prompt, is_prompt, slots=sampling.max_tokens
  )
  return generate.first(
    logits, cache, episodes, key, sampling, temperature=temperature
  )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnames=("state",))
def _grown(
  model, sampling, params, key, temperature, is_prompt, episodes, state, more
):
  step = generate.stepper(model, params, is_prompt, sampling)
  until = state.count + more
  return jax.lax.while_loop(
    lambda state: state.is_running & (state.count < until),
    generate.chooser(step, episodes, key, sampling, temperature=temperature),
    state,
  )
