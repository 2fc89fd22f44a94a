"""Texts in one run of bytes: many are looked at in the time of a few."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from instruct_jax.data.read import records

_TOGETHER = 1 << 17  # characters of records that are looked at together


@dataclasses.dataclass(frozen=True)
class Bundle:
  """N texts that follow each other in a source."""

  content: bytes  # UTF-8; what stands between them is none of them
  starts: np.ndarray  # [N] int64
  stops: np.ndarray  # [N] int64, ascending
  # [N] int8, the place in SPLITS that a record names itself, or -1.
  marks: np.ndarray | None = None
  part: int = 0  # of a mixture

  def __len__(self) -> int:
    return len(self.starts)

  def text(self, n: int) -> str:
    """One of them."""
    content = self.content[self.starts[n] : self.stops[n]]
    return content.decode("utf-8", "surrogatepass")


def of(texts: Sequence[str]) -> Bundle:
  """Texts as a bundle."""
  contents = [text.encode("utf-8", "surrogatepass") for text in texts]
  sizes = np.asarray([len(content) for content in contents], np.int64)
  starts = np.cumsum(sizes + 1) - sizes - 1
  return Bundle(b"\n".join(contents), starts, starts + sizes)


def of_records(some: Iterable[records.Record], key: str) -> Iterator[Bundle]:
  """Records' texts, each with the split and the part that its record names."""
  for same in together(some, key):
    yield of_some(same, key)


def of_some(same: Sequence[records.Record], key: str) -> Bundle:
  """The texts of records of one part."""
  marks = [
    records.SPLITS.index(record["split"]) if "split" in record else -1
    for record in same
  ]
  return dataclasses.replace(
    of([record[key] for record in same]),
    marks=np.asarray(marks, np.int8),
    part=same[0].get("part", 0),
  )


def together(
  every: Iterable[records.Record], key: str
) -> Iterator[list[records.Record]]:
  """Records of one part, some at a time."""
  some: list[records.Record] = []
  size = 0
  for record in every:
    if some and some[0].get("part") != record.get("part"):
      yield some
      some, size = [], 0
    some.append(record)
    size += len(record[key])
    if size >= _TOGETHER:
      yield some
      some, size = [], 0
  if some:
    yield some
