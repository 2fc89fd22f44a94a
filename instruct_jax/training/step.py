"""One step of training: an update for each minibatch, for any algorithm."""

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from instruct_jax import algorithms
from instruct_jax.base import compilation, means
from instruct_jax.inference import context
from instruct_jax.models import lora
from instruct_jax.parallel import digest
from instruct_jax.training import (
  fused,
  gradient,
  optim,
  partition,
  placing,
  untrained,
)

COUNTERS = ("skipped", "skipped_in_a_row")
FIRST = "_first_minibatch"  # of a step's updates, such a metric is the first's


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that is set up: what a step needs beside the state."""

  ctx: context.Context
  algorithm: algorithms.Algorithm
  total_steps: int
  optimizers: dict[str, optax.GradientTransformation]
  schedules: dict[str, optax.Schedule]
  root: jax.Array  # the key that every step folds its number into
  trained: dict[str, partition.Names]  # by role; None: the whole of it
  bases: dict[str, str]  # of each role in part: the checkpoint with the rest


@dataclasses.dataclass
class Done:
  """A step that is done, for what comes after it."""

  number: int  # of steps done
  state: algorithms.State
  metrics: dict[str, Any]  # (sum, weight) by name; validation adds its own
  is_last: bool

  def is_due(self, every: int) -> bool:
    """Whether what happens every so many steps (0: never), and last, does."""
    return self.is_last or (every > 0 and self.number % every == 0)


def setup(
  ctx: context.Context,
  algorithm: algorithms.Algorithm,
  total_steps: int,
  checkpoints: dict[str, Any],
) -> tuple[Run, algorithms.State]:
  """The run and its first state, placed on the mesh by the sharding table.

  `checkpoints` holds the parameters that the run starts from, by role.
  """
  run, create = outline(ctx, algorithm, total_steps)

  def place(shapes):
    return placing.places(shapes, ctx.mesh, ctx.config.layout)

  first = placing.Creation(create, place, _keys(ctx)[0], checkpoints)
  run = dataclasses.replace(
    run, bases=partition.bases(first.sources(), run.trained)
  )
  return run, first.make(functools.partial(_is_taken_over, run.trained))


def outline(
  ctx: context.Context, algorithm: algorithms.Algorithm, total_steps: int
) -> tuple[Run, Callable[[jax.Array, dict[str, Any]], algorithms.State]]:
  """The run without its bases, and what makes its first state.

  That is a function of a key and of the checkpoints, or of their shapes
  (`jax.eval_shape`); `Run.trained` says what is trained once it was traced.
  """
  config = ctx.config
  arguments = {
    "total_steps": total_steps,
    "updates_per_step": algorithm.updates(config),
  }
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
    root=_keys(ctx)[1],
    trained={},
    bases={},
  )

  def create(key, checkpoints):
    params, frozen, extra = algorithm.init(ctx, key, checkpoints)
    params = partition.with_adapters(config, params, key)
    run.trained.update(partition.of(config, params))
    learned = partition.trained_of(params, run.trained)
    params, frozen = untrained.held(ctx, params, frozen, run.trained)
    return algorithms.State(
      step=jnp.int32(0),
      params=params,
      optimizer={r: run.optimizers[r].init(p) for r, p in learned.items()},
      ema={r: params[r] for r in config.ema},
      frozen=frozen,
      extra=extra,
      counters={name: jnp.int32(0) for name in COUNTERS},
    )

  return run, create


def _keys(ctx: context.Context) -> tuple[jax.Array, jax.Array]:
  """For what is new in the first state, and for the steps."""
  # Stages of a chain share a seed but not their randomness.
  root = jax.random.fold_in(
    jax.random.key(ctx.config.seed),
    zlib.crc32(ctx.config.experiment.encode()),
  )
  init_key, root = jax.random.split(root)
  return init_key, root


def _is_taken_over(trained: dict[str, partition.Names], path: str) -> bool:
  """Whether an update takes over the memory of a state's array."""
  field, _, rest = path.partition("/")
  role, _, name = rest.partition("/")
  if field not in ("params", "ema"):
    return field != "frozen"
  names = trained.get(role)
  return names is None or name in names


def apply(
  run: Run, state: algorithms.State, grads: dict, metrics: dict
) -> algorithms.State:
  """One optimizer update; skipped and counted where anything is not finite.

  The clock of the learning rate runs on through what is skipped: it goes by
  the steps of the loop (README, detail 15), whose updates share one rate.
  """
  finite = _is_finite([total for total, _ in metrics.values()])
  params, optimizer, ema = {}, {}, dict(state.ema)
  for role, grad in grads.items():
    new = fused.updated(
      run.ctx.config.optimizer[role],
      run.schedules[role],
      run.optimizers[role],
      fused.Role(state.params[role], state.optimizer[role], ema.get(role)),
      grad,
      is_finite=finite,
      decay=run.ctx.config.ema.get(role, 0.0),
    )
    params[role], optimizer[role] = new.params, new.optimizer
    if role in ema:
      ema[role] = new.ema
  skipped = 1 - finite.astype(jnp.int32)
  return state.replace(
    params=params,
    optimizer=optimizer,
    ema=ema,
    counters={
      "skipped": state.counters["skipped"] + skipped,
      "skipped_in_a_row": (state.counters["skipped_in_a_row"] + 1) * skipped,
    },
  )


def _is_finite(tree: Any) -> jax.Array:
  """[] bool: no array of a tree sums to what is not finite."""
  sums = [jnp.asarray(x, jnp.float32).sum() for x in jax.tree.leaves(tree)]
  return jnp.isfinite(jnp.stack([jnp.float32(0), *sums])).all()


def update(
  run: Run,
  state: algorithms.State,
  minibatches: dict,
  collected: dict,
  key: jax.Array,
) -> tuple[algorithms.State, dict]:
  """One step of the loop: an optimizer update for each minibatch in turn.

  `collected` are the metrics of `collect`, which are added to the step's. What
  the algorithm adapts stays as it was where it, or a metric, is not finite.
  """

  frozen, rest = state.frozen, _rest(run, state)  # Not carried through the loop

  def body(state, x):
    minibatch, key = x
    grads, metrics = gradient.of_minibatch(
      *(run.ctx, run.algorithm, state.params, frozen, minibatch, key),
      rest=rest["params"],
    )
    metrics |= _rates(run, state)
    return apply(run, state, grads, metrics), metrics

  count = jax.tree.leaves(minibatches)[0].shape[0]
  keys = jax.random.split(key, count)
  state, each = jax.lax.scan(body, _learned(run, state), (minibatches, keys))
  metrics = {
    name: jax.tree.map(_first if name.endswith(FIRST) else jnp.sum, pair)
    for name, pair in each.items()
  }
  metrics = means.add(metrics, collected)
  extra = run.algorithm.adapt(run.ctx, state.extra, metrics)
  extra = fused.chosen(_is_finite((extra, metrics)), extra, state.extra)
  for name, value in state.counters.items():
    metrics[f"count/{name}"] = (value.astype(jnp.float32), 1.0)
  state = _whole(state, rest, frozen)
  return state.replace(step=state.step + 1, extra=extra), metrics


def _learned(run: Run, state: algorithms.State) -> algorithms.State:
  """What changes in a step."""
  return state.replace(
    params=partition.trained_of(state.params, run.trained),
    ema=partition.trained_of(state.ema, run.trained),
    frozen={},
  )


def _rest(run: Run, state: algorithms.State) -> dict[str, dict]:
  """What does not, but for the frozen networks."""
  return {
    name: partition.rest_of(getattr(state, name), run.trained)
    for name in ("params", "ema")
  }


def _whole(
  state: algorithms.State, rest: dict[str, dict], frozen: dict
) -> algorithms.State:
  """The inverse of `_learned`."""
  return state.replace(
    params=partition.whole_of(state.params, rest["params"]),
    ema=partition.whole_of(state.ema, rest["ema"]),
    frozen=frozen,
  )


def _rates(run, state):
  """The learning rates of the next update, by the optimizers' own clocks."""
  return {
    f"optimizer/{role}_learning_rate": (
      schedule(optim.clock(state.optimizer[role])),
      1.0,
    )
    for role, schedule in run.schedules.items()
  }


def _first(x: jax.Array) -> jax.Array:
  return x[0]


def compiled(run: Run) -> Callable:
  """`update` (state, minibatches, collected, key), compiled.

  It takes over the memory of what is trained; the rest of the networks, and
  those that are frozen, outlive every step.
  """
  programs: list[jax.stages.Wrapped] = []

  def update_state(state, *arguments):
    learned, rest, frozen = parts(run, state)
    if not programs:
      programs.append(program(run, jax.tree.map(_place_of, learned)))
    learned, metrics = programs[0](learned, rest, frozen, *arguments)
    return _whole(learned, rest, frozen), metrics

  return update_state


def parts(
  run: Run, state: algorithms.State
) -> tuple[algorithms.State, dict[str, dict], dict]:
  """What an update takes over, and what it only reads (`program`)."""
  return _learned(run, state), _rest(run, state), state.frozen


def _place_of(x: jax.Array) -> jax.sharding.Sharding:
  return x.sharding


def program(run: Run, places: Any = None) -> jax.stages.Wrapped:
  """What `compiled` runs, of the three `parts` of a state.

  `places` are the shardings of what it takes over, which then stay as they
  are: programs that read parameters are the same before and after a step.
  """

  options = compilation.options(run.ctx.mesh)

  @functools.partial(
    jax.jit,
    donate_argnums=0,
    out_shardings=(places, None),
    compiler_options=options,
  )
  def training_step(learned, rest, frozen, minibatches, collected, key):
    state = _whole(learned, rest, frozen)
    state, metrics = update(run, state, minibatches, collected, key)
    return _learned(run, state), metrics

  return training_step


def items_of(run: Run, state: algorithms.State) -> dict[str, Any]:
  """What a checkpoint holds, as separately loadable items: what is trained."""
  items = {"extra": {"step": state.step, **state.counters, **state.extra}}
  state = _learned(run, state)
  for name in ("params", "ema", "optimizer"):
    for role, tree in getattr(state, name).items():
      items[f"{name}.{role}"] = tree
  return items


def with_items(
  state: algorithms.State, items: dict[str, Any]
) -> algorithms.State:
  """The inverse of `items_of`; what is not trained stays as it is."""
  extra = items["extra"]
  parts = {
    name: {role: items[f"{name}.{role}"] for role in getattr(state, name)}
    for name in ("params", "ema", "optimizer")
  }
  for name in ("params", "ema"):
    parts[name] = partition.whole_of(parts[name], getattr(state, name))
  return state.replace(
    step=extra["step"],
    counters={name: extra[name] for name in state.counters},
    extra={name: extra[name] for name in state.extra},
    **parts,
  )


def bases_of(run: Run, digest_of: Callable[[str], str]) -> dict[str, Any]:
  """What checkpoints lack of each role: who holds it, and its digest then.

  `digest_of` names the parameters that a run starts from, by their role.
  """
  settings = lora.settings(run.ctx.config.lora)
  written = dataclasses.asdict(settings) if settings else None
  return {
    role: {
      "from": base,
      "digest": digest_of(base),
      "lora": written if partition.is_adapted(run.ctx.config, role) else None,
    }
    for role, base in run.bases.items()
  }


def digest_of(run: Run, state: algorithms.State, bases: dict[str, Any]) -> str:
  """What names all parameters and averages of a state, bit for bit.

  They are hashed where they were trained; the rest stands in `bases`.
  """
  learned = _learned(run, state)
  arrays = digest.of({"params": learned.params, "ema": learned.ema})
  if not bases:
    return arrays
  text = json.dumps([arrays, bases], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:32]
