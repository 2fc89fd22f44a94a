"""Files of every sort -> (where, row): JSON, tables, Parquet, TFDS; or text.

A spec names what to read: a path, a pattern (`texts/*.jsonl`), either on a
remote store too (`gs://bucket/*.jsonl`), or `tfds:name/config:split`, also with
`?data_dir=FOLDER` at its end; or a folder of people's labels, whose database
then stands for it. A file that is called so goes before a pattern.
Files may be compressed (gzip, bzip2, xz, zstandard), which their first bytes
tell. `where` is what an error should name: the file and the line, record or
row.
"""

import glob
import os
import re
from collections.abc import Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import (
  answers,
  collected,
  decoding,
  objects,
  tables,
  text,
  typed,
)

Row = typed.Row
Rows = typed.Rows

TFDS = typed.TFDS
RANKINGS = "rankings"
_OBJECTS = (".jsonl", ".ndjson", ".json", ".parquet", *tables.SEPARATORS)
_ARRAY = re.compile(rb'\[\s*\{\s*"')
# Text is read line by line, whatever reads it.
lines, blocks, suffix = text.lines, text.blocks, text.suffix
documents = text.documents


def paths(part: os.PathLike | str) -> list[epath.Path]:
  """The files that one spec names; of a TFDS set those it lies in."""
  if is_set(part):
    return typed.set_files(str(part))
  try:
    names = matches(part) if isinstance(part, str) else [part]
    there = [path for path in map(epath.Path, names) if path.exists()]
    there = [answers.database(path) or path for path in there]
    files = [path for path in there if not path.is_dir()]
  except Exception as error:  # remote stores have kinds of their own
    raise errors.UserError(f"{part}: cannot be looked up ({error})") from None
  if there and not files:
    raise errors.UserError(
      f"{part}: a folder; name a file or a pattern such as"
      f" {str(part).rstrip('/')}/*.jsonl"
    )
  if not files:
    raise errors.UserError(f"{part}: no such file")
  return files


def is_set(part: os.PathLike | str) -> bool:
  """Whether a spec names a TFDS set; a file that is called so goes before."""
  if not isinstance(part, str) or not part.startswith(TFDS):
    return False
  return not exists(part)


def exists(name: str) -> bool:
  """Whether there is a local file or folder of just this name."""
  try:
    return "://" not in name and os.path.exists(name)
  except ValueError:  # a NUL
    return False


def matches(name: str) -> list[str | epath.Path]:
  """What a name stands for: itself where it is there, else as a pattern."""
  if exists(name):
    return [name]
  if name.startswith("~"):
    name = os.path.expanduser(name)
  if not glob.has_magic(name):
    return [name]
  if "://" not in name:
    return sorted(glob.glob(_with_literals(name), recursive=True))
  if epath.Path(name).exists():
    return [name]
  scheme, _, rest = name.partition("://")
  parts = rest.split("/")
  fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
  root = epath.Path(f"{scheme}://{'/'.join(parts[:fixed])}")
  return sorted(root.glob("/".join(parts[fixed:])), key=str)


def units(part: os.PathLike | str) -> Sequence[epath.Path | str]:
  """What one spec names, piece by piece: each a file or a TFDS set."""
  return [str(part)] if is_set(part) else paths(part)


def rows(part: os.PathLike | str) -> Rows:
  """(where, object) of everything that a spec or a file names, in order."""
  for unit in units(part):
    yield from unit_rows(unit)


def unit_rows(unit: epath.Path | str, kind: str = RANKINGS) -> Rows:
  """(where, object) of one file or TFDS set; nothing for an empty one.

  Of people's labels those of a kind: the folder holds several.
  """
  if isinstance(unit, str):
    return typed.set_rows(unit)
  if answers.is_one(unit):
    return collected.rows(unit, kind)
  if is_table(unit):
    return tables.rows(unit)
  first = text.head(unit)
  if suffix(unit) == ".parquet" or first.startswith(typed.PARQUET):
    return typed.parquet_rows(unit)
  is_array = first.startswith(b"[")
  return objects.array_rows(unit) if is_array else objects.line_rows(unit)


def is_table(unit: epath.Path | str) -> bool:
  """Whether a unit is a table of text, whose fields have no types."""
  return not isinstance(unit, str) and suffix(unit) in tables.SEPARATORS


def holds_objects(path: epath.Path) -> bool:
  """Whether a file is read as objects, not as plain text.

  By its name; or by its start, where that is an object or an array of them.
  """
  if suffix(path) in _OBJECTS or answers.is_one(path):
    return True
  first = text.head(path)
  if first.startswith(typed.PARQUET) or _ARRAY.match(first):
    return True
  if not first.startswith(b"{"):
    return False
  _, line = next((n, x) for n, x in text.lines(path) if x.strip())
  return decoding.is_object(line)


def _with_literals(pattern: str) -> str:
  """A pattern, the folders that are called just so taken as they are."""
  parts, escaped = pattern.split("/"), []
  for n, part in enumerate(parts):
    literal = "/".join(parts[: n + 1])
    is_there = glob.has_magic(part) and os.path.exists(literal)
    escaped.append(glob.escape(part) if is_there else part)
  return "/".join(escaped)
