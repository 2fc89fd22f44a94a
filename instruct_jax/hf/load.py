"""From a checkpoint's folder into sharded arrays, tensor by tensor.

What a host holds at any moment is its part of one tensor, in the dtype of the
file: tensors go to the devices as they are and are turned and made float32
there.
"""

import functools
import hashlib
import json
import logging
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import places, tensors
from instruct_jax.models import config as model_config
from instruct_jax.parallel import sharding

_log = logging.getLogger(__name__)

_SAMPLES, _SAMPLE = 64, 1 << 16  # blocks of a file that the digest reads


def role_of(folder: hf_folder.Folder) -> str:
  """'policy', or 'reward' where there is a score in place of logits."""
  return "reward" if "score.weight" in folder.names else "policy"


def decoder_config(folder: hf_folder.Folder) -> model_config.DecoderConfig:
  """The decoder that a folder holds the tensors of; raises UserError."""
  return hf_config.decoder_config(folder.config, folder.where)


def check(folder: hf_folder.Folder, role: str) -> None:
  """UserError where the tensors are not those that config.json asks for.

  Reads no tensor, and costs no more than the tensors that are there, whatever
  sizes config.json claims.
  """
  places.Places(folder, decoder_config(folder), role).check()


def load(
  folder: hf_folder.Folder, abstract: dict[str, Any], role: str
) -> dict[str, Any]:
  """The parameters of `role` as float32 arrays.

  Args:
    folder: the checkpoint.
    abstract: ShapeDtypeStructs with shardings, as the model has them.
    role: 'policy', 'reward' or 'value'.

  Raises:
    UserError: a tensor is missing, left over, of another shape or dtype, or
      holds numbers that are not finite; each is named with its file.
  """
  where = places.Places(folder, decoder_config(folder), role)
  paths, structure = jax.tree_util.tree_flatten_with_path(abstract)
  paths = [(sharding.path_name(path), leaf) for path, leaf in paths]
  where.check()
  where.check_fits(paths)
  _say_what_is_left(folder)
  reader = _Reader(where)
  loaded = [reader.array(name, leaf) for name, leaf in paths]
  folder.close()
  reader.check_finite()
  return jax.tree_util.tree_unflatten(structure, loaded)


def digest(path: os.PathLike | str) -> str:
  """A hash that changes when a checkpoint does.

  Of config.json, of the names and sizes of the tensors' files, and of their
  beginning and 64 blocks of 64 KiB spread over each: a file of many gigabytes
  is not read as a whole.
  """
  folder = hf_folder.Folder(path)
  total = hashlib.sha256(json.dumps(folder.config, sort_keys=True).encode())
  for file in folder.files():
    size = file.stat().length
    total.update(f"{file.name} {size}".encode())
    with file.open("rb") as opened:
      last = max(size - _SAMPLE, 0)
      for place in sorted({last * i // _SAMPLES for i in range(_SAMPLES + 1)}):
        opened.seek(place)
        total.update(opened.read(_SAMPLE))
  folder.close()
  return total.hexdigest()[:16]


def _say_what_is_left(folder):
  names = places.outside(folder)
  if names:
    parts = {name.removeprefix("model.").split(".")[0] for name in names}
    _log.warning(
      "%s: the text model is read alone; %d tensors of %s are left out",
      folder.path,
      len(names),
      " and ".join(sorted(parts)),
    )


class _Reader:
  """Reads the parameters of one role, by our names."""

  def __init__(self, where: places.Places):
    self._folder, self._places = where.folder, where
    self._finite = []  # (name, device bool)

  def array(self, name, leaf):
    """One parameter, placed as `leaf` says."""
    if name == "head/bias":
      bias = np.full(leaf.shape, self._reward_bias(), np.float32)
      return jax.device_put(bias, leaf.sharding)
    if "/blocks/" not in name:
      return self._one(name, leaf.shape, leaf.sharding)
    mesh, spec = leaf.sharding.mesh, tuple(leaf.sharding.spec)
    one = NamedSharding(mesh, P(*spec[1:]))
    stacked = jax.jit(
      functools.partial(jnp.zeros, leaf.shape, jnp.float32),
      out_shardings=leaf.sharding,
    )()
    for i, (ours, shape) in enumerate(self._places.unstacked(name, leaf.shape)):
      stacked = _put_layer(stacked, self._one(ours, shape, one), i)
    return stacked

  def check_finite(self):
    """UserError for the first tensor with a number that is not finite."""
    for name, finite in self._finite:
      if not bool(finite):
        raise errors.UserError(
          f"{self._folder.file_of(name)}: '{name}' holds numbers that are not"
          " finite."
        )

  def _one(self, name, shape, target):
    entry = self._places.leaves[name]
    tensor, mesh = self._places.tensor(entry), target.mesh
    spec = tuple(target.spec) + (None,) * (len(shape) - len(target.spec))
    turned = P(*(spec[::-1] if entry.transposed else spec))
    source = shape[::-1] if entry.transposed else shape
    read = functools.lru_cache(1)(lambda: self._part(entry, tensor))
    dtype = self._folder.dtype(tensor)

    def piece(index):
      if entry.shared == "heads":
        return np.ascontiguousarray(read()[index])
      if entry.shared == "columns":
        start = entry.part * source[-1]
        low, high, _ = index[-1].indices(source[-1])
        index = (*index[:-1], slice(start + low, start + high))
      return self._folder.read(tensor, _bounded(index))

    raw = jax.make_array_from_callback(
      source, NamedSharding(mesh, turned), piece, dtype=dtype
    )
    self._finite.append((tensor, _is_finite(raw)))
    return _finish(entry.transposed, target)(raw)

  def _part(self, entry, tensor):
    whole = self._folder.read(tensor)
    return tensors.cut(entry, whole, self._places.model.heads)

  def _reward_bias(self):
    bias = self._folder.config.get("reward_bias", 0.0)
    if not isinstance(bias, (int, float)) or not np.isfinite(bias):
      raise errors.UserError(
        f'{self._folder.where}: "reward_bias" should be a number, not {bias!r}.'
      )
    return bias


@functools.lru_cache(64)
def _finish(transposed, target):
  """Turns an array where it must be, and makes it float32."""
  return jax.jit(
    lambda x: jnp.asarray(x.T if transposed else x, jnp.float32),
    out_shardings=target,
  )


@jax.jit
def _is_finite(x):
  # A program of its own: in one with the turning, both are slow on a CPU.
  return jnp.isfinite(x).all()


@functools.partial(jax.jit, donate_argnums=0)
def _put_layer(stacked, layer, i):
  return jax.lax.dynamic_update_index_in_dim(stacked, layer, i, 0)


def _bounded(index):
  return tuple(slice(s.start or 0, s.stop) for s in index)
