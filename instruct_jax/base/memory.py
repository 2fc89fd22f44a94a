"""How much memory a process and its devices have held."""

import contextlib
import resource
import sys
from collections.abc import Iterator
from typing import Any

import jax

from instruct_jax.base import chips


def host_peak_bytes() -> int:
  """The most that this process has held so far, as the system counts it."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def of_device(device: Any, *, unknown: int = 16 * 10**9) -> int:
  """What a device's programs can have, as it or its maker says, bytes.

  `unknown` where nobody does, as of a CPU, whose memory is the host's.
  """
  if _standing_in:
    return _standing_in[-1]
  try:
    stats = device.memory_stats() or {}
  except jax.errors.JaxRuntimeError:  # of a device that is not here
    stats = {}
  chip = chips.of_kind(device.device_kind)
  published = chip.hbm_bytes if chip else unknown
  return stats.get("bytes_limit", published)


_standing_in: list[int] = []


@contextlib.contextmanager
def standing_in(size: int) -> Iterator[None]:
  """Devices stand in, in a plan alone, for others that have so many bytes."""
  _standing_in.append(size)
  try:
    yield
  finally:
    _standing_in.pop()


def device_peak_bytes() -> int | None:
  """The most that a device of this process has held so far.

  None where devices do not say, as a CPU, whose memory is the host's.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [x["peak_bytes_in_use"] for x in stats if "peak_bytes_in_use" in x]
  return max(peaks, default=None)


def metrics() -> dict[str, float]:
  """Both, as metrics of a step."""
  found = {"memory/host_peak_bytes": float(host_peak_bytes())}
  device = device_peak_bytes()
  if device is not None:
    found["memory/device_peak_bytes"] = float(device)
  return found
