"""Meshes, and where the arrays of a run lie on them.

A mesh has the axes data (copies of the parameters), fsdp (parameters split,
gathered for use) and tensor (heads and MLP split). Rows of a batch are split
over data and fsdp. Parameters follow a table of rules (`heads.RULES`), and so
does everything that is kept for each parameter: optimizer moments, averages.
"""

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors, streams
from instruct_jax.parallel import hosts

AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))  # rows of a batch
HOST_MEMORY = "pinned_host"  # the host's, as a device names it

Rules = Sequence[tuple[str, P]]  # regular expression of a path's end, layout


def make_mesh(
  data: int, fsdp: int, tensor: int, *, devices: Sequence[Any] | None = None
) -> Mesh:
  """A mesh of the first data * fsdp * tensor devices, by default of all here.

  Of several slices of TPUs each has a share of `data`: only what the gradients
  need goes between them, over the data center's network. Raises UserError
  where there are fewer devices or, with several processes, more.
  """
  shape = (data, fsdp, tensor)
  text = f"config.mesh = {data} x {fsdp} x {tensor} (data x fsdp x tensor)"
  if not all(isinstance(n, int) and n > 0 for n in shape):
    raise errors.UserError(f"{text}: every axis must be at least 1.")
  given = devices is not None
  devices = list(devices or jax.devices())
  wanted = math.prod(shape)
  spare = len(devices) - wanted
  if spare < 0 or (spare and (given or jax.process_count() > 1)):
    raise errors.UserError(
      f"{text} takes {wanted} devices; there are {len(devices)}."
    )
  mesh = _laid_out(shape, devices[:wanted], text)
  if jax.distributed.is_initialized() and devices[0].platform == "cpu":
    _connect(mesh)
  return mesh


def _laid_out(shape: tuple, devices: list[Any], text: str) -> Mesh:
  """The devices as a mesh, near ones along the inner axes."""
  types = (AxisType.Auto,) * len(AXES)
  slices = len({slice_of(device) for device in devices})
  if slices == 1:
    return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
  data, fsdp, tensor = shape
  if data % slices:
    raise errors.UserError(
      f"{text}: the devices are {slices} slices, which data must be a multiple"
      " of: only data goes over the network between slices"
    )
  grid = mesh_utils.create_hybrid_device_mesh(
    (data // slices, fsdp, tensor), (slices, 1, 1), devices
  )
  return Mesh(grid, AXES, axis_types=types)


def slice_of(device: Any) -> int:
  """Which slice of TPUs a device is in; 0 where there are no slices."""
  if device.platform != "tpu":
    return 0
  return getattr(device, "slice_index", None) or 0


@functools.cache
def _connect(mesh: Mesh) -> None:
  """Connects the processes along all axes, while they are at one place.

  Gloo connects when something is first computed together, and gives up after
  30 s: less than one process may compile longer than another.
  """
  split = [axis for axis in AXES if mesh.shape[axis] > 1]
  for count in range(1, len(split) + 1):
    for axes in itertools.combinations(split, count):
      together = jax.jit(
        jax.shard_map(
          functools.partial(jax.lax.psum, axis_name=axes),
          mesh=mesh,
          in_specs=P(axes),
          out_specs=P(),
        )
      )
      zeros = np.zeros([mesh.shape[axis] for axis in axes], np.float32).ravel()
      array = jax.make_array_from_callback(
        zeros.shape, NamedSharding(mesh, P(axes)), zeros.__getitem__
      )
      compiled = together.lower(array).compile()
      hosts.barrier(f"connect {' and '.join(axes)}")
      with streams.hushed():  # It says to how many it is connected.
        compiled(array).block_until_ready()


def has_host_memory(mesh: Mesh) -> bool:
  """Whether the devices of a mesh can put arrays into their host's memory."""
  (device, *_) = mesh.local_devices
  kinds = {memory.kind for memory in device.addressable_memories()}
  return HOST_MEMORY in kinds


def path_name(path: tuple) -> str:
  """'optimizer/policy/0/mu/decoder/...' of a path of `jax.tree_util`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def place(tree: Any, mesh: Mesh, rules: Rules, *, strict: bool = True) -> Any:
  """The NamedSharding of every array of `tree` (arrays or their shapes).

  An array is placed by the one rule that matches the end of its path. Its
  leading axes beyond the rule's (stacked layers) are not split; scalars and
  random keys are copied everywhere. Optimizer state keeps arrays that belong
  to no parameter (Muon's coefficients): no rule need match below a path
  component 'optimizer', nor anywhere unless `strict`; those are copied too.

  Raises UserError for an array that no rule matches, or two, and where the
  mesh does not divide a dimension.
  """
  compiled = [(re.compile(f"(^|/){rule}$"), spec) for rule, spec in rules]

  def one(path, x):
    if x.ndim == 0:
      return NamedSharding(mesh, P())
    name = path_name(path)
    matches = [spec for rule, spec in compiled if rule.search(name)]
    loose = not strict or "optimizer" in name.split("/")
    if loose and (not matches or x.ndim < len(matches[0])):
      return NamedSharding(mesh, P())
    if len(matches) != 1:
      raise errors.UserError(
        f"{name} {tuple(x.shape)}: {len(matches)} sharding rules match it;"
        " exactly one must."
      )
    spec = P(*(None,) * (x.ndim - len(matches[0])), *matches[0])
    _check_divides(name, x.shape, spec, mesh)
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(one, tree)


def axes_of(entry: Any) -> tuple[str, ...]:
  """The mesh axes of one entry of a PartitionSpec."""
  return entry if isinstance(entry, tuple) else (entry,) if entry else ()


def _check_divides(name: str, shape: tuple, spec: P, mesh: Mesh) -> None:
  for dimension, (size, entry) in enumerate(zip(shape, spec)):
    parts = math.prod(mesh.shape[axis] for axis in axes_of(entry))
    if size % parts:
      axes = " x ".join(
        f"{axis} = {mesh.shape[axis]}" for axis in axes_of(entry)
      )
      raise errors.UserError(
        f"{name} {tuple(shape)}: dimension {dimension} of size {size} does not"
        f" divide by config.mesh {axes}."
      )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over data and fsdp, everything else whole."""
  return NamedSharding(mesh, BATCH)


def replicated(mesh: Mesh) -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(mesh, P())


def everywhere(x: jax.Array, mesh: Mesh) -> jax.Array:
  """What every process has, e.g. a key, as one array of the whole mesh."""
  return _copier(mesh)(x)


@functools.lru_cache
def _copier(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
  return jax.jit(lambda x: x, out_shardings=replicated(mesh))


def global_batch(batch: Any, mesh: Mesh) -> Any:
  """Global arrays from the rows that this process has read.

  `batch` is a tree of numpy arrays [rows of this process, ...]. Raises
  UserError where the mesh does not divide the rows of all processes.
  """
  sharding = batch_sharding(mesh)
  parts = mesh.shape["data"] * mesh.shape["fsdp"]

  def one(path, x):
    x = np.asarray(x)
    rows = x.shape[0] * jax.process_count()
    if rows % parts:
      raise errors.UserError(
        f"config.batch: {rows} rows of '{path_name(path)}' do not divide by"
        f" config.mesh data x fsdp = {parts}."
      )
    return jax.make_array_from_process_local_data(sharding, x)

  return jax.tree_util.tree_map_with_path(one, batch)


def platform() -> str:
  """'cpu', 'gpu' or 'tpu': that of the mesh in use, which need not be here."""
  if _standing_in:
    return _standing_in[-1]
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  return jax.default_backend() if device is None else device.platform


_standing_in: list[str] = []


@contextlib.contextmanager
def standing_in(name: str) -> Iterator[None]:
  """Devices of any kind stand in for those of a platform, in a plan alone.

  Programs are what they are there, but for kernels of that platform.
  """
  _standing_in.append(name)
  try:
    yield
  finally:
    _standing_in.pop()


def stands_in() -> bool:
  """Whether the platform's kernels cannot be compiled here."""
  return bool(_standing_in)


def ways(*entries: str | tuple[str, ...]) -> int:
  """How many parts the entries of a layout make on the mesh in use, if any."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or not set(AXES) <= set(mesh.axis_names):
    return 1
  return math.prod(mesh.shape[a] for entry in entries for a in axes_of(entry))


def constrain(x: jax.Array, spec: P) -> jax.Array:
  """`x` laid out by `spec` on the mesh in use (`jax.set_mesh`), if there is.

  Left as it is without a mesh, and where a dimension does not divide: this
  guides the compiler and changes no value.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or not set(AXES) <= set(mesh.axis_names):
    return x
  for size, entry in zip(x.shape, spec):
    if size % math.prod(mesh.shape[axis] for axis in axes_of(entry)):
      return x
  return jax.lax.with_sharding_constraint(x, spec)
