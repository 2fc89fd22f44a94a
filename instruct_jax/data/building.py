"""One kind's records -> shards, a piece after another, what is there skipped.

In the data set's folder, beside the shards (`batch.shards`):

  KIND-SPLIT.jsonl              records with prompts, as they were cleaned
  KIND/pieces/SPLIT-00000.json  what is known of a piece, once it is on the disk
  KIND/shards.json              the same of all, without their lengths; the last

Which records a piece has depends on them and `piece_size` alone, so a build
that was killed goes on where it was, and a shard that is damaged is made again
alone.
"""

import contextlib
import dataclasses
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.data.batch import (
  catalogue,
  pieces,
  pool,
  shards,
)
from instruct_jax.data.read import bundles, kinds

# Bytes of records, of which half are written as tokens, in each layout. Much
# smaller ones would be many files; of larger ones more is held at once, and the
# processes end at different times.
PIECE = 8 << 20
HELD_OUT = 2  # so many times smaller where a split is not trained on
# Of a kind of text (sides, texts), as `pipeline.bundles` gives them.
Records = Iterable[tuple[str, kinds.Record]]
Texts = Iterable[tuple[np.ndarray, bundles.Bundle]]


@dataclasses.dataclass(frozen=True)
class Job:
  """What the pieces of a kind are made by."""

  data: ml_collections.ConfigDict
  tokenizer: tokenizers.Tokenizer
  root: epath.Path
  team: pool.Team
  done: Callable[[int], None] = lambda size: None  # told the bytes of a piece


def build(
  job: Job, kind: str, records: Records | Texts
) -> dict[str, catalogue.Split]:
  """Writes what is missing of a kind; what there is of each split.

  Raises as `pool.make`.
  """
  counted = _Numbers()
  with contextlib.ExitStack() as files:
    if not kinds.KINDS[kind].is_stream:
      records = _written(cast(Records, records), job.root, kind, files)
    missing = _missing(cut(records, kind), job, counted)
    for piece, manifest in _made(missing, job, kind):
      note(piece, manifest, job.root)
  return finish(job, kind, counted.of)


def finish(
  job: Job, kind: str, counts: Mapping[str, int]
) -> dict[str, catalogue.Split]:
  """Writes what a kind has when all its pieces are there, so many a split."""
  splits = {
    split: _joined(job, kind, split, counts[split]) for split in kinds.SPLITS
  }
  catalogue.write(job.root, kind, splits, job.data, _line_digests(job, kind))
  return splits


def _made(
  some: Iterable[pieces.Piece], job: Job, kind: str
) -> Iterator[pool.Made]:
  """Makes pieces, as `pool.make`; nothing half written is left."""
  shards.clear(job.root, kind)
  try:
    for piece, manifest in pool.make(some, job.tokenizer, job.team):
      yield piece, manifest
      job.done(piece.size)
  finally:
    shards.clear(job.root, kind)


def _line_digests(job: Job, kind: str) -> dict[str, str]:
  paths = {split: lines_path(job.root, kind, split) for split in kinds.SPLITS}
  return {
    split: storage.digest(path)
    for split, path in paths.items()
    if path.exists()
  }


def damaged(root: epath.PathLike, kind: str, split: str) -> list[str]:
  """The files of a split, below `root`, that are gone or not what they were."""
  root = epath.Path(root)
  found = [
    str(shards.path(root, kind, layout, split, number).relative_to(root))
    for number, layouts in catalogue.damaged(root, kind, split).items()
    for layout in layouts
  ]
  digest = catalogue.read(root, kind)["lines"].get(split)
  lines = lines_path(root, kind, split)
  if digest and not (lines.exists() and storage.digest(lines) == digest):
    found.append(lines.name)
  return found


def repair(
  job: Job,
  kind: str,
  records: Records | Texts,
  split: str,
  sizes: Mapping[str, int] | None = None,
) -> None:
  """Makes the files of a split that are damaged again, as they were.

  `sizes` are what `piece_size` was when they were made.

  Raises UserError where the records are not those that they were made of.
  """
  numbers = set(catalogue.damaged(job.root, kind, split))
  with contextlib.ExitStack() as files:
    if not kinds.KINDS[kind].is_stream:
      records = _written(cast(Records, records), job.root, kind, files)
    wanted = (
      piece
      for piece in cut(records, kind, sizes)
      if piece.split == split and piece.number in numbers
    )
    for _ in _made(wanted, job, kind):
      pass
  if left := damaged(job.root, kind, split):
    raise errors.UserError(
      f"{job.root / left[0]}: damaged, and cannot be made again, as"
      f" data.{kind} ({job.data[kind]}) is not what it was made of; delete"
      f" {job.root}, and the data set is built anew"
    )


def lines_path(root: epath.PathLike, kind: str, split: str) -> epath.Path:
  """Where the cleaned records of a split lie."""
  return epath.Path(root) / f"{kind}-{split}.jsonl"


def piece_size(split: str) -> int:
  """Bytes of records at which a piece is whole.

  Those held out grow beside that of training, slowly: small, so that what is
  held of them is the same for much text as for little.
  """
  return PIECE if split == "train" else PIECE // HELD_OUT


def cut(
  records: Records | Texts, kind: str, sizes: Mapping[str, int] | None = None
) -> Iterator[pieces.Piece]:
  """The pieces of a kind's records: of one split and part each, in order.

  `sizes` are the bytes of each split's, `piece_size` if they are not given.
  """
  every = sizes or {split: piece_size(split) for split in kinds.SPLITS}
  cutter = _Cutter(kind, every)
  if kinds.KINDS[kind].is_stream:
    for sides, texts in cast(Texts, records):
      for n, split in enumerate(kinds.SPLITS):
        yield from cutter.extend(split, texts, np.flatnonzero(sides == n))
  else:
    for split, record in cast(Records, records):
      yield from cutter.add(split, record)
  yield from cutter.rest()


def borders(
  sizes: np.ndarray, breaks: Sequence[int], most: int
) -> list[tuple[int, int]]:
  """(first, behind the last) record of each piece that `cut` makes of a split.

  Args:
    sizes: [N] bytes of each record, as a piece counts them.
    breaks: the records that begin another part of a mixture, ascending.
    most: `piece_size` of the split.
  """
  found, ends = [], np.cumsum(sizes, dtype=np.int64)
  for start, stop in itertools.pairwise((0, *breaks, len(sizes))):
    while start < stop:
      before = int(ends[start - 1]) if start else 0
      end = int(np.searchsorted(ends[start:stop], before + most)) + start + 1
      found.append((start, min(end, stop)))
      start = end
  return found


def content_of(record: kinds.Record) -> bytes:
  """A record as a piece counts its bytes."""
  text = json.dumps(record, ensure_ascii=False)
  return text.encode("utf-8", "surrogatepass")


class _Cutter:
  """Gives pieces when they are whole."""

  def __init__(self, kind: str, sizes: Mapping[str, int]):
    self._kind, self._sizes = kind, sizes
    self._numbers = dict.fromkeys(kinds.SPLITS, 0)
    self._open = {split: Open() for split in kinds.SPLITS}

  def add(self, split: str, record: kinds.Record) -> Iterator[pieces.Piece]:
    """One more record."""
    part = record.get("part", 0)
    yield from self._of_another(split, part)
    self._open[split].add(record, part)
    yield from self._whole(split)

  def extend(
    self, split: str, texts: bundles.Bundle, chosen: np.ndarray
  ) -> Iterator[pieces.Piece]:
    """Some texts more: `chosen` [N] of these."""
    while len(chosen):
      yield from self._of_another(split, texts.part)
      taken = self._open[split].extend(texts, chosen, self._sizes[split])
      chosen = chosen[taken:]
      yield from self._whole(split)

  def rest(self) -> Iterator[pieces.Piece]:
    """What is not whole and will not be."""
    for split, piece in self._open.items():
      if len(piece):
        yield self._closed(split)

  def _of_another(self, split: str, part: int) -> Iterator[pieces.Piece]:
    piece = self._open[split]
    if len(piece) and piece.part != part:
      yield self._closed(split)

  def _whole(self, split: str) -> Iterator[pieces.Piece]:
    if self._open[split].size >= self._sizes[split]:
      yield self._closed(split)

  def _closed(self, split: str) -> pieces.Piece:
    piece = self._open[split].piece(self._kind, split, self._numbers[split])
    self._numbers[split] += 1
    self._open[split] = Open()
    beside = sum(one.size for one in self._open.values())
    return dataclasses.replace(piece, beside=beside)


class Open:
  """The records of a piece that grows."""

  def __init__(self):
    self.records: list[kinds.Record] = []
    self.texts = pieces.Growing()  # in their place, of text
    self.size, self.part, self._digest = 0, 0, 0

  def __len__(self) -> int:
    return len(self.records) or len(self.texts)

  def add(self, record: kinds.Record, part: int) -> None:
    """One more."""
    content = content_of(record)
    self.records.append(record)
    self._digest = zlib.crc32(content, zlib.crc32(b" ", self._digest))
    self.size += len(content)
    self.part = part

  def extend(
    self, texts: bundles.Bundle, chosen: np.ndarray, size: int = sys.maxsize
  ) -> int:
    """Texts more, until it has so many bytes; how many of those chosen."""
    starts, stops = texts.starts[chosen], texts.stops[chosen]
    sizes = np.cumsum(stops - starts)
    count = int(np.searchsorted(sizes, size - self.size)) + 1
    self.texts.add(texts.content, starts[:count], stops[:count])
    self.size += int(sizes[:count][-1])
    self.part = texts.part
    return count

  def piece(self, kind: str, split: str, number: int) -> pieces.Piece:
    """What it has grown to."""
    records, digest, entry = self.records, self._digest, kinds.KINDS[kind]
    if entry.is_stream:
      records = self.texts.grown(entry.key)
      digest = zlib.crc32(records.content)
    # The files have digests: this is for what reads them otherwise one day.
    digest = f"{len(records)} {self.size} {digest:08x}"
    return pieces.Piece(
      kind, split, number, self.part, self.size, digest, records
    )


class _Numbers:
  """How many pieces each split has."""

  def __init__(self):
    self.of = dict.fromkeys(kinds.SPLITS, 0)


def _missing(
  every: Iterable[pieces.Piece], job: Job, counted: _Numbers
) -> Iterator[pieces.Piece]:
  """The pieces that are not on the disk already, as they are now."""
  for piece in every:
    counted.of[piece.split] += 1
    if is_there(piece, job.root):
      job.done(piece.size)
    else:
      yield piece


def is_there(piece: pieces.Piece, root: epath.Path) -> bool:
  """Whether a piece is on the disk, just as it would be made."""
  path = noted(root, piece.kind, piece.split, piece.number)
  try:
    manifest = storage.read_json(path)
    return manifest["digest"] == piece.digest and not any(
      catalogue.is_damaged(
        shards.path(root, piece.kind, layout, piece.split, piece.number),
        shard,
      )
      for layout, shard in manifest["layouts"].items()
    )
  except (errors.UserError, LookupError, TypeError):
    return False


def note(
  piece: pieces.Piece, manifest: pieces.Manifest, root: epath.Path
) -> None:
  """Writes what is known of a piece whose shards are on the disk."""
  path = noted(root, piece.kind, piece.split, piece.number)
  path.parent.mkdir(parents=True, exist_ok=True)
  storage.write_json(path, manifest)


def noted(root: epath.Path, kind: str, split: str, number: int) -> epath.Path:
  """Where `note` writes."""
  return root / kind / "pieces" / f"{split}-{number:05}.json"


def _written(
  records: Records,
  root: epath.Path,
  kind: str,
  files: contextlib.ExitStack,
) -> Records:
  """The records, each of which is written to its split's file on its way."""
  to = {
    split: files.enter_context(storage.writing(lines_path(root, kind, split)))
    for split in kinds.SPLITS
  }
  for split, record in records:
    to[split].write(line_of(record, kind))
    yield split, record


def line_of(record: kinds.Record, kind: str) -> str:
  """A record as it stands in `lines_path`."""
  return json.dumps(kinds.written(record, kind), ensure_ascii=False) + "\n"


def _joined(job: Job, kind: str, split: str, count: int) -> catalogue.Split:
  """What there is of a split, all its pieces together."""
  manifests = (
    storage.read_json(noted(job.root, kind, split, n)) for n in range(count)
  )
  return catalogue.joined(
    manifests, nothing=pieces.tables(kind, [], job.data, job.tokenizer)
  )


def check_split(
  data: ml_collections.ConfigDict,
  kind: str,
  split: str,
  found: catalogue.Split,
) -> None:
  """Raises UserError where a split that is asked for has no row."""
  if not (found.records or share(data, split)):
    return
  where = f"the {split} split of data.{kind} ({data[kind]})"
  for layout in found.counts:
    counts = found.finished(layout)
    if not counts["rows"]:
      raise errors.UserError(catalogue.no_row(where, kind, counts, data))


def share(data: ml_collections.ConfigDict, split: str) -> float:
  """How much of the records a split should have; 1 for training."""
  shares = {
    "train": 1.0,
    "validation": data.validation_fraction,
    "test": data.test_fraction,
  }
  return shares[split]
