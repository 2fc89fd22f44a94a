"""Checkpoints: saved in the background, verified before they are believed.

A step is one folder, complete or absent (Orbax renames it into place):

    <folder>/<step>/arrays/                   every array, one Orbax tree
    <folder>/<step>/manifest/manifest.json    names, shapes, digests, extra

Orbax does not notice a flipped byte in an array, so the manifest holds a digest
of every item's arrays, and of itself. A step that fails to read, or whose
digest differs, is renamed to `damaged-<step>`, never deleted.
"""

import dataclasses
import functools
import gc
import hashlib
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax import lax
from jax.experimental import multihost_utils

from instruct_jax.base import errors
from instruct_jax.parallel import hosts

_log = logging.getLogger(__name__)

Tree = Any
Named = dict[str, Any]  # path in the tree, 'a.b.kernel' -> array


class Damaged(errors.UserError):
  """A checkpoint that cannot be read, or whose digest differs."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint held."""

  step: int
  items: dict[str, Tree]  # by name, each with the structure asked for
  extra: dict[str, Any]  # what `save` was given, after a trip through JSON


class Checkpointer:
  """Saves and restores the steps of one run. Every process makes one.

  Use it as a context manager: what is still being written when Python exits is
  lost (the step before it stays).
  """

  def __init__(
    self, folder: epath.PathLike, *, keep_latest: int = 2, keep_every: int = 0
  ):
    """Nothing is written before the first `save`.

    Args:
      folder: where the steps' folders stand.
      keep_latest: the newest steps to keep, at least 1 (2: one to fall back to)
      keep_every: steps divisible by it are kept for ever; 0 for none

    Raises:
      UserError: `folder` is a file.
      ValueError: `keep_latest` is below 1, or `keep_every` negative.
    """
    if keep_latest < 1 or keep_every < 0:
      raise ValueError(f"keep_latest={keep_latest}, keep_every={keep_every}")
    self._folder = _absolute(folder)
    if self._folder.exists() and not self._folder.is_dir():
      raise errors.UserError(f"{self._folder} is a file, not a folder.")
    self._keep = _Keep(keep_latest, keep_every)
    self._manager = None
    self._seals = {}  # of the steps saved by this process

  def save(
    self,
    step: int,
    items: Mapping[str, Tree],
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves a step in the background, after the one before has been written.

    The arrays may be donated as soon as this returns. A step that exists
    already is left alone if its content is the same.

    Args:
      step: updates done so far.
      items: trees of jax arrays (numbers and numpy arrays become jax arrays).
      extra: whatever JSON can hold; tuples come back as lists.

    Raises:
      ValueError: the step exists with another content.
      Exception: the save before this one failed; see its message.
    """
    named = {name: _named(tree) for name, tree in items.items()}
    manifest = _sealed(_manifest(step, named, dict(extra or {})))
    if step in self._seals or step in self.steps():
      self._check_same(step, manifest["sha256"])
      return
    arrays = {k: filled for k, v in named.items() if (filled := _filled(v))}
    parts = {"manifest": ocp.args.JsonSave(manifest)}
    if arrays:
      parts["arrays"] = ocp.args.PyTreeSave(arrays)
    if self._manager is None:
      self._manager = _manager(self._folder, self._keep)
    self._manager.save(step, args=ocp.args.Composite(**parts), force=True)
    self._seals[step] = manifest["sha256"]

  def restore(self, abstract: Mapping[str, Tree]) -> Restored | None:
    """The newest step that is whole, or None to start afresh.

    Args:
      abstract: for every item wanted, a tree of ShapeDtypeStruct or arrays:
        shapes, dtypes, and the shardings to restore onto (default: the first
        device).

    Raises:
      UserError: the checkpoint has other items, arrays, shapes or dtypes.
    """
    self._stop()
    steps = self.steps()
    for step in reversed(steps):
      try:
        items, extra = _read(self._folder / str(step), abstract)
      except Damaged as damage:
        self._set_aside(step, damage)
        continue
      if step != steps[-1]:
        _log.warning("Step %d in %s is used instead.", step, self._folder)
      return Restored(step, items, extra)
    if steps:
      _log.warning(
        "No checkpoint is left in %s: starting afresh.", self._folder
      )
    return None

  def steps(self) -> list[int]:
    """The steps that are complete on disk, oldest first."""
    return _steps(self._folder)

  def wait(self) -> None:
    """Returns when the last save is on disk; raises what it raised."""
    if self._manager is not None:
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and frees the background threads. `save` would start them again."""
    try:
      self.wait()
    finally:
      self._stop()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _stop(self) -> None:
    manager, self._manager, self._seals = self._manager, None, {}
    if manager is not None:
      manager.close()

  def _check_same(self, step: int, seal: str) -> None:
    old = self._seals.get(step)
    if old is None:
      old = _sealed(_read_manifest(self._folder / str(step)))["sha256"]
    if old != seal:
      raise ValueError(
        f"step {step} exists in {self._folder} with another content."
      )

  def _set_aside(self, step: int, why: Damaged) -> None:
    source = self._folder / str(step)
    target, number = self._folder / f"damaged-{step}", 1
    while target.exists():
      number += 1
      target = self._folder / f"damaged-{step}-{number}"
    hosts.barrier("set_aside_found")
    hosts.once("set_aside", lambda: str(source.rename(target)))
    _log.warning("%s It is set aside as %s.", why, target.name)


def load(
  folder: epath.PathLike, step: int | None, item: str, abstract: Tree
) -> Tree:
  """One item of another run's checkpoint, verified; nothing is changed there.

  Args:
    folder: a run, or its `checkpoints` folder.
    step: None for the newest.
    item: e.g. 'params.policy'.
    abstract: as in `Checkpointer.restore`.

  Raises:
    UserError: not a run, no such step or item, other arrays or shapes.
    Damaged: the step cannot be read or differs from its digest.
  """
  items, _ = _read(_step_folder(folder, step), {item: abstract})
  return items[item]


def load_extra(
  folder: epath.PathLike, step: int | None = None
) -> dict[str, Any]:
  """The `extra` of another run's step (None: the newest); raises as `load`."""
  return _read_manifest(_step_folder(folder, step))["extra"]


def steps(folder: epath.PathLike) -> list[int]:
  """The steps of a run (or of its `checkpoints`), oldest first.

  Raises:
    UserError: there are none.
  """
  home = _home(folder)
  if not (found := _steps(home)):
    raise errors.UserError(f"{folder} is not a run: no checkpoint in {home}.")
  return found


def digest(tree: Tree) -> str:
  """32 hex digits that name the values of a tree of arrays, bit for bit.

  It depends on paths, shapes, dtypes and bits; not on shardings, devices,
  processes or container types. A change within any one 32-bit word always
  changes it.
  """
  return _digests({"": _named(tree)})[""]


# Names and manifests.


def _named(tree: Tree) -> Named:
  """Every array of a tree by its dotted path, keys and numbers included."""
  named = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
    if name in named:
      raise ValueError(f"two arrays of a checkpoint are called '{name}'.")
    named[name] = leaf if hasattr(leaf, "sharding") else _as_array(name, leaf)
  return named


def _as_array(name: str, leaf: Any) -> jax.Array:
  array = jnp.asarray(leaf)
  if isinstance(leaf, np.ndarray) and leaf.dtype != array.dtype:
    raise ValueError(f"'{name}' is {leaf.dtype}, which JAX would narrow.")
  return array


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _filled(named: Named) -> Named:
  """What is stored: keys as their data, nothing for arrays without elements."""
  return {
    name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
    for name, leaf in named.items()
    if leaf.size
  }


def _describe(leaf: Any) -> str:
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _manifest(
  step: int, named: Mapping[str, Named], extra: dict[str, Any]
) -> dict[str, Any]:
  digests = _digests(named)
  return {
    "format": 1,
    "step": step,
    "items": {
      name: {
        "digest": digests[name],
        "arrays": {path: _describe(leaf) for path, leaf in leaves.items()},
        "keys": {
          path: str(jax.random.key_impl(leaf))
          for path, leaf in leaves.items()
          if _is_key(leaf)
        },
      }
      for name, leaves in named.items()
    },
    "extra": json.loads(json.dumps(extra)),
  }


def _canonical(value: Any) -> str:
  return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sealed(manifest: dict[str, Any]) -> dict[str, Any]:
  seal = hashlib.sha256(_canonical(manifest).encode()).hexdigest()
  return {"sha256": seal, "manifest": manifest}


def _read_manifest(folder: epath.Path) -> dict[str, Any]:
  """The manifest of a step, verified on every process."""
  manifest, problem = None, ""
  try:
    text = (folder / "manifest" / "manifest.json").read_text()
    manifest = json.loads(text)["manifest"]
    if _sealed(manifest) != json.loads(text):
      problem = "its manifest differs from its sha256"
  except Exception as error:
    _raise_unless_damage(error)
    problem = f"its manifest cannot be read ({_first_line(error)})"
  _agree(folder, problem)
  return manifest


# Reading a step.


def _read(
  folder: epath.Path, abstract: Mapping[str, Tree]
) -> tuple[dict[str, Tree], dict[str, Any]]:
  """(items, extra) of one step; Damaged or UserError."""
  manifest = _read_manifest(folder)
  wanted = {name: _named(tree) for name, tree in abstract.items()}
  _check_fits(folder, manifest["items"], wanted)
  arrays = _read_arrays(folder, wanted)
  for name, found in _digests(arrays).items():
    if found != manifest["items"][name]["digest"]:
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
  wanted: Mapping[str, Named],
) -> None:
  """Raises UserError where the checkpoint and what is asked for part."""
  for name, leaves in wanted.items():
    if name not in stored:
      raise errors.unknown(f"item of checkpoint {folder}", name, stored)
    have = stored[name]["arrays"]
    want = {path: _describe(leaf) for path, leaf in leaves.items()}
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
    _sharding(leaf).shard_shape(tuple(leaf.shape))
  except ValueError as error:
    raise errors.UserError(
      f"{what}: {_describe(leaf)} cannot be divided over {leaf.sharding}."
    ) from error


def _read_arrays(
  folder: epath.Path, wanted: Mapping[str, Named]
) -> dict[str, Named]:
  """The stored form of the arrays (keys as their data), unverified."""
  physical = {
    name: {path: _stored_form(leaf) for path, leaf in leaves.items()}
    for name, leaves in wanted.items()
  }
  filled = {k: some for k, v in physical.items() if (some := _filled(v))}
  read, problem = {}, ""
  if filled:
    try:
      read = _handler().restore(
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
    _forget_the_rest()
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


def _sharding(leaf: Any) -> jax.sharding.Sharding:
  return leaf.sharding or jax.sharding.SingleDeviceSharding(
    jax.local_devices()[0]
  )


def _stored_form(leaf: Any) -> jax.ShapeDtypeStruct:
  """Shape and dtype as stored; a key's sharding fits its data as well."""
  if _is_key(leaf):
    bare = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    data = jax.eval_shape(jax.random.key_data, bare)
  else:
    data = leaf
  return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=_sharding(leaf))


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
    raise ValueError(f"{leaf} in the place of {_describe(wanted)}")


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


def _forget_the_rest() -> None:
  """Drops the other reads that failed with the one that was raised.

  Python would print each of them, pages long, when it collects them.
  """
  asyncio_log = logging.getLogger("asyncio")
  disabled, asyncio_log.disabled = asyncio_log.disabled, True
  gc.collect()
  asyncio_log.disabled = disabled


def _first_line(error: Exception) -> str:
  lines = str(error).splitlines() or [""]
  return f"{type(error).__name__}: {lines[0][:120]}"


def _agree(folder: epath.Path, problem: str) -> None:
  """Raises Damaged on every process if one of them has a problem."""
  if jax.process_count() > 1:
    bad = multihost_utils.process_allgather(np.array(bool(problem)))
    if bad.any() and not problem:
      problem = f"process {int(np.argmax(bad))} cannot read it"
  if problem:
    raise Damaged(f"Checkpoint {folder} is damaged: {problem}.")


# Folders.


def _absolute(folder: epath.PathLike) -> epath.Path:
  path = epath.Path(folder).expanduser()
  return path if path.is_absolute() else path.resolve()


def _home(folder: epath.PathLike) -> epath.Path:
  path = _absolute(folder)
  inner = path / "checkpoints"
  return inner if inner.is_dir() else path


def _steps(folder: epath.Path) -> list[int]:
  return sorted(found.step for found in _STEP_NAMES.find_all(folder))


def _step_folder(folder: epath.PathLike, step: int | None) -> epath.Path:
  found = steps(folder)
  step = found[-1] if step is None else step
  if step not in found:
    raise errors.UserError(
      f"{folder} has no checkpoint of step {step}; it has"
      f" {', '.join(map(str, found))}."
    )
  return _home(folder) / str(step)


# Orbax.

_STEP_NAMES = ocp.path.step.standard_name_format()


class _Keep:
  """Preservation policy: the latest few, and every so many steps for ever."""

  def __init__(self, latest: int, every: int):
    self._latest, self._every = latest, every

  def should_preserve(self, checkpoints, *, context) -> Sequence[bool]:
    del context
    latest = {checkpoint.step for checkpoint in checkpoints[-self._latest :]}
    return [
      step in latest or bool(self._every and step and step % self._every == 0)
      for step in (checkpoint.step for checkpoint in checkpoints)
    ]


def _manager(folder: epath.Path, keep: _Keep) -> ocp.CheckpointManager:
  handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
  handlers.add("arrays", ocp.args.PyTreeSave, _handler())
  handlers.add(
    "manifest", ocp.args.JsonSave, ocp.JsonCheckpointHandler("manifest.json")
  )
  return ocp.CheckpointManager(
    folder,
    handler_registry=handlers,
    options=ocp.CheckpointManagerOptions(
      preservation_policy=keep,
      cleanup_tmp_directories=True,
      save_root_metadata=False,
      lightweight_initialize=True,  # the steps' Orbax metadata is not read
    ),
  )


@functools.cache
def _handler() -> ocp.PyTreeCheckpointHandler:
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


def _is_worth_reading(record: logging.LogRecord) -> bool:
  """Drops what Orbax narrates about every save; its errors are raised too."""
  return record.levelno >= logging.ERROR or "/orbax/" not in record.pathname


logging.getLogger("absl").addFilter(_is_worth_reading)


# Digests.

_CHUNK = 2**15  # words hashed at a time on the host: they stay in the cache


def _digests(items: Mapping[str, Named]) -> dict[str, str]:
  """The digest of every item; see `digest`."""
  leaves = [
    (name, path, leaf)
    for name, named in items.items()
    for path, leaf in sorted(_filled(named).items())
  ]
  sums = {name: [] for name in items}
  for (name, path, _), lanes in zip(leaves, _sums(leaves)):
    sums[name].append([path, *map(int, lanes)])
  return {
    name: hashlib.sha256(
      _canonical(
        {
          "arrays": {
            path: _describe(_stored_form(leaf)) for path, leaf in named.items()
          },
          "sums": sums[name],
        }
      ).encode()
    ).hexdigest()[:32]
    for name, named in items.items()
  }


def _sums(leaves: Sequence[tuple[str, str, jax.Array]]) -> np.ndarray:
  """[n, 2] uint32: two sums an array, the same on every process."""
  sums = []
  for _, path, leaf in leaves:
    salt = np.uint32(zlib.crc32(path.encode()))
    on_host = all(d.platform == "cpu" for d in leaf.sharding.device_set)
    sums.append((_sums_on_host if on_host else _sums_on_device)(leaf, salt))
  sums = np.array(jax.device_get(sums), np.uint32).reshape(-1, 2)
  if jax.process_count() == 1:
    return sums
  if jax.process_index() != 0:  # the first process speaks for what is whole
    whole = [_is_whole(leaf) for _, _, leaf in leaves]
    sums[np.array(whole, bool)] = 0
  every = multihost_utils.process_allgather(sums)
  return every.sum(axis=0, dtype=np.uint32)


def _is_whole(leaf: jax.Array) -> bool:
  """True if every process has computed the sums of the whole array."""
  on_host = all(d.platform == "cpu" for d in leaf.sharding.device_set)
  return leaf.is_fully_addressable or not on_host


@jax.jit
def _sums_on_device(leaf: jax.Array, salt: jax.Array) -> list[jax.Array]:
  """One small program for every shape and sharding, whatever the array."""
  bits = lax.bitcast_convert_type(*_unsigned(leaf)).astype(jnp.uint32)
  place = jnp.full(bits.shape, salt)
  for axis in range(bits.ndim):
    index = lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    place += index * _multiplier(axis)
  return [jnp.sum(lane, dtype=jnp.uint32) for lane in _lanes(bits, place)]


def _unsigned(leaf: jax.Array) -> tuple[jax.Array, Any]:
  """What to bitcast, and to what: 64-bit types get a trailing axis of 2."""
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint8), jnp.uint8
  size = leaf.dtype.itemsize
  return leaf, {1: jnp.uint8, 2: jnp.uint16}.get(size, jnp.uint32)


def _sums_on_host(leaf: jax.Array, salt: np.uint32) -> list[np.uint32]:
  """The same sums without compiling: of this process's shards, each once."""
  first, second = 0, 0
  for shard in leaf.addressable_shards:
    if shard.replica_id == 0 and shard.data.size:
      for bits, place in _chunks(np.asarray(shard.data), shard.index, salt):
        one, two = _lanes(bits, place)
        first += int(one.sum(dtype=np.uint64))
        second += int(two.sum(dtype=np.uint64))
  return [np.uint32(first % 2**32), np.uint32(second % 2**32)]


def _chunks(data: np.ndarray, index: tuple[slice, ...], salt: np.uint32):
  """Yields (bits, place), uint32 [rows, columns], of a shard at `index`."""
  size = data.dtype.itemsize
  words = data.reshape(*data.shape, 1).view({1: "u1", 2: "u2"}.get(size, "u4"))
  words = words if size > 4 else words[..., 0]
  starts = [each.start or 0 for each in index] + [0] * (size > 4)
  axes = [
    np.arange(start, start + length).astype(np.uint32) * _multiplier(axis)
    for axis, (start, length) in enumerate(zip(starts, words.shape))
  ]
  axes += [np.zeros(1, np.uint32)] * (2 - len(axes))
  places = salt[None]
  for axis in axes[:-1]:
    places = (places[:, None] + axis).reshape(-1)
  words = words.reshape(len(places), len(axes[-1]))
  rows = max(1, _CHUNK // words.shape[1])
  for row in range(0, len(words), rows):
    part = slice(row, row + rows)
    yield words[part].astype(np.uint32), places[part, None] + axes[-1]


def _multiplier(axis: int) -> np.uint32:
  """An odd number for each axis, so that places differ."""
  return np.uint32((0x9E3779B1 * (2 * axis + 1) ** 7) % 2**32)


def _lanes(bits, place):
  """Two hashes of (place, bits), numpy or JAX.

  At a given place each is a bijection of the bits: xor, addition, xor-shift
  and multiplication by an odd number all are, mod 2^32. So a word that changes
  always changes the sum of the hashes, and integer sums do not depend on the
  order, hence not on the sharding.
  """
  return (
    _mix(bits ^ place, 0x7FEB352D, 0x846CA68B),
    _mix(bits * np.uint32(0xC2B2AE35) + place, 0x21F0AAAD, 0xD35A2D97),
  )


def _mix(x, a: int, b: int):
  """A bijection of uint32 in which every bit reaches about half of the rest."""
  x = (x ^ (x >> np.uint32(16))) * np.uint32(a)
  x = (x ^ (x >> np.uint32(15))) * np.uint32(b)
  return x ^ (x >> np.uint32(16))
