"""The gradient of a minibatch, over its parts and their microbatches.

What an algorithm is stands in `algorithms`. A loss returns one term for each
part of a minibatch, whose weight comes from masks alone. Hence the weights can
be totalled first, and neither the number of microbatches nor the mesh changes
the value.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from instruct_jax import algorithms
from instruct_jax.base import means
from instruct_jax.inference import context
from instruct_jax.maths import arrays
from instruct_jax.models import packed
from instruct_jax.parallel import slices
from instruct_jax.training import partition

PADDING = "padding/update"


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

  # Traced once, for the shapes of its metrics and for their values.
  grad = jax.jit(jax.grad(objective, has_aux=True))
  slices_ = Slices.of(minibatch, ctx.config.microbatches)
  if slices_.count is None:
    grads, metrics = grad(params, minibatch, key, {})
    return grads, metrics | slices_.padding

  def weights_of(rows):
    terms, _ = loss(params, frozen, rows, None)
    return {name: weight for name, (_, weight, _) in terms.items()}

  weights = weights_of(minibatch)

  def one(i):
    rows, of_slice = slices_.taken(i), jax.random.fold_in(key, i)
    return grad(params, rows, of_slice, weights)

  def accumulate(i, total):
    return jax.tree.map(jnp.add, total, one(i))

  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0)
  )
  grads, metrics = slices.loop(
    slices_.count, accumulate, zeros, most=slices_.most
  )
  return grads, metrics | slices_.padding


@dataclasses.dataclass(frozen=True)
class Slices:
  """A part of a minibatch, a slice at a time.

  Prompts with responses are packed, and slices end with the last row in use.
  """

  count: jax.Array | int | None  # None: it is one
  most: int  # that they can be
  taken: Callable[[jax.Array | int], dict]  # i -> {part: rows}
  padding: dict  # the metric: the share of slots that are computed for nothing

  @classmethod
  def of(cls, minibatch: dict, microbatches: int) -> "Slices":
    """The slices of {part: rows}; `microbatches` bound their memory."""
    ((part, rows),) = minibatch.items()
    if packed.can_be(rows):
      plan = packed.plan(rows, parts=microbatches)
      return cls(
        plan.steps,
        plan.most_steps,
        lambda i: {part: packed.taken(rows, plan, i)},
        {PADDING: packed.padding(rows, plan)},
      )
    padding = {}
    if "is_token" in rows:
      padding[PADDING] = arrays.sum_and_weight(
        ~rows["is_token"], jnp.ones_like(rows["is_token"])
      )
    if microbatches == 1:
      return cls(None, 1, lambda i: minibatch, padding)
    parts = _sliced(minibatch, microbatches)
    return cls(
      microbatches,
      microbatches,
      lambda i: jax.tree.map(lambda x: x[i], parts),
      padding,
    )


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
