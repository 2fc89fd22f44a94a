"""What one worker of many does for a data set: a task, which leaves a file.

Functions of their arguments and of the files that the tasks before them left,
which know nothing of who runs them. A task that is done twice leaves the same.
In the data set's folder, until that is complete:

  passes/scan-KIND-00000.npz      the facts of a group's records (`clean.facts`)
  passes/verdicts-KIND-00000.npz  what becomes of them, as decided of all
  passes/side_of.npz              the side of each customers' prompt
  passes/measure-KIND-00000.npz   where its records go, and how long they are
  passes/measure-KIND-00000-SPLIT.jsonl  those with prompts, as cleaned
  passes/sample-KIND-00000.json   those of its texts that a tokenizer learns
  passes/NAME.error.json          why a task came to nothing
"""

import collections
import dataclasses
import functools
import io
import itertools
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.data import building
from instruct_jax.data.batch import pieces
from instruct_jax.data.clean import facts as facts_lib
from instruct_jax.data.clean import hygiene, pipeline, splits
from instruct_jax.data.read import bundles, kinds, spans

FOLDER = "passes"
GONE = 255  # the side of a record that does not stay


@dataclasses.dataclass(frozen=True)
class Group:
  """Spans of a kind that one task reads, one after the other."""

  kind: str
  number: int
  spans: tuple[spans.Span, ...]

  def named(self, work: str, ending: str = ".npz") -> str:
    """The file that holds what a task found of it."""
    return f"{work}-{self.kind}-{self.number:05}{ending}"


@dataclasses.dataclass(frozen=True)
class Wanted:
  """A piece: which records of its split it has, from the first group's on."""

  split: str
  number: int
  start: int
  stop: int


@dataclasses.dataclass(frozen=True)
class Task:
  """Something to do; what it needs of another's work lies in `root`."""

  work: str  # of WORK
  root: str
  data: Mapping[str, Any]  # the section `config.data`
  groups: tuple[Group, ...]  # one, but to make pieces
  chosen: tuple[int, ...] = ()  # the texts of a sample, by their places
  wanted: tuple[Wanted, ...] = ()
  tokenizer: str = ""  # the digest of the one in `root`

  @property
  def name(self) -> str:
    """What it leaves, or would leave if it left one file."""
    ending = ".json" if self.work == "sample" else ".npz"
    return self.groups[0].named(self.work, ending)

  @property
  def folder(self) -> epath.Path:
    """Where the files of tasks lie."""
    return epath.Path(self.root) / FOLDER

  @property
  def error(self) -> epath.Path:
    """Where it says why it came to nothing."""
    return self.folder / f"{self.name}.error.json"

  @property
  def config(self) -> ml_collections.ConfigDict:
    """`data` as the rest of the house takes it."""
    return ml_collections.ConfigDict(dict(self.data))


def run(task: Task) -> str:
  """Does a task, unless what it leaves is there; returns its name.

  What goes wrong it writes down: a runner would try again what has to fail, and
  say it in words of its own.
  """
  if task.work != "make" and (task.folder / task.name).exists():
    return task.name
  try:
    WORK[task.work](task)
  except OSError as error:
    said = error.errno, error.strerror, error.filename
    _say(task, "disk", [x if isinstance(x, int) else str(x) for x in said])
  except errors.UserError as error:
    _say(task, "refused", str(error))
  except Exception:
    _say(task, "failed", traceback.format_exc())
  return task.name


def _say(task: Task, said: str, what: Any) -> None:
  storage.write_json(task.error, {"said": said, "what": what})


def error_of(task: Task) -> BaseException | None:
  """Why a task that was done came to nothing, if it did."""
  if not task.error.exists():
    return None
  found = storage.read_json(task.error)
  if found["said"] == "disk":
    return OSError(*found["what"])
  if found["said"] == "refused":
    return errors.UserError(found["what"])
  return RuntimeError(f"{task.name} could not be made:\n{found['what']}")


def save(path: epath.Path, arrays: Mapping[str, Any]) -> None:
  """Writes arrays by name: all of them or nothing."""
  content = io.BytesIO()
  np.savez(content, **arrays)
  storage.write(path, content.getvalue())


def load(path: epath.Path) -> dict[str, np.ndarray]:
  """What `save` wrote."""
  with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
    return dict(arrays)


def _records(
  group: Group, data: ml_collections.ConfigDict, counts: np.ndarray
) -> Iterator[kinds.Record]:
  """The records of a group; how many each span has is added to `counts`."""
  for n, span in enumerate(group.spans):
    for record in spans.records(span, k_max=data.k_max):
      counts[n] += 1
      yield record


def scan(task: Task) -> None:
  """Notes the facts of a group's records, and how many each span has."""
  (group,), data = task.groups, task.config
  counts = np.zeros(len(group.spans), np.int64)
  found = facts_lib.gather(
    _records(group, data, counts), group.kind, hygiene.settings_of(task.data)
  )
  columns = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
  save(task.folder / task.name, columns | {"counts": counts})


def measure(task: Task) -> None:
  """Notes where each record of a group goes, and its bytes in a piece.

  Of text also its characters; of the others the records are written too.
  """
  (group,) = task.groups
  is_stream = kinds.KINDS[group.kind].is_stream
  found = _measured_texts(task) if is_stream else _measured_records(task)
  save(task.folder / task.name, found)


def _measured_texts(task: Task) -> dict[str, np.ndarray]:
  (group,), settings = task.groups, hygiene.settings_of(task.data)
  side_of = _side_of(task.folder)
  columns: dict[str, list[np.ndarray]] = {"side": [np.zeros(0, np.uint8)]}
  columns |= {name: [np.zeros(0, np.uint32)] for name in ("size", "characters")}
  counts = np.zeros(len(group.spans), np.int64)
  for n, span in enumerate(group.spans):
    for texts in spans.texts(span):
      counts[n] += len(texts)
      columns["side"].append(pipeline.sides_of(texts, settings, side_of))
      columns["size"].append((texts.stops - texts.starts).astype(np.uint32))
      columns["characters"].append(_characters(texts))
  return {k: np.concatenate(x) for k, x in columns.items()} | {"counts": counts}


def _characters(texts: bundles.Bundle) -> np.ndarray:
  """How many each text has, [N] uint32: of UTF-8 the bytes that begin one."""
  begins = (np.frombuffer(texts.content, np.uint8) & 0xC0) != 0x80
  before = np.append(0, np.cumsum(begins, dtype=np.int64))
  return (before[texts.stops] - before[texts.starts]).astype(np.uint32)


def _side_of(folder: epath.Path) -> splits.Table:
  found = load(folder / "side_of.npz")
  return splits.Table(found["keys"], found["values"])


def _measured_records(task: Task) -> dict[str, np.ndarray]:
  (group,), data = task.groups, task.config
  settings, pii = hygiene.settings_of(task.data), collections.Counter()
  counts = np.zeros(len(group.spans), np.int64)
  sizes: list[int] = []
  lines = {split: io.StringIO() for split in kinds.SPLITS}
  every = _with_verdicts(task.folder, group, _records(group, data, counts))
  for split, record in every:
    record = pipeline.bare(record, group.kind, split, settings, pii)
    sizes.append(len(building.content_of(record)))
    lines[split].write(building.line_of(record, group.kind))
  for split, text in lines.items():
    path = task.folder / group.named("measure", f"-{split}.jsonl")
    storage.write(path, text.getvalue())
  side = load(task.folder / group.named("verdicts"))["code"]
  stays = side < len(kinds.SPLITS)
  size = np.zeros(len(side), np.uint32)
  size[stays] = sizes
  side = np.where(stays, side, GONE).astype(np.uint8)
  said = np.array(json.dumps(pii))
  return {"side": side, "size": size, "counts": counts, "pii": said}


def _with_verdicts(
  folder: epath.Path, group: Group, records: Iterable[kinds.Record]
) -> Iterator[tuple[str, kinds.Record]]:
  found = load(folder / group.named("verdicts"))
  before = int(found.pop("before"))
  return pipeline.with_verdicts(
    records, pipeline.Verdicts(**found), group.kind, before=before
  )


def sample(task: Task) -> None:
  """Writes the texts of a group that are `chosen`, in their order."""
  (group,), number, found = task.groups, 0, []
  chosen = np.asarray(task.chosen, np.int64)
  for texts in itertools.chain.from_iterable(map(spans.texts, group.spans)):
    first, stop = np.searchsorted(chosen, (number, number + len(texts)))
    found += [texts.text(n - number) for n in chosen[first:stop].tolist()]
    number += len(texts)
  storage.write_json(task.folder / task.name, {"texts": found})


def make(task: Task) -> None:
  """Writes the shards of the pieces that begin in a group, as `building`."""
  data, root = task.config, epath.Path(task.root)
  for piece in _pieces(task):
    if building.is_there(piece, root):
      continue
    tokenizer = _tokenizer(task.root, task.tokenizer)
    manifest = pieces.write(piece, data, tokenizer, root)
    building.note(piece, manifest, root)


@functools.lru_cache(1)
def _tokenizer(root: str, digest: str) -> tokenizers.Tokenizer:
  del digest  # It says when the one that is held is another's.
  return tokenizers.load(root)


def _pieces(task: Task) -> Iterator[pieces.Piece]:
  """The pieces that are wanted, each when its last record was read."""
  kind = task.groups[0].kind
  left = {
    split: collections.deque(w for w in task.wanted if w.split == split)
    for split in kinds.SPLITS
  }
  grown = {split: building.Open() for split in kinds.SPLITS}
  seen = dict.fromkeys(kinds.SPLITS, 0)
  for split, add, count in _some(task):
    first = seen[split]
    seen[split] += count
    while left[split] and left[split][0].start < seen[split]:
      wanted = left[split][0]
      add(grown[split], max(wanted.start - first, 0), wanted.stop - first)
      if wanted.stop > seen[split]:
        break
      yield grown[split].piece(kind, split, wanted.number)
      left[split].popleft()
      grown[split] = building.Open()
    if not any(left.values()):
      return
  raise errors.UserError(
    f"data.{kind}: has fewer records than when it was read first; nothing was"
    " made of it. Run again when the files are complete"
  )


# (piece that grows, first, behind the last) of some records: adds them to it.
Adds = Callable[[building.Open, int, int], object]


def _some(task: Task) -> Iterator[tuple[str, Adds, int]]:
  """(split, what adds them, how many) of some records, of all of the groups."""
  for group in task.groups:
    if kinds.KINDS[group.kind].is_stream:
      yield from _some_texts(task.folder, group)
    else:
      yield from _each_record(task, group)


def _some_texts(
  folder: epath.Path, group: Group
) -> Iterator[tuple[str, Adds, int]]:
  sides = load(folder / group.named("measure"))["side"]
  number = 0
  for texts in itertools.chain.from_iterable(map(spans.texts, group.spans)):
    own = sides[number : number + len(texts)]
    number += len(texts)
    if len(own) < len(texts):
      raise pipeline.changed(group.kind, len(sides) + 1)
    for side, split in enumerate(kinds.SPLITS):
      chosen = np.flatnonzero(own == side)
      yield split, functools.partial(_extend, texts, chosen), len(chosen)


def _extend(texts, chosen, piece, start, stop):
  if len(inside := chosen[start:stop]):
    piece.extend(texts, inside)


def _each_record(task: Task, group: Group) -> Iterator[tuple[str, Adds, int]]:
  data, nothing = task.config, collections.Counter()
  settings, wanted = (
    hygiene.settings_of(task.data),
    {each.split for each in task.wanted},
  )
  records = _records(group, data, np.zeros(len(group.spans), np.int64))
  for split, record in _with_verdicts(task.folder, group, records):
    if split in wanted:
      plain = functools.partial(
        pipeline.bare, record, group.kind, split, settings, nothing
      )
      yield split, functools.partial(_add, plain), 1


def _add(record, piece, start, stop):
  del start, stop  # It is one, and wanted.
  plain = record()  # What is read on the way to it needs no cleaning.
  piece.add(plain, plain.get("part", 0))


WORK: dict[str, Callable[[Task], None]] = {
  "scan": scan,
  "measure": measure,
  "sample": sample,
  "make": make,
}
