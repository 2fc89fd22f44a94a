"""Times the chain: every stage, compile and run apart, and a PPO iteration.

  python -m instruct_jax.main --config=experiments/ppo_ptx.py
  python -m benchmarks.chain --run=runs/ppo_ptx-tiny

Stages are read from the results of a finished chain. The iteration is measured
here, phase by phase, on the run's own checkpoint: generation, scoring by the
four networks, advantages and minibatches, and the updates; each phase is a
program of its own, so their sum is a little more than an iteration's time.
"""

import functools
import os
import platform
import statistics
import time

import jax
from absl import flags
from etils import epath

from instruct_jax.algorithms import episodes, ppo
from instruct_jax.base import (
  claims,
  command,
  compilation,
  errors,
  storage,
  terminal,
)
from instruct_jax.parallel import sharding
from instruct_jax.runs import reading, records
from instruct_jax.training import loop
from instruct_jax.training import step as step_lib

_RUN = flags.DEFINE_string("run", "runs/ppo_ptx-tiny", "A finished PPO run.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of a phase.", 1)
_OUT = flags.DEFINE_string("out", "", "Where to write the results as JSON.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is there.")


def stages(folder: epath.Path) -> list[dict[str, float | str]]:
  """Seconds and memory of every stage that a run was built on, it last."""
  found = {}
  for need in records.read_needs(folder).values():
    found |= {row["stage"]: row for row in stages(need)}
  results = records.read_results(folder)
  name = folder.resolve().name
  seconds = results["seconds"]
  found[name] = {
    "stage": name,
    "compile_s": seconds["compile"],
    "run_s": round(seconds["wall"] - seconds["compile"], 2),
    "wall_s": seconds["wall"],
    "peak_GB": round(results["peak_memory_bytes"] / 1e9, 2),
  }
  return list(found.values())


def iteration(folder: epath.Path, repeats: int) -> dict[str, dict[str, float]]:
  """Seconds of the phases of one PPO iteration: compile, and median run."""
  ctx = reading.open_context(folder)
  checkpoints = {
    role: reading.load_parameters(ctx.folders[role], ctx, role)
    for role in ("policy", "reward")
  }
  data, total_steps = loop.open_batches(ctx, checkpoints)
  run, state = step_lib.setup(ctx, ppo.ALGORITHM, total_steps, checkpoints)
  batch = sharding.global_batch(next(data), ctx.mesh)
  key = jax.random.key(0)
  sample = functools.partial(episodes.sample, ctx)
  score = functools.partial(episodes.score, ctx)
  split = functools.partial(ppo.minibatches, ctx)
  update = jax.jit(functools.partial(step_lib.update, run))
  prompts = batch["prompts"]
  text = {"ptx": batch["pretraining"]} if ctx.config.rl.ptx_coef else {}
  timed = {}
  with jax.set_mesh(ctx.mesh):
    generation = _time(
      timed, "generate", repeats, sample, state.params["policy"], prompts, key
    )
    scored = _time(
      *(timed, "score", repeats, score),
      *(state.params, state.frozen, prompts, generation),
    )
    collected = _time(
      *(timed, "advantages", repeats, split),
      *(scored, state.extra["kl_coef"], text, key),
    )
    _time(timed, "update", repeats, update, state, *collected, key)
  tokens = int(generation.is_response.sum())
  timed["generate"]["tokens_per_s"] = round(
    tokens / timed["generate"]["median_s"]
  )
  return timed


def _time(timed, name, repeats, function, *arguments):
  """Calls once to compile, then `repeats` times; the last result."""
  start, compiled = time.monotonic(), compilation.compile_seconds()
  jax.block_until_ready(function(*arguments))
  first = time.monotonic() - start
  seconds = []
  for _ in range(repeats):
    start = time.monotonic()
    result = jax.block_until_ready(function(*arguments))
    seconds.append(time.monotonic() - start)
  timed[name] = {
    "first_call_s": round(first, 3),
    "compile_s": round(compilation.compile_seconds() - compiled, 3),
    "median_s": round(statistics.median(seconds), 4),
    "min_s": round(min(seconds), 4),
    "max_s": round(max(seconds), 4),
  }
  return result


def main(argv: list[str]) -> None:
  """Prints both tables and writes them as JSON."""
  del argv
  folder = epath.Path(_RUN.value)
  if records.read_config(folder).get("algorithm") != "ppo":
    raise errors.UserError(f"--run={folder}: not a PPO run")
  if _OUT.value:
    claims.claim(_OUT.value, reads=[folder], overwrite=_OVERWRITE.value)
  table = stages(folder)
  phases = iteration(folder, _REPEATS.value)
  terminal.table([list(row.values()) for row in table], list(table[0]))
  rows = [[name, *values.values()] for name, values in phases.items()]
  columns = ["phase", *phases["generate"]]
  rows = [row + [""] * (len(columns) - len(row)) for row in rows]
  terminal.table(rows, columns)
  total = sum(values["median_s"] for values in phases.values())
  print(f"one iteration: {total:.2f} s")
  if _OUT.value:
    found = {
      "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
      f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
      "stages": table,
      "iteration": phases,
    }
    storage.write_json(_OUT.value, found)
    claims.sign(_OUT.value)


if __name__ == "__main__":
  command.run_main(main)
