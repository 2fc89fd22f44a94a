"""One update of every algorithm on recorded samples, on any mesh and processes.

Each process holds all rows and gives its share of them, as a run does.
"""

import functools
import json
import zlib
from collections.abc import Sequence

import jax
import numpy as np

from instruct_jax.algorithms import best_of_n, dpo, groups, ppo, rm, sft
from instruct_jax.data.batch import loader
from instruct_jax.inference import batching
from instruct_jax.parallel import hosts
from instruct_jax.training import step as step_lib
from tests import toys

# By name: the experiment, the module, what its config differs in.
UPDATES = {
  "sft": ("sft", sft, {}),
  "rm": ("rm", rm, {}),
  "ppo": ("ppo", ppo, {"rl.ptx_coef": 0.0}),
  "ppo_ptx": ("ppo", ppo, {}),
  "dpo": ("dpo", dpo, {}),
  "rloo": ("rloo", groups, {}),
  "grpo": ("grpo", groups, {}),
  "best_of_n": ("best_of_n", best_of_n, {}),
  "expert_iteration": ("best_of_n", best_of_n, {"rl.sampler": "policy"}),
}
SAMPLES = (ppo, groups, best_of_n)  # modules whose minibatches are of episodes


def found(name: str, mesh: Sequence[int]) -> tuple[dict[str, float], int]:
  """{metric: its mean}, and of all parameters after the update a checksum.

  Of the reward model also the bias that it is given at the end. Models have one
  layer, of which another would be a repetition that compiles for as long.
  """
  experiment, module, changes = UPDATES[name]
  sizes = dict(zip(("data", "fsdp", "tensor"), mesh))
  config = toys.config_of(experiment, mesh=sizes).unlock()
  config.update_from_flattened_dict(changes)
  ctx = toys.make_context(config.lock(), layers=1)
  run, state = step_lib.setup(ctx, module.ALGORITHM, 3, toys.checkpoints(ctx))
  collected = _collected(ctx, experiment, module, state)
  step = jax.jit(functools.partial(step_lib.update, run))
  with jax.set_mesh(ctx.mesh):
    state, metrics = step(state, *collected, jax.random.key(0))
  means = {
    # Of a count the sum is logged.
    key: float(total) / (1 if key[:6] == "count/" else max(float(weight), 1))
    for key, (total, weight) in hosts.fetch(metrics).items()
    if not key.startswith("padding/")  # of rows that are fewer at a time
  }
  if module is rm:
    means["bias"] = _bias(ctx, state)
  every = jax.tree.leaves(hosts.fetch(state.params))
  checksum = zlib.crc32(b"".join(np.ascontiguousarray(x) for x in every))
  return means, checksum


def _collected(ctx, experiment, module, state):
  text = batching.placed(toys.text(0), ctx.mesh)
  key = jax.random.key(0)
  if module in SAMPLES:
    beta = (state.extra["kl_coef"],) if state.extra else ()
    text = {"ptx": text} if ctx.config.rl.ptx_coef else {}
    episodes = _placed(toys.recorded(0), ctx.mesh)
    return module.minibatches(ctx, episodes, *beta, text, key)
  batch = _placed(toys.batch(experiment, 0), ctx.mesh)
  return module.ALGORITHM.collect(ctx, state, batch, None)


def _placed(tree, mesh):
  """Of rows that all processes hold each gives its share."""
  leaves, structure = jax.tree.flatten(tree)
  named = {str(n): np.asarray(x) for n, x in enumerate(leaves)}
  placed = batching.placed(named, mesh)
  there = [placed[str(n)] for n in range(len(placed))]
  return jax.tree.unflatten(structure, there)


class _OneBatch:
  """Demonstrations, as the loader hands them out."""

  def __init__(self, rows):
    self._rows = rows

  def __len__(self):
    return toys.B

  def in_order(self, size):
    assert size >= toys.B
    index = np.arange(size)
    index[index >= toys.B] = 0
    yield {name: x[index] for name, x in self._rows.items()}


def _bias(ctx, state):
  """What makes the demonstrations' mean score 0."""
  rows, make = toys.batch("sft", 3)["demonstrations"], loader.make
  loader.make = lambda *_, **__: _OneBatch(rows)
  try:
    head = rm.finish(ctx, state).params["reward"]["head"]
  finally:
    loader.make = make
  return float(hosts.fetch(head["bias"])[0])


def main(mesh: str, *names: str) -> None:
  """Prints what is found of each update on a mesh, as '2x1x1', a line each."""
  for name in names:
    print(json.dumps(found(name, [*map(int, mesh.split("x"))])))
