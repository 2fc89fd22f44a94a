"""Times the batches of text and demonstrations, packed and not.

  python -m benchmarks.data_pipeline --demonstrations=FILE --pretraining=FILE \\
    --tokenizer=FOLDER

For each kind: tokens a second through `Batches`, all columns and the real ones
(padding left out), the share of padding, and the seconds that it takes to
tokenize and lay out the rows. Packed and unpacked are measured in turn, so that
what else the machine does falls on both.
"""

import os
import platform
import statistics
import time

import numpy as np
from absl import flags

from experiments import common
from instruct_jax import tokenizers
from instruct_jax.base import claims, command, errors, storage, terminal
from instruct_jax.data.batch import loader

_DEMONSTRATIONS = flags.DEFINE_string("demonstrations", "", "JSONL files.")
_PRETRAINING = flags.DEFINE_string("pretraining", "", "Text or JSONL files.")
_TOKENIZER = flags.DEFINE_string("tokenizer", "", "Its folder; '': bytes.")
_PROMPT = flags.DEFINE_integer("prompt_length", 128, "data.prompt_length.", 1)
_RESPONSE = flags.DEFINE_integer("response_length", 128, "The responses'.", 1)
_ROW = flags.DEFINE_integer("row_length", 512, "data.row_length.", 1)
_BATCH = flags.DEFINE_integer("batch", 16, "Rows a batch.", 1)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Seconds of a measurement.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.", 1)
_OUT = flags.DEFINE_string("out", "", "Where to write the results as JSON.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is there.")

_MASKS = ("is_token", "is_prompt", "is_response")


def measure(kind: str, path: str) -> dict[str, dict[str, float]]:
  """Rates and padding of one kind's batches, 'unpacked' and 'packed'."""
  data = common.data("files")
  data.update(
    {
      kind: path,
      "prompt_length": _PROMPT.value,
      "response_length": _RESPONSE.value,
      "row_length": _ROW.value,
      "validation_fraction": 0.0,
      "test_fraction": 0.0,
    }
  )
  tokenizer = tokenizers.ByteTokenizer()
  if _TOKENIZER.value:
    tokenizer = tokenizers.load(_TOKENIZER.value)
  found, opened = {}, {}
  for name, packed in (("unpacked", False), ("packed", True)):
    start = time.perf_counter()
    rows = loader.make(data, tokenizer, kind, "train", {}, packed=packed)
    found[name] = {
      "rows": len(rows),
      "padding": rows.counts["padding"],
      "make_s": round(time.perf_counter() - start, 3),
    }
    size = {kind: min(_BATCH.value, len(rows))}
    opened[name] = loader.Batches({kind: rows}, size, seed=0)
  rates = {name: [] for name in opened}
  for repeat in range(_REPEATS.value):
    order = list(opened) if repeat % 2 == 0 else list(opened)[::-1]
    for name in order:
      rates[name].append(_rate(opened[name], kind))
  for name, measured in rates.items():
    columns, real = zip(*measured)
    found[name] |= {
      "tokens_per_s": round(statistics.median(columns)),
      "real_tokens_per_s": round(statistics.median(real)),
      "real_tokens_per_s_min": round(min(real)),
      "real_tokens_per_s_max": round(max(real)),
    }
  return found


def _rate(data: loader.Batches, kind: str) -> tuple[float, float]:
  """(columns, real tokens) a second, for `--seconds`."""
  columns = real = 0
  start = time.perf_counter()
  while (seconds := time.perf_counter() - start) < _SECONDS.value:
    batch = next(data)[kind]
    masks = [batch[name] for name in _MASKS if name in batch]
    columns += sum(mask.size for mask in masks)
    real += sum(int(np.count_nonzero(mask)) for mask in masks)
  return columns / seconds, real / seconds


def main(argv: list[str]) -> None:
  """Prints a table and writes it as JSON."""
  del argv
  given = {
    "demonstrations": _DEMONSTRATIONS.value,
    "pretraining": _PRETRAINING.value,
  }
  given = {kind: path for kind, path in given.items() if path}
  if not given:
    raise errors.UserError("give --demonstrations=FILE, --pretraining=FILE")
  if _OUT.value:
    reads = [*given.values(), _TOKENIZER.value]
    claims.claim(_OUT.value, reads=reads, overwrite=_OVERWRITE.value)
  found = {kind: measure(kind, path) for kind, path in given.items()}
  table = [
    [kind, name, *values.values()]
    for kind, by_name in found.items()
    for name, values in by_name.items()
  ]
  names = next(iter(found.values()))["packed"]
  terminal.table(table, ["kind", "rows are", *names])
  if _OUT.value:
    settings = {
      "machine": f"{platform.machine()}, {os.cpu_count()} cores",
      "tokenizer": _TOKENIZER.value or "bytes",
      "prompt_length": _PROMPT.value,
      "response_length": _RESPONSE.value,
      "row_length": _ROW.value,
      "batch": _BATCH.value,
    }
    storage.write_json(_OUT.value, settings | found)
    claims.sign(_OUT.value)


if __name__ == "__main__":
  command.run_main(main)
