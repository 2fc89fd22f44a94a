"""Tables of text, CSV and TSV -> (where, row): a header, then a row a record.

As RFC 4180 has them: fields with commas, quotes or newlines stand between
quotes, a quote within is written twice. The header is needed; a first column
without a name (pandas' index) is left out. Fields are `Cell`s, texts that
become numbers or, as JSON, lists only where somebody wants such.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.read import text, typed

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_NAMES = {",": "commas", "\t": "tabs", ";": "';'", "|": "'|'"}
_LONGEST = 1 << 26  # characters of a field; more is a quote that is not closed


class Cell(str):
  """A field of a table: text, whose type nobody has said."""

  __slots__ = ()


def rows(path: epath.Path) -> typed.Rows:
  """(where, row) of a table; `where` is the line that the row starts in.

  Raises UserError, with the line, for a header with names that are missing or
  there twice, other separators, rows with another number of fields than the
  header, and quotes that are not closed or not doubled.
  """
  name, separator = str(path), SEPARATORS[text.suffix(path)]
  numbered = _fields(path, separator)
  first = next(numbered, None)
  if first is None:
    return
  number, header, _ = first
  names = _header(header, f"{name}:{number}", separator)
  skipped = len(header) - len(names)
  width, checks_lines = len(header), separator == "\t"
  for number, fields, last in numbered:
    if len(fields) != width:
      raise _uneven(f"{name}:{number}", header, fields, separator)
    if checks_lines and last > number:
      _check_lines(path, number, last, fields)
    values = fields[skipped:] if skipped else fields
    yield f"{name}:{number}", dict(zip(names, map(Cell, values)))


def value_of(cell: str, kind: type) -> Any:
  """What a cell holds where a kind of JSON is wanted; the text where not that.

  Numbers are written as they are in JSON or as pandas writes them (`1.0`);
  lists and objects as JSON.
  """
  try:
    if kind is int:
      number = float(cell)
      return int(number) if number.is_integer() else cell
    value = json.loads(cell, object_pairs_hook=storage.keys_once)
  except (ValueError, RecursionError, OverflowError):
    return cell
  kinds = (int, float) if kind is float else kind
  return value if isinstance(value, kinds) else cell


def _fields(
  path: epath.Path, separator: str
) -> Iterator[tuple[int, list[str], int]]:
  """(its first line, its fields, its last line) of every row."""
  if csv.field_size_limit() < _LONGEST:
    csv.field_size_limit(_LONGEST)
  lines = text.whole_lines(path)
  reader = csv.reader(lines, delimiter=separator, strict=True)
  last = 0
  try:
    for fields in reader:
      first, last = last + 1, reader.line_num
      if fields:  # an empty line is no row
        yield first, fields, last
  except csv.Error as error:
    raise errors.UserError(_not_csv(f"{path}:{last + 1}", error)) from None


def _not_csv(where: str, error: Exception) -> str:
  if "end of data" in str(error) or "field limit" in str(error):
    return (
      f"{where}: a quote that is opened in this row is never closed; a quote "
      'that belongs to the text is written twice ("")'
    )
  return (
    f"{where}: the quotes of this row are wrong ({error}); a field with "
    'quotes in it stands between quotes, each of its own written twice ("")'
  )


def _header(
  fields: Sequence[str], where: str, separator: str
) -> tuple[str, ...]:
  """The names of the columns, without a first one that has none."""
  names = tuple(field.strip() for field in fields)
  _check_separator(names, where, separator)
  if not names[0] and len(names) > 1:
    names = names[1:]  # the index that pandas writes
  for number, name in enumerate(names, 1 + len(fields) - len(names)):
    if not name:
      raise errors.UserError(
        f"{where}: column {number} has no name; the header names "
        f"{_listed(fields)}"
      )
  twice = next((x for x in names if names.count(x) > 1), None)
  if twice is not None:
    raise errors.UserError(
      f'{where}: the header names the column "{twice[:60]}" twice; each name '
      "once is right"
    )
  return names


def _check_separator(names: Sequence[str], where: str, separator: str) -> None:
  """UserError for one column that holds what separates others elsewhere."""
  if names[0].lower().startswith("sep="):
    raise errors.UserError(
      f"{where}: a line with 'sep=' is for Excel alone; leave it out, so that "
      "the header comes first"
    )
  if len(names) > 1:
    return
  used = next((x for x in "\t;|," if x != separator and x in names[0]), None)
  if used is not None:
    rename = {"\t": "name it .tsv", ",": "name it .csv"}
    write = "write it with commas, or with tabs as .tsv"
    raise errors.UserError(
      f"{where}: the columns seem to be separated by {_NAMES[used]}, where "
      f"{_NAMES[separator]} are right ({names[0][:60]!r}); "
      f"{rename.get(used, write)}"
    )


def _uneven(
  where: str, header: Sequence[str], fields: Sequence[str], separator: str
) -> errors.UserError:
  hint = "a field that is empty still has its separator"
  if len(fields) > len(header):
    hint = f"a field with {_NAMES[separator]} in it stands between quotes"
  return errors.UserError(
    f"{where}: {len(fields)} fields, but the header names {len(header)} "
    f"columns ({_listed(header)}); {hint}"
  )


def _check_lines(
  path: epath.Path, first: int, last: int, fields: Sequence[str]
) -> None:
  """UserError where a quote that is plain text swallowed rows of a TSV.

  Many write no quotes there around fields, so that one which starts with a
  quote would go on to the next quote. Then the first line is a whole row.
  """
  until, tabs = 0, len(fields) - 1
  for field in fields:
    head, newline, _ = field.partition("\n")
    until += head.count("\t")
    if newline:
      break
    until += 1
  if tabs and until >= tabs:
    ends = any("\t" in field and "\n" in field for field in fields)
    if ends:
      raise errors.UserError(
        f"{path}:{first}: a quote opens a field that ends in line {last} only, "
        f"though line {first} has all {tabs + 1} fields; a field that starts "
        'with a quote is written between quotes, its own doubled (""). Tabs '
        "and newlines in one field want a CSV"
      )


def _listed(names: Sequence[str]) -> str:
  return ", ".join(itertools.islice((x[:40] for x in names), 12))
