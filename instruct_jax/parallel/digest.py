"""Arrays by name, and digests of their values that no sharding changes."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from instruct_jax.parallel import hosts

Tree = Any
Named = dict[str, Any]  # path in the tree, 'a.b.kernel' -> array


def of(tree: Tree) -> str:
  """32 hex digits that name the values of a tree of arrays, bit for bit.

  It depends on paths, shapes, dtypes and bits; not on shardings, devices,
  processes or container types. A change within any one 32-bit word always
  changes it.
  """
  return digests({"": named(tree)})[""]


def named(tree: Tree) -> Named:
  """Every array of a tree by its dotted path, keys and numbers included."""
  named = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
    if name in named:
      raise ValueError(f"two arrays of a checkpoint are called '{name}'.")
    named[name] = leaf if hasattr(leaf, "sharding") else _as_array(name, leaf)
  return named


def _as_array(name: str, leaf: Any) -> jax.Array:
  array = jnp.asarray(leaf)
  if isinstance(leaf, np.ndarray) and leaf.dtype != array.dtype:
    raise ValueError(f"'{name}' is {leaf.dtype}, which JAX would narrow.")
  return array


def is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def filled(named: Named) -> Named:
  """What is stored: keys as their data, nothing for arrays without elements."""
  return {
    name: jax.random.key_data(leaf) if is_key(leaf) else leaf
    for name, leaf in named.items()
    if leaf.size
  }


def describe(leaf: Any) -> str:
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def described(text: str) -> jax.ShapeDtypeStruct:
  """The inverse of `describe`."""
  dtype, _, sizes = text.rstrip("]").partition("[")
  shape = tuple(int(size) for size in sizes.split(",") if size)
  return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def canonical(value: Any) -> str:
  return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sharding_of(leaf: Any) -> jax.sharding.Sharding:
  return leaf.sharding or jax.sharding.SingleDeviceSharding(
    jax.local_devices()[0]
  )


def stored_form(leaf: Any) -> jax.ShapeDtypeStruct:
  """Shape and dtype as stored; a key's sharding fits its data as well."""
  if is_key(leaf):
    bare = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    data = jax.eval_shape(jax.random.key_data, bare)
  else:
    data = leaf
  return jax.ShapeDtypeStruct(
    data.shape, data.dtype, sharding=sharding_of(leaf)
  )


_CHUNK = 2**15  # words hashed at a time on the host: they stay in the cache


def digests(items: Mapping[str, Named]) -> dict[str, str]:
  """The digest of every item; see `of`."""
  leaves = [
    (name, path, leaf)
    for name, named in items.items()
    for path, leaf in sorted(filled(named).items())
  ]
  sums = {name: [] for name in items}
  for (name, path, _), lanes in zip(leaves, _sums(leaves)):
    sums[name].append([path, *map(int, lanes)])
  return {
    name: hashlib.sha256(
      canonical(
        {
          "arrays": {
            path: describe(stored_form(leaf)) for path, leaf in named.items()
          },
          "sums": sums[name],
        }
      ).encode()
    ).hexdigest()[:32]
    for name, named in items.items()
  }


def _sums(leaves: Sequence[tuple[str, str, jax.Array]]) -> np.ndarray:
  """[n, 2] uint32: two sums an array, the same on every process."""
  sums = []
  for _, path, leaf in leaves:
    salt = np.uint32(zlib.crc32(path.encode()))
    on_host = all(d.platform == "cpu" for d in leaf.sharding.device_set)
    sums.append((_sums_on_host if on_host else _sums_on_device)(leaf, salt))
  sums = np.array(jax.device_get(sums), np.uint32).reshape(-1, 2)
  if jax.process_count() == 1:
    return sums
  if jax.process_index() != 0:  # the first process speaks for what is whole
    whole = [_is_whole(leaf) for _, _, leaf in leaves]
    sums[np.array(whole, bool)] = 0
  every = np.array(hosts.gather("digests", sums.tolist()), np.uint32)
  return every.sum(axis=0, dtype=np.uint32)


def _is_whole(leaf: jax.Array) -> bool:
  """True if every process has computed the sums of the whole array."""
  on_host = all(d.platform == "cpu" for d in leaf.sharding.device_set)
  return leaf.is_fully_addressable or not on_host


@jax.jit
def _sums_on_device(leaf: jax.Array, salt: jax.Array) -> list[jax.Array]:
  """One small program for every shape and sharding, whatever the array."""
  bits = lax.bitcast_convert_type(*_unsigned(leaf)).astype(jnp.uint32)
  place = jnp.full(bits.shape, salt)
  for axis in range(bits.ndim):
    index = lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    place += index * _multiplier(axis)
  return [jnp.sum(lane, dtype=jnp.uint32) for lane in _lanes(bits, place)]


def _unsigned(leaf: jax.Array) -> tuple[jax.Array, Any]:
  """What to bitcast, and to what: 64-bit types get a trailing axis of 2."""
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint8), jnp.uint8
  size = leaf.dtype.itemsize
  return leaf, {1: jnp.uint8, 2: jnp.uint16}.get(size, jnp.uint32)


def _sums_on_host(leaf: jax.Array, salt: np.uint32) -> list[np.uint32]:
  """The same sums without compiling: of this process's shards, each once."""
  first, second = 0, 0
  for shard in leaf.addressable_shards:
    if shard.replica_id == 0 and shard.data.size:
      for bits, place in _chunks(np.asarray(shard.data), shard.index, salt):
        one, two = _lanes(bits, place)
        first += int(one.sum(dtype=np.uint64))
        second += int(two.sum(dtype=np.uint64))
  return [np.uint32(first % 2**32), np.uint32(second % 2**32)]


def _chunks(data: np.ndarray, index: tuple[slice, ...], salt: np.uint32):
  """Yields (bits, place), uint32 [rows, columns], of a shard at `index`."""
  size = data.dtype.itemsize
  words = data.reshape(*data.shape, 1).view({1: "u1", 2: "u2"}.get(size, "u4"))
  words = words if size > 4 else words[..., 0]
  starts = [each.start or 0 for each in index] + [0] * (size > 4)
  axes = [
    np.arange(start, start + length).astype(np.uint32) * _multiplier(axis)
    for axis, (start, length) in enumerate(zip(starts, words.shape))
  ]
  axes += [np.zeros(1, np.uint32)] * (2 - len(axes))
  places = np.asarray(salt)[None]
  for axis in axes[:-1]:
    places = (places[:, None] + axis).reshape(-1)
  words = words.reshape(len(places), len(axes[-1]))
  rows = max(1, _CHUNK // words.shape[1])
  for row in range(0, len(words), rows):
    part = slice(row, row + rows)
    yield words[part].astype(np.uint32), places[part, None] + axes[-1]


def _multiplier(axis: int) -> np.uint32:
  """An odd number for each axis, so that places differ."""
  return np.uint32((0x9E3779B1 * (2 * axis + 1) ** 7) % 2**32)


def _lanes(bits, place):
  """Two hashes of (place, bits), numpy or JAX.

  At a given place each is a bijection of the bits: xor, addition, xor-shift
  and multiplication by an odd number all are, mod 2^32. So a word that changes
  always changes the sum of the hashes, and integer sums do not depend on the
  order, hence not on the sharding.
  """
  return (
    _mix(bits ^ place, 0x7FEB352D, 0x846CA68B),
    _mix(bits * np.uint32(0xC2B2AE35) + place, 0x21F0AAAD, 0xD35A2D97),
  )


def _mix(x, a: int, b: int):
  """A bijection of uint32 in which every bit reaches about half of the rest."""
  x = (x ^ (x >> np.uint32(16))) * np.uint32(a)
  x = (x ^ (x >> np.uint32(15))) * np.uint32(b)
  return x ^ (x >> np.uint32(16))
