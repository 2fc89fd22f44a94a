"""A table of rows that stay in their files and are read by index.

N rows, B of a batch. What is held is a number a shard and the files that were
used last.
"""

import collections
import dataclasses
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module
from etils import epath

from instruct_jax.base import storage
from instruct_jax.data.batch import rows as rows_lib
from instruct_jax.data.batch import shards

_OPEN = 256  # files at once: a process may often have 1,024
_TOKENS = ("tokens", "prompt", "response")  # which padding fills


@dataclasses.dataclass(frozen=True)
class Shard:
  """A file, how many rows it has and {array: (type, shape)} of each."""

  path: epath.Path
  rows: int
  arrays: Mapping[str, tuple[str, Sequence[int | None]]]


class Stored:
  """The rows of shards, one after another; as `rows.Padded` or packed ones.

  Args:
    files: the shards, in their order.
    row_length: the columns of rows of tokens.
    pad_id: what fills them.
    padding: the share of columns without a token.
  """

  def __init__(
    self,
    files: Sequence[Shard],
    *,
    row_length: int,
    pad_id: int,
    padding: float,
  ):
    self._files = tuple(files)
    self._row_length, self._pad_id = row_length, pad_id
    self.padding = padding
    self._ends = np.cumsum([file.rows for file in files], dtype=np.int64)
    self._readers: collections.OrderedDict[int, Any] = collections.OrderedDict()
    self._lock = threading.Lock()  # a thread reads ahead, others look
    self._folder: tempfile.TemporaryDirectory | None = None
    self._shapes = self._widest()

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> rows_lib.Batch:
    """The batch of these rows."""
    if isinstance(indices, slice):
      indices = np.arange(*indices.indices(len(self)))
    wanted = np.asarray(indices, np.int64)
    wanted = np.where(wanted < 0, wanted + len(self), wanted)
    shard = np.searchsorted(self._ends, wanted, side="right")
    found: list[dict[str, np.ndarray]] = [{}] * len(wanted)
    for n in np.unique(shard).tolist():
      places = np.flatnonzero(shard == n)
      first = int(self._ends[n]) - self._files[n].rows
      examples = self._read(n, (wanted[places] - first).tolist())
      for place, example in zip(places.tolist(), examples):
        found[place] = self._arrays(n, shards.arrays_in(example))
    if "tokens" in self._shapes:
      return self._tokens(found)
    arrays = {name: self._stacked(name, found) for name in self._shapes}
    return rows_lib.Padded(arrays).take(slice(None))

  def _tokens(self, found: list[dict[str, np.ndarray]]) -> rows_lib.Batch:
    """Rows of tokens as long as they are, padded on the right."""
    lengths = np.asarray([len(row["tokens"]) for row in found], np.int64)
    batch = {
      "is_token": np.arange(self._row_length) < lengths[:, None],
      **{name: self._stacked(name, found) for name in self._shapes},
    }
    return {
      name: array if array.dtype == np.bool_ else array.astype(np.int32)
      for name, array in batch.items()
    }

  def _stacked(
    self, name: str, found: list[dict[str, np.ndarray]]
  ) -> np.ndarray:
    """[B, ...] of what each row has, filled up to the widest."""
    dtype, shape = self._shapes[name]
    fill = self._pad_id if name in _TOKENS else 0
    stacked = np.full((len(found), *shape), fill, dtype)
    for n, row in enumerate(found):
      if name not in row:  # a shard whose answers count whole
        stacked[n, : int(row["response_length"])] = True
        continue
      stacked[n, *map(slice, row[name].shape)] = row[name]
    return stacked

  def _arrays(
    self, shard: int, content: dict[str, bytes]
  ) -> dict[str, np.ndarray]:
    arrays = {}
    for name, (dtype, shape) in self._files[shard].arrays.items():
      sizes = [-1 if size is None else size for size in shape]
      arrays[name] = np.frombuffer(content[name], dtype).reshape(sizes)
    if (length := arrays.pop("length", None)) is not None:
      arrays |= _segments(length)
    return arrays

  def _widest(self) -> dict[str, tuple[str, list[int]]]:
    """The type and shape of each array of a batch, without its rows."""
    widest: dict[str, tuple[str, list[int]]] = {}
    for file in self._files:
      arrays = dict(file.arrays)
      if arrays.pop("length", None):
        arrays |= {
          "segments": ("uint16", [None]),
          "is_target": ("bool", [None]),
        }
      for name, (dtype, shape) in arrays.items():
        sizes = [self._row_length if n is None else n for n in shape]
        before = widest.get(name, (dtype, sizes))[1]
        widest[name] = dtype, [max(a, b) for a, b in zip(before, sizes)]
    return widest

  def _read(self, shard: int, numbers: list[int]) -> list[bytes]:
    with self._lock:
      reader = self._readers.pop(shard, None)
      if reader is None:
        reader = self._open(self._files[shard].path)
        while len(self._readers) >= _OPEN:
          self._readers.popitem(last=False)[1].close()
      self._readers[shard] = reader
      return reader.read(numbers)

  def _open(self, path: epath.Path) -> Any:
    name = os.fspath(path)
    if storage.is_remote(path):  # ArrayRecord reads local files
      self._folder = self._folder or tempfile.TemporaryDirectory()
      name = os.path.join(self._folder.name, path.name)
      if not os.path.exists(name):
        epath.Path(name).write_bytes(path.read_bytes())
    with storage.naming(path):
      return array_record_module.ArrayRecordReader(
        name, "readahead_buffer_size:0"
      )


def _segments(length: np.ndarray) -> dict[str, np.ndarray]:
  """What packed texts of these lengths have beside their tokens."""
  is_target = np.ones(length.sum(), bool)
  is_target[np.cumsum(length) - length] = False
  numbers = np.arange(1, len(length) + 1, dtype=np.uint16)
  return {"segments": np.repeat(numbers, length), "is_target": is_target}
