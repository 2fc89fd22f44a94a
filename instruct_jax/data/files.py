"""The data set of the `:files` variants: people's own files, made ready.

`build` reads and checks every file that `config.data` names, splits it, trains
the tokenizer on the training text and writes, in the data set's folder:

  tokenizer/
  pretraining-{train,validation,test}.npy   the text's tokens
  summary.json   what was read, kept, dropped and cut, how long the texts are
                 in tokens, and digests of the files

summary.json comes last and says that the rest is complete.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax import errors, interrupt, tokenizers
from instruct_jax.data import batches, sources

SUMMARY_FILE = "summary.json"
_SETTINGS = (
  "template",
  "prompt_length",
  "response_length",
  "row_length",
  "k_max",
  "vocab_size",
  "tokenizer",
  "validation_fraction",
  "test_fraction",
)


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
  inputs = fingerprint(data)
  done = _read_summary(folder)
  if done.get("inputs") == inputs:
    return done
  folder.mkdir(parents=True, exist_ok=True)
  (folder / SUMMARY_FILE).unlink(missing_ok=True)
  records = {
    kind: _by_split(data, kind) for kind in sources.KINDS if data[kind]
  }
  _check_one_side(records)
  interrupt.check()
  tokenizer = tokenizers.train(
    (record["text"] for record in records["pretraining"]["train"]),
    folder / "tokenizer",
    kind=data.tokenizer,
    vocab_size=data.vocab_size,
  )
  summary = {
    "inputs": inputs,
    "vocab_size": tokenizer.vocab_size,
    "vocab_size_asked": data.vocab_size,
  }
  for kind, by_split in records.items():
    interrupt.check()
    summary[kind] = _count(data, tokenizer, kind, by_split, folder)
  part = folder / f".{SUMMARY_FILE}.part"
  part.write_text(json.dumps(summary, indent=2) + "\n")
  part.replace(folder / SUMMARY_FILE)
  return summary


def fingerprint(data: ml_collections.ConfigDict) -> dict[str, Any]:
  """What the data set depends on: settings, and digests of all files."""
  files = {
    kind: {str(path): _digest(path) for path in sources.paths(data[kind])}
    for kind in sources.KINDS
    if data[kind]
  }
  return {**{name: data[name] for name in _SETTINGS}, "files": files}


def _by_split(
  data: ml_collections.ConfigDict, kind: str
) -> dict[str, list[sources.Record]]:
  by_split = {split: [] for split in sources.SPLITS}
  for record in sources.read(data[kind], kind, k_max=data.k_max):
    by_split[sources.in_split(data, record)].append(record)
  return by_split


def _check_one_side(
  records: dict[str, dict[str, list[sources.Record]]],
) -> None:
  """A prompt must not be trained on in one file and tested on in another."""
  seen = {}
  for kind, by_split in records.items():
    for split, rows in by_split.items():
      for row in rows if kind != "pretraining" else ():
        first = seen.setdefault(row["prompt"], (split, kind))
        if first[0] != split:
          raise errors.UserError(
            f"the prompt {row['prompt'][:60]!r} is in the {first[0]} split of "
            f"data.{first[1]} and in the {split} split of data.{kind}; give "
            'it one "split" everywhere, or leave "split" out'
          )


def _count(
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  by_split: dict[str, list[sources.Record]],
  folder: epath.Path,
) -> dict[str, Any]:
  """Counts by split; every split that is asked for must have a row."""
  asked = {
    "train": 1.0,
    "validation": data.validation_fraction,
    "test": data.test_fraction,
  }
  counts = {}
  for split, records in by_split.items():
    where = f"the {split} split of data.{kind} ({data[kind]})"
    if kind == "pretraining":
      texts = (record["text"] for record in records)
      path = batches.stream_path(folder, split)
      batches.write_stream(path, batches.token_stream(texts, tokenizer))
    if not records and not asked[split]:
      counts[split] = {"records": 0, "rows": 0}
    elif kind == "pretraining":
      tokens = batches.read_stream(path)
      rows = batches.text_rows(tokens, data.row_length, where)
      counts[split] = {"records": len(records), **rows.counts}
    else:
      rows = batches.encode_records(records, data, tokenizer, kind, where)
      counts[split] = rows.counts
  if kind != "pretraining":
    counts["tokens"] = lengths(
      list(itertools.chain.from_iterable(by_split.values())), tokenizer
    )
  return counts


def lengths(
  records: Sequence[sources.Record], tokenizer: tokenizers.Tokenizer
) -> dict[str, dict[str, int]]:
  """Percentiles of the token counts of prompts and responses, uncut.

  They are what `data.prompt_length` (plus the template and one token) and
  `data.response_length` (plus one) are chosen by.
  """
  texts = {"prompt": [record["prompt"] for record in records], "response": []}
  for record in records:
    response = record.get("responses", record.get("response", []))
    texts["response"] += [response] if isinstance(response, str) else response
  found = {}
  for name, some in texts.items():
    counts = [len(row) for row in tokenizer.encode_batch(some)]
    if counts:
      at = np.percentile(counts, (50, 75, 90, 95, 99, 100)).round().astype(int)
      names = ("p50", "p75", "p90", "p95", "p99", "max")
      found[name] = dict(zip(names, at.tolist()))
  return found


def _read_summary(folder: epath.Path) -> dict[str, Any]:
  try:
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    tokenizers.load(folder)
  except (OSError, ValueError, errors.UserError):
    return {}
  streams = [batches.stream_path(folder, split) for split in sources.SPLITS]
  return summary if all(path.exists() for path in streams) else {}


def _digest(path: epath.Path) -> str:
  digest = hashlib.sha256()
  with path.open("rb") as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()
