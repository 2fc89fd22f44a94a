"""What an iteration of PPO-ptx holds in memory, with and without adapters.

  python -m benchmarks.lora_memory --out=lora_memory.json

A decoder of 110 M parameters (12 layers, 768 wide, 32,000 tokens), a reward
model of the same shape, random weights: one iteration (responses, scores, an
update of policy and value network with ptx), each setting in a process of its
own. Bytes are counted three ways: the buffers of the state, each once, and
what they should be; what the compiled update says that it needs; the peak of
the process. On a CPU arrays and temporaries lie in the process's own memory;
the peak includes Python, XLA and its compiler.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np

from experiments import ppo_ptx
from instruct_jax import algorithms, tokenizers
from instruct_jax.base import claims, command, storage
from instruct_jax.inference import context
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads, lora
from instruct_jax.parallel import sharding
from instruct_jax.training import step

WIDTH, LAYERS, HEADS, VOCABULARY = 768, 12, 12, 32_000
PROMPT, RESPONSE, ROWS = 32, 16, 8
SETTINGS = {"whole": 0, "lora": 16}  # ranks
ADAM, BYTES = 2, 4  # moments, and float32


def make(rank: int, layers: int, width: int) -> tuple[Any, dict, dict]:
  """(context, the parameters of policy and reward model, a batch)."""
  config = ppo_ptx.get_config("test").unlock()
  config.lora.rank = rank
  config.batch = {"prompts": ROWS, "pretraining": ROWS}
  config.rl.minibatches = 1
  config.data.prompt_length, config.data.response_length = PROMPT, RESPONSE
  settings = lora.settings(config.lora)
  decoder = model_config.DecoderConfig(
    vocab_size=VOCABULARY,
    context_length=PROMPT + RESPONSE,
    layers=layers,
    width=width,
    heads=HEADS,
    kv_heads=HEADS,
    head_size=width // HEADS,
    mlp_width=4 * width,
    scan=True,
    remat="full",
    adapters=settings.counted if settings else model_config.Adapters(),
  )
  ctx = context.Context(
    config=config.lock(),
    policy=heads.LanguageModel(decoder),
    scalar=heads.ScalarModel(decoder),
    tokenizer=tokenizers.ByteTokenizer(),
    mesh=sharding.make_mesh(**config.mesh),
    folders={},
  )
  init = jax.jit(forward.init_params, static_argnums=0)
  given = {
    role: init(ctx.model(role), jax.random.key(i))
    for i, role in enumerate(("policy", "reward"))
  }
  tokens = np.random.default_rng(0).integers(3, VOCABULARY, (ROWS, PROMPT))
  is_token = np.ones_like(tokens, bool)
  text = {"tokens": tokens.astype(np.int32), "is_token": is_token}
  prompts = {
    "prompt": text["tokens"],
    "is_prompt": text["is_token"],
    "index": np.arange(ROWS, dtype=np.int32),
  }
  return ctx, given, {"prompts": prompts, "pretraining": text}


def held(tree: Any, seen: set[int]) -> int:
  """Bytes of a tree's buffers that are not in `seen`, which they join."""
  total = 0
  for x in jax.tree.leaves(tree):
    pointer = x.unsafe_buffer_pointer()
    total += 0 if pointer in seen else x.nbytes
    seen.add(pointer)
  return total


def by_role(state: algorithms.State) -> dict[str, int]:
  """Bytes that each part of a state adds to those before it."""
  seen: set[int] = set()
  return {
    f"{field}.{role}": held(tree, seen)
    for field in ("frozen", "params", "ema", "optimizer")
    for role, tree in getattr(state, field).items()
  }


def predicted(sizes: dict[str, int], learned: dict[str, int]) -> dict[str, int]:
  """The same by counting parameters: all of them, and those that are trained.

  A network's base is held once, by the frozen role that has it; what is trained
  has its own copy, an average (the policy's) and two moments.
  """
  whole = {role: learned[role] == sizes[role] for role in learned}
  expected = {
    "frozen.reference": sizes["policy"],
    "frozen.reward": sizes["value"],
    "ema.policy": learned["policy"],
  }
  for role, count in learned.items():
    expected[f"params.{role}"] = sizes[role] if whole[role] else count
    expected[f"optimizer.{role}"] = ADAM * count
  return {name: BYTES * count for name, count in expected.items()}


def status(field: str) -> int:
  """A field of /proc/self/status in bytes."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(field + ":"):
      return int(line.split()[1]) * 1024
  raise ValueError(field)


def once(rank: int, layers: int, width: int) -> dict[str, Any]:
  """One iteration in this process, measured."""
  jax.block_until_ready(jax.numpy.zeros(1) + 1)
  before = status("VmRSS")
  ctx, given, batch = make(rank, layers, width)
  run, state = step.setup(ctx, algorithms.named("ppo"), 10, given)
  del given  # Frozen roles hold what they share with it.
  count = {
    role: sum(x.size for x in jax.tree.leaves(tree))
    for role, tree in state.params.items()
  }
  moments = {
    role: sum(x.size for x in jax.tree.leaves(tree) if x.ndim) // ADAM
    for role, tree in state.optimizer.items()
  }
  measured = by_role(state)
  with jax.set_mesh(ctx.mesh):
    rows = sharding.global_batch(batch, ctx.mesh)
    collected = run.algorithm.collect(ctx, state, rows, jax.random.key(0))
    jax.block_until_ready(collected)
    arguments = step.parts(run, state), collected, jax.random.key(1)
    learned, rest, frozen = arguments[0]
    program = step.program(run).lower(
      learned, rest, frozen, *collected, arguments[2]
    )
    needs = program.compile().memory_analysis()
    del arguments, learned, rest, frozen
    state, metrics = step.compiled(run)(state, *collected, jax.random.key(1))
    jax.block_until_ready((state, metrics))
  live = held(jax.live_arrays(), set())
  sizes = {"policy": count["policy"], "value": count["value"]}
  adapters = {role: _adapters(tree) for role, tree in state.params.items()}
  base = {role: sizes[role] - adapters[role] for role in sizes}
  expected = predicted(base, moments)
  return {
    "rank": rank,
    "parameters": base,
    "trained": moments,
    "state_bytes": measured | {"all": sum(measured.values())},
    "predicted_bytes": expected | {"all": sum(expected.values())},
    "live_bytes_after_the_update": live,
    "update": {
      "argument_bytes": needs.argument_size_in_bytes,
      "temporary_bytes": needs.temp_size_in_bytes,
      "output_bytes": needs.output_size_in_bytes,
      "output_bytes_in_place": needs.alias_size_in_bytes,
    },
    "process_peak_bytes_above_start": status("VmHWM") - before,
    "kl": float(metrics["objective/kl"][0]),
  }


def _adapters(tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return sum(
    x.size for path, x in leaves if lora.is_adapter(sharding.path_name(path))
  )


def main() -> None:
  """Each setting in a process of its own."""
  parser = command.Parser("benchmarks.lora_memory", __doc__)
  parser.add_argument("--layers", type=int, default=LAYERS)
  parser.add_argument("--width", type=int, default=WIDTH)
  parser.add_argument("--out")
  parser.add_argument("--overwrite", action="store_true")
  parser.add_argument("--once", choices=SETTINGS)
  given = parser.parse_args()
  if given.once:
    found = once(SETTINGS[given.once], given.layers, given.width)
    print(json.dumps(found))
    return
  if given.out:
    claims.claim(given.out, overwrite=given.overwrite)
  sizes = [f"--layers={given.layers}", f"--width={given.width}"]
  result = {}
  for name in SETTINGS:
    again = [sys.executable, "-m", "benchmarks.lora_memory", f"--once={name}"]
    done = subprocess.run([*again, *sizes], check=True, capture_output=True)
    result[name] = json.loads(done.stdout)
  print(json.dumps(result, indent=2))
  if given.out:
    storage.write_json(given.out, result)
    claims.sign(given.out)


if __name__ == "__main__":
  command.run(main)
