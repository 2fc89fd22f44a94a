"""Devices that are not here, by name: v5e:4x4, h100:8.

Programs for TPUs are compiled by their own compiler, libtpu, which needs no
TPU. There is no such thing for GPUs: CPU devices stand in for them, so that
what is said of their memory is an estimate.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jaxlib
from jax.experimental import topologies

from instruct_jax.base import chips, errors, memory, streams
from instruct_jax.parallel import sharding

_EXAMPLES = "as v5e:4x4, or h100:8"
_MOST = 4096  # GPUs


@dataclasses.dataclass(frozen=True)
class Place:
  """Chips that a run is planned for."""

  name: str
  chip: chips.Chip
  each: int  # chips of a slice
  slices: int

  @property
  def chips(self) -> int:
    """All of them."""
    return self.each * self.slices

  @property
  def is_estimate(self) -> bool:
    """Whether other devices stand in for them."""
    return not self.chip.device_kind

  @property
  def versions(self) -> str:
    """Of what compiles for them."""
    names = [f"jax {jax.__version__}", f"jaxlib {jaxlib.__version__}"]
    if not self.is_estimate:
      names.append(f"libtpu {importlib.metadata.version('libtpu')}")
    return ", ".join(names)

  @contextlib.contextmanager
  def standing_in(self) -> Iterator[None]:
    """While programs are traced and compiled."""
    with contextlib.ExitStack() as stack:
      if self.is_estimate:
        stack.enter_context(sharding.standing_in("gpu"))
        stack.enter_context(memory.standing_in(self.chip.hbm_bytes))
      yield

  def slices_of(self, mesh: jax.sharding.Mesh) -> list[int]:
    """Which devices share a fast network, in the order of the mesh."""
    if self.is_estimate:
      return [n // self.chip.together for n in range(self.chips)]
    return [sharding.slice_of(device) for device in mesh.devices.flat]


def named(name: str, slices: int = 1) -> Place:
  """The place of that name; raises UserError with the known names near it."""
  known = {
    f"{chip.name}:{shape}": chip
    for chip in chips.CHIPS.values()
    for shape in chip.shapes
  }
  kind, _, count = name.partition(":")
  chip = chips.CHIPS.get(kind)
  if chip is not None and chip.together:
    if not count.isdigit() or not 1 <= int(count) <= _MOST:
      raise errors.UserError(
        f"--topology={name}: how many? {kind}:8 is right, or another number"
        f" from 1 to {_MOST}"
      )
    if slices > 1:
      raise errors.UserError(
        f"--slices={slices}: slices are of TPUs; name all GPUs, as"
        f" {kind}:{int(count) * slices}"
      )
    return Place(name, chip, int(count), 1)
  if name not in known:
    gpus = [f"{c.name}:8" for c in chips.CHIPS.values() if c.together]
    shapes = [x for x in known if x.partition(":")[0] == kind]
    raise errors.unknown("--topology", name, shapes or [*known, *gpus])
  return Place(name, known[name], math.prod(map(int, count.split("x"))), slices)


def prepare(place: Place) -> None:
  """Settings of jax that must be made before it looks for devices.

  Raises UserError where the compiler for the place is not installed.
  """
  jax.config.update("jax_platforms", "cpu")
  # What is compiled here is kept by `stored`, and cannot be run.
  jax.config.update("jax_enable_compilation_cache", False)
  if place.is_estimate:
    jax.config.update("jax_num_cpu_devices", place.chips)
    return
  if importlib.util.find_spec("libtpu") is None:
    raise errors.UserError(
      f"--topology={place.name}: programs for TPUs are compiled by libtpu,"
      " which is not installed (Linux on x86-64):"
      " pip install 'instruct_jax[plan]'"
    )
  os.environ.update(QUIET)


QUIET = {  # libtpu looks for a TPU of this host, and holds it, if it may.
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "XLA_FLAGS": "",  # of other compilers: it ends the process at a new one
}


def devices_of(place: Place) -> list[Any]:
  """The devices, of which programs can be compiled but not run."""
  if place.is_estimate:
    return jax.devices("cpu")[: place.chips]
  several = {"num_slices": place.slices} if place.slices > 1 else {}
  with streams.hushed(), streams.hushed(2):
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=place.name, **several
    )
  return list(found.devices)
