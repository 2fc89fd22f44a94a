"""State and update: one optimizer step for any algorithm.

An algorithm is a module with `init`, `collect`, `loss` and, if it needs them,
`finish` (after training) and `adapt` (after every update). A minibatch is a
dict of parts, and `loss` returns one term for each part that it is given:
(sum, weight, coefficient), where the weight comes from masks alone. Hence
`update` can total the weights first, and neither the number of microbatches
nor the mesh changes the value.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from instruct_jax.base import metrics
from instruct_jax.inference import context
from instruct_jax.maths import arrays
from instruct_jax.models import heads
from instruct_jax.parallel import sharding
from instruct_jax.training import optim


@flax.struct.dataclass
class State:
  """All that changes in training, and the frozen networks beside it."""

  step: jax.Array  # [] int32, steps of the loop done
  params: dict[str, Any]  # by role
  optimizer: dict[str, Any]  # by role
  ema: dict[str, Any]  # by role, for the roles that keep one
  frozen: dict[str, Any]  # by role; reloaded, never checkpointed
  extra: dict[str, jax.Array]  # adaptive KL, skip counters


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that is set up: what `update` and the hooks need beside the state."""

  ctx: context.Context
  algorithm: ModuleType
  total_steps: int
  optimizers: dict[str, optax.GradientTransformation]
  schedules: dict[str, optax.Schedule]
  root: jax.Array  # the key that every step folds its number into


def setup(
  ctx: context.Context,
  algorithm: ModuleType,
  total_steps: int,
  checkpoints: dict[str, Any],
) -> tuple[Run, State]:
  """The run and its first state, placed on the mesh by the sharding table.

  `checkpoints` holds the parameters that the run starts from, by role.
  """
  config = ctx.config
  # Stages of a chain share a seed but not their randomness.
  root = jax.random.fold_in(
    jax.random.key(config.seed), zlib.crc32(config.experiment.encode())
  )
  init_key, root = jax.random.split(root)
  per_step = (
    config.rl.minibatches * config.rl.inner_epochs if "rl" in config else 1
  )
  arguments = {"total_steps": total_steps, "updates_per_step": per_step}
  run = Run(
    ctx=ctx,
    algorithm=algorithm,
    total_steps=total_steps,
    optimizers={
      role: optim.make(section, **arguments)
      for role, section in config.optimizer.items()
    },
    schedules={
      role: optim.learning_rate(section, **arguments)
      for role, section in config.optimizer.items()
    },
    root=root,
  )

  def create(key, checkpoints):
    params, frozen, extra = algorithm.init(ctx, key, checkpoints)
    counters = {"skipped": jnp.int32(0), "skipped_in_a_row": jnp.int32(0)}
    return State(
      step=jnp.int32(0),
      params=params,
      optimizer={r: run.optimizers[r].init(p) for r, p in params.items()},
      ema={r: params[r] for r in config.ema},
      frozen=frozen,
      extra=extra | counters,
    )

  shapes = jax.eval_shape(create, init_key, checkpoints)
  placement = sharding.place(shapes, ctx.mesh, heads.RULES)
  create = jax.jit(create, out_shardings=placement)
  return run, create(init_key, checkpoints)


def gradients(
  run: Run, params: dict, minibatch: dict, key: jax.Array
) -> tuple[dict, dict]:
  """The gradient by role and the metrics of one minibatch.

  Parts are differentiated one after the other and accumulated into one
  gradient (appendix C.4), each over `config.microbatches` slices.
  """
  total, found = None, {}
  for i, part in enumerate(sorted(minibatch)):
    grads, terms, more = _part_gradients(
      run, params, {part: minibatch[part]}, jax.random.fold_in(key, i)
    )
    found = metrics.add(found, more)
    found = metrics.add(
      found, {f"{n}/loss": (s, w) for n, (s, w) in terms.items()}
    )
    found[f"gradient/{part}_norm"] = (optax.global_norm(grads), jnp.float32(1))
    total = grads if total is None else jax.tree.map(jnp.add, total, grads)
  for role, grads in total.items():
    norm = optax.global_norm(grads)
    found[f"gradient/{role}_total_norm"] = (norm, jnp.float32(1))
  return total, found


def _part_gradients(run, params, minibatch, key):
  """The gradient of one part, its terms {name: (sum, weight)}, metrics."""

  def objective(params, rows, key, weights):
    terms, found = run.algorithm.loss(run.ctx, params, rows, key)
    value = sum(
      coefficient * total / jnp.maximum(weights.get(name, weight), 1.0)
      for name, (total, weight, coefficient) in terms.items()
    )
    return value, ({n: (s, w) for n, (s, w, _) in terms.items()}, found)

  grad = jax.grad(objective, has_aux=True)
  count = run.ctx.config.microbatches
  if count == 1:
    grads, (terms, found) = grad(params, minibatch, key, {})
    return grads, terms, found

  def weights_of(rows):
    terms, _ = run.algorithm.loss(run.ctx, params, rows, None)
    return {name: weight for name, (_, weight, _) in terms.items()}

  slices = jax.tree.map(functools.partial(_interleave, count=count), minibatch)
  weights = jax.tree.map(jnp.sum, jax.lax.map(weights_of, slices))

  def accumulate(carry, x):
    rows, key = x
    grads, aux = grad(params, rows, key, weights)
    return jax.tree.map(jnp.add, carry, grads), aux

  zeros = jax.tree.map(jnp.zeros_like, params)
  keys = jax.random.split(key, count)
  grads, aux = jax.lax.scan(accumulate, zeros, (slices, keys))
  terms, found = jax.tree.map(lambda x: x.sum(axis=0), aux)
  return grads, terms, found


def _interleave(x, count):
  """[B, ...] -> [count, B / count, ...], every device's rows in each slice."""
  size = arrays.exact_div(
    x.shape[0], count, "rows of a minibatch / config.microbatches"
  )
  return x.reshape(size, count, *x.shape[1:]).swapaxes(0, 1)


def apply(run: Run, state: State, grads: dict, found: dict) -> State:
  """One optimizer update; skipped and counted where anything is not finite."""
  sums = [total for total, _ in found.values()]
  finite = jnp.isfinite(jnp.stack([jnp.asarray(s).sum() for s in sums])).all()
  params, optimizer, ema = {}, {}, dict(state.ema)
  for role, grad in grads.items():
    updates, optimizer[role] = run.optimizers[role].update(
      grad, state.optimizer[role], state.params[role]
    )
    params[role] = optax.apply_updates(state.params[role], updates)
    if role in ema:
      decay = run.ctx.config.ema[role]
      ema[role] = optim.ema(ema[role], params[role], decay)

  def keep(new, old):
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

  skipped = 1 - finite.astype(jnp.int32)
  in_a_row = (state.extra["skipped_in_a_row"] + 1) * skipped
  return state.replace(
    params=keep(params, state.params),
    optimizer=keep(optimizer, state.optimizer),
    ema=keep(ema, state.ema),
    extra=state.extra
    | {
      "skipped": state.extra["skipped"] + skipped,
      "skipped_in_a_row": in_a_row,
    },
  )


def update(
  run: Run, state: State, minibatches: dict, key: jax.Array
) -> tuple[State, dict]:
  """One step of the loop: an optimizer update for each minibatch in turn."""

  def body(state, x):
    minibatch, key = x
    grads, found = gradients(run, state.params, minibatch, key)
    return apply(run, state, grads, found), found

  count = jax.tree.leaves(minibatches)[0].shape[0]
  keys = jax.random.split(key, count)
  state, found = jax.lax.scan(body, state, (minibatches, keys))
  found = jax.tree.map(lambda x: x.sum(axis=0), found)
  extra = state.extra
  if hasattr(run.algorithm, "adapt"):
    extra = run.algorithm.adapt(run.ctx, extra, found)
  one = jnp.float32(1)
  for role, schedule in run.schedules.items():
    rate = jnp.asarray(schedule(state.step * count), jnp.float32)
    found[f"optimizer/{role}_learning_rate"] = (rate, one)
  for name in ("skipped", "skipped_in_a_row"):
    found[f"count/{name}"] = (extra[name].astype(jnp.float32), one)
  return state.replace(step=state.step + 1, extra=extra), found


def compiled(run: Run) -> tuple[Callable, Callable]:
  """`collect` and `update`, jitted; `update` takes over the state's memory."""

  @jax.jit
  def collect(state, batch, key):
    return run.algorithm.collect(run.ctx, state, batch, key)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, minibatches, key):
    return update(run, state, minibatches, key)

  def update_state(state, minibatches, key):
    frozen = state.frozen  # Not donated: it outlives every step.
    state, found = step(state.replace(frozen={}), minibatches, key)
    return state.replace(frozen=frozen), found

  return collect, update_state


def items_of(state: State) -> dict[str, Any]:
  """What a checkpoint holds, as separately loadable items."""
  items = {"extra": {"step": state.step, **state.extra}}
  for name in ("params", "ema", "optimizer"):
    for role, tree in getattr(state, name).items():
      items[f"{name}.{role}"] = tree
  return items


def with_items(state: State, items: dict[str, Any]) -> State:
  """The inverse of `items_of`; the frozen networks stay as they are."""
  extra = dict(items["extra"])
  step = extra.pop("step")
  parts = {
    name: {role: items[f"{name}.{role}"] for role in getattr(state, name)}
    for name in ("params", "ema", "optimizer")
  }
  return state.replace(step=step, extra=extra, **parts)
