"""The data set of the `:files` variants: people's own files, made ready.

`build` reads and checks every file that `config.data` names, cleans and splits
what is in them, trains the tokenizer on the training text (or takes the one of
`data.tokenizer = 'hf:/path'`) and writes, in the data set's folder:

  tokenizer/
  begun.json     what it is built of: files, settings, the tokenizer
  KIND/          rows of tokens in shards, of every kind (`batch.shards`)
  KIND-{train,validation,test}.jsonl        the other kinds' records
  summary.json   what was read, kept, dropped and cut, how long the texts are
                 in tokens, the share of padding, and digests of the files

summary.json comes last and says that the rest is complete. Neither records nor
tokens are held, but for the pieces that are made just now (`building`). Who
does the work is an `Engine`: this machine, or within `by` another one.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import (
  allocation,
  errors,
  interrupt,
  progress,
  run_folder,
  storage,
)
from instruct_jax.data import building, fingerprint, tasks
from instruct_jax.data import summary as summary_lib
from instruct_jax.data.batch import (
  catalogue,
  encoding,
  histograms,
  limits,
  pool,
  shards,
)
from instruct_jax.data.clean import hygiene, pipeline
from instruct_jax.data.read import (
  answers,
  compressed,
  kinds,
  sources,
  specs,
  unchanged,
)
from instruct_jax.maths import sampling

SUMMARY_FILE, BEGUN_FILE = "summary.json", run_folder.NAMES["begun"]
_MUCH = 32  # megabytes of a kind that several processes surely have a part in
_EXPANDS = 3  # a compressed file, about; for the time that is left
_TRAIN = kinds.SPLITS.index("train")
_PERCENTILES = (("p50", 50), ("p75", 75), ("p90", 90), ("p95", 95))
_PERCENTILES += (("p99", 99), ("max", 100))
_log = logging.getLogger(__name__)


class Engine(Protocol):
  """Who reads the files and makes the rows, the same whoever it is."""

  def scan(
    self, data: ml_collections.ConfigDict, folder: epath.Path
  ) -> pipeline.Plan:
    """What becomes of the records in the files that `data` names."""

  def sample(
    self, data: ml_collections.ConfigDict, plan: pipeline.Plan
  ) -> sampling.Sample[str]:
    """What of the training text a tokenizer is trained on."""

  def build(
    self, job: building.Job, plan: pipeline.Plan, kind: str
  ) -> dict[str, catalogue.Split]:
    """Writes what is missing of a kind; completes its counts in the plan."""


class Here:
  """This machine, with a process a core."""

  def scan(
    self, data: ml_collections.ConfigDict, folder: epath.Path
  ) -> pipeline.Plan:
    """As `Engine`."""
    del folder
    return scan(data)

  def sample(
    self, data: ml_collections.ConfigDict, plan: pipeline.Plan
  ) -> sampling.Sample[str]:
    """As `Engine`."""
    return sampling.uniform(_training_text(plan), data.tokenizer_sample, len)

  def build(
    self, job: building.Job, plan: pipeline.Plan, kind: str
  ) -> dict[str, catalogue.Split]:
    """As `Engine`."""
    return building.build(job, kind, _records(plan, kind))


_engine: Engine = Here()


@contextlib.contextmanager
def by(engine: Engine) -> Iterator[None]:
  """Within, data sets are built by this engine."""
  global _engine
  before, _engine = _engine, engine
  try:
    yield
  finally:
    _engine = before


def build(
  config: ml_collections.ConfigDict, folder: os.PathLike | str
) -> dict[str, Any]:
  """Makes the data set of `config.data` in `folder`; returns its summary.

  Where the same files and settings have been built already, it only makes
  again what is damaged; where a build was broken off, what is missing.

  Raises:
    UserError: a file is missing, empty or wrong (with file, line and key), or
      a split of it is left without a row.
    OSError: the disk says no; what is complete stays.
  """
  with answers.held():  # What is counted, cleaned and written is the same.
    return _build(config.data, epath.Path(folder))


def _build(
  data: ml_collections.ConfigDict, folder: epath.Path
) -> dict[str, Any]:
  sources.check(data)
  before = unchanged.states(
    path for kind in _named(data) for path in specs.paths(data[kind])
  )
  inputs = fingerprint.of(data)
  summary = _read_summary(folder, data)
  if summary.get("inputs") == inputs:
    for kind, split in itertools.product(_named(data), kinds.SPLITS):
      repair(data, {"data": folder}, kind, split)
    return summary
  _begin(folder, inputs)
  total = [_megabytes(data[kind]) for kind in _named(data)]
  with (
    progress.Progress("dataset (MB)", max(1, round(sum(total)))) as line,
    pool.Team(data, folder) as team,
  ):
    plan = _engine.scan(data, folder)
    unchanged.check(before)
    line.say("tokenizer")
    if max(total) > _MUCH and isinstance(_engine, Here):
      team.start()
    tokenizer = _tokenizer(data, folder, plan)
    allocation.trim()  # What was held to train it adds up to what comes.
    line.anew()  # That was another kind of work, of which nothing is counted.
    summary = {
      "inputs": inputs,
      "vocab_size": tokenizer.vocab_size,
      "vocab_size_asked": data.vocab_size,
      "tokenizer_text": _read(folder / BEGUN_FILE).get("tokenizer_text", {}),
    }
    for n, kind in enumerate(_named(data)):
      line.say(kind)
      done = _Counter(line, sum(total[:n]), sum(total[: n + 1]))
      job = building.Job(data, tokenizer, folder, team, done.add)
      splits = _engine.build(job, plan, kind)
      with _forgotten(folder):
        summary[kind] = _figures(job, plan, kind, splits)
      line.update(round(sum(total[: n + 1])))
  summary["tables"] = summary_lib.tables(summary, data)
  unchanged.check(before)
  storage.write_json(folder / SUMMARY_FILE, summary)
  if (folder / tasks.FOLDER).exists():
    (folder / tasks.FOLDER).rmtree()
  return summary


def scan(data: ml_collections.ConfigDict) -> pipeline.Plan:
  """What becomes of the records in the files that `data` names."""
  records = {
    kind: sources.Source(data[kind], kind, k_max=data.k_max)
    for kind in _named(data)
  }
  progress.say("cleaning")
  return pipeline.scan(records, hygiene.settings_of(data))


def _records(
  plan: pipeline.Plan, kind: str
) -> building.Records | building.Texts:
  if kinds.KINDS[kind].is_stream:
    return pipeline.bundles(plan, kind)
  return pipeline.stream(plan, kind)


def repair(
  data: ml_collections.ConfigDict,
  folders: Mapping[str, os.PathLike | str],
  kind: str,
  split: str,
) -> None:
  """Makes what of a split is damaged in a data set again, and nothing else.

  Raises UserError where it is and the files that it was made of are not there
  any more, or not as they were.
  """
  folder = epath.Path(folders.get("data", ""))
  if "data" not in folders or kind in folders:
    return
  if not catalogue.exists(folder, kind):
    return
  damaged = building.damaged(folder, kind, split)
  if not damaged:
    return
  number = len(damaged)
  _log.warning(
    "%s: %d damaged, made again: %s", folder, number, ", ".join(damaged)
  )
  inputs = _read_summary(folder, data).get("inputs", {})
  try:
    is_same = inputs == fingerprint.of(data)
  except errors.UserError:
    is_same = False
  if not is_same:
    raise errors.UserError(
      f"{folder / damaged[0]}: damaged, and cannot be made again:"
      f" data.{kind} ({data[kind]}) is not there any more as it was. Put it"
      f" back, or delete {folder / SUMMARY_FILE} to have all built anew"
    )
  with pool.Team(data, folder) as team:
    job = building.Job(data, tokenizers.load(folder), folder, team)
    records = _records(scan(data), kind)
    building.repair(job, kind, records, split, _sizes(folder))


def _sizes(folder: epath.Path) -> dict[str, int] | None:
  """The bytes of pieces that a data set was built with, if it says so."""
  sizes = _read(folder / BEGUN_FILE).get("of", {}).get("piece")
  return dict(zip(kinds.SPLITS, sizes, strict=True)) if sizes else None


def mend(config: ml_collections.ConfigDict, folder: os.PathLike | str) -> None:
  """Makes what is damaged of a finished data set again; says what that was.

  Raises as `build`.
  """
  if not _read_summary(epath.Path(folder), config.data):
    _log.warning(
      "%s: %s, the tokenizer or a list of shards is damaged; what is not whole"
      " is made again",
      *(folder, SUMMARY_FILE),
    )
  build(config, folder)


def _named(data: ml_collections.ConfigDict) -> list[str]:
  return [kind for kind in kinds.KINDS if data[kind]]


class _Counter:
  """Moves a line on by what was done, within a kind's share of it."""

  def __init__(self, line: progress.Progress, first: float, last: float):
    self._line, self._first, self._last = line, first, last
    self._bytes = 0

  def add(self, size: int) -> None:
    """So many bytes of records more are done."""
    self._bytes += size
    there = self._first + self._bytes / 1e6
    self._line.update(int(min(there, self._last)))


def _megabytes(spec: str) -> float:
  """The size of what a spec names, about, as it is when it is read."""
  size = 0.0
  for path in specs.paths(spec):
    is_small = str(path).endswith((*compressed.ENDINGS, ".parquet"))
    size += path.stat().length * (_EXPANDS if is_small else 1)
  return size / 1e6


def _begin(folder: epath.Path, inputs: dict[str, Any]) -> None:
  """Keeps what a build of the same has done; removes what another wrote."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / SUMMARY_FILE).unlink(missing_ok=True)
  sizes = [building.piece_size(split) for split in kinds.SPLITS]
  begun = {"inputs": inputs, "piece": sizes, "format": shards.VERSION}
  if _read(folder / BEGUN_FILE).get("of") == begun:
    return
  _clear(folder)
  storage.write_json(folder / BEGUN_FILE, {"of": begun})


def _clear(folder: epath.Path) -> None:
  """Removes what was built of people's files but for the tokenizer."""
  (folder / BEGUN_FILE).unlink(missing_ok=True)
  for kind in kinds.KINDS:
    if (folder / kind).exists():
      (folder / kind).rmtree()
    for split in kinds.SPLITS:
      building.lines_path(folder, kind, split).unlink(missing_ok=True)


def _tokenizer(
  data: ml_collections.ConfigDict,
  folder: epath.Path,
  plan: pipeline.Plan,
) -> tokenizers.Tokenizer:
  """The tokenizer: what an earlier start has made, or a new one."""
  begun = _read(folder / BEGUN_FILE)
  info = folder / "tokenizer" / tokenizers.INFO_FILE
  if info.exists() and storage.digest(info) == begun.get("tokenizer"):
    # What is damaged is made again, the same.
    with contextlib.suppress(errors.UserError):
      return tokenizers.load(folder)
  tokenizer, text = _new_tokenizer(data, folder, plan)
  begun["tokenizer_text"] = text
  begun["tokenizer"] = storage.digest(info)
  storage.write_json(folder / BEGUN_FILE, begun)
  interrupt.check()
  return tokenizer


def _new_tokenizer(
  data: ml_collections.ConfigDict, folder: epath.Path, plan: pipeline.Plan
) -> tuple[tokenizers.Tokenizer, dict[str, int]]:
  """A tokenizer, and how much text it was trained on, of how much."""
  if data.tokenizer.startswith(fingerprint.IMPORTED):
    tokenizer = tokenizers.load(
      data.tokenizer.removeprefix(fingerprint.IMPORTED), start=data.start
    )
    tokenizer.save(folder / "tokenizer")
    return tokenizer, {}
  if data.tokenizer == "byte":
    sample: sampling.Sample[str] = sampling.Sample([], 0, 0, 0)
  else:
    sample = _engine.sample(data, plan)
  progress.say("tokenizer learns")
  if not sample.is_whole:
    _check_sample(data, sample)
  tokenizer = tokenizers.train(
    sample.items,
    folder / "tokenizer",
    kind=data.tokenizer,
    vocab_size=data.vocab_size,
    start=data.start,
  )
  return tokenizer, {
    "documents": len(sample.items),
    "characters": sample.size,
    "of_documents": sample.seen,
    "of_characters": sample.seen_size,
  }


def _check_sample(
  data: ml_collections.ConfigDict, sample: sampling.Sample[str]
) -> None:
  """Says that a tokenizer learns from a part; UserError where it must not."""
  if data.tokenizer == "word":
    raise errors.UserError(
      f"data.tokenizer=word: no word may be lost, and the text has"
      f" {sample.seen_size:,} characters, more than data.tokenizer_sample"
      f" ({data.tokenizer_sample:,}) that are held; name unigram or bpe, or"
      " raise it"
    )
  _log.warning(
    "the tokenizer is trained on a uniform sample of the text, %s of %s"
    " characters (data.tokenizer_sample)",
    f"{sample.size:,}",
    f"{sample.seen_size:,}",
  )


def _training_text(plan: pipeline.Plan) -> Iterator[str]:
  for kind in plan.records:
    if kinds.KINDS[kind].is_stream:
      for sides, texts in pipeline.bundles(plan, kind):
        for n in np.flatnonzero(sides == _TRAIN).tolist():
          yield texts.text(n)


@contextlib.contextmanager
def _forgotten(folder: epath.Path) -> Iterator[None]:
  """Where what was built shows that the input is wrong, no start needs it."""
  try:
    yield
  except errors.UserError:
    _clear(folder)
    raise


def _figures(
  job: building.Job,
  plan: pipeline.Plan,
  kind: str,
  splits: Mapping[str, catalogue.Split],
) -> dict[str, Any]:
  """Counts of a kind by split, packed ones beside, lengths, cleaning.

  Raises UserError where a split that is asked for has no row.
  """
  data = job.data
  _check_telling(data, kind, splits, plan.counts[kind])
  counts: dict[str, Any] = {}
  for split, found in splits.items():
    building.check_split(data, kind, split, found)
    if not found.records and not building.share(data, split):
      counts[split] = {"records": 0, "rows": 0}
      continue
    of_split = found.finished(shards.ROWS)
    counts[split] = {"records": found.records} | of_split
    if shards.PACKED in found.counts:
      counts[split]["packed"] = found.finished(shards.PACKED)
  if not kinds.KINDS[kind].is_stream:
    lengths = limits.merged(found.lengths for found in splits.values())
    sizes = lengths.pop(encoding.SEVERAL, None)
    if sizes is not None and (line := limits.check_memory(sizes, data)):
      _log.warning("%s", line)
    counts["tokens"] = {
      name: _percentiles(of) for name, of in lengths.items() if len(of)
    }
  return counts | {"cleaning": plan.counts[kind]}


def _percentiles(lengths: histograms.Histogram) -> dict[str, int]:
  return {
    name: int(np.round(lengths.between(percent)))
    for name, percent in _PERCENTILES
  }


def _check_telling(
  data: ml_collections.ConfigDict,
  kind: str,
  splits: Mapping[str, catalogue.Split],
  counts: Mapping[str, int],
) -> None:
  """Raises UserError where a split is empty and records said nothing."""
  tied = counts.get("says_nothing", 0)
  empty = [
    split
    for split, found in splits.items()
    if building.share(data, split) and not found.records
  ]
  if tied and empty:
    left = (
      f"the {empty[0]} split is empty" if counts["kept"] else "none is left"
    )
    raise errors.UserError(
      f"data.{kind} ({data[kind]}): {tied:,} of {counts['read']:,} rankings tie"
      f" all their responses, so {left};"
      " more that order two are needed"
    )


def _read(path: epath.Path) -> dict[str, Any]:
  """A JSON object; {} where there is none that can be read."""
  try:
    return storage.read_json(path)
  except errors.UserError:
    return {}


def _read_summary(
  folder: epath.Path, data: ml_collections.ConfigDict
) -> dict[str, Any]:
  """What a build wrote last; {} where it can tell no more what is there."""
  try:
    summary = storage.read_json(folder / SUMMARY_FILE)
    tokenizers.load(folder)
    for kind in _named(data):
      catalogue.read(folder, kind)
  except errors.UserError:
    return {}
  return summary
