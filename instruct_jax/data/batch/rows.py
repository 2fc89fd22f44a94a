"""Every row of one kind and split, kept small; batches are taken from it.

N rows of a source, B of a batch, K completions, P prompt, R response.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.read import kinds

Batch = dict[str, np.ndarray]
_PADDED = ("prompt", "response")
_MASKS = ("is_token", "is_target", "is_response", "is_completion", "beats")


class Table(Protocol):
  """N rows, in memory or not."""

  @property
  def padding(self) -> float:
    """The share of columns without a token."""

  def __len__(self) -> int: ...

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> Batch:
    """The batch of these rows."""


@dataclasses.dataclass(frozen=True)
class Padded:
  """A prompt a row, and with it a response, K of them, or none.

  Tokens are kept in as few bytes as the vocabulary allows, with lengths in
  place of masks.
  """

  arrays: Batch  # tokens, lengths, ranks and beats, [N, ...]

  def __len__(self) -> int:
    return len(self.arrays["prompt"])

  @property
  def padding(self) -> float:
    """The share of columns without a token."""
    size = len(self) * self.columns
    return 1 - self.filled / size if size else 0.0

  @property
  def columns(self) -> int:
    """Columns of a row, those of all its responses together."""
    there = [a for name, a in self.arrays.items() if name in _PADDED]
    return sum(math.prod(array.shape[1:]) for array in there)

  @property
  def filled(self) -> int:
    """Columns of all rows that have a token."""
    there = [f"{name}_length" for name in _PADDED if name in self.arrays]
    return sum(int(self.arrays[name].sum(dtype=np.int64)) for name in there)

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> Batch:
    """The arrays of these rows, with their masks."""
    a = {name: array[indices] for name, array in self.arrays.items()}
    column = np.arange(a["prompt"].shape[-1], dtype=np.int32)
    first = len(column) - a["prompt_length"]
    batch = {
      "prompt": a["prompt"].astype(np.int32),
      "is_prompt": column >= first[..., None],
    }
    if "response" in a:
      column = np.arange(a["response"].shape[-1], dtype=np.int32)
      batch["response"] = a["response"].astype(np.int32)
      batch["is_response"] = column < a["response_length"][..., None]
    if "is_target" in a:
      batch["is_target"] = a["is_target"]
    if "ranks" in a:
      batch["ranks"] = a["ranks"].astype(np.int32)
      batch["is_completion"] = a["ranks"] > 0
      batch["beats"] = a["beats"]
    return batch


@dataclasses.dataclass(frozen=True)
class Rows:
  """Every row of one kind and split, in the order of its source."""

  kind: str
  table: Table
  index: np.ndarray  # [N] int32, the record that an unpacked row is from
  counts: dict[str, int | float]  # what was read, dropped and cut; padding
  source: Sequence[kinds.Record]  # () for text and packed rows
  weights: tuple[float, ...] = ()  # of the parts of a mixture
  part: np.ndarray | None = None  # [N] int32, the part that a row is of
  # What was computed for every row, [N, ...] each; it is in every batch.
  columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.index)

  def with_columns(self, columns: Mapping[str, np.ndarray]) -> "Rows":
    """These rows with more in each.

    Raises UserError where a column has not one line a row, or the name of what
    is there.
    """
    there = {*self.take(np.zeros(1, np.int64)), *self.columns}
    for name, column in columns.items():
      if len(column) != len(self) or name in there:
        wrong = "there is one already"
        if name not in there:
          wrong = f"{len(column)} lines for {len(self)} rows"
        raise errors.UserError(f"column '{name}' of {self.kind}: {wrong}")
    return dataclasses.replace(self, columns={**self.columns, **columns})

  def take(self, indices: Sequence[int] | np.ndarray | slice) -> Batch:
    """The batch of these rows."""
    batch = self.table.take(indices)
    batch |= {name: column[indices] for name, column in self.columns.items()}
    if kinds.KINDS[self.kind].is_asked:
      batch["index"] = self.index[indices]
    return batch

  def in_order(self, size: int) -> Iterator[Batch]:
    """All rows once, `size` at a time.

    The last batch is filled up with row 0, masks and `index` switched off
    (False; -1), so that every batch has one shape and no row counts twice.
    """
    for start in range(0, len(self), size):
      real = min(size, len(self) - start)
      indices = np.zeros(size, np.int64)
      indices[:real] = np.arange(start, start + real)
      batch = self.take(indices)
      for name in _MASKS:
        if name in batch:
          batch[name][real:] = False
      if "index" in batch:
        batch["index"][real:] = -1
      yield batch
