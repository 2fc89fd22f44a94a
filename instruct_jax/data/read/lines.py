"""Records of a large file of JSON lines, each read when it is asked for."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.read import records

_BLOCK = 1 << 24  # bytes
Record = records.Record


class Lines(Sequence[Record]):
  """The records of a file that has one in every line.

  What is held is where each begins, 8 bytes.

  Args:
    path: a local file.
    made: (where, object) -> the record, which raises UserError if it is wrong.
  """

  def __init__(
    self, path: os.PathLike | str, made: Callable[[str, Any], Record]
  ):
    self._path, self._made = os.fspath(path), made
    self._lock = threading.Lock()
    # It stays open as long as the records do.
    self._file = open(self._path, "rb")  # noqa: SIM115
    self._starts = _starts(self._file)

  def __len__(self) -> int:
    return len(self._starts) - 1

  @overload
  def __getitem__(self, index: int) -> Record: ...
  @overload
  def __getitem__(self, index: slice) -> list[Record]: ...
  def __getitem__(self, index: int | slice) -> Record | list[Record]:
    if isinstance(index, slice):
      return [self[n] for n in range(*index.indices(len(self)))]
    number = range(len(self))[index]
    start, stop = self._starts[number : number + 2].tolist()
    with self._lock:
      self._file.seek(start)
      line = self._file.read(stop - start)
    where = f"{self._path}:{number + 1}"
    try:
      record = json.loads(line)
    except ValueError as error:
      raise errors.UserError(f"{where}: not a JSON object ({error})") from None
    return self._made(where, record)


def _starts(file) -> np.ndarray:
  """[N + 1] int64, where each line begins, and the end."""
  found, place = [np.zeros(1, np.int64)], 0
  while block := file.read(_BLOCK):
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    found.append(ends + (place + 1))
    place += len(block)
  starts = np.concatenate(found)
  return starts if starts[-1] == place else np.append(starts, place)
