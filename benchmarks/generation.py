"""Responses of ragged lengths, beside another checkout of this package.

  git worktree add /tmp/parent COMMIT
  python -m benchmarks.generation --parent=/tmp/parent
  python -m benchmarks.generation --parent=/tmp/parent --size=small --repeats=3

Both sample 64 responses to prompts of 16 to 64 tokens with the same weights and
draws, A B B A, each in a process of its own. Lengths are drawn once from a
geometric distribution cut at 128 with mean 32, and forced on both: a draw below
0 stands for the end, which is chosen nowhere else. That the tokens are the same
is checked. Printed are the medians of seconds and CPU seconds, and the ratio of
the pairs with the least and the greatest.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np

from benchmarks.suite import lengths
from instruct_jax.base import command, errors, terminal

PROMPTS, SHORTEST, PROMPT, RESPONSE, MEAN = 64, 16, 64, 128, 32
SIZES = {  # layers, width, heads, vocabulary
  "tiny": (4, 256, 4, 8192),
  "small": (12, 768, 12, 50257),
  "toy": (2, 32, 2, 64),
}
ROOT = pathlib.Path(__file__).resolve().parents[1]

# What the worker runs: it imports the package of the folder it is told, and of
# it only what has been there since there were slots, and before.
WORKER = """
import json, sys, time
import jax, jax.numpy as jnp, numpy as np
from instruct_jax.inference import choice, generate
from instruct_jax.models import attention, config, heads

given = json.loads(sys.argv[1])
layers, width, count, vocabulary = given["size"]
lengths, prompts, R = given["lengths"], given["prompts"], given["response"]
N, P = len(prompts), max(map(len, prompts))
END = 1
model = heads.LanguageModel(config.DecoderConfig(
  vocab_size=vocabulary, context_length=P + R, layers=layers, width=width,
  heads=count, kv_heads=count, head_size=width // count, mlp_width=4 * width))
token = jnp.zeros((1, 1), jnp.int32)
shapes = jax.eval_shape(
  model.init, jax.random.key(0), token, attention.padded(token == 0))
rng = np.random.default_rng(0)
params = jax.tree.map(
  lambda x: jnp.asarray(0.02 * rng.normal(size=x.shape), x.dtype), shapes
)["params"]
prompt = jnp.asarray([[0] * (P - len(x)) + x for x in prompts], jnp.int32)
home = choice if hasattr(choice, "draws") else generate
draws, choose, table = home.draws, choice.choose, jnp.asarray(lengths)

def forced(key, episodes, position):
  ends = position + 1 >= table[episodes]
  return jnp.where(ends, -1.0, draws(key, episodes, position))

def chosen(logits, uniforms, sampling, *, temperature):
  tokens = choose(
    logits.at[:, END].set(-jnp.inf), jnp.maximum(uniforms, 0), sampling,
    temperature=temperature)
  return jnp.where(uniforms < 0, END, tokens)

home.draws, choice.choose = forced, chosen
names = choice.Sampling.__dataclass_fields__
sampling = choice.Sampling(
  max_tokens=R, stop_ids=(END,), pad_id=0,
  **({"rows": 64} if "rows" in names else {}))

def run():
  made = generate.generate(
    model, params, prompt, prompt > 0, jnp.arange(N), jax.random.key(1),
    sampling)
  return np.asarray(made.tokens), np.asarray(made.is_response)

tokens, is_response = run()
found = is_response.sum(axis=1).tolist()
assert found == lengths, "the lengths were not forced"
print(json.dumps({"tokens": tokens.tolist()}), flush=True)
for _ in sys.stdin:
  wall, cpu = time.monotonic(), time.process_time()
  run()
  spent = time.monotonic() - wall, time.process_time() - cpu
  print(json.dumps(spent), flush=True)
"""


class Side:
  """A worker on the package of a folder."""

  def __init__(self, folder: pathlib.Path, given: dict):
    self._process = subprocess.Popen(
      [sys.executable, "-c", WORKER, json.dumps(given)],
      cwd=folder,
      env=os.environ | {"PYTHONPATH": str(folder)},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.tokens = self._answer()["tokens"]

  def run(self) -> tuple[float, float]:
    """Seconds and CPU seconds of all responses."""
    assert self._process.stdin is not None
    self._process.stdin.write("\n")
    self._process.stdin.flush()
    wall, cpu = self._answer()
    return wall, cpu

  def end(self) -> None:
    self._process.kill()
    self._process.wait()

  def _answer(self):
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise errors.UserError("a worker failed; what it said stands above")
    return json.loads(line)


def work(size: str) -> dict:
  """What both sides are given."""
  vocab_size = SIZES[size][-1]
  lasts = np.random.default_rng(1).integers(2, vocab_size, PROMPTS)
  responses = lengths.ragged(0, PROMPTS, mean=MEAN, longest=RESPONSE)
  return {
    "size": SIZES[size],
    "prompts": lengths.prompts(0, lasts, SHORTEST, PROMPT, vocab_size),
    "lengths": responses.tolist(),
    "response": RESPONSE,
  }


def measure(
  parent: pathlib.Path, size: str, repeats: int
) -> list[list[tuple[float, float]]]:
  """The runs of the parent and of this package, in pairs."""
  given = work(size)
  sides: list[Side] = []
  try:
    sides += [Side(folder, given) for folder in (parent, ROOT)]
    if sides[0].tokens != sides[1].tokens:
      raise errors.UserError(f"{size}: the tokens of the two sides differ")
    found = [[], []]
    for n in range(repeats):
      for i in (0, 1) if n % 2 == 0 else (1, 0):
        found[i].append(sides[i].run())
    return found
  finally:
    for side in sides:
      side.end()


def summary(size: str, found: list[list[tuple[float, float]]]) -> list[list]:
  """The rows of the table: seconds, CPU seconds, and their ratios."""
  rows = []
  for n, what in enumerate(("seconds", "CPU seconds")):
    before, after = ([run[n] for run in runs] for runs in found)
    ratios = sorted(x / y for x, y in zip(before, after))
    rows.append(
      [
        size,
        what,
        round(statistics.median(before), 3),
        round(statistics.median(after), 3),
        f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]",
      ]
    )
  return rows


def main() -> None:
  """Prints the table."""
  parser = command.Parser("benchmarks.generation", __doc__)
  parser.add_argument("--parent", required=True, help="another checkout")
  parser.add_argument("--size", default="tiny,small", help="with commas")
  parser.add_argument("--repeats", type=int, default=5)
  options = parser.parse_args()
  parent = pathlib.Path(options.parent).resolve()
  if not (parent / "instruct_jax").is_dir():
    raise errors.UserError(f"--parent={options.parent}: no checkout is there")
  for size in options.size.split(","):
    if size not in SIZES:
      raise errors.unknown("--size", size, SIZES)
  rows = []
  for size in options.size.split(","):
    rows += summary(size, measure(parent, size, options.repeats))
  terminal.table(rows, ["size", "", "parent", "this", "ratio"])


if __name__ == "__main__":
  command.run(main)
