"""Slots that are filled anew: a fake network that reads all of its text.

What it says next depends on every token of the text and on where it stands, so
a mask, a position, a column or a draw that is off by one says something else.
"""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.inference import choice, slots
from instruct_jax.models import attention
from instruct_jax.parallel import sharding
from tests import processes

V, PAD, STOP, P, R = 11, 0, 1, 4, 5
S = P + R
KEY = jax.random.key(5)
SAMPLING = choice.Sampling(max_tokens=R, stop_ids=(STOP,), pad_id=PAD)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 97, S)  # of a token, by its place
TABLE = RNG.normal(size=(97, V)).astype(np.float32) * 2


def logits_after(total):
  return jnp.asarray(TABLE)[total % 97]


def read(prompt, is_prompt):
  places = jnp.asarray(WEIGHTS)[attention.positions_of(is_prompt)]
  total = jnp.where(is_prompt, prompt * places, 0).sum(axis=1)
  return logits_after(total), prompt


def network(shape):
  """It remembers the tokens themselves, [B, S]."""

  def placed(cache, read, time, put):
    there = jnp.zeros((len(read), S), jnp.int32).at[:, :P].set(read)
    return put(cache, jnp.roll(there, time - P, axis=1))

  def step(tokens, positions, time, cache):
    structure = attention.around(positions, time, S)
    cache = cache.at[:, structure.first].set(tokens)
    places = jnp.asarray(WEIGHTS)[structure.key_positions]
    total = jnp.where(structure.is_key, cache * places, 0).sum(axis=1)
    return logits_after(total), cache

  def empty():
    return jnp.full((shape.slots, S), 7)

  return slots.Network(empty, read, placed, step)


def shape_of(prompts, count, fill, mesh=None):
  shape = slots.shape_of(prompts, count, R, mesh)
  one = shape.groups
  return slots.Shape(shape.slots, min(fill * one, shape.slots), R, mesh)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(shape, sampling, queue, steps=None, state=None):
  told = network(shape)
  if state is None:
    state = slots.begin(told, queue, shape)
  return slots.advance(
    *(told, queue, state, shape, sampling, KEY),
    temperature=jnp.float32(0.8),
    steps=steps,
  )


@functools.cache
def uniforms():
  """The draws of 100 episodes and R places."""

  def draw(n):
    key = jax.random.fold_in(jax.random.fold_in(KEY, n // R), n % R)
    return jax.random.uniform(key)

  draws = jax.jit(jax.vmap(draw))(jnp.arange(100 * R))
  return np.asarray(draws, np.float64).reshape(100, R)


def alone(prompt, episode, limit):
  """(tokens, whether it ended) of one prompt: a loop in plain Python."""
  text, said = [int(x) for x in prompt], []
  while len(said) < limit and said[-1:] != [STOP]:
    total = sum(x * int(w) for x, w in zip(text, WEIGHTS))
    logits = TABLE[total % 97].astype(np.float64) / np.float64(0.8)
    logits[PAD] = -np.inf
    mass = np.cumsum(np.exp(logits - logits.max()))
    draw = uniforms()[episode, len(said)]
    said.append(int((mass > draw * mass[-1]).argmax()))
    text.append(said[-1])
  return said, said[-1:] == [STOP]


def queue_of(rng, count):
  """Prompts of 0 to P tokens; limits are often 0, 1 or R."""
  lengths = rng.choice([0, 1, 2, 3, P], size=count)
  is_prompt = np.arange(P) >= P - lengths[:, None]
  prompt = np.where(is_prompt, rng.integers(2, V, (count, P)), 3)
  limits = rng.choice([0, 1, 2, R, R, R, R], size=count)
  return slots.Queue(
    jnp.asarray(prompt, jnp.int32),
    jnp.asarray(is_prompt),
    jnp.asarray(rng.permutation(100)[:count], jnp.int32),
    jnp.asarray(limits, jnp.int32),
  )


def check(queue, state):
  queue = jax.tree.map(np.asarray, queue)
  for n in range(len(queue.limits)):
    prompt = queue.prompt[n][queue.is_prompt[n]]
    said, ended = alone(prompt, int(queue.episodes[n]), queue.limits[n])
    assert int(state.said_count[n]) == len(said)
    assert np.asarray(state.said)[n, : len(said)].tolist() == said
    assert bool(state.said_ended[n]) == ended


# One prompt, fewer than slots, as many, more; fillings of one, some and all.
@pytest.mark.parametrize(
  ("prompts", "count", "fill"),
  [
    (1, 4, 1),
    (3, 8, 2),
    (4, 4, 4),
    (9, 1, 1),
    (11, 4, 2),
    (13, 5, 5),
    (6, 0, 1),
  ],
)
@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(st.integers(0, 2**32 - 1))
def test_each_says_what_it_says_alone(prompts, count, fill, seed):
  queue = queue_of(np.random.default_rng(seed), prompts)
  state = run(shape_of(prompts, count, fill), SAMPLING, queue)
  check(queue, state)
  assert not state.is_running.any()
  assert int(state.taken) == int((queue.limits > 0).sum())


def test_nothing_is_asked():
  queue = queue_of(np.random.default_rng(0), 4)
  queue = queue.replace(limits=jnp.zeros(4, jnp.int32))
  state = run(shape_of(4, 4, 4), SAMPLING, queue)
  assert int(state.time) == int(state.taken) == 0
  assert not state.said_count.any()


def test_all_end_at_once():
  """Every slot at the same time, over and over: nothing but fillings."""
  queue = queue_of(np.random.default_rng(0), 11)
  every = dataclasses.replace(SAMPLING, stop_ids=tuple(range(V)), pad_id=V)
  queue = queue.replace(limits=jnp.full(11, R))
  state = run(shape_of(11, 4, 2), every, queue)
  np.testing.assert_array_equal(state.said_count, 1)
  assert state.said_ended.all()
  assert int(state.time) == 0


def test_what_was_said_outlasts_the_turn_of_the_columns():
  """The third slot has ended early and waits, as the first two end together."""
  queue = queue_of(np.random.default_rng(0), 12)
  limits = jnp.asarray([1, R, R, 2] + [R] * 8, jnp.int32)
  queue = queue.replace(limits=limits, is_prompt=jnp.ones((12, P), bool))
  never = dataclasses.replace(SAMPLING, stop_ids=())
  shape = shape_of(12, 3, 2)
  state = run(shape, never, queue)
  assert int(state.time) > S
  early = run(shape, never, queue, jnp.int32(1))
  assert int(early.said_count[3]) == 2
  np.testing.assert_array_equal(early.said[3], state.said[3])
  np.testing.assert_array_equal(state.said_count, limits)


def scheduled(lengths, count, fill):
  """The steps that responses of these lengths take: a loop over lists."""
  waiting, left, time = list(lengths), [0] * count, 0
  while waiting or any(left):
    free = [n for n in range(count) if not left[n]]
    if waiting and len(free) >= min(fill, len(waiting)):
      for n in free[:fill]:
        left[n] = waiting.pop(0) - 1 if waiting else 0
      continue
    left, time = [max(0, x - 1) for x in left], time + 1
  return time


@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(st.integers(0, 2**32 - 1))
def test_ragged_responses_cost_their_mean(seed):
  """A slot waits for no other: exactly the steps of a loop over lists."""
  rng = np.random.default_rng(seed)
  queue = queue_of(rng, 64)
  queue = queue.replace(
    limits=jnp.asarray(rng.choice([1, 1, 1, R], size=64), jnp.int32)
  )
  never = dataclasses.replace(SAMPLING, stop_ids=())
  state = run(shape_of(64, 4, 1), never, queue)
  lengths = np.asarray(queue.limits)[np.asarray(queue.order)]
  assert int(state.time) == scheduled(lengths, 4, 1)
  assert int(state.time) <= (lengths - 1).sum() / 4 + R


def test_prompts_of_like_lengths_are_read_together():
  """The longest first; what is not asked comes last, whatever its length."""
  is_prompt = jnp.arange(P) >= P - jnp.asarray([[1], [4], [0], [2], [4]])
  limits = jnp.asarray([1, 0, 1, 3, 2])
  zeros = jnp.zeros(is_prompt.shape, jnp.int32)
  queue = slots.Queue(zeros, is_prompt, limits, limits)
  assert queue.order.tolist() == [4, 3, 0, 2, 1]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_it_may_stop_anywhere_and_go_on(steps):
  queue = queue_of(np.random.default_rng(3), 11)
  shape = shape_of(11, 4, 2)
  state = run(shape, SAMPLING, queue, jnp.int32(0))
  assert int(state.time) == 0
  assert state.is_running.any()
  seen = 0
  while state.is_running.any() or int(state.taken) < (queue.limits > 0).sum():
    before = int(state.time)
    state = run(shape, SAMPLING, queue, jnp.int32(steps), state)
    assert int(state.time) - before <= steps
    assert int(state.said_count.sum()) > seen
    seen = int(state.said_count.sum())
  check(queue, state)


# A filling takes some, all or the only one of a device's slots.
@pytest.mark.parametrize(
  ("count", "fill"), [(8, 1), (16, 1), (16, 2), (32, 1), (24, 2)]
)
def test_every_device_has_slots_of_its_own(count, fill):
  """Of a row of the mesh: with 37 prompts on 4 x 2 devices."""
  mesh = sharding.make_mesh(4, 2, 1)
  queue = queue_of(np.random.default_rng(4), 37)
  shape = shape_of(37, count, fill, mesh)
  assert (shape.groups, shape.fill) == (8, 8 * fill)
  state = run(shape, SAMPLING, queue)
  check(queue, state)
  assert len(state.tokens.addressable_shards[0].data) == count // 8
  program = run.lower(shape, SAMPLING, queue).compile().as_text()
  gathered = [
    line
    for line in program.splitlines()
    if "all-gather" in line and f"[{count},{S}]" in line.split("=")[1][:40]
  ]
  assert not gathered  # The cache stays where it is.


PROCESSES = """
from tests import slots_test
slots_test.of_all_processes()
print("said")
"""


def of_all_processes():
  """37 prompts on the devices of all processes, in two slots each."""
  mesh = sharding.make_mesh(4, 1, 1)
  queue = queue_of(np.random.default_rng(4), 37)
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  placed = jax.tree.map(
    lambda x: jax.make_array_from_callback(
      x.shape, everywhere, lambda i, x=x: np.asarray(x)[i]
    ),
    queue,
  )
  state = run(shape_of(37, 8, 1, mesh), SAMPLING, placed)
  assert len(state.tokens.addressable_shards) == 4 // jax.process_count()
  check(queue, state)


@pytest.mark.slow
def test_two_processes_fill_slots_from_one_queue():
  """Each has slots of its own; both know all that was said."""
  outputs = processes.together(PROCESSES, devices=2)
  assert [x.splitlines()[-1] for x in outputs] == ["said"] * 2


def test_slots_in_which_nothing_is_left_to_say_take_nothing():
  """Prompts of which nothing is asked stand between, behind and before."""
  queue = queue_of(np.random.default_rng(7), 12)
  queue = queue.replace(limits=jnp.asarray([0, 0, R, 0, 1, 0, 0, R] + [0] * 4))
  state = run(shape_of(12, 16, 3), SAMPLING, queue)
  check(queue, state)
  assert int(state.taken) == 3


@pytest.mark.parametrize("limit", [0, 1, R])
@pytest.mark.parametrize("length", [0, 1, P])
def test_one_prompt_of_any_length(length, limit):
  queue = queue_of(np.random.default_rng(length), 1)
  is_prompt = jnp.arange(P)[None] >= P - length
  queue = queue.replace(is_prompt=is_prompt, limits=jnp.asarray([limit]))
  check(queue, run(shape_of(1, 4, 1), SAMPLING, queue))


@pytest.mark.parametrize(
  ("prompts", "count", "slots_and_fill"),
  [(64, 0, (64, 16)), (64, 16, (16, 4)), (3, 16, (3, 1)), (64, 2, (2, 1))],
)
def test_slots_by_prompts(prompts, count, slots_and_fill):
  shape = slots.shape_of(prompts, count, R)
  assert (shape.slots, shape.fill) == slots_and_fill
  mesh = sharding.make_mesh(2, 2, 2)
  on_mesh = slots.shape_of(prompts, count, R, mesh)
  assert on_mesh.slots % 4 == on_mesh.fill % 4 == 0
  assert on_mesh.slots - shape.slots in range(4)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_cache_lies_by_rows_and_heads(stacked):
  """Also where layers are stacked in front of the rows."""
  mesh = sharding.make_mesh(1, 4, 2)
  shape = slots.Shape(8, 4, R, mesh)
  one = jnp.zeros((8, 2, R, 4))
  arrays = jnp.stack([one] * 3) if stacked else (one,) * 3
  cache = jax.jit(shape.cache)(attention.Cache(arrays, arrays))
  for x in jax.tree.leaves(cache):
    local = x.addressable_shards[0].data.shape
    assert local == (*x.shape[:-4], 2, 1, R, 4)
