"""The programs of a run, each with the shapes that it is compiled for.

They are those that training runs. Of sampling, which is one program for all
responses, the two that it consists of: filling free slots with prompts, and a
token more in every slot; before them the weights' copy, if it has one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.algorithms import episodes
from instruct_jax.inference import decoding, generate, slots
from instruct_jax.parallel import sharding, slices
from instruct_jax.planning import setting
from instruct_jax.training import step


@dataclasses.dataclass(frozen=True)
class Program:
  """What can be lowered; how much of the run's state it is given."""

  function: jax.stages.Wrapped
  arguments: tuple
  state: Any  # the part of the state among its arguments
  minibatches: Any = None  # {part: rows}, of an update
  slots: int = 0  # of sampling: how many responses grow at a time
  rows: int = 0  # prompts that are read, or tokens that are chosen
  turns: int = 1  # how often it does what it is named for
  from_copy: bool = False  # of the policy's weights that lies for decoding


def has_copy(given: setting.Setting) -> bool:
  """Whether a run samples from weights that are laid out for decoding."""
  ctx, state = given.ctx, given.state
  with jax.set_mesh(ctx.mesh):  # whose devices are not this process's
    return decoding.is_apart(ctx, state, state.params["policy"])


def decoding_copy(given: setting.Setting) -> Program:
  """The policy's weights are laid out for decoding, once an iteration."""
  policy = given.state.params["policy"]
  return Program(decoding.program(given.ctx, policy), (policy,), policy)


def prefill(given: setting.Setting) -> Program:
  """Prompts come into free slots."""
  sampler = _sampler(given)

  def fill(params, uniforms, queue, state):
    network, choose = sampler.parts(params, uniforms)
    order = queue.order
    return slots.filled(
      network, choose, queue, state, sampler.shape, order=order
    )

  return sampler.program(fill, rows=sampler.shape.fill)


def decode_step(given: setting.Setting) -> Program:
  """A token more in every slot, as often as the longest response needs.

  The cache is made in the program, as in sampling: it lies as the loop likes.
  """
  sampler = _sampler(given)
  turns = max(1, sampler.sampling.max_tokens - 1)

  def decode(params, uniforms, queue, state):
    del queue
    network, choose = sampler.parts(params, uniforms)
    state = dataclasses.replace(state, cache=network.empty())
    done = slices.loop(
      turns,
      lambda _, state: slots.stepped(network, choose, state),
      state,
      most=turns,
    )
    return dataclasses.replace(done, cache=None)

  program = sampler.program(decode, rows=sampler.shape.slots, has_cache=False)
  return dataclasses.replace(program, turns=turns)


class _sampler:
  """How a run's responses are sampled: all prompts of an iteration."""

  def __init__(self, given: setting.Setting):
    ctx = given.ctx
    self.model, self.mesh = ctx.policy, ctx.mesh
    how = ctx.sampling(temperature=ctx.config.rl.temperature)
    self.prompts = ctx.config.batch.prompts
    few = generate.usual_slots(self.prompts, how.slots)
    self.sampling = dataclasses.replace(how, slots=few)
    self.width = ctx.config.data.prompt_length
    self.shape = slots.shape_of(
      self.prompts, self.sampling.slots, how.max_tokens, ctx.mesh
    )
    self.policy = given.state.params["policy"]
    self.from_copy = has_copy(given)
    if self.from_copy:
      self.policy = decoding.shapes(ctx, self.policy)

  def parts(self, params, uniforms):
    """The network, and what chooses its tokens."""
    columns = self.width + self.sampling.max_tokens
    network = generate.reader(
      self.model, params, self.width, columns, self.shape, is_long=True
    )
    return network, slots.chooser(uniforms, self.sampling, temperature=1.0)

  def program(self, function, *, rows, has_cache=True) -> Program:
    """A program that takes over the memory of the slots."""
    whole = functools.partial(setting.shape, self.mesh, P())
    N, R = self.prompts, self.sampling.max_tokens
    queue = slots.Queue(
      prompt=whole(N, self.width),
      is_prompt=whole(N, self.width, dtype=bool),
      episodes=whole(N),
      limits=whole(N),
    )
    begun = jax.eval_shape(
      lambda queue: generate.begin(self.model, self.sampling, self.mesh, queue),
      queue,
    )
    if not has_cache:
      begun = dataclasses.replace(begun, cache=None)
    state = setting.placed(begun, self._places(begun))
    uniforms = whole(N, R, dtype=jnp.float32)
    places = jax.tree.map(lambda x: x.sharding, state)
    return Program(
      jax.jit(function, donate_argnums=3, out_shardings=places),
      (self.policy, uniforms, queue, state),
      () if self.from_copy else self.policy,
      slots=self.shape.slots,
      rows=rows,
      from_copy=self.from_copy,
    )

  def _places(self, begun):
    """Where the arrays of slots lie in the loop that they are changed in."""
    tensor = self.mesh.shape["tensor"]

    def one(path, x):
      name = sharding.path_name(path)
      if name.startswith("cache"):
        heads = None if x.shape[-3] % tensor else "tensor"
        stacked = (None,) * (x.ndim - 4)
        layout = P(*stacked, *sharding.BATCH, heads, None, None)
      elif name.startswith("said") or not x.ndim:
        layout = P()
      else:
        layout = sharding.BATCH
      return NamedSharding(self.mesh, layout)

    return jax.tree_util.tree_map_with_path(one, begun)


def score(given: setting.Setting) -> Program:
  """Logprobs of policy and reference, values and rewards of all episodes."""
  ctx, state = given.ctx, given.state
  rows, length = ctx.config.batch.prompts, ctx.config.data.response_length
  of_rows = functools.partial(setting.shape, ctx.mesh, sharding.BATCH)
  sampled = generate.Generation(
    tokens=of_rows(rows, length),
    is_response=of_rows(rows, length, dtype=bool),
    ended=of_rows(rows, dtype=bool),
    stop_ids=ctx.stop_ids,
  )
  return Program(
    jax.jit(functools.partial(episodes.score, ctx)),
    (state.params, state.frozen, given.batch["prompts"], sampled),
    (state.params, state.frozen),
    rows=rows,
  )


def update(given: setting.Setting) -> Program:
  """A step's updates, one a minibatch."""
  parts = learned, rest, frozen = step.parts(given.run, given.state)
  places = jax.tree.map(lambda x: x.sharding, learned)
  minibatches, collected = collected_of(given)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return Program(
    step.program(given.run, places),
    (learned, rest, frozen, minibatches, collected, key),
    parts,
    minibatches=minibatches,
  )


def collected_of(given: setting.Setting) -> Any:
  """Shapes of what `collect` makes of a batch: minibatches and metrics."""
  ctx, algorithm = given.ctx, given.run.algorithm
  key = jax.eval_shape(lambda: jax.random.key(0))
  collected = jax.eval_shape(
    functools.partial(algorithm.collect, ctx), given.state, given.batch, key
  )
  rows = NamedSharding(ctx.mesh, P(None, *sharding.BATCH))
  whole = NamedSharding(ctx.mesh, P())
  places = (
    jax.tree.map(lambda x: rows, collected[0]),
    jax.tree.map(lambda x: whole, collected[1]),
  )
  return setting.placed(collected, places)


PROGRAMS: dict[str, Callable[[setting.Setting], Program]] = {
  "decoding_copy": decoding_copy,
  "prefill": prefill,
  "decode_step": decode_step,
  "score": score,
  "update": update,
}
