"""Records of the four kinds, from people's own files.

  pretraining     {"text"} lines, or plain text with blank lines between
                  documents
  demonstrations  {"prompt", "response"} lines
  prompts         {"prompt"} lines
  rankings        {"prompt", "responses": [K], "ranks": [K]} lines; rank 1 is
                  best, equal ranks are ties; optional "ended": [K] bools. Or
                  "pairs": [[winner, loser], ...], where labelers compared two
                  at a time: then these count, and "ranks" may be left out

Optional everywhere: "split", "user", "labeler", "source". What `files` can
read may be named, several with commas between, with weights for a mixture.
Whatever is wrong in a file is a UserError that names file, line and key, and
says what would be right.
"""

import dataclasses
import functools
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import ml_collections
from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files, records
from instruct_jax.tokenizers import templates

Record = records.Record
SPLITS = records.SPLITS
KINDS = records.KINDS


def open_source(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> Sequence[Record]:
  """The records of one kind and split, always in the same order.

  `folders` holds the finished needs: 'data', where the files were written
  cleaned and split, and 'rankings', which goes before `data.rankings`.
  """
  ranked = open_rankings(data, kind, split, folders)
  if ranked is not None:
    return ranked
  written = epath.Path(folders.get("data", "")) / f"{kind}-{split}.jsonl"
  if "data" in folders and written.exists():  # cleaned and split by `prepare`
    rows = files.unit_rows(written)
    return list(_checked(rows, KINDS[kind], _check_of(kind, data.k_max)))
  if not data[kind]:
    raise errors.UserError(
      f"data.{kind} is empty; name the file with --config.data.{kind}=FILE"
    )
  records = read(data[kind], kind, k_max=data.k_max)
  return [record for record in records if in_split(data, record) == split]


def open_rankings(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: dict[str, os.PathLike | str],
) -> list[Record] | None:
  """What a stage ranked, `<split>.jsonl`, if that is what is asked for.

  Raises UserError for an unknown kind or split.
  """
  if kind not in KINDS:
    raise errors.unknown("kind of data", kind, KINDS)
  if split not in SPLITS:
    raise errors.unknown("split", split, SPLITS)
  if kind != "rankings" or "rankings" not in folders:
    return None
  path = epath.Path(folders["rankings"]) / f"{split}.jsonl"
  return read(path, kind, k_max=data.k_max)


@dataclasses.dataclass(frozen=True)
class Part:
  """One of the sources that a spec names, and its share of a mixture."""

  pattern: str
  weight: float | None  # None where the spec gives no weights


def parts(spec: os.PathLike | str) -> list[Part]:
  """What a spec names: specs of `files` with commas between.

  With weights, `a.jsonl=0.7,b.jsonl=0.3`, every part has one. A path object is
  taken as it is.
  """
  if not isinstance(spec, str):
    return [Part(spec, None)]
  found = [_part(text) for text in map(str.strip, spec.split(",")) if text]
  if not found:
    raise errors.UserError("an empty path where a data file should be named")
  weights = [part.weight for part in found]
  if None in weights and len(set(weights)) > 1:
    raise errors.UserError(f"{spec}: give every part a weight (=0.5), or none")
  if None not in weights and not all(0 < w < math.inf for w in weights):
    raise errors.UserError(f"{spec}: weights must be above 0")
  return found


def paths(spec: os.PathLike | str) -> list[epath.Path]:
  """The files that a spec names."""
  return [file for part in parts(spec) for file in files.paths(part.pattern)]


def read(spec: os.PathLike | str, kind: str, *, k_max: int = 9) -> list[Record]:
  """Every record of what a spec names, checked for its kind.

  Of a mixture each record has "part", the number of its part.
  """
  found = parts(spec)
  is_mixture = found[0].weight is not None
  records = []
  for n, part in enumerate(found):
    more = {"part": n} if is_mixture else {}
    records += [record | more for record in _records(part.pattern, kind, k_max)]
  return records


def read_jsonl(
  spec: os.PathLike | str,
  *,
  required: dict[str, type],
  check: Callable[[Record], str] | None = None,
) -> list[Record]:
  """The objects of files of objects, each with its `required` keys.

  Required strings must not be blank. `check` returns what is wrong with a
  record, or an empty string.
  """
  patterns = [part.pattern for part in parts(spec)]
  return [r for part in patterns for r in _objects(part, required, check)]


def read_text(spec: os.PathLike | str) -> Iterator[Record]:
  """{"text"} of every document, file after file, read as they are asked for."""
  for part in parts(spec):
    yield from _documents(part.pattern)


def _part(text: str) -> Part:
  pattern, _, weight = text.rpartition("=")
  if pattern and _is_number(weight):
    return Part(pattern.strip(), float(weight))
  return Part(text, None)


def _is_number(text: str) -> bool:
  return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", text.strip()) is not None


def _records(
  pattern: os.PathLike | str, kind: str, k_max: int
) -> Iterator[Record]:
  if kind == "pretraining":
    return _documents(pattern)
  return _objects(pattern, KINDS[kind], _check_of(kind, k_max))


def _check_of(kind: str, k_max: int) -> Callable[[Record], str] | None:
  """What is checked of a kind beside its keys."""
  if kind != "rankings":
    return None
  return functools.partial(records.wrong_ranking, k_max=k_max)


def _objects(
  pattern: os.PathLike | str,
  required: dict[str, type],
  check: Callable[[Record], str] | None,
) -> Iterator[Record]:
  """The rows of a spec's files, each of which must have one."""
  for unit in files.units(pattern):
    record = None
    for record in _checked(files.unit_rows(unit), required, check):
      yield record
    if record is None:
      raise errors.UserError(f"{unit}: empty; at least one JSON line is needed")


def _checked(
  rows: files.Rows,
  required: dict[str, type],
  check: Callable[[Record], str] | None,
) -> Iterator[Record]:
  for where, record in rows:
    wrong = records.wrong_keys(record, required)
    wrong = wrong or (check(record) if check else "")
    if wrong:
      raise errors.UserError(f"{where}: {wrong}")
    yield record


def _documents(pattern: os.PathLike | str) -> Iterator[Record]:
  for unit in files.units(pattern):
    if isinstance(unit, str) or files.holds_objects(unit):
      yield from _objects(unit, KINDS["pretraining"], None)
      continue
    block = None
    for _, block in files.blocks(unit):
      yield {"text": block}
    if block is None:
      raise errors.UserError(f"{unit}: empty; there is no text in it")


def check(data: ml_collections.ConfigDict, kinds: Iterable[str] = ()) -> None:
  """Raises UserError for a data section that cannot work; reads no file.

  Every file that is named must exist, and all `kinds` must be named, and text
  where a tokenizer is trained on it.
  """
  templates.check(data.template)
  held_out = (data.validation_fraction, data.test_fraction)
  if min(held_out) < 0 or sum(held_out) >= 1:
    raise errors.UserError(
      "data.validation_fraction and data.test_fraction must be 0 or more and "
      f"leave something to train on, not {held_out[0]} and {held_out[1]}"
    )
  trained = not data.tokenizer.startswith("hf:")
  needed = {*kinds, *(("pretraining",) if trained else ())}
  for kind in KINDS:
    if data[kind]:
      paths(data[kind])
    elif kind in needed:
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
  name = "text" if isinstance(record.get("text"), str) else "prompt"
  text = " ".join(record[name].split())
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
