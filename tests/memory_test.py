"""What is never made: an array of the logits of all positions.

Programs are traced, not run, with a vocabulary whose size no other axis has.
"""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import memory
from instruct_jax import algorithms
from instruct_jax.algorithms import best_of_n, dpo, episodes, groups, ppo
from instruct_jax.inference import generate, score
from instruct_jax.models import forward, heads, vocabulary
from instruct_jax.training import gradient
from tests import toys

V = 61  # prime, and no other axis of the toys
ROWS = toys.B  # of logits at most: one position of every row
ITERATIONS = {
  "ppo": ppo,
  "rloo": groups,
  "grpo": groups,
  "best_of_n": best_of_n,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(vocabulary, "BLOCK_BYTES", 0)
  monkeypatch.setattr(vocabulary, "BLOCK_ROWS", 1)
  monkeypatch.setattr(vocabulary, "KEPT_BYTES", 0)


def arrays_of(jaxpr):
  """The shapes of all that a program computes, loops' bodies included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield variable.aval.shape
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from arrays_of(inner)


def rows_of_logits(function, *arguments):
  """The most positions of which a program has logits, in one array."""
  shapes = set(arrays_of(jax.make_jaxpr(function)(*arguments).jaxpr))
  counts = [math.prod(s) // V for s in shapes if V in s]
  return max(counts)


def shapes_of(ctx):
  """Parameters by role, as shapes."""
  models = {"policy": ctx.policy, "value": ctx.scalar}
  found = {
    role: jax.eval_shape(
      functools.partial(forward.init_params, model), jax.random.key(0)
    )
    for role, model in models.items()
  }
  return found | {"reward": found["value"], "reference": found["policy"]}


def minibatch_of(ctx, algorithm):
  """The shapes of one minibatch."""
  if algorithm not in ITERATIONS:
    return toys.batch(algorithm, 0)
  text = {"ptx": toys.text(0)} if ctx.config.rl.ptx_coef else {}
  arguments = [toys.recorded(0), jnp.float32(0), text, jax.random.key(0)]
  if algorithm == "best_of_n":
    del arguments[1]
  make = functools.partial(ITERATIONS[algorithm].minibatches, ctx)
  parts, _ = jax.eval_shape(make, *arguments)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts
  )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", [n for n in toys.EXPERIMENTS if n != "rm"])
def test_no_gradient_has_the_logits_of_all_positions(name, tied):
  ctx = toys.make_context(toys.config_of(name), vocab_size=V, tied=tied)
  algorithm = algorithms.named(toys.config_of(name).algorithm)
  given = shapes_of(ctx)
  params = {role: given[role] for role in ctx.config.optimizer}
  function = functools.partial(gradient.of_minibatch, ctx, algorithm)
  arguments = params, {}, minibatch_of(ctx, name), jax.random.key(0)
  assert (
    toys.decoder_config().width <= rows_of_logits(function, *arguments) <= ROWS
  )


def test_no_score_has_the_logits_of_all_positions():
  """Episodes, references computed once, and evaluations."""
  ctx = toys.make_context(toys.config_of("ppo"), vocab_size=V)
  given = shapes_of(ctx)
  policy, sequences = given["policy"], toys.recorded(0).sequences
  generation = generate.Generation(
    tokens=sequences["response"],
    is_response=sequences["is_response"],
    ended=np.ones(toys.B, bool),
  )
  scored = functools.partial(episodes.score, ctx)
  arguments = given, given, toys.prompts(0), generation
  assert rows_of_logits(scored, *arguments) <= ROWS
  said = functools.partial(dpo.completion_logprobs, ctx)
  rankings = toys.batch("dpo", 0)["rankings"]
  assert rows_of_logits(said, policy, rankings) <= ROWS
  function = functools.partial(score._logprobs, ctx.policy)
  assert rows_of_logits(function, policy, sequences) <= ROWS


def test_logits_of_all_positions_would_be_seen():
  """The measure itself: what has them, and a program of blocks."""
  model = heads.LanguageModel(toys.decoder_config(vocab_size=V))
  init = functools.partial(forward.init_params, model)
  params = jax.eval_shape(init, jax.random.key(0))
  sequences = toys.recorded(0).sequences
  plain = functools.partial(forward.response_logits, model)
  assert rows_of_logits(plain, params, sequences) == toys.B * toys.R


def test_temporaries_do_not_grow_with_the_positions(monkeypatch):
  """Of a compiled gradient, blocks of 64 positions, with all of them kept."""
  monkeypatch.setattr(vocabulary, "BLOCK_ROWS", 64)
  size, width, positions = 4001, 8, 64
  kernel = jax.ShapeDtypeStruct((width, size), jnp.float32)

  def loss(hidden, kernel, tokens):
    said = vocabulary.logprobs(hidden, tokens, kernel=kernel, tied=False)
    return said.sum()

  def temporaries(rows):
    hidden = jax.ShapeDtypeStruct((rows, positions, width), jnp.float32)
    tokens = jax.ShapeDtypeStruct((rows, positions), jnp.int32)
    program = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, kernel, tokens)
    return program.compile().memory_analysis().temp_size_in_bytes

  block, few, many = 64 * size * 4, temporaries(2), temporaries(16)
  assert block < few < many < min(1.2 * few, 4 * block)
  monkeypatch.setattr(vocabulary, "KEPT_BYTES", 2**30)
  assert temporaries(16) > 15 * block


def test_the_readme_s_table_is_that_of_the_results():
  found = json.loads(memory.RESULTS.read_text())
  table = memory.table(found)
  readme = (memory.RESULTS.parents[2] / "README.md").read_text()
  assert f"\n{table}\n" in readme
  assert table.count("\n") == len(memory.PROGRAMS) + 1


def test_a_cell_says_what_was_measured_or_refused():
  needs = {"arguments": 1_260_000_000, "temporaries": 20_000_000_000}
  assert memory.cell(needs) == "1.3 + 20.0"
  said = memory.refusal(
    "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (5.00G)"
    " exceeds available HBM (3.00G)."
  )
  assert memory.cell(said) == "refused: 5.4"  # GiB there, GB here
  assert memory.cell(memory.refusal("no\nidea")) == "–"
  assert memory.cell({"failed": "x"}) == memory.cell(None) == "–"
