"""What goes first of a chain, and when all is done: by hand and by laws."""

import hypothesis
import hypothesis.strategies as st

from instruct_jax.base import schedule

#   a 2 ─ b 3 ─ d 1
#       └ c 7 ──┘       e 4 ── d
NEEDS = {"a": [], "b": ["a"], "c": ["a"], "e": [], "d": ["b", "c", "e"]}
SECONDS = {"a": 2.0, "b": 3.0, "c": 7.0, "e": 4.0, "d": 1.0}


def end(jobs, running=(), **changes):
  seconds = SECONDS | changes
  needs = {s: x for s, x in NEEDS.items() if s in seconds}
  return schedule.end(needs, seconds, running=running, jobs=jobs)


def test_the_way_to_the_end_is_the_longest():
  ways = schedule.ways(NEEDS, SECONDS)
  assert ways == {"a": 10.0, "b": 4.0, "c": 8.0, "e": 5.0, "d": 1.0}


def test_the_end_by_hand():
  assert end(1) == 17
  # a 0-2, c 2-9; beside it e 0-4, b 4-7; d 9-10
  assert end(2) == 10
  assert end(9) == 10
  assert end(2, e=9.0) == 13  # a 0-2, c 2-9, b 9-12; e 0-9; d
  # What runs goes on first: e, while c is all that the other can take.
  assert end(2, running=["a", "e"], a=1.0, e=3.0) == 9
  assert end(1, running=["a"], a=0.5) == 15.5


def test_the_longest_way_goes_first():
  """z from 0 to 5, beside it x and y; in the order of names z were last."""
  needs = {"x": [], "y": [], "z": []}
  seconds = {"x": 1.0, "y": 1.0, "z": 5.0}
  assert schedule.end(needs, seconds, running=(), jobs=2) == 5


def test_what_is_done_already_is_waited_for_by_nobody():
  needs = {"c": ["a"], "d": ["b", "c"]}
  assert schedule.ways(needs, SECONDS) == {"c": 8.0, "d": 1.0}
  assert schedule.end(needs, SECONDS, running=(), jobs=2) == 8.0
  assert schedule.end({}, {}, running=(), jobs=2) == 0.0


@st.composite
def chains(draw):
  """Needs of stages that come before, and their seconds."""
  count = draw(st.integers(1, 9))
  names = [str(n) for n in range(count)]
  needs = {
    name: draw(st.lists(st.sampled_from(names[:n]), unique=True)) if n else []
    for n, name in enumerate(names)
  }
  seconds = {name: float(draw(st.integers(0, 20))) for name in names}
  return needs, seconds


@hypothesis.given(chains(), st.integers(1, 5))
def test_no_schedule_is_shorter_than_its_bounds_nor_idle(made, jobs):
  needs, seconds = made
  longest = max(schedule.ways(needs, seconds).values())
  total = sum(seconds.values())
  found = schedule.end(needs, seconds, running=(), jobs=jobs)
  assert found >= max(longest, total / jobs) - 1e-9
  # Graham 1966: no list is further off than this.
  assert found <= total / jobs + (1 - 1 / jobs) * longest + 1e-9
  alone = schedule.end(needs, seconds, running=(), jobs=1)
  assert alone == total
