"""Optimizers, one for each role, and their learning-rate schedules.

Every role (policy, value, reward) has a section of the config:

    name           'adam', 'adamw' or 'muon'
    learning_rate  the peak
    b1, b2, eps    Adam's
    weight_decay   per unit of learning rate; 0 with 'adam'
    clip_norm      gradients are clipped to this global norm; 0 turns it off
    schedule       'constant' or 'cosine', after the warm-up
    warmup_steps   steps of the loop (iterations) until the peak is reached
    warmup_from    the fraction of the peak that the first step has
    final_fraction the fraction of the peak that a cosine ends at
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from instruct_jax.base import errors
from instruct_jax.training import muon

Schedule = Callable[[int | jax.Array], jax.Array]


def _constant(peak: float, steps: int, final_fraction: float) -> optax.Schedule:
  del steps, final_fraction
  return optax.constant_schedule(peak)


def _cosine(peak: float, steps: int, final_fraction: float) -> optax.Schedule:
  return optax.cosine_decay_schedule(peak, steps, final_fraction)


SCHEDULES = {"constant": _constant, "cosine": _cosine}


def learning_rate(
  section: ml_collections.ConfigDict,
  *,
  total_steps: int,
  updates_per_step: int = 1,
) -> Schedule:
  """Returns the learning rate as a float32 function of the update's number.

  One step of the loop makes `updates_per_step` updates (PPO's minibatches),
  all at one learning rate: warm-up is per iteration (README, detail 15). By
  steps, it is linear from `warmup_from` of the peak at step 0 to the peak at
  step `warmup_steps`; then constant, or half a cosine that reaches
  `final_fraction` of the peak at `total_steps`.
  """
  peak, warmup = section.learning_rate, section.warmup_steps
  by_step = optax.join_schedules(
    [
      optax.linear_schedule(section.warmup_from * peak, peak, warmup),
      SCHEDULES[section.schedule](
        peak, max(total_steps - warmup, 1), section.final_fraction
      ),
    ],
    [warmup],
  )

  def schedule(count: int | jax.Array) -> jax.Array:
    step = jnp.asarray(count, jnp.int32) // updates_per_step
    return jnp.asarray(by_step(step.astype(jnp.float32)), jnp.float32)

  return schedule


def is_clock(state: Any) -> bool:
  """Whether it is the state that `clock` reads."""
  return isinstance(state, optax.ScaleByScheduleState)


def clock(state: optax.OptState) -> jax.Array:
  """[] int32: where an optimizer of `make` stands in its schedule.

  It counts the updates that were tried, the skipped ones too; the next one is
  made at this place.
  """
  leaves = jax.tree.leaves(state, is_leaf=is_clock)
  return next(leaf.count for leaf in leaves if is_clock(leaf))


def with_clocks_of(state: Any, other: Any) -> Any:
  """Optimizers' states, but the clocks are those of others of their shape."""
  return jax.tree.map(
    lambda mine, its: its if is_clock(its) else mine,
    state,
    other,
    is_leaf=is_clock,
  )


def _path(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def decays(params: Any) -> Any:
  """True for kernels, adapters and embeddings; not for biases and scales.

  By name, because a stacked bias has two axes as well.
  """
  matrix = re.compile(r"(^|/)(kernel|lora_[ab]|embedding)$")
  return jax.tree_util.tree_map_with_path(
    lambda path, _: bool(matrix.search(_path(path))), params
  )


def _muon_labels(params: Any) -> Any:
  """'muon' for the kernels of the decoder's blocks, 'adam' for all else.

  These are `block_0/...` [in, out], or `blocks/...` [N, in, out], whose layers
  are then updated one by one.
  """
  stacked = re.compile(r"(^|/)blocks/.*kernel$")
  single = re.compile(r"(^|/)block_\d+/.*kernel$")

  def label(path: tuple, x: jax.Array) -> str:
    name = _path(path)
    layer_axes = int(bool(stacked.search(name)))
    if not layer_axes and not single.search(name):
      return "adam"
    if x.ndim != 2 + layer_axes:
      raise ValueError(f"Muon expects 2-D kernels, got {name}: {x.shape}.")
    return "muon"

  return jax.tree_util.tree_map_with_path(label, params)


def _adam(
  section: ml_collections.ConfigDict, rate: Schedule
) -> optax.GradientTransformation:
  return optax.adam(rate, b1=section.b1, b2=section.b2, eps=section.eps)


def _adamw(
  section: ml_collections.ConfigDict, rate: Schedule
) -> optax.GradientTransformation:
  return optax.adamw(
    rate,
    b1=section.b1,
    b2=section.b2,
    eps=section.eps,
    weight_decay=section.weight_decay,
    mask=decays,
  )


def _muon(
  section: ml_collections.ConfigDict, rate: Schedule
) -> optax.GradientTransformation:
  """Muon (Jordan et al. 2024) for the blocks' kernels, Adam for the rest.

  Momentum 0.95 and Nesterov steps, which the Adam part takes as well; weight
  decay for the kernels under Muon alone.
  """
  return optax.partition(
    {
      "muon": optax.chain(
        muon.scale_by_muon(section.eps),
        optax.identity(),  # where `contrib.muon` has its scale: one state
        optax.add_decayed_weights(section.weight_decay),
        optax.scale_by_learning_rate(rate),
      ),
      "adam": optax.adamw(
        rate,
        b1=section.b1,
        b2=section.b2,
        eps=section.eps,
        weight_decay=0.0,
        nesterov=True,
      ),
    },
    _muon_labels,
  )


OPTIMIZERS = {"adam": _adam, "adamw": _adamw, "muon": _muon}


def check(section: ml_collections.ConfigDict, key: str) -> None:
  """UserError where the section that `key` names is no optimizer's.

  What each value may be by itself stands in `base.ranges`.
  """
  for name, known in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
    if section[name] not in known:
      raise errors.unknown(f"{key}.{name}", section[name], known)
  if section.name == "adam" and section.weight_decay:
    raise errors.UserError(
      f"{key}.weight_decay={section.weight_decay}: 'adam' has no weight decay;"
      f" give {key}.name=adamw, or 0"
    )


def make(
  section: ml_collections.ConfigDict,
  *,
  total_steps: int,
  updates_per_step: int = 1,
) -> optax.GradientTransformation:
  """Returns one role's optimizer: clip by global norm, then the optimizer.

  The clip sees this role's gradients alone, after all its terms are
  accumulated (README, detail 15). See `learning_rate` for the schedule.
  The section is as `check` wants it.
  """
  rate = learning_rate(
    section, total_steps=total_steps, updates_per_step=updates_per_step
  )
  clip = optax.identity()
  if section.clip_norm:
    clip = optax.clip_by_global_norm(section.clip_norm)
  return optax.chain(clip, OPTIMIZERS[section.name](section, rate))
