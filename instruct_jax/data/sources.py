"""Records of the four kinds, from TFDS folders and from people's own files.

  pretraining     {"text"} lines, or plain text with blank lines between
                  documents
  demonstrations  {"prompt", "response"} lines
  prompts         {"prompt"} lines
  rankings        {"prompt", "responses": [K], "ranks": [K]} lines; rank 1 is
                  best, equal ranks are ties; optional "ended": [K] bools

A file may be gzipped, a path may be a pattern (`texts/*.txt`) and several may
be given with commas between. Whatever is wrong in a file is a UserError that
names file, line and key, and says what would be right.
"""

import difflib
import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import ml_collections
from etils import epath

from instruct_jax import errors

Record = dict[str, Any]

SPLITS = ("train", "validation", "test")
KINDS = {
  "pretraining": {"text": str},
  "demonstrations": {"prompt": str, "response": str},
  "prompts": {"prompt": str},
  "rankings": {"prompt": str, "responses": list, "ranks": list},
}
_JSON_NAMES = {str: "a string", list: "a list", int: "an integer"}
_JSONL = (".jsonl", ".ndjson", ".json")


def open_source(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> Sequence[Record]:
  """The records of one kind and split, always in the same order.

  `folders` holds the finished needs: 'data', where the microworld wrote its
  sets, and 'rankings', whose `<split>.jsonl` goes before `data.rankings`.
  """
  if kind not in KINDS:
    raise errors.unknown("kind of data", kind, KINDS)
  if split not in SPLITS:
    raise errors.unknown("split", split, SPLITS)
  if kind == "rankings" and "rankings" in folders:
    path = epath.Path(folders["rankings"]) / f"{split}.jsonl"
    return read(path, kind, k_max=data.k_max)
  if data.source not in _SOURCES:
    raise errors.unknown("data.source", data.source, _SOURCES)
  return _SOURCES[data.source](data, kind, split, folders)


def read(
  pattern: os.PathLike | str, kind: str, *, k_max: int = 9
) -> list[Record]:
  """Every record of the files that a pattern names, checked for its kind."""
  if kind == "pretraining":
    return list(read_text(pattern))
  check = {"rankings": lambda record: _check_ranking(record, k_max)}
  return read_jsonl(pattern, required=KINDS[kind], check=check.get(kind))


def read_jsonl(
  pattern: os.PathLike | str,
  *,
  required: dict[str, type],
  check: Callable[[Record], str] | None = None,
) -> list[Record]:
  """The objects of JSON-lines files, each with its `required` keys.

  Required strings must not be blank. `check` returns what is wrong with a
  record, or an empty string.
  """
  files = paths(pattern)
  return [r for path in files for r in _json_lines(path, required, check)]


def read_text(pattern: os.PathLike | str) -> Iterator[Record]:
  """{"text"} of every document, file after file, read as they are asked for."""
  for path in paths(pattern):
    if path.name.removesuffix(".gz").endswith(_JSONL):
      yield from _json_lines(path, KINDS["pretraining"], None)
    else:
      yield from _blocks(path)


def paths(pattern: os.PathLike | str) -> list[epath.Path]:
  """The files that a string names (a path, a pattern, several with commas).

  A path object is taken as it is.
  """
  parts = [pattern]
  if isinstance(pattern, str):
    parts = [part for part in map(str.strip, pattern.split(",")) if part]
  if not parts:
    raise errors.UserError("an empty path where a data file should be named")
  return [path for part in parts for path in _matches(part)]


def _matches(part: os.PathLike | str) -> list[epath.Path]:
  is_pattern = isinstance(part, str) and glob.has_magic(part)
  names = sorted(glob.glob(part, recursive=True)) if is_pattern else [part]
  found = [path for path in map(epath.Path, names) if path.exists()]
  files = [path for path in found if not path.is_dir()]
  if found and not files:
    raise errors.UserError(
      f"{part}: a folder; name a file or a pattern such as {part}/*.jsonl"
    )
  if not files:
    raise errors.UserError(f"{part}: no such file")
  return files


def check(data: ml_collections.ConfigDict, kinds: Iterable[str] = ()) -> None:
  """Raises UserError for a data section that cannot work; reads no file.

  Of `source` 'files', every file that is named must exist, and the text and
  all `kinds` must be named.
  """
  if data.source not in _SOURCES:
    raise errors.unknown("data.source", data.source, _SOURCES)
  if "{prompt}" not in data.template:
    raise errors.UserError(
      f"data.template={data.template!r} has no {{prompt}} to put the prompt in"
    )
  held_out = (data.validation_fraction, data.test_fraction)
  if min(held_out) < 0 or sum(held_out) >= 1:
    raise errors.UserError(
      "data.validation_fraction and data.test_fraction must be 0 or more and "
      f"leave something to train on, not {held_out[0]} and {held_out[1]}"
    )
  for kind in KINDS if data.source == "files" else ():
    if data[kind]:
      paths(data[kind])
    elif kind == "pretraining" or kind in kinds:
      raise errors.UserError(
        f"data.{kind} is empty; name the file with --config.data.{kind}=FILE"
      )


def split_of(
  record: Record, *, validation_fraction: float, test_fraction: float
) -> str:
  """'train', 'validation' or 'test': the record's own "split", else by hash.

  The hash is of the prompt (of the text, for pretraining) without regard to
  white space, so a prompt is on the same side in every file.
  """
  if "split" in record:
    return record["split"]
  text = " ".join(record.get("prompt", record.get("text", "")).split())
  digest = hashlib.sha256(text.encode("utf-8")).digest()
  place = int.from_bytes(digest[:8], "big") / 2**64
  if place < test_fraction:
    return "test"
  held_out = place < test_fraction + validation_fraction
  return "validation" if held_out else "train"


def in_split(data: ml_collections.ConfigDict, record: Record) -> str:
  """`split_of` with the fractions of the configuration."""
  return split_of(
    record,
    validation_fraction=data.validation_fraction,
    test_fraction=data.test_fraction,
  )


def _open_files(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> list[Record]:
  del folders
  if not data[kind]:
    raise errors.UserError(
      f"data.{kind} is empty; name the file with --config.data.{kind}=FILE"
    )
  records = read(data[kind], kind, k_max=data.k_max)
  return [record for record in records if in_split(data, record) == split]


def _open_microworld(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> list[Record]:
  del data
  import tensorflow_datasets as tfds  # slow to import; nothing else needs it

  root = epath.Path(folders["data"])
  infos = sorted(root.glob(f"*/{kind}/*/dataset_info.json"))
  infos = [path for path in infos if "incomplete" not in path.parent.name]
  if not infos:
    raise errors.UserError(f"{root}: no '{kind}' data set here; build it again")
  builder = tfds.builder_from_directory(infos[-1].parent)
  return [_plain(record) for record in builder.as_data_source(split)]


_SOURCES = {"microworld": _open_microworld, "files": _open_files}


def _plain(record: Record) -> Record:
  """TFDS gives bytes and numpy scalars; we want what JSON gives."""
  plain = {}
  for key, value in record.items():
    value = value.tolist() if hasattr(value, "tolist") else value
    plain[key] = value.decode("utf-8") if isinstance(value, bytes) else value
  return plain


def _json_lines(
  path: epath.Path,
  required: dict[str, type],
  check: Callable[[Record], str] | None,
) -> Iterator[Record]:
  count = 0
  for number, line in lines(path):
    if not line.strip():
      continue
    record = _object(line, f"{path}:{number}")
    wrong = _check_keys(record, required) or (check(record) if check else "")
    if wrong:
      raise errors.UserError(f"{path}:{number}: {wrong}")
    count += 1
    yield record
  if not count:
    raise errors.UserError(f"{path}: empty; at least one JSON line is needed")


def _blocks(path: epath.Path) -> Iterator[Record]:
  """Documents of plain text: what stands between blank lines."""
  count, block = 0, []
  for _, line in lines(path):
    if line.strip():
      block.append(line)
    elif block:
      count += 1
      yield {"text": "\n".join(block)}
      block = []
  if block:
    yield {"text": "\n".join(block)}
  elif not count:
    raise errors.UserError(f"{path}: empty; there is no text in it")


def lines(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number, line without its end) of a UTF-8 file, gzipped or not."""
  number = 0
  try:
    with path.open("rb") as raw, _unzipped(raw) as file:
      for line in file:
        number += 1
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        yield number, text.rstrip("\r\n")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); "
      "convert the file to UTF-8"
    ) from None
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise errors.UserError(
      f"{path}:{number + 1}: a damaged gzip file ({error})"
    ) from None
  except OSError as error:
    raise errors.UserError(f"{path}: cannot be read ({error})") from None


def _unzipped(raw: BinaryIO) -> BinaryIO:
  """The file itself, or what is in it if gzip made it (by its first bytes)."""
  zipped = raw.read(2) == b"\x1f\x8b"
  raw.seek(0)
  return gzip.open(raw) if zipped else raw


def _object(line: str, where: str) -> Record:
  try:
    record = json.loads(line)
    if "\\ud" in line.lower():
      json.dumps(record, ensure_ascii=False).encode("utf-8")
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{where}: half of a surrogate pair (\\ud8xx) is not text; write the "
      "character itself"
    ) from None
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f"{where}: not JSON ({error}); one object a line is right"
    ) from None
  if not isinstance(record, dict):
    raise errors.UserError(
      f'{where}: a JSON object such as {{"prompt": ...}} is right, this is '
      f"{line.strip()[:40]}"
    )
  return record


def _check_keys(record: Record, required: dict[str, type]) -> str:
  for key, kind in required.items():
    if key not in record:
      has = ", ".join(map(_shown, record)) or "no keys at all"
      near = difflib.get_close_matches(key, record, n=1)
      hint = f' (did you mean "{near[0]}"?)' if near else ""
      return (
        f'no "{key}", which should be {_JSON_NAMES[kind]}; the line has '
        f"{has}{hint}"
      )
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
      return f'"{key}" should be {_JSON_NAMES[kind]}, not {_shown(value)}'
    if kind is str and not value.strip():
      return f'"{key}" is empty; leave the line out or give it a text'
  if record.get("split", "train") not in SPLITS:
    return f'"split" should be one of {SPLITS}, not {_shown(record["split"])}'
  return ""


def _check_ranking(record: Record, k_max: int) -> str:
  responses, ranks = record["responses"], record["ranks"]
  if not 2 <= len(responses) <= k_max:
    return (
      f'"responses" should hold 2 to {k_max} texts (data.k_max), not '
      f"{len(responses)}"
    )
  for n, response in enumerate(responses):
    if not isinstance(response, str):
      return f'"responses"[{n}] should be a string, not {_shown(response)}'
  for key, values in (("ranks", ranks), ("ended", record.get("ended"))):
    if values is None:
      continue
    if not isinstance(values, list):
      return f'"{key}" should be a list, not {_shown(values)}'
    if len(values) != len(responses):
      return (
        f'"{key}" has {len(values)} entries, but there are {len(responses)} '
        '"responses"; one for each is right'
      )
  for n, rank in enumerate(ranks):
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
      return (
        f'"ranks"[{n}] should be an integer, 1 for the best, not {_shown(rank)}'
      )
  for n, ended in enumerate(record.get("ended") or ()):
    if not isinstance(ended, bool):
      return f'"ended"[{n}] should be true or false, not {_shown(ended)}'
  return ""


def _shown(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False)[:40]
