"""One role's update: new parameters, moments and average, or the old ones.

`optim.make` is optax: one transformation after the other, each a new tree. An
array of parameters is then read and written some twenty times an update, half
of them because what one transformation makes is copied before the next reads
what was there. Adam's are written here as one expression an array: clipped,
moved, averaged, and kept as they were where something was not finite. On a CPU
that is four times faster.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from instruct_jax.parallel import sharding
from instruct_jax.training import optim

Tree = Any


@flax.struct.dataclass
class Role:
  """What an update takes over of a role."""

  params: Tree
  optimizer: optax.OptState
  ema: Tree | None = None  # the average of the parameters, where one is kept


def updated(
  section: ConfigDict,
  rate: optim.Schedule,
  optimizer: optax.GradientTransformation,
  role: Role,
  grads: Tree,
  *,
  is_finite: jax.Array,
  decay: float = 0.0,
) -> Role:
  """The role after one update with gradients that `is_finite` [] judges.

  `optimizer` and `rate` are those of `section`; `decay` is the average's. Where
  it is False all stays as it was but the clock of the learning rate, which goes
  by the steps of the loop (README, detail 15).
  """
  if section.name in ("adam", "adamw"):
    return _adam(section, rate, role, grads, is_finite, decay)
  return _plain(optimizer, role, grads, is_finite, decay)


def chosen(condition: jax.Array, new: Tree, old: Tree) -> Tree:
  """The one tree, or the other."""
  return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _plain(optimizer, role, grads, is_finite, decay):
  """By optax, one transformation after the other."""
  updates, state = optimizer.update(grads, role.optimizer, role.params)
  params = optax.apply_updates(role.params, updates)
  ema = role.ema
  if ema is not None:
    ema = optax.incremental_update(params, ema, 1 - decay)
  state = optim.with_clocks_of(chosen(is_finite, state, role.optimizer), state)
  return Role(
    params=chosen(is_finite, params, role.params),
    optimizer=state,
    ema=chosen(is_finite, ema, role.ema),
  )


def _adam(section, rate, role, grads, is_finite, decay):
  """By `_one`, for each array in turn."""
  moments = _moments_of(role.optimizer)
  count = optax.safe_increment(moments.count)
  trees = [role.params, moments.mu, moments.nu]
  trees += [] if role.ema is None else [role.ema]
  structure = jax.tree.structure(role.params)
  is_decayed = jax.tree.leaves(optim.decays(role.params))
  numbers = {
    "factor": _clip(grads, section.clip_norm),
    "rate": rate(optim.clock(role.optimizer)),
    "corrections": (1 - section.b1**count, 1 - section.b2**count),
  }

  def update(kept, grads, old, numbers):
    one = _one(section, kept=kept, decay=decay, **numbers)
    return list(zip(*map(one, is_decayed, grads, *old), strict=True))

  leaves = [tuple(jax.tree.leaves(tree)) for tree in trees]
  of_grads = tuple(jax.tree.leaves(grads))
  found = _where(is_finite, update, of_grads, leaves, numbers)
  params, mu, nu, *ema = (jax.tree.unflatten(structure, x) for x in found)
  moments = optax.ScaleByAdamState(
    count=jnp.where(is_finite, count, moments.count), mu=mu, nu=nu
  )
  return Role(
    params=params,
    optimizer=_with(role.optimizer, moments),
    ema=ema[0] if ema else None,
  )


def _where(
  is_finite: jax.Array, update: Callable[..., Tree], grads, old: Tree, numbers
) -> Tree:
  """update(kept, grads, old, numbers), or `old`; kept(new, old) is either.

  On a CPU that is a branch. XLA writes what is cheap and read by many kernels
  into each of them, though never past a branch: the learning rate, and whether
  all is finite, would be worked out by four kernels an array, which took a
  third of the time to compile them. Elsewhere the host would have to wait for
  the device to say which branch it is.
  """
  if sharding.platform() != "cpu":
    return update(lambda n, o: jnp.where(is_finite, n, o), grads, old, numbers)
  return jax.lax.cond(
    is_finite,
    lambda *arguments: update(lambda n, o: n, *arguments),
    lambda grads, old, numbers: old,
    *(grads, old, numbers),
  )


def _one(
  section: ConfigDict,
  *,
  factor: jax.Array,
  rate: jax.Array,
  corrections: tuple[jax.Array, jax.Array],
  kept: Callable[[jax.Array, jax.Array], jax.Array],
  decay: float,
) -> Callable[..., tuple[jax.Array, ...]]:
  """What becomes of an array: Adam (Kingma & Ba 2015, algorithm 1), with the
  weight decay of AdamW (Loshchilov & Hutter 2019, algorithm 2).

  Its arguments are whether it decays, its gradient, parameters, both moments
  and the average, if there is one; it returns all from the parameters on.
  """
  b1, b2 = section.b1, section.b2

  def one(is_decayed, g, p, m, v, *average):
    g = g * factor.astype(g.dtype)
    # What is kept is what is read on: old moments are done with, and need no
    # copy when the new ones take their place.
    m = kept((1 - b1) * g + b1 * m, m)
    v = kept((1 - b2) * (g * g) + b2 * v, v)
    step = m / corrections[0] / (jnp.sqrt(v / corrections[1]) + section.eps)
    if is_decayed and section.weight_decay:
      step += section.weight_decay * p
    p = kept(p - rate * step, p)
    return p, m, v, *(kept((1 - decay) * p + decay * x, x) for x in average)

  return one


def _clip(grads, most):
  """[] float32: gradients times this have the global norm `most` at most."""
  if not most:
    return jnp.float32(1)
  norm = optax.global_norm(grads)
  return jnp.where(norm < most, 1.0, most / norm)


def _is_moments(state):
  return isinstance(state, optax.ScaleByAdamState)


def _moments_of(state):
  leaves = jax.tree.leaves(state, is_leaf=_is_moments)
  return next(leaf for leaf in leaves if _is_moments(leaf))


def _with(state, moments):
  """The state with other moments, a step further by its clock."""

  def one(leaf):
    if _is_moments(leaf):
      return moments
    if optim.is_clock(leaf):
      return leaf._replace(count=optax.safe_increment(leaf.count))
    return leaf

  return jax.tree.map(
    one, state, is_leaf=lambda x: _is_moments(x) or optim.is_clock(x)
  )
