"""What shards a data set has of a kind, and their rows.

KIND/shards.json, written when all of them are there.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.data.batch import (
  encoding,
  histograms,
  limits,
  pieces,
  shards,
  stored,
  streams,
)
from instruct_jax.data.batch import rows as rows_lib
from instruct_jax.data.read import kinds

FILE = "shards.json"
# Rows depend on these, and on the tokenizer, which lies beside them.
_MADE_FOR = ("template", "prompt_length", "response_length", "row_length")
_MADE_FOR += ("loss_on",)


@dataclasses.dataclass(frozen=True)
class Split:
  """All pieces of a split together."""

  records: int
  counts: Mapping[str, Mapping[str, Any]]  # of each layout, for `limits`
  padding: Mapping[str, float]  # of each layout
  lengths: Mapping[str, histograms.Histogram]  # tokens of texts, uncut
  content: Mapping[str, Any]  # what the file has of it

  def finished(self, layout: str) -> dict[str, Any]:
    """The counts of a layout, as `rows.Rows` has them."""
    counts = limits.finished(self.counts[layout])
    return counts | {"padding": self.padding[layout]}


def joined(
  manifests: Iterable[pieces.Manifest], nothing: pieces.Tables
) -> Split:
  """A split of these pieces; `nothing` is what no record gives."""
  counts = {layout: some for layout, (_, some) in nothing.of_layout.items()}
  sizes = {layout: [0, 0, 0] for layout in counts}  # rows, filled, columns
  files: dict[str, list] = {layout: [] for layout in counts}
  lengths: Mapping[str, Any] = nothing.lengths
  parts, records, rows_of = [], [], []
  for manifest in manifests:
    before = sum(records)
    rows_of += [(before + n, size) for n, size in manifest["rows_of"]]
    parts.append(manifest["part"])
    records.append(manifest["records"])
    lengths = limits.merged([lengths, pieces.from_json(manifest["lengths"])])
    for layout, shard in manifest["layouts"].items():
      more = pieces.from_json(shard["counts"])
      counts[layout] = limits.merged([counts[layout], more])
      rows, filled, columns = sizes[layout]
      sizes[layout] = [
        rows + shard["rows"],
        filled + shard["filled"],
        max(columns, shard["columns"]),
      ]
      names = ("rows", "bytes", "sha256", "arrays")
      files[layout].append({name: shard[name] for name in names})
  padding = {
    layout: round(1 - filled / (rows * columns) if rows else 0.0, 4)
    for layout, (rows, filled, columns) in sizes.items()
  }
  content = {
    "records": records,
    "parts": parts,
    "rows_of": rows_of,
    "shards": files,
  }
  return Split(sum(records), counts, padding, lengths, content)


def write(
  root: epath.PathLike,
  kind: str,
  splits: Mapping[str, Split],
  data: ml_collections.ConfigDict,
  lines: Mapping[str, str],
) -> None:
  """Writes the file, and what TFDS reads of each layout.

  `lines` are the digests of the files that hold a kind's records, by split.
  """
  for layout in next(iter(splits.values())).counts:
    files = {s: some.content["shards"][layout] for s, some in splits.items()}
    shards.write_info(root, kind, layout, files)
  content = {
    split: {
      **some.content,
      "counts": {layout: some.finished(layout) for layout in some.counts},
    }
    for split, some in splits.items()
  }
  made_for = {name: data[name] for name in _MADE_FOR}
  storage.write_json(
    epath.Path(root) / kind / FILE,
    {"made_for": made_for, "splits": content, "lines": lines},
  )


def read(root: epath.PathLike, kind: str) -> dict[str, Any]:
  """What `write` wrote; UserError where it is not there, or damaged."""
  path = epath.Path(root) / kind / FILE
  content = storage.read_json(path)
  if not {"made_for", "splits", "lines"} <= content.keys():
    raise errors.UserError(f"{path}: damaged; delete it to have it built anew")
  return content


def exists(root: epath.PathLike, kind: str) -> bool:
  """Whether a data set has shards of a kind."""
  return (epath.Path(root) / kind / FILE).exists()


def open_rows(
  root: epath.PathLike,
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  split: str,
  *,
  packed: bool,
  weights: tuple[float, ...] = (),
  source: Sequence[kinds.Record] = (),
) -> rows_lib.Rows | None:
  """The rows of a split, read by index; None where they were made otherwise.

  Raises UserError where there is none.
  """
  content = read(root, kind)
  of_split = content["splits"][split]
  can_pack = kinds.KINDS[kind].can_pack
  layout = shards.PACKED if packed and can_pack else shards.ROWS
  made_for = {name: data[name] for name in _MADE_FOR}
  if content["made_for"] != made_for or layout not in of_split["shards"]:
    return None
  files, counts = of_split["shards"][layout], of_split["counts"][layout]
  if not counts["rows"]:
    where = f"the {split} split of data.{kind}"
    raise errors.UserError(no_row(where, kind, counts, data))
  table = stored.Stored(
    [
      stored.Shard(
        shards.path(root, kind, layout, split, number),
        shard["rows"],
        shard["arrays"],
      )
      for number, shard in enumerate(files)
    ],
    row_length=data.row_length,
    pad_id=tokenizer.pad_id,
    padding=counts["padding"],
  )
  index = np.arange(len(table), dtype=np.int32)
  if layout == shards.ROWS and not kinds.KINDS[kind].is_stream:
    numbers = np.arange(sum(of_split["records"]), dtype=np.int32)
    sizes = np.ones(len(numbers), np.int64)
    for n, size in of_split["rows_of"]:
      sizes[n] = size
    index = np.repeat(numbers, sizes)
  else:
    source = ()
  part = None
  if weights:
    lengths = [shard["rows"] for shard in files]
    part = np.repeat(np.asarray(of_split["parts"], np.int32), lengths)
  return rows_lib.Rows(kind, table, index, counts, source, weights, part)


def no_row(
  where: str,
  kind: str,
  counts: Mapping[str, Any],
  data: ml_collections.ConfigDict,
) -> str:
  """Why there is no row of what `where` names."""
  if kinds.KINDS[kind].is_stream:
    return streams.too_little(where, counts, data.row_length)
  return encoding.nothing_left(where, counts, data)


def damaged(
  root: epath.PathLike, kind: str, split: str
) -> dict[int, list[str]]:
  """The layouts in which a piece's shard is gone, or not what it was."""
  found: dict[int, list[str]] = {}
  of_split = read(root, kind)["splits"][split]
  for layout, files in of_split["shards"].items():
    for number, shard in enumerate(files):
      path = shards.path(root, kind, layout, split, number)
      if is_damaged(path, shard):
        found.setdefault(number, []).append(layout)
  return found


def is_damaged(path: epath.PathLike, shard: Mapping[str, Any]) -> bool:
  """Whether a shard is not what was written there."""
  path = epath.Path(path)
  try:
    size = path.stat().length
    return size != shard["bytes"] or storage.digest(path) != shard["sha256"]
  except FileNotFoundError:
    return True
