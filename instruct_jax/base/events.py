"""TensorBoard's event files, a record at a time.

A record is on disk when it has been added, whole or not at all, as a line of
metrics.jsonl is; a writer with a thread of its own would lose what the disk
says of it.
"""

import os
import socket
import struct
import time
from typing import Any

from etils import epath

from instruct_jax.base import storage


class Events:
  """One event file, which begins when it is made."""

  def __init__(self, folder: epath.PathLike):
    """Makes a file in `folder`, which no other process or start writes."""
    from tensorboardX.proto import event_pb2  # late: it takes a while

    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Names differ by the second only: a quick restart would overwrite.
    names = int(time.time()), socket.gethostname(), os.getpid(), time.time_ns()
    self._path = folder / ".".join(["events.out.tfevents", *map(str, names)])
    self.add(event_pb2.Event(file_version="brain.Event:2"), 0)

  def add(self, event: Any, step: int) -> None:
    """Appends an event (tensorboardX's) of a step; it happens now."""
    event.step, event.wall_time = int(step), time.time()
    storage.append(self._path, _record(event.SerializeToString()))


def _record(data: bytes) -> bytes:
  """Length and content, each with its checksum: TensorFlow's TFRecord."""
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack("<Q", len(data))
  sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
  return length + next(sums) + data + next(sums)
