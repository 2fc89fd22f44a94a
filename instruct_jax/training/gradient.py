"""The gradient of a minibatch, over its parts and their microbatches.

What an algorithm is stands in `algorithms`. A loss returns one term for each
part of a minibatch, whose weight comes from masks alone. Hence the weights can
be totalled first, and neither the number of microbatches nor the mesh changes
the value.
"""

import jax
import jax.numpy as jnp
import optax

from instruct_jax import algorithms
from instruct_jax.base import means
from instruct_jax.inference import context
from instruct_jax.maths import arrays
from instruct_jax.parallel import slices
from instruct_jax.training import partition


def of_minibatch(
  ctx: context.Context,
  algorithm: algorithms.Algorithm,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array,
  *,
  rest: dict | None = None,
) -> tuple[dict, dict]:
  """The gradient by role and the metrics of one minibatch.

  Parts are differentiated one after the other and accumulated into one
  gradient (appendix C.4), each over `config.microbatches` slices. It is that
  by `params`, what is trained; `rest` holds what else the roles have.
  """
  total, metrics = None, {}
  for i, part in enumerate(sorted(minibatch)):
    grads, of_part = _part_gradients(
      *(ctx, algorithm, params, frozen, {part: minibatch[part]}),
      jax.random.fold_in(key, i),
      rest or {},
    )
    metrics = means.add(metrics, of_part)
    metrics[f"gradient/{part}_norm"] = (optax.global_norm(grads), 1.0)
    total = grads if total is None else jax.tree.map(jnp.add, total, grads)
  assert total is not None  # a minibatch has a part
  for role, grads in total.items():
    norm = optax.global_norm(grads)
    metrics[f"gradient/{role}_total_norm"] = (norm, 1.0)
  return total, metrics


def _part_gradients(ctx, algorithm, params, frozen, minibatch, key, rest):
  """The gradient of one part, and its metrics with its terms."""

  def loss(trained, *arguments):
    return algorithm.loss(ctx, partition.whole_of(trained, rest), *arguments)

  def objective(params, rows, key, weights):
    terms, metrics = loss(params, frozen, rows, key)
    value = sum(
      coefficient * total / jnp.maximum(weights.get(name, weight), 1.0)
      for name, (total, weight, coefficient) in terms.items()
    )
    return value, with_losses(terms, metrics)

  grad = jax.grad(objective, has_aux=True)
  count = ctx.config.microbatches
  if count == 1:
    return grad(params, minibatch, key, {})

  def weights_of(rows):
    terms, _ = loss(params, frozen, rows, None)
    return {name: weight for name, (_, weight, _) in terms.items()}

  parts = _sliced(minibatch, count)
  weights = jax.tree.map(jnp.sum, jax.lax.map(weights_of, parts))

  def accumulate(carry, x):
    rows, key = x
    grads, metrics = grad(params, rows, key, weights)
    return jax.tree.map(jnp.add, carry, grads), metrics

  zeros = jax.tree.map(jnp.zeros_like, params)
  keys = jax.random.split(key, count)
  grads, metrics = jax.lax.scan(accumulate, zeros, (parts, keys))
  return grads, jax.tree.map(lambda x: x.sum(axis=0), metrics)


def with_losses(terms: dict, metrics: dict) -> dict:
  """The metrics of a loss, and the value of each term as 'part/loss'."""
  losses = {f"{part}/loss": (s, w) for part, (s, w, _) in terms.items()}
  return metrics | losses


def _sliced(rows, count):
  for x in jax.tree.leaves(rows):
    arrays.exact_div(
      x.shape[0], count, "rows of a minibatch / config.microbatches"
    )
  return slices.split(rows, count)
