"""Tensors into *.safetensors files and their index, one shard in memory."""

from collections.abc import Iterable

import numpy as np
import safetensors.numpy
from etils import epath

from instruct_jax.base import storage
from instruct_jax.hf import folder as hf_folder
from instruct_jax.parallel import hosts


def write(
  named: Iterable[tuple[str, np.ndarray]],
  folder: epath.Path,
  shard_bytes: int,
) -> None:
  """Writes files of at most `shard_bytes` (or one tensor) and the index."""
  shard, size, files, total, where = {}, 0, 0, 0, {}
  for name, x in named:
    if shard and size + x.nbytes > shard_bytes:
      files += 1
      where |= dict.fromkeys(shard, files)
      _write_shard(shard, folder, files)
      shard, size = {}, 0
    shard[name] = x
    size, total = size + x.nbytes, total + x.nbytes
  files += 1
  where |= dict.fromkeys(shard, files)
  _write_shard(shard, folder, files)
  if not hosts.is_writer():
    return
  if files == 1:
    _part(folder, 1).rename(folder / hf_folder.SINGLE)
    return
  for i in range(1, files + 1):
    _part(folder, i).rename(folder / _shard_name(i, files))
  index = {
    "metadata": {"total_size": total},
    "weight_map": {n: _shard_name(i, files) for n, i in sorted(where.items())},
  }
  storage.write_json(folder / hf_folder.INDEX, index)


def _write_shard(shard, folder, number):
  if hosts.is_writer():
    content = safetensors.numpy.save(shard, metadata={"format": "pt"})
    storage.write(_part(folder, number), content)


def _part(folder, number):
  return folder / f".model-{number}.part"


def _shard_name(i, count):
  return f"model-{i:05d}-of-{count:05d}.safetensors"
