"""What is imported while a step is saved waits for it."""

import builtins
import sys
import threading

import jax.numpy as jnp
import pytest
from etils import epy

from instruct_jax.base import imports
from instruct_jax.parallel import checkpoint


@pytest.fixture
def fresh(tmp_path, monkeypatch):
  """The name of a module that nobody has imported."""
  (tmp_path / "quite_fresh.py").write_text("here = True\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  yield "quite_fresh"
  sys.modules.pop("quite_fresh", None)


def test_threads_are_waited_for_once(fresh):
  waited = []

  def wait():
    assert fresh not in sys.modules
    waited.append(fresh)

  imports.note(wait)
  imports.note(wait)
  try:
    assert imports.alone(fresh).here
    assert imports.alone(fresh).here
  finally:
    imports.forget(wait)
  assert waited == [fresh]
  imports.forget(wait)  # which nobody minds


def test_a_step_that_is_being_saved_is_there_before(fresh, tmp_path):
  folder = tmp_path / "checkpoints"
  with checkpoint.Checkpointer(folder) as saver:
    saver.save(1, {"params": {"w": jnp.arange(8.0)}})
    assert imports.alone(fresh).here
    assert saver.steps() == [1]
    manager_waits = list(imports._waits)
  assert saver.wait in manager_waits
  assert saver.wait not in imports._waits


def test_why():
  """A lazy import in one thread is one in all of them."""
  found = []

  def thread():
    from math import log

    found.append(callable(log) and log(1) == 0)

  before = builtins.__import__
  with epy.lazy_imports():
    other = threading.Thread(target=thread)
    is_changed = builtins.__import__ is not before
    other.start()
    other.join()
  thread()
  assert is_changed
  assert found[-1]
  assert found != [True, True], "etils is harmless by now: imports.py may go"
