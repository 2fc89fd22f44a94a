"""Compressed files as what is in them; which they are, their first bytes tell.

gzip, bzip2, xz and zstandard, of one member or of several. A file that is cut,
damaged or goes on with something else is an error, nothing of it is left out.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

from etils import epath

from instruct_jax.data.read import typed

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
ERRORS = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_BLOCK = 1 << 16
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
_XZ, _ZSTD = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_STARTS = (_GZIP, _BZIP2, _XZ, _ZSTD)


def is_one(path: epath.Path) -> bool:
  """Whether a file is compressed, by its first bytes."""
  with path.open("rb") as raw:
    return raw.read(6).startswith(_STARTS)


def opened(raw: IO[bytes], path: epath.Path) -> IO[bytes]:
  """The file itself, or what is in it.

  Reading it raises one of `ERRORS` or OSError where it is damaged.
  """
  first = raw.read(6)
  raw.seek(0)
  if first.startswith(_GZIP):
    return io.BufferedReader(gzip.GzipFile(fileobj=raw))
  if first.startswith(_BZIP2):
    return io.BufferedReader(_Members(raw, bz2.BZ2Decompressor))
  if first == _XZ:
    return io.BufferedReader(_Members(raw, lzma.LZMADecompressor))
  if first.startswith(_ZSTD):
    # Not the zstandard module: it ends a cut file without an error.
    pyarrow = typed.pyarrow_for(path)
    return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))
  return raw


class _Members(io.RawIOBase):
  """Reads one member after the other.

  `bz2.open` and `lzma.open` take a member with a damaged head for the end.
  """

  def __init__(self, raw: IO[bytes], start: Callable[[], Any]):
    self._raw, self._start, self._member = raw, start, start()

  def readable(self) -> bool:
    """Always."""
    return True

  def readinto(self, buffer: Any) -> int:
    """Fills some of the buffer; 0 at the end of the last member."""
    data = b""
    while not data:
      packed = b""
      if self._member.eof:
        packed = self._next_member()
        if not packed:
          return 0
        self._member = self._start()
      elif self._member.needs_input:
        packed = self._raw.read(_BLOCK)
        if not packed:
          raise EOFError("it ends before its end mark")
      data = self._member.decompress(packed, len(buffer))
    buffer[: len(data)] = data
    return len(data)

  def _next_member(self) -> bytes:
    """What comes behind a member; xz may fill up with zeros there."""
    packed = self._member.unused_data.lstrip(b"\0")
    while not packed and (block := self._raw.read(_BLOCK)):
      packed = block.lstrip(b"\0")
    return packed
