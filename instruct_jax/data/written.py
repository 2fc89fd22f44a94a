"""Cleaned and split files of a source of any size: `data FILE --out=FOLDER`."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from instruct_jax.base import claims, errors, progress, storage
from instruct_jax.data.clean import hygiene, pipeline
from instruct_jax.data.read import kinds, sampled

Record = kinds.Record
_SHOWN = 1000  # records between two looks at the line of progress
_MB = 10**6


class Shown:
  """Records, with a line of progress by megabytes each time they are read."""

  def __init__(self, records: Iterable[Record], size: int, kind: str):
    self._records, self._kind = records, kind
    self._total, self._times = max(1, size // _MB), 0

  def __iter__(self) -> Iterator[Record]:
    title = ("reading", "writing")[self._times > 0]
    self._times += 1
    done = 0
    with progress.Progress(f"{title} {self._kind} (MB)", self._total) as line:
      for number, record in enumerate(self._records):
        done += sampled.characters(record)
        if number % _SHOWN == 0:
          line.update(min(done // _MB, self._total))
        yield record
      line.update(self._total)


def write(
  records: Iterable[Record],
  kind: str,
  settings: hygiene.Settings,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes <kind>-<split>.jsonl and summary.json; what was done, counted.

  A split that has no row has no file: an empty one is nothing to read.
  They are cleaned as for training, but all kinds as prompts are there: what is
  there twice goes, and personal data from the training split. All files appear
  when all are complete. `records` are read twice and never held.

  Raises UserError where the folder cannot be written.
  """
  *parts, last = targets(folder, kind)
  paths = dict(zip(kinds.SPLITS, parts, strict=True))
  try:
    plan = pipeline.scan({kind: records}, settings)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _write_splits(plan, kind, paths)
    full = [path for split, path in paths.items() if sizes[split]]
    counts = plan.counts[kind]
    summary = {"folder": str(folder), "rows": sizes, "counts": counts}
    storage.write_json(last, summary)
  except OSError as error:
    raise errors.UserError(f"--out={folder}: {error}") from None
  claims.sign(*full, last)
  return summary


def _write_splits(
  plan: pipeline.Plan, kind: str, paths: Mapping[str, epath.Path]
) -> dict[str, int]:
  """Writes the files of splits that have a row; the rows of each split."""
  sizes, files_ = dict.fromkeys(paths, 0), {}
  with contextlib.ExitStack() as stack:
    for split, record in pipeline.stream(plan, kind):
      if split not in files_:
        files_[split] = stack.enter_context(storage.writing(paths[split]))
      marked = kinds.written(record, kind) | {"split": split}
      files_[split].write(json.dumps(marked, ensure_ascii=False) + "\n")
      sizes[split] += 1
    for file in files_.values():
      file.flush()
  for split, path in paths.items():
    if not sizes[split]:
      path.unlink(missing_ok=True)
  return sizes


def targets(folder: epath.Path, kind: str) -> list[epath.Path]:
  """The files that `write` makes, the summary last."""
  names = [f"{kind}-{split}.jsonl" for split in kinds.SPLITS]
  return [folder / name for name in (*names, "summary.json")]
