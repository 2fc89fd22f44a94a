"""Sets of rows that bring their own types: Parquet files and TFDS.

Values become what JSON would give: bytes are text, arrays are lists, times are
strings, and columns without a value in a row are left out of it.
"""

import contextlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, imports

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]

TFDS = "tfds:"
PARQUET = b"PAR1"  # what such a file starts with
_CHUNK = 1024  # rows that are fetched at once
_GROUPS = 16  # of rows, at least, that a part of a file is of
_BUFFER = 1 << 20  # bytes of a column, of whose group many are not held


def pyarrow_for(path: epath.Path) -> Any:
  """The module; UserError where it is not installed."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise errors.UserError(
      f"{path}: Parquet and zstandard need pyarrow: "
      "pip install 'instruct_jax[parquet]'"
    ) from None
  return pyarrow


def parquet_rows(path: epath.Path) -> Rows:
  """(where, row) of a Parquet file."""
  pyarrow, number = pyarrow_for(path), 0
  try:
    with path.open("rb") as file:
      table = pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER)
      for batch in table.iter_batches(_CHUNK):
        for values in batch.to_pylist():
          number += 1
          where = f"{path}, row {number}"
          yield where, plain_row(values, where)
  except (pyarrow.ArrowException, ImportError, OSError, ValueError) as error:
    raise errors.UserError(
      f"{path}, row {number + 1}: cannot be read as Parquet ({error})"
    ) from None


def parquet_part(path: epath.Path, share: float) -> tuple[Rows, int]:
  """About this share of a file's rows, and how many it has.

  They are the first rows of groups from all over.
  """
  pyarrow = pyarrow_for(path)
  with path.open("rb") as file:
    meta = pyarrow.parquet.ParquetFile(file).metadata
    sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
  count = min(len(sizes), max(_GROUPS, math.ceil(share * len(sizes))))
  rng, stretch = random.Random(sum(sizes)), len(sizes) / max(count, 1)
  groups = [int((n + rng.random()) * stretch) for n in range(count)]
  held = sum(sizes[n] for n in groups)
  part = min(1.0, share * sum(sizes) / max(held, 1))

  def rows():
    with path.open("rb") as file:
      table = pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER)
      for n in groups:
        batches = table.iter_batches(_CHUNK, row_groups=[n])
        every = (row for batch in batches for row in batch.to_pylist())
        most = math.ceil(part * sizes[n])
        for number, row in enumerate(itertools.islice(every, most), 1):
          where = f"{path}, row {sum(sizes[:n]) + number}"
          yield where, plain_row(row, where)

  return rows(), sum(sizes)


def set_files(spec: str) -> list[epath.Path]:
  """The files that the TFDS set of a spec lies in."""
  builder, _ = _builder(spec)
  folder = epath.Path(builder.data_dir)
  return sorted(path for path in folder.iterdir() if not path.is_dir())


def set_rows(spec: str) -> Rows:
  """(where, row) of `tfds:name/config:split`, read without TensorFlow."""
  rows, _ = set_part(spec, 1.0)
  yield from rows


def set_part(spec: str, share: float) -> tuple[Rows, int]:
  """About this share of the rows of a set, from all over; how many it has."""
  builder, split = _builder(spec)
  with _named(spec, [0]):
    source = builder.as_data_source(split)
    size = len(source)
  places: Sequence[int] = range(size)
  if share < 1:
    some = random.Random(size).sample(places, math.ceil(share * size))
    places = sorted(some)

  def rows():
    number = [0]
    with _named(spec, number):
      for start in range(0, len(places), _CHUNK):
        some = places[start : start + _CHUNK]
        number[0] = some[0]
        for place, values in zip(some, source.__getitems__(some)):
          number[0] = place
          where = f"{spec}, record {place + 1}"
          yield where, plain_row(_listed(values, builder.info.features), where)

  return rows(), size


@contextlib.contextmanager
def _named(spec: str, number: list[int]) -> Iterator[None]:
  """What the library raises is a UserError with the spec and the record."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:  # the library's own kinds are many
    raise errors.UserError(
      f"{spec}, record {number[0] + 1}: cannot be read ({_brief(error)}); a set"
      " that is prepared with file_format='array_record' is right"
    ) from None


def plain_row(values: Mapping[str, Any], where: str) -> Row:
  """A row as JSON would give it, without the columns that hold nothing."""
  row = {}
  for name, value in values.items():
    try:
      value = _plain(value)
    except ValueError as error:
      raise errors.UserError(
        f'{where}: "{name}" is not text and no number that can be kept '
        f"({error}); leave the column out"
      ) from None
    if value is not None:
      row[name] = value
  return row


def shown(value: Any) -> str:
  """The beginning of a value, for an error's message."""
  try:
    return json.dumps(value, ensure_ascii=False)[:40]
  except (RecursionError, TypeError, ValueError):
    return f"{type(value).__name__} that cannot be shown"


def _plain(value: Any) -> Any:
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, bytes):
    return value.decode("utf-8")
  if isinstance(value, float):
    if math.isinf(value):
      raise ValueError(f"{value}")
    # NaN is how pandas writes that there is nothing.
    return None if math.isnan(value) else float(value)
  if isinstance(value, Mapping):
    return {str(key): _plain(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(x) for x in value]
  return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _listed(value: Any, feature: Any) -> Any:
  """Lists of dicts, which TFDS keeps as dicts of lists, as they were."""
  if not isinstance(value, Mapping):
    return value
  is_list = hasattr(feature, "feature")
  fields = feature.feature if is_list else feature
  columns = {name: _listed(x, fields[name]) for name, x in value.items()}
  if not is_list:
    return columns
  return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _builder(spec: str) -> tuple[Any, str]:
  """The builder of a set that is there, and the split."""
  name, _, options = spec.removeprefix(TFDS).partition("?")
  name, _, split = name.partition(":")
  data_dir = options.removeprefix("data_dir=")
  if not name or (options and not options.startswith("data_dir=")):
    raise errors.UserError(
      f"{spec}: tfds:name/config:split, or with ?data_dir=FOLDER, is right"
    )
  # Slow to import; nothing else needs it.
  tfds = imports.alone("tensorflow_datasets")

  try:
    builder = tfds.builder(name, data_dir=data_dir or None, try_gcs=False)
    folder = epath.Path(builder.data_dir)
    splits = builder.info.splits if folder.exists() else {}
  except Exception as error:  # the library's own kinds are many
    raise errors.UserError(
      f"{spec}: no such data set ({_brief(error)})"
    ) from None
  if not splits:
    raise errors.UserError(
      f"{spec}: not prepared in {folder}; `tfds build {name} "
      "--file_format=array_record` prepares it"
    )
  split = split or "train"
  try:
    splits[split]
  except (KeyError, ValueError):
    raise errors.unknown(f"split of {spec}", split, splits) from None
  return builder, split


def _brief(error: Exception) -> str:
  return " ".join(str(error).split())[:200]
