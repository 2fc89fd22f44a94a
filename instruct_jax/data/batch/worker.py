"""A process that makes pieces for `pool`; it never imports jax.

It reads what to make from stdin and says what came of it on stdout, both as
pickles and the buffers that belong to them, each behind its length, and ends
when stdin does.
"""

import ctypes
import os
import pickle
import signal
import struct
import sys
import traceback
from typing import IO, Any

import ml_collections

from instruct_jax import tokenizers
from instruct_jax.base import allocation, errors
from instruct_jax.data.batch import pieces

_LENGTH = struct.Struct("<Q")


def send(file: IO[bytes], message: Any) -> None:
  """Writes one message."""
  buffers: list[pickle.PickleBuffer] = []
  content = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
  file.write(_LENGTH.pack(len(buffers)))
  for part in (content, *(buffer.raw() for buffer in buffers)):
    file.write(_LENGTH.pack(len(part)))
    file.write(part)
  file.flush()


def receive(file: IO[bytes]) -> Any:
  """Reads one message; EOFError where there is none any more."""
  count = _number(file)
  content, *buffers = (_read(file, _number(file)) for _ in range(count + 1))
  return pickle.loads(content, buffers=buffers)


def _number(file: IO[bytes]) -> int:
  return _LENGTH.unpack(_read(file, _LENGTH.size))[0]


def _read(file: IO[bytes], size: int) -> bytes:
  content = file.read(size)
  if len(content) < size:
    raise EOFError
  return content


def main() -> None:
  """Makes pieces until stdin ends, or the process that started it does."""
  _die_with(int(sys.argv[1]))
  allocation.keep()  # A piece needs what the one before needed.
  out = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # What a library prints is no message.
  try:
    data, root, tokenizer_folder = receive(sys.stdin.buffer)
    data = ml_collections.ConfigDict(data)
    tokenizer = tokenizers.load(tokenizer_folder)
    while True:
      piece = receive(sys.stdin.buffer)
      send(out, _made(piece, data, tokenizer, root))
      del piece
  except (EOFError, BrokenPipeError, KeyboardInterrupt):
    os._exit(0)  # Whom it worked for is gone, or has enough.


def _die_with(parent: int) -> None:
  """Nobody is left to write a shard for that another may be making again."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
  if os.getppid() != parent:
    os._exit(0)


def _made(piece, data, tokenizer, root) -> tuple[str, Any]:
  try:
    return "made", pieces.write(piece, data, tokenizer, root)
  except OSError as error:
    said = error.errno, error.strerror, error.filename
    return "disk", tuple(x if isinstance(x, int) else str(x) for x in said)
  except errors.UserError as error:
    return "refused", str(error)
  except Exception:
    return "failed", traceback.format_exc()
