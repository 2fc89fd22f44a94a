"""Rows in files: a TFDS data set whose shards are ArrayRecord files.

  KIND/rows/1.0.0/    features.json, dataset_info.json and its shards,
  KIND/packed/1.0.0/  KIND-SPLIT.array_record-00000, -00001, ...

`tfds.builder_from_directory` reads each. A row is a tf.train.Example of arrays
as bytes. Of text it has the tokens that there are, without padding; of packed
text also the length of each piece, whose first token is no target; of packed
demonstrations as many segments and is_target as tokens; else what `rows.Padded`
holds.

A shard gets its name when it is whole. dataset_info.json, which says how many
there are, comes last.
"""

import functools
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module
from etils import epath

from instruct_jax.base import imports, storage
from instruct_jax.data.batch import packing
from instruct_jax.data.batch import rows as rows_lib

VERSION = "1.0.0"
ROWS, PACKED = "rows", "packed"  # the layouts
LAYOUTS = (ROWS, PACKED)
_FORMAT = "array_record"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
# Every row is found by itself. zstd would take a fifth off tokens, in half the
# time that it takes to make them of text.
_RAGGED, _PADDED = "group_size:1,uncompressed", "group_size:1,zstd:1"
_TOGETHER = 256  # rows that are taken from a table at once

Table = rows_lib.Padded | packing.Pieces
Row = Mapping[str, np.ndarray]


def folder(root: epath.PathLike, kind: str, layout: str) -> epath.Path:
  """Where a layout of a kind lies in a data set's folder."""
  return epath.Path(root) / kind / layout / VERSION


def path(
  root: epath.PathLike, kind: str, layout: str, split: str, number: int
) -> epath.Path:
  """Where a shard lies in a data set's folder."""
  name = _TEMPLATE.format(
    DATASET=kind, SPLIT=split, FILEFORMAT=_FORMAT, SHARD_INDEX=f"{number:05}"
  )
  return folder(root, kind, layout) / name


def rows_of(table: Table) -> Iterator[Row]:
  """The arrays of each row, as they are written; not of text."""
  for start in range(0, len(table), _TOGETHER):
    chosen = slice(start, start + _TOGETHER)
    if isinstance(table, rows_lib.Padded):
      arrays = {name: array[chosen] for name, array in table.arrays.items()}
      count = len(next(iter(arrays.values())))
      yield from ({n: a[i] for n, a in arrays.items()} for i in range(count))
    else:
      yield from _without_padding(table, chosen)


def _without_padding(table: packing.Pieces, chosen: slice) -> Iterator[Row]:
  batch = table.take(chosen)
  lengths = batch.pop("is_token").sum(-1).tolist()
  batch["tokens"] = batch["tokens"].astype(table.streams[0].dtype)
  if "segments" in batch and table.row_length < 2**16:
    batch["segments"] = batch["segments"].astype(np.uint16)
  for n, length in enumerate(lengths):
    yield {name: array[n, :length] for name, array in batch.items()}


def write(path: epath.PathLike, table: Table) -> dict[str, Any]:
  """Writes a shard; its rows, bytes, sha256 and the arrays of a row.

  The same table gives the same bytes. It is on the disk when this returns.

  Raises OSError, which names the path, where the disk says no.
  """
  path, (arrays, examples) = epath.Path(path), _examples(table)
  is_ragged = not isinstance(table, rows_lib.Padded)
  path.parent.mkdir(parents=True, exist_ok=True)
  with storage.naming(path), _local(path) as partial:
    options = _RAGGED if is_ragged else _PADDED
    writer = array_record_module.ArrayRecordWriter(partial, options)
    for example in examples:
      writer.write(example)
    writer.close()
    size, digest = os.path.getsize(partial), storage.digest(partial)
  return {
    "rows": len(table),
    "bytes": size,
    "sha256": digest,
    "arrays": {
      name: [a.dtype.name, [None] if is_ragged else list(a.shape)]
      for name, a in arrays.items()
    },
  }


def clear(root: epath.PathLike, kind: str) -> None:
  """Removes what a process that was killed has half written."""
  for layout in LAYOUTS:
    where = folder(root, kind, layout)
    for partial in where.glob(".*.partial") if where.exists() else ():
      partial.unlink(missing_ok=True)


class _local:
  """A local file to write; when all is well it is synced and gets its name."""

  def __init__(self, path: epath.Path):
    self._path = path
    where = tempfile.gettempdir() if storage.is_remote(path) else path.parent
    self._partial = os.path.join(where, f".{path.name}.{os.getpid()}.partial")

  def __enter__(self) -> str:
    return self._partial

  def __exit__(self, kind: Any, *_) -> None:
    try:
      if kind is None:
        self._keep()
    finally:
      if os.path.exists(self._partial):
        os.unlink(self._partial)

  def _keep(self) -> None:
    if storage.is_remote(self._path):
      self._path.write_bytes(epath.Path(self._partial).read_bytes())
      return
    with open(self._partial, "rb") as file:
      os.fsync(file.fileno())
    os.replace(self._partial, self._path)


def _examples(table: Table) -> tuple[Row, Iterator[bytes]]:
  """A row, {} where there is none, and all of them as Examples."""
  if isinstance(table, packing.Pieces) and table.is_text:
    row = {"tokens": table.streams[0]} | (
      {"length": table.length} if table.is_packed else {}
    )
    return row if len(table) else {}, _of_text(table)
  rows = rows_of(table)
  first = list(itertools.islice(rows, 1))
  return dict(*first), map(_example, itertools.chain(first, rows))


def _of_text(table: packing.Pieces) -> Iterator[bytes]:
  """The tokens of each row and, of packed ones, the lengths of its pieces.

  As `_example` makes them, without an array a row in between.
  """
  (stream,) = table.streams
  tokens, lengths = stream.tobytes(), table.length.tobytes()
  size, each = stream.itemsize, table.length.itemsize
  starts = table.start * size
  stops = (starts + table.length * np.int64(size)).tolist()
  starts = starts.tolist()
  if not table.is_packed:  # A row is a piece, all of one length.
    (head,) = _heads((("tokens", table.row_length * size),))
    yield from (head + tokens[a:b] for a, b in zip(starts, stops))
    return
  for first, end in itertools.pairwise(table.first.tolist()):
    own = [tokens[starts[n] : stops[n]] for n in range(first, end)]
    of_tokens = "tokens", sum(map(len, own))
    head, more = _heads((("length", (end - first) * each), of_tokens))
    yield b"".join((head, lengths[first * each : end * each], more, *own))


def _example(row: Row) -> bytes:
  """A row as a tf.train.Example, its arrays by name."""
  content = {name: row[name].tobytes() for name in sorted(row)}
  sizes = tuple((name, len(array)) for name, array in content.items())
  parts = zip(_heads(sizes), content.values())
  return b"".join(itertools.chain.from_iterable(parts))


@functools.lru_cache(1 << 12)
def _heads(sizes: tuple[tuple[str, int], ...]) -> list[bytes]:
  """What stands before each array of so many bytes in an Example.

  It is features {feature {key, value {bytes_list {value}}}, ...}, each field
  with its tag and its length: a fifth of the time that protobuf takes.
  """
  heads, total = [], 0
  for name, size in sizes:
    value = b"\n" + _varint(size)
    listed = b"\n" + _varint(len(value) + size)
    feature = b"\x12" + _varint(len(listed) + len(value) + size)
    key = b"\n" + _varint(len(name)) + name.encode()
    entry = key + feature + listed + value
    heads.append(b"\n" + _varint(len(entry) + size) + entry)
    total += len(heads[-1]) + size
  heads[0] = b"\n" + _varint(total) + heads[0]
  return heads


def _varint(number: int) -> bytes:
  content = bytearray()
  while number > 127:
    content.append(number & 127 | 128)
    number >>= 7
  return bytes([*content, number])


def arrays_in(example: bytes) -> dict[str, bytes]:
  """The bytes of each array of a row."""
  features = _parser()(example).features.feature
  return {name: value.bytes_list.value[0] for name, value in features.items()}


@functools.cache
def _parser() -> Callable[[bytes], Any]:
  # Slow to import; what writes has no need of it.
  proto = imports.alone("tensorflow_datasets.proto")
  return proto.tf_example_pb2.Example.FromString


def write_info(
  root: epath.PathLike,
  kind: str,
  layout: str,
  by_split: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
  """Writes what TFDS reads of a layout: what `write` returned, by split."""
  where = folder(root, kind, layout)
  where.mkdir(parents=True, exist_ok=True)
  shards = [shard for of_split in by_split.values() for shard in of_split]
  features = {
    name: _tensor(dtype, shape)
    for name, (dtype, shape) in common_arrays(shards).items()
  }
  storage.write_json(
    where / "features.json",
    {
      "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
      "featuresDict": {"features": features},
    },
  )
  splits = [
    {
      "name": split,
      "filepathTemplate": _TEMPLATE,
      "numBytes": str(sum(shard["bytes"] for shard in of_split)),
      "shardLengths": [str(shard["rows"]) for shard in of_split],
    }
    for split, of_split in by_split.items()
    if any(shard["rows"] for shard in of_split)
  ]
  info = {"name": kind, "configName": layout, "version": VERSION}
  info |= {"fileFormat": _FORMAT, "splits": splits}
  storage.write_json(where / "dataset_info.json", info)


_FEATURES = "tensorflow_datasets.core.features"


def _tensor(dtype: str, shape: Sequence[int | None]) -> dict[str, Any]:
  dimensions = ["-1" if n is None else str(n) for n in shape]
  if dimensions.count("-1") > 1:
    dimensions = ["-1"]  # Such an array is in bytes without its shape.
  return {
    "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
    "tensor": {
      "shape": {"dimensions": dimensions},
      "dtype": dtype,
      "encoding": "bytes",
    },
  }


def common_arrays(
  shards: Iterable[Mapping[str, Any]],
) -> dict[str, tuple[str, list[int | None]]]:
  """The type and shape of each array in all shards; None where they differ.

  What only some have (`is_target`, where conversations are) is none.
  """
  shards = [shard for shard in shards if shard["arrays"]]
  arrays: dict[str, tuple[str, list[int | None]]] = {}
  for shard in shards:
    for name, (dtype, shape) in shard["arrays"].items():
      before = arrays.get(name, (dtype, shape))[1]
      same = [a if a == b else None for a, b in zip(before, shape)]
      arrays[name] = dtype, same
  common = set(arrays).intersection(*(shard["arrays"] for shard in shards))
  return {name: array for name, array in arrays.items() if name in common}
