"""Muon's direction, for all kernels of a shape at once.

Jordan et al. 2024 (https://github.com/KellerJordan/modded-nanogpt): momentum
whose singular values are pushed to about 1 by five Newton-Schulz steps. It is
`optax.contrib.scale_by_muon` and its state, but for the order of sums: there
every kernel has fifteen matrix products of its own in the program, here those
of a shape share three in a loop, which is sooner compiled.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from optax import contrib

STEPS = 5
BETA = 0.95  # of the momentum


def scale_by_muon(eps: float) -> optax.GradientTransformation:
  """Near-orthogonal directions, times the root of fan-out by fan-in (or 1).

  Of kernels [in, out], or of stacked ones [N, in, out], layer by layer, whose
  Nesterov momentum is without bias.
  """
  momentum = contrib.scale_by_muon(ns_steps=STEPS, beta=BETA, eps=eps)

  def update(gradients, state, params=None):
    del params
    count = optax.safe_increment(state.count)
    mu = optax.tree.update_moment(gradients, state.mu, BETA, 1)
    ahead = optax.tree.bias_correction(mu, BETA, optax.safe_increment(count))
    now = optax.tree.bias_correction(gradients, BETA, count)
    mixed = jax.tree.map(lambda m, g: BETA * m + (1 - BETA) * g, ahead, now)
    kernels, structure = jax.tree.flatten(mixed)
    kernels = orthogonalized(kernels, state.ns_coeffs, eps)
    kernels = [x * max(1, x.shape[-1] / x.shape[-2]) ** 0.5 for x in kernels]
    updates = jax.tree.unflatten(structure, kernels)
    return updates, state._replace(count=count, mu=mu)

  return optax.GradientTransformation(momentum.init, update)


def orthogonalized(
  kernels: Sequence[jax.Array], coefficients: jax.Array, eps: float
) -> list[jax.Array]:
  """Each [.., rows, columns], with singular values near 1."""
  # The step commutes with transposing: the shorter side is multiplied.
  is_tall = [x.shape[-2] > x.shape[-1] for x in kernels]
  wide = [
    jnp.swapaxes(x, -1, -2) if tall else x for x, tall in zip(kernels, is_tall)
  ]
  found: list[jax.Array] = list(wide)
  for places in _groups(wide):
    stacks = [wide[i].reshape(-1, *wide[i].shape[-2:]) for i in places]
    done = _newton_schulz(jnp.concatenate(stacks), coefficients, eps)
    first = 0
    for i, stack in zip(places, stacks):
      found[i] = done[first : first + len(stack)].reshape(wide[i].shape)
      first += len(stack)
  return [
    jnp.swapaxes(x, -1, -2) if tall else x for x, tall in zip(found, is_tall)
  ]


def _groups(kernels: Sequence[jax.Array]) -> list[list[int]]:
  """The places of those that are computed together.

  Stacked layers are many already, and large: those are not copied.
  """
  groups: dict[tuple, list[int]] = {}
  for i, x in enumerate(kernels):
    name = x.shape if x.ndim == 2 else (*x.shape, i)
    groups.setdefault(name, []).append(i)
  return list(groups.values())


def _newton_schulz(x, coefficients, eps):
  """f(X) = c0 X + (c1 A + c2 A A) X with A = X X^T, of [n, rows, columns]."""
  c0, c1, c2 = coefficients.astype(x.dtype)
  norm = jnp.sqrt((x * x).sum(axis=(1, 2), keepdims=True))

  def step(_, x):
    a = x @ jnp.swapaxes(x, 1, 2)
    return c0 * x + (c1 * a + (c2 * a) @ a) @ x

  return jax.lax.fori_loop(0, STEPS, step, x / (norm + eps))
