"""Several processes: who writes, and who waits for it.

They wait in `barrier`, `once` and `gather`, each with a name and a time limit,
and in what the devices do together. Who dies ends all (`link`), wherever they
wait.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from instruct_jax.base import errors, interrupt, peers

# What the others raise too, so that every process ends with the same code.
_ERRORS = {
  kind.__name__: kind
  for kind in (
    errors.UserError,
    errors.Diverged,
    interrupt.Interrupted,
    interrupt.Stopped,
    interrupt.Left,
    KeyboardInterrupt,
  )
}
_TOGETHER = 3600.0  # seconds in which all come to a barrier
_ONE = 7 * 24 * 3600.0  # seconds for one: building data takes long
_calls = itertools.count()


def is_writer() -> bool:
  """Whether this process is the one that writes files."""
  return not is_one_of_many() or jax.process_index() == 0


def is_one_of_many() -> bool:
  """Whether there are other processes, as JAX knows them.

  Until it has been started over all of them each is alone, and does not ask for
  devices: with those that it had got, JAX would not start over all any more.
  """
  return jax.distributed.is_initialized() and jax.process_count() > 1


def barrier(name: str, *, seconds: float = _TOGETHER) -> None:
  """Returns when every process has come here; `name` is the same in all.

  After so many seconds the process ends, saying what it waited for.
  """
  if is_one_of_many():
    key = f"instruct_jax/barrier/{next(_calls)}/{name}"
    with _limited(name, seconds):
      _client().wait_at_barrier(key, int(seconds * 1000))


def gather(name: str, value: Any) -> list[Any]:
  """The values of all processes, by index, by way of JSON; as `barrier`."""
  if not is_one_of_many():
    return [value]
  key, most = f"instruct_jax/gather/{next(_calls)}", int(_TOGETHER * 1000)
  client = _client()
  client.key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
  with _limited(name, _TOGETHER):
    if is_writer():
      every = [
        client.blocking_key_value_get(f"{key}/{index}", most)
        for index in range(jax.process_count())
      ]
      client.key_value_set(f"{key}/all", json.dumps(every))
    every = json.loads(client.blocking_key_value_get(f"{key}/all", most))
  return [json.loads(text) for text in every]


def once(name: str, function: Callable[[], Any]) -> Any:
  """What `function` returns on the first process, which alone calls it.

  Every process calls `once`, in the same order; the others wait, for a week at
  most, and get the value by way of JSON (tuples come as lists). No device is
  kept busy.

  Raises what `function` raised; the others raise the same if it is UserError,
  Diverged, Interrupted or Ctrl-C, else a RuntimeError, so that none waits for
  ever.
  """
  if not is_one_of_many():
    return function()
  client = _client()
  key = f"instruct_jax/once/{next(_calls)}/{name}"
  if is_writer():
    try:
      with interrupt.alone():
        value = function()
      client.key_value_set(key, json.dumps({"value": value}))
    except BaseException as error:
      kind = type(error).__name__
      client.key_value_set(key, json.dumps({"kind": kind, "text": str(error)}))
      raise
    return value
  with _limited(name, _ONE):
    answer = json.loads(client.blocking_key_value_get(key, int(_ONE * 1000)))
  if "kind" in answer:
    kind, text = answer["kind"], answer["text"]
    if kind in _ERRORS:
      raise _ERRORS[kind](text)
    raise RuntimeError(f"{name}: the first process failed: {kind}: {text}")
  return answer["value"]


def fetch(tree: Any) -> Any:
  """The same tree with whole numpy arrays, on every process."""
  if is_one_of_many():
    return multihost_utils.process_allgather(tree, tiled=True)
  return jax.tree.map(np.asarray, tree)


def _client() -> Any:
  return multihost.get_jax_distributed_client()


@contextlib.contextmanager
def _limited(name: str, seconds: float) -> Iterator[None]:
  """Ends the process where others are waited for in vain."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "DEADLINE_EXCEEDED" not in str(error):
      raise
    if peers.current is not None:
      peers.current.give_up(name, seconds)
    raise RuntimeError(
      f"'{name}': not all processes came there within {seconds:.0f} s"
    ) from error
