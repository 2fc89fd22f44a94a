"""Files of every sort -> (where, row): JSON lines, arrays, Parquet, TFDS, text.

A spec names what to read: a path, a pattern (`texts/*.jsonl`), either on a
remote store too (`gs://bucket/*.jsonl`), or `tfds:name/config:split`, also with
`?data_dir=FOLDER` at its end. Files may be compressed (gzip, bzip2, xz,
zstandard), which their first bytes tell. `where` is what an error should name:
the file and the line, record or row.
"""

import glob
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.read import compressed, typed

Row = typed.Row
Rows = typed.Rows

TFDS = typed.TFDS
_LINES = (".jsonl", ".ndjson", ".json")
_GAP = re.compile(r"\s*")


def paths(part: os.PathLike | str) -> list[epath.Path]:
  """The files that one spec names; of a TFDS set those it lies in."""
  if isinstance(part, str) and part.startswith(TFDS):
    return typed.set_files(part)
  is_pattern = isinstance(part, str) and glob.has_magic(part)
  try:
    names = _matches(part) if is_pattern else [part]
    there = [path for path in map(epath.Path, names) if path.exists()]
    files = [path for path in there if not path.is_dir()]
  except Exception as error:  # remote stores have kinds of their own
    raise errors.UserError(f"{part}: cannot be looked up ({error})") from None
  if there and not files:
    raise errors.UserError(
      f"{part}: a folder; name a file or a pattern such as {part}/*.jsonl"
    )
  if not files:
    raise errors.UserError(f"{part}: no such file")
  return files


def units(part: os.PathLike | str) -> Sequence[epath.Path | str]:
  """What one spec names, piece by piece: each a file or a TFDS set."""
  is_set = isinstance(part, str) and part.startswith(TFDS)
  return [part] if is_set else paths(part)


def rows(part: os.PathLike | str) -> Rows:
  """(where, object) of everything that a spec or a file names, in order."""
  for unit in units(part):
    yield from unit_rows(unit)


def unit_rows(unit: epath.Path | str) -> Rows:
  """(where, object) of one file or TFDS set; nothing for an empty one."""
  if isinstance(unit, str):
    return typed.set_rows(unit)
  first = _first_bytes(unit)
  if suffix(unit) == ".parquet" or first.startswith(typed.PARQUET):
    return typed.parquet_rows(unit)
  return _array(unit) if first.startswith(b"[") else _json_lines(unit)


def suffix(path: epath.Path) -> str:
  """The suffix of a file without that of its compression."""
  name = path.name
  for ending in compressed.ENDINGS:
    name = name.removesuffix(ending)
  return os.path.splitext(name)[1]


def holds_objects(path: epath.Path) -> bool:
  """Whether a file is read as objects, not as plain text."""
  return suffix(path) in (*_LINES, ".parquet")


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
    with path.open("rb") as raw, compressed.opened(raw, path) as file:
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
  except compressed.ERRORS as error:
    raise errors.UserError(
      f"{path}:{number + 1}: a damaged compressed file ({error})"
    ) from None
  except (ImportError, OSError) as error:
    raise errors.UserError(
      f"{path}:{number + 1}: cannot be read ({error})"
    ) from None


def _json_lines(path: epath.Path) -> Rows:
  for number, line in lines(path):
    if line.strip():
      where = f"{path}:{number}"
      start = _after_gap(line, 0)
      value, end = _decoded(line, start, where)
      if line[end:].strip():
        raise errors.UserError(
          f"{where}: not JSON (more after the first object: "
          f"{line[end:].strip()[:40]}); one object a line is right"
        )
      yield where, _object(value, where)


def _array(path: epath.Path) -> Rows:
  """The objects of one array, each decoded when it is asked for."""
  text = "\n".join(line for _, line in lines(path))
  number, at = 0, _after_gap(text, _after_gap(text, 0) + 1)
  goes_on = text[at : at + 1] != "]"
  while goes_on:
    number += 1
    where = f"{path}, record {number}"
    value, at = _decoded(text, at, where)
    yield where, _object(value, where)
    at = _after_gap(text, at)
    goes_on = text[at : at + 1] == ","
    if goes_on:
      at = _after_gap(text, at + 1)
  if text[at : at + 1] != "]" or text[at + 1 :].strip():
    raise errors.UserError(
      f"{path}: not JSON (after record {number} stands "
      f"{text[at : at + 20]!r}); an array ends with ] and nothing after it"
    )


def _after_gap(text: str, at: int) -> int:
  gap = _GAP.match(text, at)
  return gap.end() if gap else at


def _decoded(text: str, start: int, where: str) -> tuple[Any, int]:
  """The JSON value that starts at a place, and where it ends.

  Raises UserError for what is no JSON, a key that is there twice, numbers that
  are not finite and halves of surrogate pairs.
  """
  try:
    value, end = _DECODER.raw_decode(text, start)
    if text.find("\\ud", start, end) > 0 or text.find("\\uD", start, end) > 0:
      json.dumps(value, ensure_ascii=False).encode("utf-8")
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{where}: half of a surrogate pair (\\ud8xx) is not text; write the "
      "character itself"
    ) from None
  except RecursionError:
    raise errors.UserError(
      f"{where}: not JSON that can be read (brackets within brackets, too deep)"
    ) from None
  except ValueError as error:
    raise errors.UserError(
      f"{where}: not JSON ({error}); one object a line is right, or one array "
      "of objects"
    ) from None
  return value, end


def _object(value: Any, where: str) -> Row:
  if not isinstance(value, dict):
    raise errors.UserError(
      f'{where}: a JSON object such as {{"prompt": ...}} is right, this is '
      f"{typed.shown(value)}"
    )
  return value


def _matches(pattern: str) -> list[str | epath.Path]:
  """What a pattern matches, in the order of the names."""
  if "://" not in pattern:
    return sorted(glob.glob(pattern, recursive=True))
  scheme, _, rest = pattern.partition("://")
  parts = rest.split("/")
  fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
  root = epath.Path(f"{scheme}://{'/'.join(parts[:fixed])}")
  return sorted(root.glob("/".join(parts[fixed:])), key=str)


def _first_bytes(path: epath.Path) -> bytes:
  """The first bytes of a file's content that are no white space."""
  try:
    with path.open("rb") as raw, compressed.opened(raw, path) as file:
      first = file.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()
      while not first and (more := file.read(1 << 16)):
        first = more.lstrip()
      return first
  except (*compressed.ERRORS, ImportError, OSError):
    return b""  # reading it says why


def _finite(number: str) -> float:
  value = float(number)
  if not math.isfinite(value):
    raise ValueError(f"{number[:40]} is no number that can be kept")
  return value


# Looking for keys that are there twice adds 2 to 40 % to the decoding, most
# where lines are short.
_DECODER = json.JSONDecoder(
  object_pairs_hook=storage.keys_once,
  parse_float=_finite,
  parse_constant=_finite,
)
