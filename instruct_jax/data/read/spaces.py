"""White space made single."""

import itertools
from collections.abc import Sequence

import numpy as np

_BLANKS = [c for c in map(chr, range(0x3001)) if c.isspace() and c not in " \n"]
_ASCII = [c for c in _BLANKS if c.isascii()]
_WIDE = [c for c in _BLANKS if not c.isascii()]
_WIDE_HEADS = sorted({c.encode("utf-8")[0] for c in _WIDE})


def single(text: str) -> str:
  """`" ".join(text.split())`, three times as fast where little changes."""
  flat = text.replace("\n", " ")
  if (
    "  " in flat
    or any(map(flat.__contains__, _ASCII))
    or (not flat.isascii() and any(map(flat.__contains__, _WIDE)))
  ):
    return " ".join(text.split())
  return flat.strip(" ")


def singles(texts: Sequence[str]) -> list[bytes]:
  """`single` of each text, in UTF-8: a third of the time for some 100 kB."""
  contents = [text.encode("utf-8") for text in texts]
  joined = np.frombuffer(b"x".join([*contents, b""]), np.uint8)
  flat = np.maximum(joined, ord(" ")).tobytes()  # what a lone "\n" becomes
  ends = np.cumsum([len(content) + 1 for content in contents])
  starts = [0, *ends.tolist()]
  found = [
    flat[start : stop - 1].strip(b" ")
    for start, stop in itertools.pairwise(starts)
  ]
  odd = np.flatnonzero(_odd(joined))
  for n in np.unique(np.searchsorted(ends, odd, side="right")).tolist():
    found[n] = single(texts[n]).encode("utf-8")
  return found


def _odd(content: np.ndarray) -> np.ndarray:
  """Which bytes [N] may be of white space but a lone space or "\\n"."""
  is_low = content <= ord(" ")
  odd = (content < ord(" ")) & (content != ord("\n"))
  odd[1:] |= is_low[1:] & is_low[:-1]
  if len(content) and content.max() >= 0x80:
    for head in _WIDE_HEADS:
      odd |= content == head
  return odd
