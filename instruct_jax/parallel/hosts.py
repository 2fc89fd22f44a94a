"""Several processes: who writes, and who waits for it."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from instruct_jax.base import errors, interrupt

# What the others raise too, so that every process ends with the same code.
_ERRORS = {
  kind.__name__: kind
  for kind in (errors.UserError, errors.Diverged, interrupt.Interrupted)
}
_LONGEST_WAIT = 30 * 24 * 3600 * 1000  # ms, a month: building data takes long
_calls = itertools.count()


def is_writer() -> bool:
  """Whether this process is the one that writes files."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when every process has come here; `name` is the same in all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def once(name: str, function: Callable[[], Any]) -> Any:
  """What `function` returns on the first process, which alone calls it.

  Every process calls `once`, in the same order; the others wait, as long as it
  takes, and get the value by way of JSON (tuples come as lists). No device is
  kept busy.

  Raises what `function` raised; the others raise the same if it is UserError,
  Diverged or Interrupted, else a RuntimeError, so that none waits for ever.
  """
  if jax.process_count() == 1:
    return function()
  client = multihost.get_jax_distributed_client()
  key = f"instruct_jax/once/{next(_calls)}/{name}"
  if is_writer():
    try:
      value = function()
      client.key_value_set(key, json.dumps({"value": value}))
    except BaseException as error:
      kind = type(error).__name__
      client.key_value_set(key, json.dumps({"kind": kind, "text": str(error)}))
      raise
    return value
  answer = json.loads(client.blocking_key_value_get(key, _LONGEST_WAIT))
  if "kind" in answer:
    kind, text = answer["kind"], answer["text"]
    if kind in _ERRORS:
      raise _ERRORS[kind](text)
    raise RuntimeError(f"{name}: the first process failed: {kind}: {text}")
  return answer["value"]


def fetch(tree: Any) -> Any:
  """The same tree with whole numpy arrays, on every process."""
  if jax.process_count() > 1:
    return multihost_utils.process_allgather(tree, tiled=True)
  return jax.tree.map(np.asarray, tree)
