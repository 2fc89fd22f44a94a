"""What the programs of a run hold in memory at the paper's sizes.

  python -m benchmarks.memory --target=v5p --version=after --out=FILE
  python -m benchmarks.memory --table

Nothing is run: every program is compiled, for one device or for a pod, and the
compiler says how many bytes its arguments take and how many it needs besides.
`--target=v5p` and `--target=v5e:4x4` compile for TPUs, ahead of time and
anywhere, where `libtpu` is installed (jax's extra 'tpu' says which; a minute or
two of CPU time a program); `--target=cpu` needs nothing, but XLA holds 16-bit
weights in 32 bits there. FILE keeps what else it has. `--code=FOLDER` measures
another version of the package, `--table` prints the README's table of FILE.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments import ppo, ppo_ptx, rm, sft
from instruct_jax import algorithms, paper, tokenizers
from instruct_jax.algorithms import episodes
from instruct_jax.base import command, errors, storage
from instruct_jax.inference import context, generate
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads, lora, sizes
from instruct_jax.parallel import sharding
from instruct_jax.training import optim, step

HERE = pathlib.Path(__file__).resolve()
# Chips that a target has.
TARGETS = {"cpu": 1, "v5p": 1, "v5e:4x4": 16, "v5p:2x2x2": 8}
TOPOLOGIES = {"v5p": "v5p:2x2x1"}  # the smallest there is; one chip is used
TITLES = {"v5p": "TPU v5p", "cpu": "CPU"} | {n: n for n in TARGETS if ":" in n}
VERSIONS = ("before", "after")
RESULTS = HERE.parent / "results" / "memory.json"
ROWS = 8  # of a microbatch; a ranking, of 9 responses, is alone in its own
SIZE = "1.3b"
EXPERIMENTS = {"ppo": ppo, "ppo_ptx": ppo_ptx, "sft": sft, "rm": rm}


@dataclasses.dataclass(frozen=True)
class Setting:
  """A run of the paper that is not set up: shapes and their places."""

  run: step.Run
  state: algorithms.State  # shapes
  batch: dict[str, Any]  # {kind: shapes of its rows}


def config_of(experiment: str, chips: int, rows: int) -> Any:
  """The paper's config with microbatches of so many rows."""
  config = EXPERIMENTS[experiment].get_config(SIZE).unlock()
  config.mesh.fsdp = chips
  algorithm = algorithms.named(config.algorithm)
  rows_of = getattr(algorithms, "rows_of", dict)  # older versions have none
  counts = algorithm.minibatch_rows(config, rows_of(config.batch))
  least = max(1 if experiment == "rm" else rows, chips)
  config.microbatches = max(1, max(counts.values()) // least)
  return config.lock()


def mesh_of(target: str) -> jax.sharding.Mesh:
  """All chips along fsdp."""
  chips = TARGETS[target]
  types = (AxisType.Auto,) * len(sharding.AXES)
  if target == "cpu":
    devices = jax.devices("cpu")
  else:
    name = TOPOLOGIES.get(target, target)
    devices = topologies.get_topology_desc(
      platform="tpu", topology_name=name
    ).devices
  grid = np.array(devices[:chips]).reshape(1, chips, 1)
  return jax.sharding.Mesh(grid, sharding.AXES, axis_types=types)


def setting(experiment: str, target: str, rows: int) -> Setting:
  """A run of the experiment for a target."""
  config, mesh = config_of(experiment, TARGETS[target], rows), mesh_of(target)
  adapters = lora.settings(config.lora)
  length = {
    "vocab_size": paper.VOCAB_SIZE,
    "context_length": paper.CONTEXT_LENGTH,
  }
  policy, scalar = (
    dataclasses.replace(
      sizes.decoder_config(section, **length),
      adapters=adapters.counted if adapters else model_config.Adapters(),
    )
    for section in (config.model, config.reward_model)
  )
  ctx = context.Context(
    config=config,
    policy=heads.LanguageModel(policy),
    scalar=heads.ScalarModel(scalar),
    tokenizer=tokenizers.ByteTokenizer(),
    mesh=mesh,
    folders={},
  )
  run = run_of(ctx)
  state = jax.eval_shape(functools.partial(first_state, run))
  places = sharding.place(state, mesh, heads.RULES)
  return Setting(run, placed(state, places), batch_of(ctx))


def run_of(ctx: context.Context) -> step.Run:
  """What a step needs beside its state."""
  config = ctx.config
  algorithm = algorithms.named(config.algorithm)
  arguments = {
    "total_steps": 100,
    "updates_per_step": algorithm.updates(config),
  }
  return step.Run(
    ctx=ctx,
    algorithm=algorithm,
    total_steps=100,
    optimizers={
      role: optim.make(section, **arguments)
      for role, section in config.optimizer.items()
    },
    schedules={
      role: optim.learning_rate(section, **arguments)
      for role, section in config.optimizer.items()
    },
    root=jax.random.key(0),
    trained={},
    bases={},
  )


def first_state(run: step.Run) -> algorithms.State:
  """What `step.setup` makes, traced."""
  ctx, key = run.ctx, jax.random.key(0)
  given = {
    role: forward.init_params(ctx.model(role), key)
    for role in ("policy", "reward")
  }
  params, frozen, extra = run.algorithm.init(ctx, key, given)
  if hasattr(step, "untrained"):
    trained = dict.fromkeys(params)
    params, frozen = step.untrained.held(ctx, params, frozen, trained)
  return algorithms.State(
    step=jnp.int32(0),
    params=params,
    optimizer={r: run.optimizers[r].init(p) for r, p in params.items()},
    ema={r: params[r] for r in ctx.config.ema},
    frozen=frozen,
    extra=extra,
    counters={name: jnp.int32(0) for name in step.COUNTERS},
  )


def shape(mesh: Any, layout: P, *dims: int, dtype: Any = jnp.int32) -> Any:
  """An array that is not there."""
  place = NamedSharding(mesh, layout)
  return jax.ShapeDtypeStruct(dims, dtype, sharding=place)


def placed(shapes: Any, places: Any) -> Any:
  """Shapes with their places."""
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes,
    places,
  )


def batch_of(ctx: context.Context) -> dict[str, Any]:
  """The shapes of a step's rows."""
  config, made = ctx.config, {}
  prompt, response = config.data.prompt_length, config.data.response_length
  of_rows = functools.partial(shape, ctx.mesh, sharding.BATCH)
  is_ = functools.partial(of_rows, dtype=bool)
  for kind, rows in config.batch.items():
    given = {"prompt": of_rows(rows, prompt), "is_prompt": is_(rows, prompt)}
    if kind == "prompts":
      made[kind] = given | {"index": of_rows(rows)}
    elif kind == "demonstrations":
      made[kind] = given | {
        "response": of_rows(rows, response),
        "is_response": is_(rows, response),
      }
    elif kind == "rankings":
      count = paper.K_MAX
      made[kind] = given | {
        "response": of_rows(rows, count, response),
        "is_response": is_(rows, count, response),
        "is_completion": is_(rows, count),
        "beats": is_(rows, count, count),
      }
    else:
      length = config.data.row_length
      made[kind] = {
        "tokens": of_rows(rows, length),
        "is_token": is_(rows, length),
      }
  return made


# The programs. Each returns something that can be lowered, and its arguments.


def generation(given: Setting):
  """The responses of an iteration."""
  ctx = given.run.ctx
  key = jax.eval_shape(lambda: jax.random.key(0))
  sampled = functools.partial(episodes.sample, ctx)
  policy, prompts = given.state.params["policy"], given.batch["prompts"]
  return jax.jit(sampled), (policy, prompts, key)


def generated(given: Setting) -> generate.Generation:
  """Shapes of what `generation` makes."""
  ctx = given.run.ctx
  rows, length = ctx.config.batch.prompts, ctx.config.data.response_length
  of_rows = functools.partial(shape, ctx.mesh, sharding.BATCH)
  return generate.Generation(
    tokens=of_rows(rows, length),
    is_response=of_rows(rows, length, dtype=bool),
    ended=of_rows(rows, dtype=bool),
    stop_ids=ctx.stop_ids,
  )


def scoring(given: Setting):
  """Logprobs of policy and reference, values and rewards of all episodes."""
  state = given.state
  scored = functools.partial(episodes.score, given.run.ctx)
  arguments = state.params, state.frozen, given.batch["prompts"]
  return jax.jit(scored), (*arguments, generated(given))


def minibatches(given: Setting) -> Any:
  """Shapes of what `collect` makes of a batch."""
  ctx, algorithm = given.run.ctx, given.run.algorithm
  key = jax.eval_shape(lambda: jax.random.key(0))
  collected = jax.eval_shape(
    functools.partial(algorithm.collect, ctx), given.state, given.batch, key
  )
  rows = NamedSharding(ctx.mesh, P(None, *sharding.BATCH))
  whole = NamedSharding(ctx.mesh, P())
  parts, metrics = collected
  places = (
    jax.tree.map(lambda x: rows, parts),
    jax.tree.map(lambda x: whole, metrics),
  )
  return placed((parts, metrics), places)


def update(given: Setting):
  """A step's updates, one a minibatch, of policy and value network."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  learned, rest, frozen = step.parts(given.run, given.state)
  return step.program(given.run), (
    learned,
    rest,
    frozen,
    *minibatches(given),
    key,
  )


def microbatch(part: str, given: Setting):
  """The gradient of one microbatch of one part; itself it is no temporary."""
  ctx, run = given.run.ctx, given.run
  count = ctx.config.microbatches
  place = NamedSharding(ctx.mesh, sharding.BATCH)
  rows = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (x.shape[1] // count, *x.shape[2:]), x.dtype, sharding=place
    ),
    minibatches(given)[0][part],
  )

  def loss(params, rows):
    terms, _ = run.algorithm.loss(ctx, params, {}, {part: rows}, None)
    return sum(total / weight for total, weight, _ in terms.values())

  role = "value" if part == "value" else next(iter(ctx.config.optimizer))
  trained = {role: given.state.params[role]}
  places = jax.tree.map(lambda x: x.sharding, trained)
  return jax.jit(jax.grad(loss), out_shardings=places), (trained, rows)


PROGRAMS = {
  "generation": ("ppo", generation),
  "scoring": ("ppo", scoring),
  "policy microbatch": ("ppo", functools.partial(microbatch, "policy")),
  "value microbatch": ("ppo", functools.partial(microbatch, "value")),
  "RM microbatch": ("rm", functools.partial(microbatch, "rankings")),
  "PPO update": ("ppo", update),
  "PPO-ptx update": ("ppo_ptx", update),
  "SFT step": ("sft", update),
  "RM step": ("rm", update),
}


def measure(name: str, target: str, rows: int) -> dict[str, Any]:
  """Bytes a device of a compiled program; what a compiler refuses, it says."""
  experiment, make = PROGRAMS[name]
  given = setting(experiment, target, rows)
  with jax.set_mesh(given.run.ctx.mesh):
    program, arguments = make(given)
    lowered = program.lower(*arguments)
    try:
      needs = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
      return refusal(str(error))
  return {
    "arguments": needs.argument_size_in_bytes,
    "temporaries": needs.temp_size_in_bytes,
    "outputs": needs.output_size_in_bytes - needs.alias_size_in_bytes,
  }


def refusal(text: str) -> dict[str, Any]:
  """What a compiler says that a program would have needed."""
  found = re.search(r"\(([\d.]+)G\) exceeds available HBM", text)
  size = {"temporaries": int(float(found[1]) * 2**30)} if found else {}
  return size | {"refused": text.splitlines()[0][:200]}


def once(name: str, target: str, rows: int, code: str) -> dict[str, Any]:
  """`measure` in a process of its own, by the package in folder `code`."""
  words = [f"--once={name}", f"--target={target}", f"--rows={rows}"]
  done = subprocess.run(
    [sys.executable, str(HERE), *words],
    env=os.environ
    | {"PYTHONPATH": f"{code}:{os.environ.get('PYTHONPATH', '')}"},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    return {"failed": done.stderr.strip().splitlines()[-1][:300]}
  return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[str, Any]) -> str:
  """The README's rows of {target: {version: {program: its bytes}}}."""
  columns = [(t, v) for t in found for v in VERSIONS if v in found[t]]
  names = [f"{TITLES[target]}, {version}" for target, version in columns]
  lines = [["program", *names], ["---", *["---:"] * len(names)]]
  for name in PROGRAMS:
    cells = [cell(found[t].get(v, {}).get(name)) for t, v in columns]
    lines.append([name, *cells])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(needs: dict[str, Any] | None) -> str:
  """'arguments + temporaries' in GB; what was not measured is a dash."""
  if not needs or "temporaries" not in needs:
    return "–"
  temporaries = f"{needs['temporaries'] / 1e9:.1f}"
  if "refused" in needs:
    return f"refused: {temporaries}"
  return f"{needs['arguments'] / 1e9:.1f} + {temporaries}"


def main() -> None:
  """Each program in a process of its own."""
  parser = command.Parser("benchmarks.memory", __doc__)
  parser.add_argument("--target", choices=TARGETS, default="cpu")
  parser.add_argument("--version", choices=VERSIONS, default="after")
  parser.add_argument("--rows", type=int, default=ROWS)
  parser.add_argument("--code", default=str(HERE.parent.parent))
  parser.add_argument("--only", default="")
  parser.add_argument("--once", choices=PROGRAMS)
  parser.add_argument("--out", default=str(RESULTS))
  parser.add_argument("--table", action="store_true")
  given = parser.parse_args()
  path = pathlib.Path(given.out)
  if given.once:
    print(json.dumps(measure(given.once, given.target, given.rows)))
    return
  if not (pathlib.Path(given.code) / "instruct_jax").is_dir():
    raise errors.UserError(
      f"--code={given.code}: no folder with the package instruct_jax in it"
    )
  wanted = [name for name in PROGRAMS if given.only in name]
  if not wanted:
    raise errors.unknown("--only", given.only, PROGRAMS)
  found = json.loads(path.read_text()) if path.exists() else {}
  if given.table:
    print(table(found))
    return
  measured = found.setdefault(given.target, {}).setdefault(given.version, {})
  for name in wanted:
    measured[name] = once(name, given.target, given.rows, given.code)
    print(name, measured[name], flush=True)
    storage.write_json(path, found)


if __name__ == "__main__":
  command.run(main)
