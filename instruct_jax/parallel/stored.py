"""One saved step: its folder, written by Orbax and read with care.

    <folder>/<step>/arrays/                   every array, one Orbax tree
    <folder>/<step>/manifest/manifest.json    names, shapes, digests, extra

Orbax does not notice a flipped byte in an array, so the manifest holds a digest
of every item's arrays, and of itself.
"""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from instruct_jax.base import errors
from instruct_jax.parallel import digest, hosts

_ORBAX = "/orbax/"  # in the paths of its modules


class Damaged(errors.UserError):
  """A checkpoint that cannot be read, or whose digest differs."""


def manifest_of(
  step: int, named: Mapping[str, digest.Named], extra: dict[str, Any]
) -> dict[str, Any]:
  digests = digest.digests(named)
  return {
    "format": 1,
    "step": step,
    "items": {
      name: {
        "digest": digests[name],
        "arrays": {
          path: digest.describe(leaf) for path, leaf in leaves.items()
        },
        "keys": {
          path: str(jax.random.key_impl(leaf))
          for path, leaf in leaves.items()
          if digest.is_key(leaf)
        },
      }
      for name, leaves in named.items()
    },
    "extra": json.loads(json.dumps(extra)),
  }


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
  seal = hashlib.sha256(digest.canonical(manifest).encode()).hexdigest()
  return {"sha256": seal, "manifest": manifest}


def read_manifest(folder: epath.Path) -> dict[str, Any]:
  """The manifest of a step, verified on every process."""
  manifest: dict[str, Any] = {}
  problem = ""
  try:
    text = (folder / "manifest" / "manifest.json").read_text()
    manifest = json.loads(text)["manifest"]
    if sealed(manifest) != json.loads(text):
      problem = "its manifest differs from its sha256"
  except Exception as error:
    _raise_unless_damage(error)
    problem = f"its manifest cannot be read ({_first_line(error)})"
  _agree(folder, problem)
  return manifest


def read(
  folder: epath.Path, abstract: Mapping[str, digest.Tree]
) -> tuple[dict[str, digest.Tree], dict[str, Any]]:
  """(items, extra) of one step; Damaged or UserError."""
  manifest = read_manifest(folder)
  wanted = {name: digest.named(tree) for name, tree in abstract.items()}
  _check_fits(folder, manifest["items"], wanted)
  arrays = _read_arrays(folder, wanted)
  for name, here in digest.digests(arrays).items():
    if here != manifest["items"][name]["digest"]:
      _agree(folder, f"the arrays of '{name}' differ from their digest")
  items = {}
  for name, tree in abstract.items():
    keys = manifest["items"][name]["keys"]
    leaves = [
      jax.random.wrap_key_data(leaf, impl=keys[path]) if path in keys else leaf
      for path, leaf in arrays[name].items()
    ]
    items[name] = jax.tree.unflatten(jax.tree.structure(tree), leaves)
  return items, manifest["extra"]


def _check_fits(
  folder: epath.Path,
  stored: Mapping[str, Any],
  wanted: Mapping[str, digest.Named],
) -> None:
  """Raises UserError where the checkpoint and what is asked for part."""
  for name, leaves in wanted.items():
    if name not in stored:
      raise errors.unknown(f"item of checkpoint {folder}", name, stored)
    have = stored[name]["arrays"]
    want = {path: digest.describe(leaf) for path, leaf in leaves.items()}
    wrong = [
      f"'{path}' is {have.get(path, 'absent')} in the checkpoint,"
      f" {want.get(path, 'absent')} here"
      for path in [*want, *(path for path in have if path not in want)]
      if have.get(path) != want.get(path)
    ]
    if wrong:
      more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
      raise errors.UserError(
        f"checkpoint {folder}, item '{name}', is of another shape:"
        f" {'; '.join(wrong[:3])}{more}."
      )
    for path, leaf in leaves.items():
      _check_divides(f"checkpoint {folder}, item '{name}', '{path}'", leaf)


def _check_divides(what: str, leaf: Any) -> None:
  try:
    digest.sharding_of(leaf).shard_shape(tuple(leaf.shape))
  except ValueError as error:
    raise errors.UserError(
      f"{what}: {digest.describe(leaf)} cannot be divided over {leaf.sharding}."
    ) from error


def _read_arrays(
  folder: epath.Path, wanted: Mapping[str, digest.Named]
) -> dict[str, digest.Named]:
  """The stored form of the arrays (keys as their data), unverified."""
  physical = {
    name: {path: digest.stored_form(leaf) for path, leaf in leaves.items()}
    for name, leaves in wanted.items()
  }
  filled = {k: some for k, v in physical.items() if (some := digest.filled(v))}
  read, problem = {}, ""
  if filled:
    try:
      read = handler().restore(
        folder / "arrays",
        args=ocp.args.PyTreeRestore(
          item=filled,
          restore_args=jax.tree.map(_restore_args, filled),
          partial_restore=True,
        ),
      )
      jax.tree.map(_check_read, filled, read)
    except Exception as error:
      _raise_unless_damage(error)
      problem = f"its arrays cannot be read ({_first_line(error)})"
  if problem:
    forget_the_rest()
  _agree(folder, problem)
  return {
    name: {
      path: read[name][path]
      if leaf.size
      else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
      for path, leaf in leaves.items()
    }
    for name, leaves in physical.items()
  }


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.ArrayRestoreArgs:
  return ocp.ArrayRestoreArgs(
    sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
  )


def _check_read(wanted: jax.ShapeDtypeStruct, leaf: Any) -> None:
  """Orbax hands back what its damaged metadata tells it to skip or reshape."""
  same = isinstance(leaf, jax.Array) and (
    (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)
  )
  if not same:
    raise ValueError(f"{leaf} in the place of {digest.describe(wanted)}")


# Troubles of the machine, in Python's words and in TensorStore's.
_TROUBLES = (MemoryError, PermissionError, TimeoutError, ConnectionError)
_STATUSES = (
  "RESOURCE_EXHAUSTED",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
)


def _raise_unless_damage(error: Exception) -> None:
  """Trouble that may pass must not cost a checkpoint: it is raised."""
  text = str(error)
  if isinstance(error, _TROUBLES) or any(each in text for each in _STATUSES):
    raise error


def forget_the_rest() -> None:
  """Drops the other reads or writes that failed with the one that was raised.

  Python would print each of them, pages long, when it collects them or ends.
  """
  asyncio_log = logging.getLogger("asyncio")
  disabled, asyncio_log.disabled = asyncio_log.disabled, True
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  for one in gc.get_objects():
    if type(one) is types.CoroutineType and _ORBAX in one.cr_code.co_filename:
      with contextlib.suppress(Exception):
        one.close()
  gc.collect()
  asyncio_log.disabled, sys.unraisablehook = disabled, hook


def _first_line(error: Exception) -> str:
  lines = str(error).splitlines() or [""]
  return f"{type(error).__name__}: {lines[0][:120]}"


def _agree(folder: epath.Path, problem: str) -> None:
  """Raises Damaged on every process if one of them has a problem."""
  bad = hosts.gather(f"is {folder.name} whole", bool(problem))
  if any(bad) and not problem:
    problem = f"process {bad.index(True)} cannot read it"
  if problem:
    raise Damaged(f"Checkpoint {folder} is damaged: {problem}.")


@functools.cache
def handler() -> ocp.PyTreeCheckpointHandler:
  """Plain arrays in a few files: uncompressed, without sharding records."""
  types = ocp.type_handlers.create_type_handler_registry(
    (
      jax.Array,
      ocp.type_handlers.ArrayHandler(
        array_metadata_store=None, enable_write_sharding_file=False
      ),
    )
  )
  return ocp.PyTreeCheckpointHandler(
    use_compression=False, type_handler_registry=types
  )
