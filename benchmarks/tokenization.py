"""Times tokenization: our `encode_batch` beside the library's own.

  python -m benchmarks.tokenization --tokenizer=FOLDER [--text=FILE]

Without a text, one is made up, the same every time. Both sides give lists of
ids for the same lines, in one process and turn by turn, so that whatever else
the machine does falls on both; who goes first changes with every turn. The
library is SentencePiece for tokenizers that it has made, `tokenizers` for all
others.
"""

import os
import platform
import random
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Sequence

import sentencepiece
import tokenizers as library
from absl import flags
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import claims, command, errors, storage, terminal

_TOKENIZER = flags.DEFINE_string("tokenizer", "", "A folder with a tokenizer.")
_TEXT = flags.DEFINE_string("text", "", "A file of plain text; '': made up.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each side.", 1)
_OUT = flags.DEFINE_string("out", "", "Where to write the results as JSON.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is there.")

_BATCH = 1024  # lines

Encode = Callable[[Sequence[str]], list[list[int]]]


def library_of(tokenizer: tokenizers.Tokenizer) -> tuple[str, Encode]:
  """The name of the library under a tokenizer, and its `encode_batch`."""
  with tempfile.TemporaryDirectory() as folder:
    tokenizer.save(folder)
    model = epath.Path(folder) / tokenizers.MODEL_FILE
    if model.exists() and tokenizer.kind != "hf":
      processor = sentencepiece.SentencePieceProcessor(
        model_proto=model.read_bytes()
      )
      return f"sentencepiece {sentencepiece.__version__}", processor.encode
    tokenizer.export(folder)
    made = library.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))

  def encode(texts):
    found = made.encode_batch(texts, add_special_tokens=False)
    return [one.ids for one in found]

  return f"tokenizers {library.__version__}", encode


def rates(
  sides: dict[str, Encode], batches: Sequence[list[str]], repeats: int
) -> dict[str, dict[str, float]]:
  """MB/s and tokens/s of each side, measured in turns; ids must agree.

  "time_ratio" is the median over the turns of a side's time by the last one's.
  """
  size = sum(len(text.encode()) for batch in batches for text in batch)
  found = {name: [] for name in sides}
  for turn in range(repeats + 1):
    ids = {}
    for name in sorted(sides, reverse=turn % 2):
      start = time.perf_counter()
      ids[name] = [sides[name](batch) for batch in batches]
      if turn:  # the first fills caches
        found[name].append(time.perf_counter() - start)
    ours, theirs = ids.values()
    if ours != theirs:
      raise errors.UserError(f"{' and '.join(sides)} give different ids")
  count = sum(len(row) for batch in ours for row in batch)
  last = found[list(sides)[-1]]
  return {
    name: {
      "MB_per_s": round(size / statistics.median(seconds) / 1e6, 2),
      "tokens_per_s": round(count / statistics.median(seconds)),
      "median_s": round(statistics.median(seconds), 4),
      "min_s": round(min(seconds), 4),
      "max_s": round(max(seconds), 4),
      "time_ratio": round(
        statistics.median(a / b for a, b in zip(seconds, last)), 3
      ),
    }
    for name, seconds in found.items()
  }


def made_up(lines: int = 8192) -> list[str]:
  """Lines of words that are spelled at random and used as Zipf has it."""
  draw = random.Random(0)
  letters = string.ascii_lowercase + "eeeaaooinstr" + "éüñжл日本"
  words = [
    "".join(draw.choices(letters, k=draw.randint(1, 10))) for _ in range(9999)
  ]
  weights = [1 / n for n in range(1, len(words) + 1)]
  return [
    " ".join(draw.choices(words, weights, k=draw.randint(0, 50))) + "."
    for _ in range(lines)
  ]


def _lines(path: str) -> list[str]:
  try:
    return epath.Path(path).read_text(encoding="utf-8").split("\n")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.UserError(f"--text={path}: {error}") from None


def main(argv: list[str]) -> None:
  """Prints the rates and writes them as JSON."""
  del argv
  if not _TOKENIZER.value:
    raise errors.UserError("--tokenizer=FOLDER says what to time")
  if _OUT.value:
    reads = [_TOKENIZER.value, _TEXT.value]
    claims.claim(_OUT.value, reads=reads, overwrite=_OVERWRITE.value)
  tokenizer = tokenizers.load(_TOKENIZER.value)
  lines = _lines(_TEXT.value) if _TEXT.value else made_up()
  batches = [lines[n : n + _BATCH] for n in range(0, len(lines), _BATCH)]
  name, encode = library_of(tokenizer)
  sides = {"instruct_jax": tokenizer.encode_batch, name: encode}
  found = rates(sides, batches, _REPEATS.value)
  table = [[side, *row.values()] for side, row in found.items()]
  terminal.table(table, ["side", *found[name]])
  if _OUT.value:
    result = {
      "machine": f"{platform.machine()}, {os.cpu_count()} cores",
      "tokenizer": tokenizer.kind,
      "vocab_size": tokenizer.vocab_size,
      "text": os.path.basename(_TEXT.value) or "made up",
      "bytes": sum(len(line.encode()) for line in lines),
      "lines": len(lines),
      "rates": found,
    }
    storage.write_json(_OUT.value, result)
    claims.sign(_OUT.value)


if __name__ == "__main__":
  command.run_main(main)
