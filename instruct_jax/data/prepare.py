"""The data set of the `:files` variants: people's own files, made ready.

`build` reads and checks every file that `config.data` names, cleans and splits
what is in them, trains the tokenizer on the training text (or takes the one of
`data.tokenizer = 'hf:/path'`) and writes, in the data set's folder:

  tokenizer/
  pretraining-{train,validation,test}.npy   the text's tokens; of a mixture,
                                            -0, -1, ... for each part
  KIND-{train,validation,test}.jsonl        the other kinds' records
  summary.json   what was read, kept, dropped and cut, how long the texts are
                 in tokens, the share of padding, and digests of the files

summary.json comes last and says that the rest is complete.
"""

import dataclasses
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, interrupt, progress, storage
from instruct_jax.data import fingerprint
from instruct_jax.data import summary as summary_lib
from instruct_jax.data.batch import encoding, limits, mixtures, streams
from instruct_jax.data.clean import hygiene, measures, pipeline, splits
from instruct_jax.data.read import kinds, sources

SUMMARY_FILE = "summary.json"
_log = logging.getLogger(__name__)


def build(
  config: ml_collections.ConfigDict, folder: os.PathLike | str
) -> dict[str, Any]:
  """Makes the data set of `config.data` in `folder`; returns its summary.

  Does nothing where the same files and settings have been built already, and
  starts anew where a build was broken off.

  Raises:
    UserError: a file is missing, empty or wrong (with file, line and key), or
      a split of it is left without a row.
  """
  data, folder = config.data, epath.Path(folder)
  sources.check(data)
  inputs = fingerprint.of(data)
  earlier = _read_summary(folder, data)
  if earlier.get("inputs") == inputs:
    return earlier
  _clear(folder)
  named = [kind for kind in kinds.KINDS if data[kind]]
  # Reading, the tokenizer, and a step each kind.
  with progress.Progress("dataset", 2 + len(named), even=False) as line:
    cleaned = clean(data)
    interrupt.check()
    line.advance()
    line.say("tokenizer")
    tokenizer = _tokenizer(data, folder, cleaned.by_split)
    line.advance()
    summary: dict[str, Any] = {
      "inputs": inputs,
      "vocab_size": tokenizer.vocab_size,
      "vocab_size_asked": data.vocab_size,
    }
    for kind, by_split in cleaned.by_split.items():
      _check_telling(data, kind, by_split, cleaned.counts[kind])
      interrupt.check()
      line.say(kind)
      is_stream = kinds.KINDS[kind].is_stream
      write = _write_text if is_stream else _write_records
      counts = write(data, tokenizer, kind, by_split, folder)
      summary[kind] = counts | {"cleaning": cleaned.counts[kind]}
      line.advance()
  summary["tables"] = summary_lib.tables(summary, data)
  storage.write_json(folder / SUMMARY_FILE, summary)
  return summary


def clean(data: ml_collections.ConfigDict) -> pipeline.Cleaned:
  """What the files that `data` names hold, cleaned and split."""
  records = {
    kind: sources.read(data[kind], kind, k_max=data.k_max)
    for kind in kinds.KINDS
    if data[kind]
  }
  progress.say("cleaning")
  names = (field.name for field in dataclasses.fields(hygiene.Settings))
  settings = {name: data[name] for name in names if name in data}
  return pipeline.clean(records, hygiene.Settings(**settings))


def _tokenizer(
  data: ml_collections.ConfigDict,
  folder: epath.Path,
  records: dict[str, splits.BySplit],
) -> tokenizers.Tokenizer:
  if data.tokenizer.startswith(fingerprint.IMPORTED):
    tokenizer = tokenizers.load(
      data.tokenizer.removeprefix(fingerprint.IMPORTED), start=data.start
    )
    tokenizer.save(folder / "tokenizer")
    return tokenizer
  return tokenizers.train(
    (
      record[kinds.KINDS[kind].key]
      for kind, by_split in records.items()
      if kinds.KINDS[kind].is_stream
      for record in by_split["train"]
    ),
    folder / "tokenizer",
    kind=data.tokenizer,
    vocab_size=data.vocab_size,
    start=data.start,
  )


def _clear(folder: epath.Path) -> None:
  """Removes what an earlier build wrote, its summary first."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / SUMMARY_FILE).unlink(missing_ok=True)
  for kind, ending in itertools.product(kinds.KINDS, ("jsonl", "npy")):
    for path in list(folder.glob(f"{kind}-*.{ending}")):
      path.unlink()


def _write_text(
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  by_split: splits.BySplit,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes the tokens of the text; counts by split, packed ones beside."""
  weights = mixtures.weights_of(data, kind, {})
  counts: dict[str, dict[str, Any]] = {}
  for split, records in by_split.items():
    paths = streams.paths(folder, kind, split, len(weights))
    for path, texts in zip(paths, streams.texts_of(records, len(weights))):
      streams.write_stream(path, streams.token_stream(texts, tokenizer))
    if not records and not _share(data, split):
      counts[split] = {"records": 0, "rows": 0}
      continue
    tokens = [streams.read_stream(path) for path in paths]
    plain, packed = (
      streams.text_rows(
        tokens,
        tokenizer,
        data.row_length,
        _where(data, kind, split),
        kind=kind,
        packed=packed,
      ).counts
      for packed in (False, True)
    )
    counts[split] = {"records": len(records), **plain, "packed": packed}
  return counts


def _write_records(
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  by_split: splits.BySplit,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes the records of a kind; counts by split, packed ones beside.

  Every split that is asked for must have a row.
  """
  longest = data.prompt_length + data.response_length
  can_pack = kinds.KINDS[kind].can_pack and longest <= data.row_length
  counts: dict[str, dict[str, Any]] = {}
  every = list(itertools.chain.from_iterable(by_split.values()))
  if kinds.KINDS[kind].has_several:
    response = kinds.KINDS[kind].response
    if warning := limits.check_memory(every, response, data):
      _log.warning("%s", warning)
  for split, records in by_split.items():
    kept = (kinds.written(record, kind) for record in records)
    lines = (json.dumps(record, ensure_ascii=False) for record in kept)
    storage.write_lines(folder / f"{kind}-{split}.jsonl", lines)
    if not records and not _share(data, split):
      counts[split] = {"records": 0, "rows": 0}
      continue
    arguments = records, data, tokenizer, kind, _where(data, kind, split)
    counts[split] = dict(encoding.encode_records(*arguments).counts)
    if can_pack:
      packed = encoding.encode_records(*arguments, packed=True)
      counts[split]["packed"] = dict(packed.counts)
  return counts | {"tokens": lengths(every, kind, tokenizer)}


def _check_telling(
  data: ml_collections.ConfigDict,
  kind: str,
  by_split: splits.BySplit,
  counts: Mapping[str, int],
) -> None:
  """Raises UserError where a split is empty and records said nothing."""
  tied = counts.get("says_nothing", 0)
  empty = [s for s in kinds.SPLITS if _share(data, s) and not by_split[s]]
  if tied and empty:
    left = (
      f"the {empty[0]} split is empty" if counts["kept"] else "none is left"
    )
    raise errors.UserError(
      f"data.{kind} ({data[kind]}): {tied:,} of {counts['read']:,} rankings tie"
      f" all their responses, so {left};"
      " more that order two are needed"
    )


def _where(data: ml_collections.ConfigDict, kind: str, split: str) -> str:
  return f"the {split} split of data.{kind} ({data[kind]})"


def _share(data: ml_collections.ConfigDict, split: str) -> float:
  """How much of the records a split should have; 1 for training."""
  shares = {
    "train": 1.0,
    "validation": data.validation_fraction,
    "test": data.test_fraction,
  }
  return shares[split]


def lengths(
  records: Sequence[kinds.Record], kind: str, tokenizer: tokenizers.Tokenizer
) -> dict[str, dict[str, int]]:
  """Percentiles of the token counts of prompts and responses, uncut.

  They are what `data.prompt_length` (plus the template and one token) and
  `data.response_length` (plus one) are chosen by.
  """
  percentiles = {}
  for name, texts in measures.texts_of(records, kind).items():
    counts = [len(row) for row in tokenizer.encode_batch(texts)]
    if counts:
      at = np.percentile(counts, (50, 75, 90, 95, 99, 100)).round().astype(int)
      names = ("p50", "p75", "p90", "p95", "p99", "max")
      percentiles[name] = dict(zip(names, at.tolist()))
  return percentiles


def _read_summary(
  folder: epath.Path, data: ml_collections.ConfigDict
) -> dict[str, Any]:
  """What an earlier build wrote last; {} where anything of it is missing."""
  try:
    summary = storage.read_json(folder / SUMMARY_FILE)
    tokenizers.load(folder)
  except errors.UserError:
    return {}
  written = []
  for kind, split in itertools.product(kinds.KINDS, kinds.SPLITS):
    if not data[kind]:
      continue
    if kinds.KINDS[kind].is_stream:
      parts = len(mixtures.weights_of(data, kind, {}))
      written += streams.paths(folder, kind, split, parts)
    else:
      written.append(folder / f"{kind}-{split}.jsonl")
  return summary if all(path.exists() for path in written) else {}
