"""JSON -> (where, object): one a line, an array, or a document that has one.

A document, `{"data": [...]}` or `{"anything": [...]}`, is one object that is a
file of its own; its rows are the list of objects in it.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.read import text, typed

Row = typed.Row
Rows = typed.Rows

_LINES = (".jsonl", ".ndjson")
# Under which a document's rows usually stand.
_HOLDERS = (
  *("data", "rows", "records", "examples", "items", "samples", "results"),
  *("train", "validation", "test", "annotations", "comparisons", "pairs"),
)
# Lists of objects that are one row's own.
_OWN = ("messages", "conversations", "conversation", "turns", "instances")
_GAP = re.compile(r"\s*")


def line_rows(path: epath.Path) -> Rows:
  """(where, object) of a file with an object a line, or of a document."""
  numbered = ((n, line) for n, line in text.lines(path) if line.strip())
  head = list(itertools.islice(numbered, 1))
  if text.suffix(path) not in _LINES and head:
    more = next(numbered, None)
    if _may_be_document(head[0][1], more):
      document = _document(path)
      if document is not None:
        return _document_rows(document, path)
    head += [more] if more else []
  return _line_rows(itertools.chain(head, numbered), path)


def _line_rows(numbered: Iterator[tuple[int, str]], path: epath.Path) -> Rows:
  name = str(path)
  for number, line in numbered:
    where = f"{name}:{number}"
    if number == 1 and text.is_header(line):
      raise errors.UserError(
        f"{where}: not JSON but the header of a table, it seems "
        f"({line[:60]}); name the file .csv (commas) or .tsv (tabs)"
      )
    value, end = decoded(line, _after_gap(line, 0), where)
    if line[end:].strip():
      raise errors.UserError(
        f"{where}: not JSON (more after the first object: "
        f"{line[end:].strip()[:40]}); one object a line is right"
      )
    yield where, _object(value, where)


def array_rows(path: epath.Path) -> Rows:
  """The objects of one array, each decoded when it is asked for."""
  whole = "\n".join(line for _, line in text.lines(path))
  number, at = 0, _after_gap(whole, _after_gap(whole, 0) + 1)
  goes_on = whole[at : at + 1] != "]"
  while goes_on:
    number += 1
    where = f"{path}, record {number}"
    value, at = decoded(whole, at, where)
    yield where, _object(value, where)
    at = _after_gap(whole, at)
    goes_on = whole[at : at + 1] == ","
    if goes_on:
      at = _after_gap(whole, at + 1)
  if whole[at : at + 1] != "]" or whole[at + 1 :].strip():
    raise errors.UserError(
      f"{path}: not JSON (after record {number} stands "
      f"{whole[at : at + 20]!r}); an array ends with ] and nothing after it"
    )


def decoded(whole: str, start: int, where: str) -> tuple[Any, int]:
  """The JSON value that starts at a place, and where it ends.

  Raises UserError for what is no JSON, a key that is there twice, numbers that
  are not finite and halves of surrogate pairs.
  """
  try:
    value, end = _DECODER.raw_decode(whole, start)
    if whole.find("\\ud", start, end) > 0 or whole.find("\\uD", start, end) > 0:
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


def is_object(line: str) -> bool:
  """Whether a line is one JSON object and nothing else."""
  try:
    return isinstance(json.loads(line), dict)
  except (ValueError, RecursionError):
    return False


def _may_be_document(line: str, more: tuple[int, str] | None) -> bool:
  """Whether a file is one object: it goes on, or is over, after a line."""
  return line.lstrip().startswith("{") and is_object(line) == (more is None)


def _document(path: epath.Path) -> Row | None:
  """The one object that a file is; None where it is not one."""
  whole = "\n".join(line for _, line in text.lines(path))
  try:
    value, end = decoded(whole, _after_gap(whole, 0), str(path))
  except errors.UserError:
    return None  # as lines it says where
  is_one = isinstance(value, dict) and not whole[end:].strip()
  return value if is_one else None


def _document_rows(document: Row, path: epath.Path) -> Rows:
  """The rows in a document; the document itself where it is a row."""
  lists = [key for key, value in document.items() if _is_list(value)]
  named = [key for key in lists if key in _HOLDERS]
  if not named and len(document) == 1:
    named = [key for key in lists if key not in _OWN]
  if len(named) > 1:
    raise errors.UserError(
      f"{path}: lists of rows under {', '.join(map(repr, named))}; one of them "
      "in a file is right"
    )
  if not named:
    yield f"{path}:1", document
    return
  for number, row in enumerate(document[named[0]], 1):
    where = f"{path}, {typed.shown(named[0])}, record {number}"
    yield where, _object(row, where)


def _is_list(value: Any) -> bool:
  """Whether a value is a list of objects, or of nothing."""
  return isinstance(value, list) and all(isinstance(x, dict) for x in value[:9])


def _after_gap(whole: str, at: int) -> int:
  gap = _GAP.match(whole, at)
  return gap.end() if gap else at


def _object(value: Any, where: str) -> Row:
  if not isinstance(value, dict):
    raise errors.UserError(
      f'{where}: a JSON object such as {{"prompt": ...}} is right, this is '
      f"{typed.shown(value)}"
    )
  return value


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
