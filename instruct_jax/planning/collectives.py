"""What a compiled program sends between devices, and over which network.

Bytes are those that a device receives, of the least that each operation takes
on a ring: (n - 1) / n of what n devices gather or scatter, twice that for a
sum that all get. Within a slice they go over its own network (ICI of TPUs,
NVLink); of a group that reaches over several slices a device of each slice
exchanges its share over the data center's (DCN), the rest stays within. A
compiler for several slices of TPUs takes the two apart itself: what goes over
DCN it prints as a host's transfer, sent and received (its runtime is called
megascale).
Sources: Thakur, Rabenseifner & Gropp 2005; mesh axes as XLA prints them.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np

from instruct_jax.planning import hlo, loops

# The bytes of an operation are its largest array's, gathered or not scattered.
_RINGS = {  # how often (n - 1) / n of them travel
  "all-gather": 1,
  "reduce-scatter": 1,
  "all-reduce": 2,
  "all-to-all": 1,
  "ragged-all-to-all": 1,
  "collective-broadcast": 1,
}
_PERMUTE = "collective-permute"
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_MEETING = re.compile(r'_xla_host_transfer_rendezvous="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Of one run of a program, a device."""

  ici_bytes: float
  dcn_bytes: float
  counts: dict[str, int]  # {operation: how often it is run}
  by_operation: dict[str, float]  # {operation: bytes over both networks}


def traffic(module: hlo.Module, slices: Sequence[int]) -> Traffic:
  """What a program sends; `slices` is the slice of each device.

  A compiler may print an operation several times that is done in steps, under
  one channel: it counts once.
  """
  found: dict[str, tuple[str, int, float, float]] = {}
  for name, times in loops.times(module).items():
    lines = module.computations[name]
    for line in lines.values() if times else ():
      one = _sent(line, lines, slices)
      if one is None:
        continue
      kind, key, ici, dcn = one
      key = key or f"{name}/{line.name}"
      if key not in found or times * (ici + dcn) > sum(found[key][2:]):
        found[key] = kind, times, times * ici, times * dcn
  counts: dict[str, int] = {}
  sizes: dict[str, float] = {}
  for kind, times, ici, dcn in found.values():
    counts[kind] = counts.get(kind, 0) + times
    sizes[kind] = sizes.get(kind, 0.0) + ici + dcn
  return Traffic(
    ici_bytes=sum(x[2] for x in found.values()),
    dcn_bytes=sum(x[3] for x in found.values()),
    counts=counts,
    by_operation=sizes,
  )


def _sent(line, lines, slices):
  """(operation, its channel, bytes over ICI, over DCN); None of what sends
  nothing."""
  kind = line.opcode.removesuffix("-start")
  if kind in _RINGS or kind == _PERMUTE:
    ici, dcn = _of_one(kind, line, lines, slices)
    return kind, line.attribute("channel_id"), ici, dcn
  transfer = _TRANSFER.search(line.rest)
  if kind not in ("send", "recv") or not transfer:
    return None
  # Of what is gathered the receiver knows the size, of all else the sender.
  kind = transfer[1].lower().replace("_", "-")
  if (line.opcode == "recv") != (kind == "all-gather"):
    return None
  count, size = len(set(slices)), line.arrays[0].bytes
  meeting = "".join(_MEETING.findall(line.rest))
  if kind not in _RINGS:
    return _PERMUTE, meeting, 0.0, float(size)
  return kind, meeting, 0.0, _RINGS[kind] * size * (count - 1) / count


def _of_one(kind, line, lines, slices):
  """(bytes within a slice, bytes between slices) of one run."""
  if kind == _PERMUTE:
    size = line.arrays[0].bytes
    pairs = re.findall(
      r"\{(\d+),(\d+)\}", line.attribute("source_target_pairs")
    )
    crosses = any(slices[int(a)] != slices[int(b)] for a, b in pairs)
    return (0.0, size) if crosses else (size, 0.0)
  size = _size(kind, line, lines)
  groups = groups_of(line.attribute("replica_groups"), line.rest, len(slices))
  shares = [_shares([slices[i] for i in group]) for group in groups]
  ici, dcn = max(shares, key=sum, default=(0.0, 0.0))
  return _RINGS[kind] * size * ici, _RINGS[kind] * size * dcn


def _size(kind, line, lines):
  """Bytes of an operation before it scatters, or after it gathers."""
  given = sum(
    x.bytes
    for name in line.operands
    for x in lines[name].arrays
    if name in lines
  )
  results = sum(x.bytes for x in line.arrays)
  if line.opcode.endswith("-start"):  # whose result holds what was given, too
    results = max(results - given, 0)
  if kind == "reduce-scatter":
    return given
  return results if kind == "all-gather" else max(given, 0)


def _shares(slices):
  """What of an operation's bytes a device gets within its slice, and from the
  others, where a group has a device in each of `slices`."""
  count, within = len(slices), max(map(slices.count, set(slices)))
  across = math.ceil(count / within)
  if across == 1:
    return (count - 1) / count, 0.0
  return (within - 1) / within, (across - 1) / across / within


def groups_of(text: str, rest: str, devices: int) -> list[list[int]]:
  """The groups of devices that work together, however they are printed:
  {{0,1},{2,3}}, [2,2]<=[4], [2,2]<=[2,2]T(1,0) or mesh['a'=2,'b'=2] {'a'}.
  """
  if text.startswith("mesh"):
    return _of_mesh(text, rest)
  if iota := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
    shape, source = (_numbers(x) for x in iota.groups()[:2])
    ids = np.arange(math.prod(source)).reshape(source)
    if iota[3]:
      ids = ids.transpose(_numbers(iota[3]))
    return ids.reshape(shape).tolist()
  groups = [_numbers(x) for x in re.findall(r"\{([\d,]+)\}", text)]
  return groups or [list(range(devices))]


def _of_mesh(text, rest):
  """Groups along named axes of a mesh, or of parts of such, 'a':(2)4."""
  axes = re.findall(r"'([^']+)'=(\d+)", text)
  sizes = {name: int(size) for name, size in axes}
  ids = np.arange(math.prod(sizes.values()))
  if listed := re.search(r"device_ids=\(\[([\d,]+)\]\)", rest):
    ids = np.array(_numbers(listed[1]))
  along = rest[rest.index(text) + len(text) :].lstrip()
  along = re.match(r"\{([^}]*)\}", along)
  named = re.findall(
    r"'([^']+)'(?::\((\d+)\)(\d+))?", along[1] if along else ""
  )
  shape: list[int] = []
  of_axis: dict[str, list[int]] = {}
  chosen: list[int] = []
  for name, size in sizes.items():
    parts = [(int(b), int(n)) for a, b, n in named if a == name and b]
    cuts = sorted({1, size, *(b for b, _ in parts), *(b * n for b, n in parts)})
    of_axis[name] = list(range(len(shape), len(shape) + len(cuts) - 1))
    for (low, high), place in zip(itertools.pairwise(cuts), of_axis[name]):
      shape.append(high // low)
      whole = any(a == name and not b for a, b, _ in named)
      if whole or any(b <= low and high <= b * n for b, n in parts):
        chosen.append(place)
  others = [n for n in range(len(shape)) if n not in chosen]
  grid = ids.reshape(shape).transpose(others + chosen)
  return grid.reshape(-1, math.prod(shape[n] for n in chosen)).tolist()


def _numbers(text: str) -> list[int]:
  return [int(x) for x in text.split(",") if x]
