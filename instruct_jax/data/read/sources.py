"""Records of the four kinds, from people's own files.

  pretraining     {"text"} lines, or plain text with blank lines between
                  documents
  demonstrations  {"prompt", "response"} lines
  prompts         {"prompt"} lines
  rankings        {"prompt", "responses": [K], "ranks": [K]} lines; rank 1 is
                  best, equal ranks are ties, and only their order counts.
                  Optional, one for each response: "ended", bools; "ratings", 1
                  to 7; "metadata", {flag: bool}; "models", who gave it. Or
                  "pairs": [[winner, loser], ...], where labelers compared two
                  at a time, in circles too; beside "ranks", which order all,
                  they must agree with them

{"messages": [{"role", "content"}, ...]} may stand for "prompt" (for "prompt"
and "response" of demonstrations): one of the system, perhaps, then users' and
assistants' in turns.
Optional everywhere: "split", "user", "labeler", "source". What `files` can
read may be named, several with commas between, with weights for a mixture. In
CSV and TSV the header has the keys, lists are JSON in their fields, and a field
with nothing in it is a key that is not there.
Whatever is wrong in a file is a UserError that names file, line and key, and
says what would be right.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import ml_collections
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, progress, storage
from instruct_jax.data.read import (
  bundles,
  files,
  kinds,
  lines,
  objects,
  pieces,
  records,
  shapes,
  specs,
  tables,
  text,
  typed,
  unchanged,
)
from instruct_jax.tokenizers import start, templates

Record = kinds.Record
# Of a ranking, beside what it must have; and a conversation.
_LISTS = {"ranks", "pairs", "ended", "ratings", "metadata", "messages"}
_LISTS |= {"models"}


def open_source(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: Mapping[str, os.PathLike | str],
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
    wrong = functools.partial(kinds.wrong, kind=kind, k_max=data.k_max)
    if not storage.is_remote(written) and written.stat().length > IN_MEMORY:
      return lines.Lines(
        written,
        lambda where, row: next(_checked(iter([(where, row)]), kind, wrong)),
      )
    return list(_checked(files.unit_rows(written), kind, wrong))
  if not data[kind]:
    raise errors.UserError(
      f"data.{kind} is empty; name the file with --config.data.{kind}=FILE"
    )
  fractions = {
    "validation_fraction": data.validation_fraction,
    "test_fraction": data.test_fraction,
  }
  return [
    record
    for record in read(data[kind], kind, k_max=data.k_max)
    if kinds.split_of(record, kind, **fractions) == split
  ]


def open_rankings(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  folders: Mapping[str, os.PathLike | str],
) -> list[Record] | None:
  """What a stage wrote of a kind, `<split>.jsonl` of its need; else None.

  Only rankings are written so. Raises UserError for an unknown kind or split.
  """
  if kind not in kinds.KINDS:
    raise errors.unknown("kind of data", kind, kinds.KINDS)
  if split not in kinds.SPLITS:
    raise errors.unknown("split", split, kinds.SPLITS)
  if kind not in folders:
    return None
  path = epath.Path(folders[kind]) / f"{split}.jsonl"
  return list(_objects(path, kind, data.k_max, of_people=False))


IN_MEMORY = 1 << 26  # bytes of a file whose records are read one by one
_COUNTED = 1000  # records between two words of how many there are


class Source:
  """Every record of what a spec names, checked; read anew each time, by one.

  Args:
    spec: as in `data.KIND`.
    kind: of the records.
    k_max: the most responses that a ranking may have, 0: as many as it likes.

    others: specs that come behind it.

  Of a mixture each record has "part", the number of its part. Iterating raises
  UserError where a file has changed since the first time.
  """

  def __init__(
    self,
    spec: os.PathLike | str,
    kind: str,
    *,
    k_max: int = 0,
    others: Sequence[os.PathLike | str] = (),
  ):
    self.kind, self._k_max = kind, k_max
    named = [specs.parts(one) for one in (spec, *others)]
    self._parts = [(n, part) for parts in named for n, part in enumerate(parts)]
    every = [path for one in (spec, *others) for path in specs.paths(one)]
    self._before = unchanged.states(every)

  def __iter__(self) -> Iterator[Record]:
    unchanged.check(self._before)
    count = 0
    for n, part in self._parts:
      for record in _records(part.pattern, self.kind, self._k_max):
        count += 1
        if count % _COUNTED == 0:
          progress.say(f"{self.kind}: {count:,} records")
        yield record if part.weight is None else record | {"part": n}
    progress.say(self.kind)  # All are read, and others are at work.
    unchanged.check(self._before)

  def bundles(self) -> Iterator[bundles.Bundle]:
    """The texts of all records, in their order; of a kind of text alone."""
    unchanged.check(self._before)
    count = 0
    for n, part in self._parts:
      for bundle in _bundles(part.pattern, self.kind):
        count += len(bundle)
        progress.say(f"{self.kind}: {count:,} records")
        is_all = part.weight is None
        yield bundle if is_all else dataclasses.replace(bundle, part=n)
    progress.say(self.kind)
    unchanged.check(self._before)


def read(spec: os.PathLike | str, kind: str, *, k_max: int = 0) -> list[Record]:
  """Every record of a `Source`, in memory."""
  return list(Source(spec, kind, k_max=k_max))


def _records(
  pattern: os.PathLike | str, kind: str, k_max: int
) -> Iterator[Record]:
  if kinds.KINDS[kind].is_stream:
    return _documents(pattern, kind)
  return _objects(pattern, kind, k_max)


def _objects(
  pattern: os.PathLike | str, kind: str, k_max: int, *, of_people: bool = True
) -> Iterator[Record]:
  """The rows of a spec's files, each of which must have one."""
  for unit in files.units(pattern):
    yield from of_rows(
      files.unit_rows(unit, kind), unit, kind, k_max=k_max, of_people=of_people
    )


def of_rows(
  rows: files.Rows,
  unit: epath.Path | str,
  kind: str,
  *,
  k_max: int = 0,
  of_people: bool = True,
) -> Iterator[Record]:
  """The rows of a file or a set as records; raises UserError for none."""
  record = None
  if files.is_table(unit):
    rows = _of_cells(rows, kind, unit)
  wrong = functools.partial(
    kinds.wrong, kind=kind, k_max=k_max, of_people=of_people
  )
  for record in _checked(_known(rows, kind, unit), kind, wrong):
    yield record
  if record is None:
    raise nothing_in(unit)


def of_lines(
  path: epath.Path, kind: str, extent: pieces.Extent, *, k_max: int = 0
) -> Iterator[Record]:
  """`of_rows` of some lines of a file that has an object a line; maybe none."""
  rows = objects.rows_of(text.lines(path, extent), path)
  if extent.start:
    rows = ((where, records.with_names(row)) for where, row in rows)
  else:
    rows = _known(rows, kind, path)
  return _checked(
    rows, kind, functools.partial(kinds.wrong, kind=kind, k_max=k_max)
  )


def nothing_in(
  unit: epath.Path | str, *, of_text: bool = False
) -> errors.UserError:
  """The error about a file, or a set, without a record; or without a text."""
  if of_text:
    return errors.UserError(f"{unit}: empty; there is no text in it")
  line = "row below the header" if files.is_table(unit) else "JSON line"
  return errors.UserError(f"{unit}: empty; at least one {line} is needed")


def _known(rows: files.Rows, kind: str, unit: epath.Path | str) -> files.Rows:
  """The rows; UserError for a first one of another, well-known shape."""
  required = kinds.KINDS[kind].required
  for number, (where, row) in enumerate(rows):
    if number == 0 and not kinds.has_keys(row, kind):
      hint = shapes.hint(row, unit, kind)
      if hint:
        reason = records.wrong_keys(row, required)
        raise errors.UserError(f"{where}: {reason}{hint}")
    yield where, records.with_names(row)


def _of_cells(
  rows: files.Rows, kind: str, unit: epath.Path | str
) -> files.Rows:
  """Rows of a table as records: lists from JSON, nothing for an empty field.

  Raises UserError for a column that is needed and that the header lacks.
  """
  required = kinds.KINDS[kind].required
  lists = {name for name, of in required.items() if of is list} | _LISTS
  for number, (where, row) in enumerate(rows):
    if number == 0:
      _check_header(row, kind, where, unit)
    record = {
      name: _listed(name, cell, where) if name in lists else str(cell)
      for name, cell in row.items()
      if cell or (name in required and "messages" not in row)
    }
    yield where, record


def _check_header(
  row: Record, kind: str, where: str, unit: epath.Path | str
) -> None:
  required = kinds.KINDS[kind].required
  lacking = next((name for name in required if name not in row), None)
  if lacking is None or kinds.has_keys(row, kind):
    return
  near = records.near_misses(lacking, row)
  hint = f"; did you mean {typed.shown(near[0])}?" if near else ""
  names = ", ".join(name[:40] for name in itertools.islice(row, 12))
  raise errors.UserError(
    f'{where.rpartition(":")[0]}: no column "{lacking}"; the header, its first '
    f"line, names {names}{hint}{shapes.hint(row, unit, kind)}"
  )


def _listed(name: str, cell: str, where: str) -> list:
  value = tables.value_of(cell, list)
  if not isinstance(value, list):
    raise errors.UserError(
      f'{where}: "{name}" should be a list, as JSON in its field such as '
      f'["one", "two"] or [1, 2], not {typed.shown(cell)}'
    )
  return value


def _checked(
  rows: files.Rows, kind: str, wrong: Callable[[Record], str]
) -> Iterator[Record]:
  for where, record in rows:
    if reason := wrong(record):
      raise errors.UserError(f"{where}: {reason}")
    yield kinds.with_prompt(record, kind)


def _documents(pattern: os.PathLike | str, kind: str) -> Iterator[Record]:
  """Records of a kind of text, of objects or of what stands between blanks."""
  for unit in files.units(pattern):
    if isinstance(unit, str) or files.holds_objects(unit):
      yield from _objects(unit, kind, 0)
      continue
    for bundle in _plain(unit):
      for n in range(len(bundle)):
        yield {kinds.KINDS[kind].key: bundle.text(n)}


def _bundles(pattern: os.PathLike | str, kind: str) -> Iterator[bundles.Bundle]:
  for unit in files.units(pattern):
    yield from of_unit(unit, kind)


def of_unit(unit: epath.Path | str, kind: str) -> Iterator[bundles.Bundle]:
  """The texts of a file or a set, of a kind of text, many at a time."""
  if isinstance(unit, str) or files.holds_objects(unit):
    every = _objects(unit, kind, 0)
    yield from bundles.of_records(every, kinds.KINDS[kind].key)
  else:
    yield from _plain(unit)


def _plain(unit: epath.Path) -> Iterator[bundles.Bundle]:
  """What stands between blank lines; UserError for nothing."""
  bundle = None
  for _, bundle in files.documents(unit):
    yield bundle
  if bundle is None:
    raise nothing_in(unit, of_text=True)


def check(data: ml_collections.ConfigDict, needed: Iterable[str] = ()) -> None:
  """Raises UserError for a data section that cannot work; reads no file.

  Every file that is named must exist, and the kinds that are `needed` must be
  named, and text where a tokenizer is trained on it.
  """
  templates.check(data.template)
  trained = not data.tokenizer.startswith("hf:")
  start.check(data.start, trained=trained)
  if data.k_max < 0 or data.k_max == 1:
    raise errors.UserError(
      f"data.k_max={data.k_max}: 0 (as many responses as the rankings have), or"
      " 2 or more, is right"
    )
  held_out = (data.validation_fraction, data.test_fraction)
  if min(held_out) < 0 or sum(held_out) >= 1:
    raise errors.UserError(
      "data.validation_fraction and data.test_fraction must be 0 or more and "
      f"leave something to train on, not {held_out[0]} and {held_out[1]}"
    )
  if trained and data.tokenizer not in tokenizers.KINDS:
    raise errors.unknown(
      "data.tokenizer (or hf:/path of one)", data.tokenizer, tokenizers.KINDS
    )
  if not trained and not data.tokenizer.removeprefix("hf:").strip():
    raise errors.UserError("data.tokenizer='hf:' names no folder: hf:/path")
  for name, kind in kinds.KINDS.items():
    if data[name]:
      specs.paths(data[name])
    elif name in needed or (trained and kind.is_stream):
      raise errors.UserError(
        f"data.{name} is empty; name the file with --config.data.{name}=FILE"
      )
