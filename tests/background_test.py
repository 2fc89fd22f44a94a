"""What is begun is what runs; errors arrive; only who waits is counted."""

import collections
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.base import background, compilation
from instruct_jax.inference import respond
from instruct_jax.parallel import sharding
from instruct_jax.training import step as step_lib
from instruct_jax.training import validate
from tests import respond_test, step_test, toys

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
  """{program: the threads that compiled it}, and read it from no cache."""
  threads = collections.defaultdict(list)

  def listen(event, _, fun_name="", **__):
    if event == COMPILED:
      threads[fun_name].append(threading.current_thread().name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield threads
  jax.monitoring.unregister_event_duration_listener(listen)


def test_what_is_begun_by_shapes_is_what_runs(compiled):
  program = background.Compiled(jax.jit(lambda x, y: x @ y + 1))
  x = jnp.asarray(np.arange(6.0).reshape(2, 3), jnp.float32)
  y = jnp.ones((3, 2))
  jax.block_until_ready((x, y))
  compiled.clear()
  program.begin(jax.ShapeDtypeStruct(x.shape, x.dtype), y)
  np.testing.assert_array_equal(program(x, y), [[4, 4], [13, 13]])
  np.testing.assert_array_equal(program(x, y), [[4, 4], [13, 13]])
  ((thread,),) = compiled.values()
  assert thread.startswith("compile_")
  program(x[:1], y)  # of other shapes, as ever
  assert next(iter(compiled.values()))[1:] == ["MainThread"]


class Slow:
  """A jitted function whose compiling takes a while, or fails."""

  def __init__(self, seconds=0.0, error=None):
    self.seconds, self.error = seconds, error

  def lower(self, *_):
    return self

  def compile(self):
    compilation._begin(COMPILED, 0.0, fun_name="jit(slow)")
    time.sleep(self.seconds)
    compilation._end(COMPILED, self.seconds, fun_name="jit(slow)")
    if self.error:
      raise self.error

  def __call__(self):
    return "called"


def test_the_error_of_compiling_is_raised_where_it_is_called():
  error = ValueError("no room on the device")
  program = background.Compiled(Slow(error=error))
  program.begin()
  with pytest.raises(ValueError, match="no room") as caught:
    program()
  assert caught.value is error
  assert program() == "called"


def test_only_what_is_waited_for_counts_as_making():
  program = background.Compiled(Slow(seconds=0.6))
  made, spent = compilation.program_seconds(), compilation.compile_seconds()
  program.begin()
  time.sleep(0.4)
  assert compilation.making_since() is None
  assert compilation.program_seconds() == made
  assert program() == "called"
  assert 0 < compilation.program_seconds() - made < 0.5
  assert compilation.compile_seconds() - spent == pytest.approx(0.6)


def test_an_update_that_is_begun_is_compiled_once(compiled):
  run, state = step_test.run_of("sft")
  with jax.set_mesh(run.ctx.mesh):
    arguments = step_test.collected_of(run, state, "sft", 0)
    arguments = *arguments, jax.random.key(0)
    update = step_lib.compiled(run)
    update.begin(state, *arguments)
    state, _ = update(state, *arguments)
    update(state, *arguments)
  (thread,) = compiled["jit(training_step)"]
  assert thread.startswith("compile_")


def test_lists_are_answered_by_the_program_that_was_begun(compiled):
  ctx = respond_test.make(data=2)
  policy = respond.policy_of(ctx, respond_test.params(), max_tokens=3)
  respond.begin(policy)
  respond.respond(policy, respond_test.PROMPTS, jax.random.key(0))
  (thread,) = compiled["jit(_generate)"]
  assert thread.startswith("compile_")


class Rows(list):
  """A batch or two of a kind, as `loader.Rows` gives them."""

  def in_order(self, size):
    del size
    return iter(self)


@pytest.mark.parametrize("is_like", [True, False])
def test_losses_are_begun_where_validation_is_like_training(is_like, compiled):
  run, state = step_test.run_of("sft")
  kind = "demonstrations"
  batch = {kind: toys.batch("sft", 0)[kind]}
  rows = {kind: Rows([batch[kind]])}
  validation = validate.Validation(run, None, rows)
  if not is_like:
    batch = {kind: toys.batch("sft", 0, rows=2 * toys.B)[kind]}
  with jax.set_mesh(run.ctx.mesh):
    placed = sharding.global_batch(batch, run.ctx.mesh)
    minibatches, _ = run.algorithm.collect(run.ctx, state, placed, None)
    validation.begin(state, placed, minibatches)
    metrics = validation.metrics(state)
  assert np.isfinite(float(metrics[f"validation/{kind}/loss"][0]))
  (thread,) = compiled["jit(_validation_losses)"]
  assert thread.startswith("compile_") == is_like
