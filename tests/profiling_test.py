"""A trace of the steps that are asked for, and of no others."""

import logging

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from instruct_jax.base import errors, phases
from instruct_jax.training import profiling, step


@pytest.mark.parametrize(
  ("text", "steps"),
  [("", None), ("3", (3, 3)), ("3-5", (3, 5)), ("1-1", (1, 1))],
)
def test_steps_are_one_or_the_first_and_the_last(text, steps):
  assert profiling.parse(text) == steps


@pytest.mark.parametrize(
  "text", ["0", "5-3", "-3", "3-", "3:5", "a", "1.5", "3-5-7", "9" * 10, " 3"]
)
def test_what_names_no_steps_is_refused(text):
  with pytest.raises(errors.UserError, match=r"config\.profile='.*as 3-5"):
    profiling.parse(text)


def trained(text, folder, *, first=0, total=6, stop=None):
  """What a loop does with a profile; stops after the step `stop`."""
  work = jax.jit(lambda x: x @ x)
  state = jnp.ones((8, 8))
  profile = profiling.Profile(text, epath.Path(folder), first, total)
  for number in range(first + 1, total + 1):
    with profile.around(number), phases.phase("update"):
      state = work(state)
    profile(step.Done(number, state, {}, number == total))
    if number == stop:
      break
  profile.close()


def traced(folder):
  """The numbers of the steps in the trace of a folder, and all names in it."""
  (path,) = epath.Path(folder).glob("plugins/profile/*/*.xplane.pb")
  numbers, names = set(), set()
  for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
    for line in plane.lines:
      for event in line.events:
        names.add(event.name)
        stats = dict(event.stats)
        if event.name == "step" and "step_num" in stats:
          numbers.add(int(stats["step_num"]))
  return numbers, names


@pytest.mark.parametrize(
  ("text", "how", "expected"),
  [
    ("2-3", {}, {2, 3}),
    ("4", {}, {4}),
    ("5-9", {}, {5, 6}),  # of what there is
    ("2-5", {"first": 3}, {4, 5}),  # of what is left
    ("2-5", {"stop": 3}, {2, 3}),
  ],
)
def test_those_steps_and_their_phases_are_in_it(tmp_path, text, how, expected):
  trained(text, tmp_path, **how)
  numbers, names = traced(tmp_path)
  assert numbers == expected
  assert "update" in names


def test_nothing_is_traced_unasked(tmp_path, monkeypatch):
  monkeypatch.setattr(
    profiling.jax.profiler, "start_trace", lambda _: pytest.fail("traced")
  )
  trained("", tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_steps_that_are_past_are_told(tmp_path, caplog):
  with caplog.at_level(logging.WARNING):
    trained("1-2", tmp_path, first=4)
  assert "no such step is left to be done (steps 5 to 6 are)" in caplog.text
  assert list(tmp_path.iterdir()) == []
