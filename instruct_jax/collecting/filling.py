"""Tasks from files: prompts, lists of answers, the screening, and settings.

Files are whatever `data.read` reads. What is in them once is a task once,
however often they are given.
"""

import dataclasses
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax import paper
from instruct_jax.base import errors, progress, storage
from instruct_jax.collecting import adding, kinds, screening, store
from instruct_jax.data.read import files, records, sources, specs, tables
from instruct_jax.data.read import kinds as kinds_of_records

SCREENING = "screening.jsonl"
_DEFAULTS = (SCREENING, "instructions.md")  # copied; then anybody's to edit
_PER_RESPONSE = ("responses", "models", "ended")
_SAID = 1000  # lines between two words of how many there are


@dataclasses.dataclass(frozen=True)
class Filled:
  """What became of a source's lines."""

  source: str
  added: Mapping[str, int]  # by kind of task
  repeated: int  # were tasks already
  twins: int  # responses that stood twice in their list, and count once
  left_out: int  # lists of one text alone, which order nothing

  def lines(self) -> list[str]:
    """Sentences for a person."""
    new = [_counted(n, f"{kind} task") for kind, n in self.added.items() if n]
    said = [f"{self.source}: {' and '.join(new) or 'no task'} added"]
    if self.repeated:
      said.append(f"{self.source}: {self.repeated:,} already tasks before")
    if self.twins:
      said.append(
        f"{self.source}: {_counted(self.twins, 'response')} stood twice in a"
        " list: taken once"
      )
    if self.left_out:
      said.append(
        f"{self.source}: {_counted(self.left_out, 'list')} of one text alone"
        " left out"
      )
    return said


def begin(opened: store.Store) -> None:
  """What every start does: copies what is missing, asks what settings ask.

  Raises UserError, naming file and line, for a screening that is none.
  """
  for name in _DEFAULTS:
    path = opened.folder / name
    if not path.exists():
      home = importlib.resources.files("instruct_jax.collecting")
      storage.write(path, (home / name).read_bytes())
  _load_screening(opened)
  asked = dataclasses.asdict(opened.settings.writing)
  for form, count in asked.items():
    rows = [_writing(form, number) for number in range(1, count + 1)]
    opened.add_tasks("writing", rows, source="settings")


def from_prompts(opened: store.Store, spec: str) -> Filled:
  """Demonstration tasks of a file's prompts."""
  rows = prompts(spec)
  found = opened.add_tasks("demonstration", rows, source=spec)
  return Filled(spec, {"demonstration": found.added}, found.repeated, 0, 0)


def prompts(spec: str) -> list[dict[str, Any]]:
  """Contents {"prompt", "record"} of a file's prompts, each once."""
  found = {}
  for record in sources.Source(spec, "prompts"):
    found.setdefault(record["prompt"], content_of(record))
  return list(found.values())


def from_samples(opened: store.Store, spec: str) -> Filled:
  """Rankings, and of lists of two comparisons, of a file's lists of responses.

  Nothing is added where a line is wrong: UserError with file, line and key.
  """
  for _ in _lists(spec):
    pass
  return fill(opened, (content for _, content in _lists(spec)), spec)


def fill(
  opened: store.Store, contents: Iterator[dict[str, Any]], source: str
) -> Filled:
  """Adds lists of responses as rankings and comparisons."""
  by_kind: dict[str, list] = {"ranking": [], "comparison": []}
  added, repeated, twins, left_out = dict.fromkeys(by_kind, 0), 0, 0, 0

  def flush():
    nonlocal repeated
    for kind, rows in by_kind.items():
      found = opened.add_tasks(kind, rows, source=source)
      added[kind] += found.added
      repeated += found.repeated
      rows.clear()

  for content in contents:
    once = without_twins(content)
    twins += len(content["responses"]) - len(once["responses"])
    k = len(once["responses"])
    if k < 2:
      left_out += 1
      continue
    by_kind["comparison" if k == 2 else "ranking"].append(once)
    if sum(map(len, by_kind.values())) >= _SAID:
      flush()
      progress.say(f"{sum(added.values()) + repeated:,} tasks")
  flush()
  return Filled(source, added, repeated, twins, left_out)


def without_twins(content: Mapping[str, Any]) -> dict[str, Any]:
  """A list of responses with each text once, the first of its kind."""
  responses = content["responses"]
  first = [n for n, x in enumerate(responses) if x not in responses[:n]]
  return dict(content) | {
    key: [content[key][n] for n in first]
    for key in _PER_RESPONSE
    if content.get(key) is not None
  }


def content_of(
  record: Mapping[str, Any], own: Sequence[str] = ("prompt",)
) -> dict[str, Any]:
  """A task's content of a file's record: its own keys, the others together."""
  rest = {key: value for key, value in record.items() if key not in own}
  content = {key: record[key] for key in own if record.get(key) is not None}
  return content | ({"record": rest} if rest else {})


def _counted(number: int, thing: str) -> str:
  return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _lists(spec: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """(where, content) of every line with responses; checked."""
  for part in specs.parts(spec):
    for unit in files.units(part.pattern):
      where = None
      for where, row in files.unit_rows(unit):
        yield where, _list(where, row, is_table=files.is_table(unit))
      if where is None:
        raise errors.UserError(
          f'{unit}: empty; {{"prompt": ..., "responses": [...]}} a line is'
          " right"
        )


def _list(where, row, *, is_table):
  if is_table:
    lists = (*_PER_RESPONSE, "messages")
    row = {
      key: tables.value_of(cell, list) if key in lists else cell
      for key, cell in row.items()
      if cell != ""
    }
  record = records.with_names(row)
  if reason := kinds_of_records.wrong(record, "prompts", 0):
    raise errors.UserError(f"{where}: {reason}")
  if not isinstance(record.get("responses"), list):
    raise errors.UserError(
      f'{where}: "responses" must be a list of texts; lines of prompts alone'
      " are for --prompts"
    )
  record = kinds_of_records.with_prompt(record, "prompts")
  content = content_of(record, ("prompt", *_PER_RESPONSE))
  return _checked(where, "ranking", content)


def _checked(where, kind, content):
  """A content without twins is right; the message says where it is not."""
  try:
    adding.check_lists(content)
    once = without_twins(content)
    if len(once["responses"]) > 1:
      adding.check_content(kind, once)
    kinds.as_json(content).encode("utf-8")
  except errors.UserError as error:
    raise errors.UserError(f"{where}: {error}") from None
  except ValueError as error:
    raise errors.UserError(
      f"{where}: cannot be kept as JSON: {error}"
    ) from None
  return content


def _load_screening(opened: store.Store) -> None:
  """Makes the screening what its file says: adds, closes, opens tasks."""
  path = opened.folder / SCREENING
  by_kind: dict[str, tuple[list, list]] = {}
  digests = []
  is_empty = not path.read_bytes().strip()
  for where, row in () if is_empty else files.rows(path):
    kind, content, gold = _gold(where, row)
    contents, golds = by_kind.setdefault(kind, ([], []))
    contents.append(content)
    golds.append(gold)
    digests.append(adding.digest(kind, content, is_gold=True))
  for kind, (contents, golds) in by_kind.items():
    opened.add_tasks(kind, contents, source=SCREENING, golds=golds)
  opened.keep_screening(digests)


def _gold(where, row):
  """(kind, content, gold) of a line of the screening."""
  kind, gold = row.get("kind"), row.get("gold")
  if kind not in kinds.KINDS:
    raise errors.UserError(
      f"{where}: {errors.unknown('kind', str(kind), kinds.KINDS)}"
    )
  content = {k: x for k, x in row.items() if k not in ("kind", "gold")}
  try:
    adding.check_content(kind, content)
    screening.check_gold(kind, content, gold)
  except errors.UserError as error:
    raise errors.UserError(f"{where}: {error}") from None
  return kind, content, gold


def _writing(form: str, number: int) -> dict[str, Any]:
  """A task of writing; user-based ones go through the use cases of table 1."""
  cases = list(paper.USE_CASES)
  hint = None
  if form == "user_based":
    hint = cases[(number - 1) % len(cases)].replace("_", " ")
  return {"form": form, "hint": hint, "number": number}
