"""Tables and records under the name of a text: refused, with what to do.

As plain text they would be trained on, separators, numbers and all, and nobody
would see it. What is meant so goes through the converter of plain text, which
asks nothing.
"""

import csv
import re
from collections.abc import Sequence

from instruct_jax.base import errors

# A header such as `id,text`: names of columns, one of which is a record's key.
_NAME = r"\"?[^\W\d][\w. -]{0,40}\"?"
_HEADER = re.compile(rf"{_NAME}(?:([,;\t|]){_NAME})(?:\1{_NAME})*\s*")
_COLUMNS = {
  *("text", "prompt", "response", "responses", "instruction", "output"),
  *("question", "answer", "completion", "chosen", "rejected"),
}
_ROWS_SEEN = 20  # lines of the first block that must agree
_FEWEST = 3
_SEPARATORS = {"\t": "tabs", ";": "';'", "|": "'|'", ",": "commas"}
# `{'prompt': ...}` as Python prints it, `{prompt: "..."}` as JavaScript does,
# JSON that is broken; not `{Exit}` or `{a} words`.
_OBJECT = re.compile(
  r"""\[?\s*\{\s*(?:(["'])[^"']{1,80}\1\s*:|[A-Za-z_]\w*\s*:\s*["'\d\[{])"""
)
_QUOTED = re.compile(r'"[^"]*"')
_JSON = ("JSON with liberties", "json.dump makes lines of JSON of it")
_SETTINGS = ("a file of settings", "json.dump makes lines of JSON of it")
_SQL = ("statements of a database", "export the table as CSV and name that")
_ARFF = ("a table of Weka's", "write it as CSV and name that")
_CODE = ("a program", 'write it as JSON lines, {"text": ...}')
# What a file is, by the end of its name.
_ENDINGS = {
  ".json5 .hjson .jsonc": _JSON,
  ".toml .ini .cfg": _SETTINGS,
  ".sql": _SQL,
  ".arff": _ARFF,
  ".py .js .ts .c .cc .cpp .java .go .rs .sh": _CODE,
}
_BY_ENDING = {
  ending: found for names, found in _ENDINGS.items() for ending in names.split()
}
_LOOSE = (".log", ".md")  # texts, in which columns are usual
_FORCED = (
  "If it is text, `python -m instruct_jax.data convert text` takes it as it is"
)


def check(where: str, ending: str, texts: Sequence[str]) -> None:
  """Raises UserError for what is no text, though it can be read as such.

  Args:
    where: of the first line.
    ending: of the file's name, in lower case.
    texts: the lines of its first block, before a blank one.
  """
  if ending in _BY_ENDING:
    what, instead = _BY_ENDING[ending]
    raise errors.UserError(f"{where}: {what}, no text; {instead}. {_FORCED}")
  first = texts[0]
  if is_header(first):
    raise errors.UserError(
      f"{where}: looks like the header of a table ({first[:60]}); name the file"
      f" .csv (commas) or .tsv (tabs). {_FORCED}"
    )
  if _OBJECT.match(first.lstrip()):
    raise errors.UserError(
      f"{where}: looks like records, but is no JSON ({first[:60]}); json.dumps "
      f"writes such a line, the file is named .jsonl then. {_FORCED}"
    )
  separator = "" if ending in _LOOSE else _separator(texts[:_ROWS_SEEN])
  if separator:
    raise errors.UserError(
      f"{where}: looks like a table, of columns with {_SEPARATORS[separator]} "
      f"between ({first[:60]}); write it with commas as .csv, or with tabs as "
      f".tsv, below a header that names the columns. {_FORCED}"
    )


def is_header(line: str) -> bool:
  """Whether a line looks like the names of a table's columns."""
  found = _HEADER.fullmatch(line)
  if not found:
    return False
  names = (name.strip(' "').lower() for name in line.split(found.group(1)))
  return not _COLUMNS.isdisjoint(names)


def _separator(rows: Sequence[str]) -> str:
  """What separates the columns of a table's rows; '' where they are none."""
  if len(rows) < _FEWEST:
    return ""
  return next((x for x in _SEPARATORS if _is_table(rows, x)), "")


def _is_table(rows: Sequence[str], separator: str) -> bool:
  """Whether all rows have the same number of columns, two or more.

  In prose a space or the line's end follows a comma or a semicolon; verse may
  be indented by tabs, and `|` at the start is a table of Markdown.
  """
  first = rows[0]
  if separator not in first or first.startswith(separator):
    return False
  bare = _QUOTED.sub('""', first) if separator == "," else first
  if separator in ",;" and re.search(rf"{separator}(\s|$)", bare):
    return False
  if separator == "," and not (_HEADER.fullmatch(first) or '",' in first):
    return False
  counts = {_fields(row, separator) for row in rows}
  return len(counts) == 1


def _fields(row: str, separator: str) -> int:
  """How many fields a line has; separators between quotes are none."""
  if separator == "\t":
    return 1 + row.count(separator)
  return len(next(csv.reader([row], delimiter=separator), ()))
