"""Files of every sort -> (where, row): JSON lines, arrays, Parquet, TFDS, text.

A spec names what to read: a path, a pattern (`texts/*.jsonl`), either on a
remote store too (`gs://bucket/*.jsonl`), or `tfds:name/config:split`, also with
`?data_dir=FOLDER` at its end. Files may be compressed (gzip, bzip2, xz,
zstandard), which their first bytes tell. `where` is what an error should name:
the file and the line, record or row.
"""

import bz2
import glob
import gzip
import itertools
import json
import lzma
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from etils import epath

from instruct_jax import errors

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]

TFDS = "tfds:"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_LINES = (".jsonl", ".ndjson", ".json")
_ZSTD = b"\x28\xb5\x2f\xfd"


def paths(part: os.PathLike | str) -> list[epath.Path]:
  """The files that one spec names; of a TFDS set those it lies in."""
  if isinstance(part, str) and part.startswith(TFDS):
    builder, _ = _builder(part)
    folder = epath.Path(builder.data_dir)
    return sorted(path for path in folder.iterdir() if not path.is_dir())
  names = [part]
  is_pattern = isinstance(part, str) and glob.has_magic(part)
  if is_pattern:
    names = _remote(part) if "://" in part else glob.glob(part, recursive=True)
    names = sorted(names, key=str)
  found = [path for path in map(epath.Path, names) if path.exists()]
  files = [path for path in found if not path.is_dir()]
  if found and not files:
    raise errors.UserError(
      f"{part}: a folder; name a file or a pattern such as {part}/*.jsonl"
    )
  if not files:
    raise errors.UserError(f"{part}: no such file")
  return files


def rows(part: os.PathLike | str) -> Rows:
  """(where, object) of everything that a spec or a file names, in order."""
  if isinstance(part, str) and part.startswith(TFDS):
    yield from _tfds(part)
    return
  for path in paths(part):
    yield from file_rows(path)


def file_rows(path: epath.Path) -> Rows:
  """(where, object) of one file; nothing for an empty one."""
  if path.suffix == ".parquet":
    return _parquet(path)
  if kind(path) == ".json" and _is_array(path):
    return _array(path)
  return _json_lines(path)


def kind(path: epath.Path) -> str:
  """The suffix of a file without that of its compression."""
  name = path.name
  for suffix in COMPRESSED:
    name = name.removesuffix(suffix)
  return os.path.splitext(name)[1]


def holds_objects(path: epath.Path) -> bool:
  """Whether a file is read as objects, not as plain text."""
  return kind(path) in (*_LINES, ".parquet")


def blocks(path: epath.Path) -> Iterator[tuple[str, str]]:
  """(where, document) of plain text: what stands between blank lines."""
  numbered = lines(path)
  for blank, group in itertools.groupby(
    numbered, lambda pair: not pair[1].strip()
  ):
    if not blank:
      numbers, texts = zip(*group)
      yield f"{path}:{numbers[0]}", "\n".join(texts)


def lines(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number, line without its end) of a UTF-8 file, compressed or not."""
  number = 0
  try:
    with path.open("rb") as raw, _unpacked(raw, path) as file:
      for line in file:
        number += 1
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        if "\0" in text:
          raise errors.UserError(
            f"{path}:{number}: a NUL byte; this is no text file"
          )
        yield number, text.rstrip("\r\n")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); "
      "convert the file to UTF-8"
    ) from None
  except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
    raise errors.UserError(
      f"{path}:{number + 1}: a damaged compressed file ({error})"
    ) from None
  except OSError as error:
    raise errors.UserError(
      f"{path}:{number + 1}: cannot be read ({error})"
    ) from None


def parse(text: str, where: str) -> Any:
  """What a piece of JSON says.

  Raises UserError for what is no JSON, a key that is there twice, numbers that
  are not finite and halves of surrogate pairs.
  """
  try:
    found = _DECODER.decode(text)
    if "\\ud" in text or "\\uD" in text:
      json.dumps(found, ensure_ascii=False).encode("utf-8")
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{where}: half of a surrogate pair (\\ud8xx) is not text; write the "
      "character itself"
    ) from None
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f"{where}: not JSON ({error}); one object a line is right"
    ) from None
  return found


def _json_lines(path: epath.Path) -> Rows:
  for number, line in lines(path):
    if line.strip():
      where = f"{path}:{number}"
      yield where, _object(parse(line, where), where)


def _array(path: epath.Path) -> Rows:
  text = "\n".join(line for _, line in lines(path))
  for number, row in enumerate(parse(text, str(path)), 1):
    where = f"{path}, record {number}"
    yield where, _object(row, where)


def _is_array(path: epath.Path) -> bool:
  first = next((line for _, line in lines(path) if line.strip()), "")
  return first.lstrip().startswith("[")


def _object(found: Any, where: str) -> Row:
  if not isinstance(found, dict):
    raise errors.UserError(
      f'{where}: a JSON object such as {{"prompt": ...}} is right, this is '
      f"{json.dumps(found, ensure_ascii=False)[:40]}"
    )
  return found


def _parquet(path: epath.Path) -> Rows:
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise errors.UserError(
      f"{path}: Parquet files need pyarrow: pip install 'instruct_jax[parquet]'"
    ) from None
  number = 0
  try:
    with path.open("rb") as file:
      for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1024):
        for row in batch.to_pylist():
          number += 1
          yield f"{path}, row {number}", row
  except (pyarrow.ArrowException, OSError, ValueError) as error:
    raise errors.UserError(
      f"{path}, row {number + 1}: a damaged Parquet file ({error})"
    ) from None


def _tfds(spec: str) -> Rows:
  builder, split = _builder(spec)
  if split not in builder.info.splits:
    raise errors.unknown(f"split of {spec}", split, builder.info.splits)
  try:
    source = builder.as_data_source(split)
    count = len(source)
  except Exception as error:  # the library's own kinds are many
    raise errors.UserError(
      f"{spec}: cannot be read without TensorFlow ({error}); build it with"
      " file_format='array_record'"
    ) from None
  for number in range(count):
    yield f"{spec}, record {number + 1}", plain(source[number])


def _builder(spec: str) -> tuple[Any, str]:
  """The builder of a set that is there, and the split."""
  import tensorflow_datasets as tfds  # slow to import; nothing else needs it

  name, _, options = spec.removeprefix(TFDS).partition("?")
  name, _, split = name.partition(":")
  data_dir = options.removeprefix("data_dir=") or None
  if not name or (options and not options.startswith("data_dir=")):
    raise errors.UserError(
      f"{spec}: tfds:name/config:split, or with ?data_dir=FOLDER, is right"
    )
  try:
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    there = epath.Path(builder.data_dir).exists()
  except Exception as error:  # the library's own kinds are many
    raise errors.UserError(
      f"{spec}: no such data set ({str(error).strip()[:200]})"
    ) from None
  if not there:
    raise errors.UserError(
      f"{spec}: not prepared in {builder.data_dir}; build it first"
    )
  return builder, split or "train"


def plain(value: Any) -> Any:
  """TFDS gives bytes and numpy values; we want what JSON gives."""
  value = value.tolist() if hasattr(value, "tolist") else value
  if isinstance(value, dict):
    return {key: plain(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [plain(x) for x in value]
  return value.decode("utf-8") if isinstance(value, bytes) else value


def _remote(pattern: str) -> list[epath.Path]:
  """The matches of gs://bucket/folder/*.jsonl."""
  scheme, _, rest = pattern.partition("://")
  parts = rest.split("/")
  fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
  root = epath.Path(f"{scheme}://{'/'.join(parts[:fixed])}")
  try:
    return list(root.glob("/".join(parts[fixed:])))
  except ImportError as error:
    raise errors.UserError(f"{pattern}: {error}") from None


def _unpacked(raw: BinaryIO, path: epath.Path) -> BinaryIO:
  """The file itself, or what is in it, by its first bytes."""
  first = raw.read(6)
  raw.seek(0)
  if first[:2] == b"\x1f\x8b":
    return gzip.open(raw)
  if first[:3] == b"BZh":
    return bz2.open(raw)
  if first == b"\xfd7zXZ\x00":
    return lzma.open(raw)
  if first[:4] == _ZSTD:
    return _zstandard(raw, path)
  return raw


def _zstandard(raw: BinaryIO, path: epath.Path) -> BinaryIO:
  try:
    import zstandard
  except ImportError:
    raise errors.UserError(
      f"{path}: compressed with zstandard, which needs: pip install zstandard"
    ) from None
  import io

  return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))


def _once(pairs: list[tuple[str, Any]]) -> Row:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"the key {twice!r} is there twice")
  return found


def _not_finite(name: str) -> float:
  raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_not_finite)
