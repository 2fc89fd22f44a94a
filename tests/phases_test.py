"""Which phase keeps the devices busy: by a clock that the test turns."""

import time

import jax
import jax.numpy as jnp
import pytest

from instruct_jax.base import phases


def booked(*items, clock):
  """The seconds of a step of (name, begun, compiled, done at) phases."""
  times = iter([0.0, *(item[-1] for item in items)])  # the first: opening
  with phases.Watch(clock=lambda: next(times)) as watch:
    for name, begun, compiled, _ in items:
      watch.put(name, begun, compiled, [])
    return watch.step().result(timeout=clock)


@pytest.mark.parametrize(
  ("items", "expected"),
  [
    # One after the other: nothing is idle.
    ([("a", 0.0, 0.0, 2.0), ("b", 0.5, 0.0, 5.0)], {"a": 2, "b": 3}),
    # The second is dispatched a second after the first is done.
    ([("a", 0.0, 0.0, 2.0), ("b", 3.0, 0.0, 5.0)], {"a": 2, "b": 2, "idle": 1}),
    # Three seconds of compiling, of which the devices wait for one.
    (
      [("a", 0.0, 0.0, 4.0), ("b", 2.0, 3.0, 9.0)],
      {"a": 4, "compiling": 1, "b": 4},
    ),
    # They wait for all of it, and for who began it late.
    (
      [("a", 0.0, 0.0, 1.0), ("b", 2.0, 3.0, 9.0)],
      {"a": 1, "idle": 1, "compiling": 3, "b": 4},
    ),
    # A phase within another: the outer one, which began first, has the rest.
    (
      [("in", 1.0, 0.0, 4.0), ("out", 0.5, 0.0, 6.0)],
      {"in": 3, "out": 2, "idle": 1},
    ),
    # The same phase twice in a step.
    ([("a", 0.0, 0.0, 2.0), ("a", 1.0, 0.0, 3.0)], {"a": 3}),
    # Making a program took longer than the phase: another thread's.
    ([("a", 0.0, 9.0, 2.0)], {"compiling": 2, "a": 0}),
  ],
)
def test_seconds_are_those_of_the_devices(items, expected):
  found = booked(*items, clock=10)
  assert {n: x for n, x in found.items() if x or n in expected} == expected
  assert sum(found.values()) == items[-1][-1]  # no second is lost


def test_every_step_has_its_own():
  with phases.Watch() as watch:
    watch.put("first", time.monotonic(), 0.0, [])
    first = watch.step()
    watch.put("second", time.monotonic(), 0.0, [])
    second = watch.step()
    names = [set(x.result(timeout=10)) for x in (first, second)]
  shared = {"idle", "compiling"}
  assert names == [{"first"} | shared, {"second"} | shared]


def test_what_runs_on_is_waited_for_by_the_watch_alone():
  slow = jax.jit(lambda x: jax.lax.fori_loop(0, 400, lambda _, y: y @ y, x))
  x = jnp.eye(300)
  slow(x).block_until_ready()
  with phases.Watch() as watch:
    with phases.phase("slow") as made:
      made((slow(x), None, 3))
    seconds = watch.step().result(timeout=60)
  start = time.monotonic()
  slow(x).block_until_ready()
  assert seconds["slow"] > (time.monotonic() - start) / 20


def test_what_is_whole_hides_its_parts():
  with phases.Watch() as watch:
    with phases.whole("outer") as made:
      with phases.phase("inner") as inner:
        inner(jnp.ones(3))
      made(jnp.ones(3))
    with phases.phase("after"):
      pass
    seconds = watch.step().result(timeout=10)
  assert set(seconds) == {"outer", "after", "idle", "compiling"}


def test_without_a_watch_nothing_is_measured():
  with phases.phase("a") as made:
    made(jnp.ones(3))
  with phases.Watch() as watch:
    assert watch.step().result(timeout=10) == {}


def test_an_array_that_was_taken_over_stops_nothing():
  x = jnp.ones(3)
  with phases.Watch() as watch:
    with phases.phase("a") as made:
      made(x)
      x.delete()
    assert "a" in watch.step().result(timeout=10)


def test_shares_are_read_from_the_longest():
  seconds = {"idle": 0.0, "score": 1.0, "update": 2.996, "data": 0.004}
  assert phases.shares(seconds) == "update 75 %, score 25 %, idle 0 %"
  assert phases.shares({}) == ""
