"""How fast a checkpoint is read, and how much memory that takes.

  python -m benchmarks.importing --gigabytes=2 --out=importing.json

Writes a synthetic Llama of that size (bfloat16, in two files) to a temporary
folder and reads it in turns with `hf.load` (turned, made float32 and placed on
the devices) and with safetensors' own `load_file` (numpy, as it lies). The
memory is the peak of the process above what it had, less the arrays
themselves, which on a CPU lie in the same memory.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy

from instruct_jax.base import claims, command, storage
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding

WIDTH, MLP, HEADS, KV_HEADS, VOCABULARY = 2048, 8192, 16, 8, 32_000


def write(folder: pathlib.Path, gigabytes: float) -> int:
  """A Llama of about that size; returns its bytes."""
  per_layer = 2 * (WIDTH * WIDTH * (2 + 2 * KV_HEADS / HEADS) + 3 * WIDTH * MLP)
  layers = max(1, round((gigabytes * 1e9 - 4 * VOCABULARY * WIDTH) / per_layer))
  config = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": layers,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 4096,
  }
  kv = WIDTH * KV_HEADS // HEADS
  shapes = {
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (kv, WIDTH),
    "self_attn.v_proj": (kv, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (MLP, WIDTH),
    "mlp.up_proj": (MLP, WIDTH),
    "mlp.down_proj": (WIDTH, MLP),
  }
  rng = np.random.default_rng(0)

  def random(shape):
    return (0.02 * rng.standard_normal(shape, np.float32)).astype(
      ml_dtypes.bfloat16
    )

  weights, total = {}, 0
  halves = range(layers // 2), range(layers // 2, layers)
  for n, half in enumerate(halves, 1):
    named = {
      f"model.layers.{i}.{name}.weight": random(shape)
      for i in half
      for name, shape in shapes.items()
    }
    if n == 1:
      named["model.embed_tokens.weight"] = random((VOCABULARY, WIDTH))
      named["lm_head.weight"] = random((VOCABULARY, WIDTH))
      named["model.norm.weight"] = random((WIDTH,))
    file = f"model-{n:05d}-of-00002.safetensors"
    safetensors.numpy.save_file(named, folder / file)
    weights |= dict.fromkeys(named, file)
    total += sum(x.nbytes for x in named.values())
  (folder / "config.json").write_text(json.dumps(config))
  index = {"metadata": {"total_size": total}, "weight_map": weights}
  (folder / hf_folder.INDEX).write_text(json.dumps(index))
  return total


def ours(folder: pathlib.Path) -> int:
  """Loads onto the devices; the bytes of the arrays."""
  there = hf_folder.Folder(folder)
  model = heads.LanguageModel(hf_load.decoder_config(there))
  shapes = jax.eval_shape(
    lambda key: forward.init_params(model, key), jax.random.key(0)
  )
  mesh = sharding.make_mesh(data=1, fsdp=1, tensor=1)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.place(shapes, mesh, heads.RULES),
  )
  params = jax.block_until_ready(hf_load.load(there, abstract, "policy"))
  return sum(x.nbytes for x in jax.tree.leaves(params))


def theirs(folder: pathlib.Path) -> int:
  """safetensors' own way; the bytes of the arrays."""
  total = 0
  for file in sorted(folder.glob("*.safetensors")):
    total += sum(x.nbytes for x in safetensors.numpy.load_file(file).values())
  return total


WAYS = {"instruct_jax": ours, "safetensors": theirs}


def status(field: str) -> int:
  """A field of /proc/self/status in bytes."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(field + ":"):
      return int(line.split()[1]) * 1024
  raise ValueError(field)


def once(way: str, folder: pathlib.Path) -> dict[str, float]:
  """Seconds and memory of one reading, in this process."""
  jax.block_until_ready(jax.numpy.zeros(1) + 1)
  before = status("VmRSS")
  start = time.perf_counter()
  arrays = WAYS[way](folder)
  return {
    "seconds": time.perf_counter() - start,
    "peak_bytes_above": status("VmHWM") - before,
    "array_bytes": arrays,
  }


def main() -> None:
  """Alternates the two ways, each in a process of its own."""
  parser = command.Parser("benchmarks.importing", __doc__)
  parser.add_argument("--gigabytes", type=float, default=2.0)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--out")
  parser.add_argument("--overwrite", action="store_true")
  parser.add_argument("--once", choices=WAYS)
  parser.add_argument("--folder")
  given = parser.parse_args()
  if given.once:
    print(json.dumps(once(given.once, pathlib.Path(given.folder))))
    return
  if given.out:
    claims.claim(given.out, overwrite=given.overwrite)
  with tempfile.TemporaryDirectory() as name:
    size = write(pathlib.Path(name), given.gigabytes)
    runs = {way: [] for way in WAYS}
    for _ in range(given.rounds + 1):  # The first warms the page cache.
      for way, found in runs.items():
        again = [sys.executable, "-m", "benchmarks.importing"]
        again += [f"--once={way}", f"--folder={name}"]
        done = subprocess.run(again, check=True, capture_output=True)
        found.append(json.loads(done.stdout))
  largest = 2 * VOCABULARY * WIDTH
  result = {"bytes": size, "largest_tensor_bytes": largest}
  for way, found in runs.items():
    best = min(found[1:], key=lambda x: x["seconds"])
    beside = best["peak_bytes_above"] - best["array_bytes"]
    result[way] = best | {
      "gigabytes_a_second": size / best["seconds"] / 1e9,
      "all_seconds": [round(x["seconds"], 3) for x in found[1:]],
      "host_bytes_beside_arrays": beside,
    }
  text = json.dumps(result, indent=2)
  print(text)
  if given.out:
    storage.write_json(given.out, result)
    claims.sign(given.out)


if __name__ == "__main__":
  command.run(main)
