"""JSON -> (where, object): one a line, an array, or a document that has one.

A document, `{"data": [...]}` or `{"anything": [...]}`, is one object that is a
file of its own; its rows are the list of objects in it.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import decoding, text, typed

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
_SEEN = 9  # elements of a list that say what it is one of


def line_rows(path: epath.Path) -> Rows:
  """(where, object) of a file with an object a line, or of a document."""
  if text.suffix(path) not in _LINES and text.head(path).startswith(b"{"):
    lists = _lists(path)
    if lists is not None:
      return _document_rows(path, lists)
  return rows_of(text.lines(path), path)


def has_lines(path: epath.Path) -> bool:
  """Whether a file of JSON has an object a line, as far as its start tells."""
  if text.suffix(path) in _LINES:
    return True
  if not text.head(path).startswith(b"{"):
    return False
  lines = (line for _, line in text.lines(path) if line.strip())
  try:
    first = list(itertools.islice(lines, 2))
  except errors.UserError:  # a document on one line that is too long for one
    return False
  return len(first) == 2 and all(map(decoding.is_object, first))


def rows_of(
  numbered: Iterable[tuple[int | str, str]], path: epath.Path
) -> Rows:
  """(where, object) of lines with their numbers, or what tells their place."""
  name = str(path)
  for number, line in numbered:
    if not line or line.isspace():
      continue
    where = f"{name}:{number}"
    if number == 1 and text.is_header(line):
      raise errors.UserError(
        f"{where}: not JSON but the header of a table, it seems "
        f"({line[:60]}); name the file .csv (commas) or .tsv (tabs)"
      )
    value, end = decoding.decoded(line, 0, where)
    if line[end:].strip():
      raise errors.UserError(
        f"{where}: not JSON (more after the first object: "
        f"{line[end:].strip()[:40]}); one object a line is right"
      )
    yield where, _object(value, where)


def array_rows(path: epath.Path) -> Rows:
  """The objects of one array, each decoded when it is asked for."""
  window, last = decoding.Window(path), f"{path}, record 0"
  for last, value in _elements(window, str(path)):
    yield last, _object(value, last)
  if window.next() != "":
    raise _not_an_end(window, last)


def _elements(window: decoding.Window, name: str) -> Iterator[tuple[str, Any]]:
  """(where, value) of an array; the window is behind its end then."""
  number, opening = 0, "["
  where = f"{name}, record 0"
  while window.next() == opening:
    window.at += 1
    if opening == "[" and window.next() == "]":
      break
    number, opening = number + 1, ","
    where = f"{name}, record {number}"
    yield where, window.value(where)
  if window.next() != "]":
    raise _not_an_end(window, where)
  window.at += 1


def _not_an_end(window: decoding.Window, last: str) -> errors.UserError:
  name, _, number = last.rpartition(", record ")
  shown = window.text[window.at : window.at + 20]
  return errors.UserError(
    f"{name}: not JSON (after record {number} stands {shown!r}); an array ends"
    " with ] and nothing after it"
  )


def _lists(path: epath.Path) -> dict[str, bool] | None:
  """The keys of the one object that a file is, and which are lists of objects.

  None where it is not one: as lines it says where. Holds one value at a time,
  of a list one element.
  """
  window, found = decoding.Window(path), {}
  try:
    opening = "{"
    while window.next() == opening:
      window.at += 1
      if opening == "{" and window.next() == "}":
        break
      key = window.value(str(path))
      if not isinstance(key, str) or key in found or window.next() != ":":
        return None
      window.at += 1
      found[key] = _skip(window, str(path))
      opening = ","
    is_closed = window.next() == "}"
    window.at += 1
    return found if is_closed and window.next() == "" else None
  except errors.UserError:
    return None


def _skip(window: decoding.Window, name: str) -> bool:
  """Moves behind a value; whether it is a list of objects, or of nothing."""
  if window.next() != "[":
    window.value(name)
    return False
  is_list = True
  for number, (_, value) in enumerate(_elements(window, name)):
    is_list &= isinstance(value, dict) or number >= _SEEN
  return is_list


def _document_rows(path: epath.Path, found: dict[str, bool]) -> Rows:
  """The rows in a document; the document itself where it is a row."""
  lists = [key for key, is_list in found.items() if is_list]
  named = [key for key in lists if key in _HOLDERS]
  if not named and len(found) == 1:
    named = [key for key in lists if key not in _OWN]
  if len(named) > 1:
    raise errors.UserError(
      f"{path}: lists of rows under {', '.join(map(repr, named))}; one of them "
      "in a file is right"
    )
  window = decoding.Window(path)
  if not named:
    yield f"{path}:1", window.value(f"{path}:1")
    return
  while window.next() in ("{", ","):
    window.at += 1
    key = window.value(str(path))
    window.next()
    window.at += 1  # the colon
    if key != named[0]:
      _skip(window, str(path))
      continue
    for where, row in _elements(window, f"{path}, {typed.shown(key)}"):
      yield where, _object(row, where)


def _object(value: Any, where: str) -> Row:
  if not isinstance(value, dict):
    raise errors.UserError(
      f'{where}: a JSON object such as {{"prompt": ...}} is right, this is '
      f"{typed.shown(value)}"
    )
  return value
