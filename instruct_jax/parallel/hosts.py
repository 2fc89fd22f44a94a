"""Several processes: who writes, and who waits for it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_writer() -> bool:
  """Whether this process is the one that writes files."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when every process has come here; `name` is the same in all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def once(name: str, function: Callable[[], None]) -> None:
  """Has the first process run `function`; returns when it has, on all.

  What it raises is raised there; the others raise a RuntimeError then, so that
  no process waits for one that has failed.
  """
  if jax.process_count() == 1:
    function()
    return
  error = None
  if is_writer():
    try:
      function()
    except BaseException as caught:
      error = caught
  failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
  if error is not None:
    raise error
  if failed:
    raise RuntimeError(f"{name}: the first process failed")


def fetch(tree: Any) -> Any:
  """The same tree with whole numpy arrays, on every process."""
  if jax.process_count() > 1:
    return multihost_utils.process_allgather(tree, tiled=True)
  return jax.tree.map(np.asarray, tree)
