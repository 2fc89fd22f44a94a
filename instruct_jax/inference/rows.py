"""Contexts with their continuations, in rows that they share.

Continuations of the same context are one item: the context once, then each
continuation but for its last token, which predicts nothing asked for. A
continuation sees its context and itself, never another. Items stand behind each
other in rows of one width, the longest first, and rows are read so many at a
time: a set of data needs one program or two, and little is padding.

N rows of W slots; A of them are asked for what comes next.
"""

import dataclasses
import functools
from collections.abc import Container, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.data.batch import packing
from instruct_jax.inference import batching
from instruct_jax.models import attention, forward, heads
from instruct_jax.parallel import sharding

Ids = tuple[int, ...]
# Of a device at a time. On a CPU fewer tokens are computed as fast as many;
# elsewhere many are needed to be fast.
CPU_SLOTS, DEVICE_SLOTS = 2048, 16384
_LEAST = 512  # of a row's slots: several short items share it
_FEW = 8  # what share of the slots may be asked for where few are


@dataclasses.dataclass(frozen=True)
class Item:
  """Some continuations of a context."""

  context: Ids
  places: tuple[int, ...]  # of its continuations among all
  slots: int
  asked: int

  @property
  def length(self) -> int:
    """What it takes of a row, which is asked for no more than it has slots.

    Behind a context of one token more is asked for than there are slots.
    """
    return max(self.slots, self.asked)


@dataclasses.dataclass(frozen=True)
class Batch:
  """Rows that are read at a time; each an array [N, W] or, asked for, [N, A].

  tokens, positions, segments (0: empty), branches, as `attention.Structure` has
  them; of what is asked: at (the slot), target (the token), place (of the
  continuation, -1: nothing).
  """

  table: dict[str, np.ndarray]
  place: np.ndarray

  @property
  def is_asked(self) -> np.ndarray:
    """[N, A] bool."""
    return self.table["is_asked"]


@dataclasses.dataclass(frozen=True)
class Rows:
  """All items in their rows, which are not laid out yet."""

  asked: Sequence[tuple[Ids, Ids]]
  items: list[list[Item]]  # of each row
  width: int
  few: bool  # whether few slots are asked for
  at_once: int  # N

  def batches(self, wanted: Container[int] | None = None) -> Iterator[Batch]:
    """The rows, so many at a time; the last has empty ones.

    Those that hold nothing `wanted` are left out: what is beside a continuation
    is the same, whatever else is known already.
    """
    for start in range(0, len(self.items), self.at_once):
      some = self.items[start : start + self.at_once]
      places = (n for row in some for one in row for n in one.places)
      if wanted is None or any(n in wanted for n in places):
        yield self._batch(some)

  @property
  def padding(self) -> float:
    """The share of the slots that hold no token."""
    slots = -(-len(self.items) // self.at_once) * self.at_once * self.width
    used = sum(one.slots for row in self.items for one in row)
    return 1 - used / max(1, slots)

  def _batch(self, some):
    names = "tokens", "positions", "segments", "branches"
    width = self.width // _FEW if self.few else self.width
    table = {x: np.zeros((self.at_once, self.width), np.int32) for x in names}
    for name in ("at", "target"):
      table[name] = np.zeros((self.at_once, width), np.int32)
    place = np.full((self.at_once, width), -1, np.int32)
    for n, items in enumerate(some):
      row = {name: x[n] for name, x in table.items()} | {"place": place[n]}
      _lay(row, items, self.asked)
    return Batch(table | {"is_asked": place >= 0}, place)


def laid(asked: Sequence[tuple[Ids, Ids]], mesh: jax.sharding.Mesh) -> Rows:
  """Where each continuation that has a token goes; contexts have one at least.

  Of three widths that with the fewest empty slots is taken, the narrowest of
  those that are about as full.
  """
  longest = max(len(a) + len(b) - 1 for a, b in asked)
  most = max(longest, _LEAST)
  items = _items(asked, most)
  lengths = np.asarray([one.length for one in items], np.int64)
  width, row_of = min(
    ((w, packing.first_fit(lengths, w)) for w in _widths(most)),
    key=lambda x: round((x[1].max() + 1) * x[0] / lengths.sum(), 1),
  )
  found: list[list[Item]] = [[] for _ in range(row_of.max() + 1)]
  for item, row in zip(items, row_of):
    found[row].append(item)
  slots = CPU_SLOTS if sharding.platform() == "cpu" else DEVICE_SLOTS
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  counts = [sum(one.asked for one in row) for row in found]
  return Rows(
    asked=asked,
    items=found,
    width=width,
    few=max(counts) <= width // _FEW,
    at_once=batching.rounded(max(1, slots // width) * ways, mesh),
  )


def _widths(least: int) -> list[int]:
  """The first three of 512, 768, 1024, 1536, 2048, ... that are no less."""
  found, power = [], _LEAST
  while len(found) < 3:
    found += [w for w in (power, power * 3 // 2) if w >= least]
    power *= 2
  return found[:3]


def _items(asked, most):
  """Continuations by context, as many in an item as fit `most` slots."""
  of_context: dict[Ids, list[int]] = {}
  for place, (context, continuation) in enumerate(asked):
    if continuation:
      of_context.setdefault(context, []).append(place)
  items = []
  for context, places in of_context.items():
    one = Item(context, (), len(context), 0)
    for place in places:
      size = len(asked[place][1])
      more = Item(
        context, (*one.places, place), one.slots + size - 1, one.asked + size
      )
      if one.places and more.length > most:
        items.append(one)
        more = Item(context, (place,), len(context) + size - 1, size)
      one = more
    items.append(one)
  return items


def _lay(row, items, asked):
  """Writes the items of a row into its arrays."""
  slot = number = 0
  for segment, one in enumerate(items, start=1):
    end, size = slot + one.slots, len(one.context)
    row["tokens"][slot : slot + size] = one.context
    row["positions"][slot : slot + size] = np.arange(size)
    row["segments"][slot:end] = segment
    last = slot + size - 1  # of the context: it predicts what comes first
    slot += size
    for branch, place in enumerate(one.places, start=1):
      ids = asked[place][1]
      more = len(ids) - 1
      there = slice(slot, slot + more)
      row["tokens"][there] = ids[:-1]
      row["positions"][there] = np.arange(size, size + more)
      row["branches"][there] = branch
      wanted = slice(number, number + more + 1)
      row["at"][wanted] = [last, *range(slot, slot + more)]
      row["target"][wanted] = ids
      row["place"][wanted] = place
      slot, number = slot + more, number + more + 1


def read(
  model: heads.LanguageModel,
  params: dict,
  batch: Batch,
  mesh: jax.sharding.Mesh,
) -> tuple[jax.Array, jax.Array]:
  """log π of each target [N, A] in nats, and whether no token is likelier.

  Returns before it is computed.
  """
  with jax.set_mesh(mesh):
    return _read(model, params, batching.placed(batch.table, mesh))


@functools.partial(jax.jit, static_argnums=0)
def _read(model, params, table):
  segments = table["segments"]
  structure = attention.Structure(
    positions=table["positions"],
    is_key=segments > jnp.int32(0),
    segments=segments,
    branches=table["branches"],
  )
  return forward.targets_read(
    *(model, params, table["tokens"], structure),
    at=table["at"],
    targets=table["target"],
    where=table["is_asked"],
  )
