"""What the programs of a run hold in memory at the paper's sizes.

  python -m benchmarks.memory --target=v5p --version=after --out=FILE
  python -m benchmarks.memory --table

Nothing is run: every program is compiled, for one device or for a pod, and the
compiler says how many bytes its arguments take and how many it needs besides.
`--target=v5p` and `--target=v5e:4x4` compile for TPUs, ahead of time and
anywhere, where `libtpu` is installed (the extra 'plan'; a minute or two of CPU
time a program); `--target=cpu` needs nothing, but XLA holds 16-bit weights in
32 bits there. FILE keeps what else it has. `--code=FOLDER` measures another
version of the package, from `instruct_jax.planning` on, `--table` prints the
README's table of FILE. What a whole run takes, `instruct_jax.plan` says.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
from jax.sharding import NamedSharding

from experiments import ppo, ppo_ptx, rm, sft
from instruct_jax import algorithms
from instruct_jax.algorithms import episodes
from instruct_jax.base import command, errors, storage
from instruct_jax.parallel import sharding
from instruct_jax.planning import measuring, programs, setting, topology

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
  if target == "cpu":
    devices = jax.devices("cpu")
  else:
    place = topology.named(TOPOLOGIES.get(target, target))
    topology.prepare(place)
    devices = topology.devices_of(place)
  return sharding.make_mesh(1, chips, 1, devices=devices[:chips])


def setting_of(experiment: str, target: str, rows: int) -> setting.Setting:
  """A run of the experiment for a target."""
  config = config_of(experiment, TARGETS[target], rows)
  return setting.of(config, mesh_of(target))


# The programs. Each returns something that can be lowered, and its arguments.


def generation(given: setting.Setting):
  """The responses of an iteration."""
  ctx = given.run.ctx
  key = jax.eval_shape(lambda: jax.random.key(0))
  sampled = functools.partial(episodes.sample, ctx)
  policy, prompts = given.state.params["policy"], given.batch["prompts"]
  return jax.jit(sampled), (policy, prompts, key)


def scoring(given: setting.Setting):
  """Logprobs of policy and reference, values and rewards of all episodes."""
  program = programs.score(given)
  return program.function, program.arguments


def update(given: setting.Setting):
  """A step's updates, one a minibatch, of policy and value network."""
  program = programs.update(given)
  return program.function, program.arguments


def microbatch(part: str, given: setting.Setting):
  """The gradient of one microbatch of one part; itself it is no temporary."""
  ctx, run = given.run.ctx, given.run
  count = ctx.config.microbatches
  place = NamedSharding(ctx.mesh, sharding.BATCH)
  rows = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (x.shape[1] // count, *x.shape[2:]), x.dtype, sharding=place
    ),
    programs.collected_of(given)[0][part],
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
  given = setting_of(experiment, target, rows)
  with jax.set_mesh(given.run.ctx.mesh):
    program, arguments = make(given)
    lowered = program.lower(*arguments)
    try:
      needs = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
      said = measuring.refusal(str(error))
      return {"temporaries": said["bytes"]["temporaries"]} | {
        "refused": said["refused"]
      }
  return {
    "arguments": needs.argument_size_in_bytes,
    "temporaries": needs.temp_size_in_bytes,
    "outputs": needs.output_size_in_bytes - needs.alias_size_in_bytes,
  }


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
