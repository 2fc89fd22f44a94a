"""Times a data set of much text, and looks at the memory that it takes.

  python -m benchmarks.data_scale --folder=/tmp/scale --out=FILE

For each of `--megabytes`: seeded text of that size is written, a data set is
built of it in a process of its own, and its rows are read in random order. What
is reported:

  peak_mb           the most memory of the build, all its processes together
                    (resident; pages that they share count several times), and
                    the most of the one that reads and of one that makes shards
  tokens_per_s      from text to shards; what goes before, digests of the files,
                    the training of a tokenizer and, beside that, the start of
                    the processes, is in `seconds` only
  tokenizer_alone   tokens a second of a process a core that does nothing but
                    `encode_batch` of the same texts in memory, one thread each
                    as in the build, which is stopped meanwhile
  share_of_it       the build's part of that; by_cpu: by seconds of the CPU,
                    which tells more where other work goes on beside; of_arrays:
                    of `encode_arrays`, which the build calls, in place of
                    `encode_batch`
  rows_per_s        of batches of rows in random order, from files

`others` are tokenizers for which the first size is measured too, `hf:/path` as
well.

The text and the data sets are deleted again.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import ml_collections
from absl import flags

from benchmarks import made_text
from experiments import common
from instruct_jax import tokenizers
from instruct_jax.base import claims, command, errors, storage, terminal
from instruct_jax.data import building, prepare
from instruct_jax.data.batch import loader

_FOLDER = flags.DEFINE_string("folder", "", "Where there is room; required.")
_SIZES = flags.DEFINE_list("megabytes", ["200", "2000"], "Sizes of the text.")
_ALONE = flags.DEFINE_integer("alone", 24, "MB a process tokenises alone.", 1)
_ROW = flags.DEFINE_integer("row_length", 512, "data.row_length.", 1)
_VOCABULARY = flags.DEFINE_integer("vocab_size", 8000, "data.vocab_size.", 300)
_TOKENIZER = flags.DEFINE_string("tokenizer", "unigram", "data.tokenizer.")
_OTHERS = flags.DEFINE_list("others", [], "More of them, for the first size.")
_SAMPLE = flags.DEFINE_integer("sample", 32_000_000, "data.tokenizer_sample.")
_BUILD = flags.DEFINE_string("build", "", "(Used by itself.)")
_OUT = flags.DEFINE_string("out", "", "Where to write the results as JSON.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is there.")

_SLICE = 40.0  # seconds of a build between two looks at the tokenizer alone
_SELF = ("-m", "benchmarks.data_scale")
_EVERY = 0.1  # seconds between two looks at the memory


def write_head(text: pathlib.Path, to: pathlib.Path, megabytes: float) -> None:
  """The documents of a text that so many MB of it begin with.

  Other words would not do: a tokenizer makes twice the tokens of words that it
  was not trained on, in the same time.
  """
  with open(text, "rb") as file:
    head = file.read(int(megabytes * 1e6))
  to.write_bytes(head[: head.rindex(b"\n\n")])


class _Memory:
  """The most memory that a process and all below it take together."""

  def __init__(self, pid: int):
    self.peak = self.main = self.worker = 0  # bytes
    self._pid, self._ended = pid, threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()

  def close(self) -> dict[str, int]:
    """Ends it; the peaks."""
    self._ended.set()
    self._thread.join()
    peaks = {"peak": self.peak, "main": self.main, "worker": self.worker}
    return {f"{name}_mb": round(peak / 1e6) for name, peak in peaks.items()}

  def _look(self) -> None:
    while not self._ended.wait(_EVERY):
      main, *workers = map(_resident, _tree(self._pid))
      self.peak = max(self.peak, main + sum(workers))
      self.main = max(self.main, main)
      self.worker = max(self.worker, *workers, 0)


def _tree(pid: int) -> Iterator[int]:
  yield pid
  try:
    for task in os.listdir(f"/proc/{pid}/task"):
      children = pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text()
      for child in children.split():
        yield from _tree(int(child))
  except OSError:  # It has just ended.
    return


def _cpu_seconds() -> float:
  """What this process and all below it have had, those that ended too."""
  clock = 0
  for pid in _tree(os.getpid()):
    with contextlib.suppress(OSError):
      told = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
      clock += sum(map(int, told.split()[11:15]))
  return clock / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
  try:
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
  except OSError:
    return 0
  return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _config(text: pathlib.Path, tokenizer: str) -> ml_collections.ConfigDict:
  data = common.data("files")
  data.update(
    {
      "pretraining": str(text),
      "row_length": _ROW.value,
      "vocab_size": _VOCABULARY.value,
      "tokenizer": tokenizer,
      "tokenizer_sample": _SAMPLE.value,
    }
  )
  return data


def _build(text: str, out: str) -> None:
  """Builds, in a process that is measured; says how long what took."""
  make, taken = building.build, []

  def timed(*arguments, **options):
    start, before = time.perf_counter(), _cpu_seconds()
    made = make(*arguments, **options)
    taken.append(time.perf_counter() - start)
    taken.append(_cpu_seconds() - before)
    return made

  building.build = timed
  data = _config(pathlib.Path(text), _TOKENIZER.value)
  config = ml_collections.ConfigDict({"data": data})
  start = time.perf_counter()
  summary = prepare.build(config, out)
  seconds = time.perf_counter() - start
  tokens = sum(
    summary["pretraining"][split]["tokens"]
    for split in ("train", "validation", "test")
  )
  names = ("s", "shards_s", "cpu_s", "tokens")
  print(json.dumps(dict(zip(names, (seconds, *taken, tokens)))))


def _measured(
  text: pathlib.Path, part: pathlib.Path, out: pathlib.Path, tokenizer: str
) -> tuple[dict[str, float], list[dict[str, float]]]:
  """A build in a process of its own, and the rates of the tokenizer alone.

  The build is stopped while those are measured, so that whatever else the
  machine does falls on both.
  """
  arguments = [f"--build={text}", f"--folder={out}"]
  arguments += [f"--row_length={_ROW.value}"]
  arguments += [f"--vocab_size={_VOCABULARY.value}"]
  arguments += [f"--tokenizer={tokenizer}", f"--sample={_SAMPLE.value}"]
  process = subprocess.Popen(
    [sys.executable, *_SELF, *arguments],
    stdout=subprocess.PIPE,
    text=True,
  )
  memory, alone, stopped = _Memory(process.pid), [], 0.0
  while process.poll() is None:
    began = time.perf_counter()
    while time.perf_counter() - began < _SLICE / (1 if alone else 10):
      if process.poll() is not None:
        break
      time.sleep(_EVERY)
    if process.poll() is not None or not _has_tokenizer(out):
      continue
    began, tree = time.perf_counter(), list(_tree(process.pid))
    _signal(tree, signal.SIGSTOP)
    alone.append(_tokenizer_alone(out, part))
    _signal(tree, signal.SIGCONT)
    stopped += time.perf_counter() - began
  peaks = memory.close()
  if process.returncode:
    raise SystemExit(process.returncode)
  assert process.stdout is not None
  told = json.loads(process.stdout.read().splitlines()[-1])
  alone.append(_tokenizer_alone(out, part))
  told["s"] -= stopped
  told["shards_s"] -= stopped
  return told | peaks, alone


def _has_tokenizer(out: pathlib.Path) -> bool:
  path = out / prepare.BEGUN_FILE
  return path.exists() and "tokenizer" in json.loads(path.read_text())


def _signal(tree: list[int], number: int) -> None:
  for pid in tree:
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, number)


_ALONE_CODE = """
import json, os, sys, time
from instruct_jax import tokenizers
tokenizer = tokenizers.load(sys.argv[1])
texts = open(sys.argv[2], encoding="utf-8").read().split("\\n\\n")
texts = texts[int(sys.argv[3]) :: int(sys.argv[4])]
print("ready", flush=True)
said = {}
for name in ("encode_batch", "encode_arrays"):
  encode, tokens = getattr(tokenizer, name), 0
  sys.stdin.readline()
  start, before = time.perf_counter(), time.process_time()
  for n in range(0, len(texts), 1024):
    tokens += sum(map(len, encode(texts[n : n + 1024])))
  seconds, cpu = time.perf_counter() - start, time.process_time() - before
  said |= {name: tokens / seconds, name + "_cpu": tokens / cpu}
print(json.dumps(said), flush=True)
"""


def _tokenizer_alone(out: pathlib.Path, part: pathlib.Path) -> dict[str, float]:
  """Tokens a second of a process a core, all at once; and by CPU second."""
  count = len(os.sched_getaffinity(0))
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, "-c", _ALONE_CODE),
        *(str(out), str(part), str(n), str(count)),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
    )
    for n in range(count)
  ]
  for process in processes:
    process.stdout.readline()
  with concurrent.futures.ThreadPoolExecutor(count) as threads:
    told = threads.map(lambda process: process.communicate("\n\n"), processes)
    said = [json.loads(out) for out, _ in told]
  return {
    name: sum(each[name] for each in said) / (count if "_cpu" in name else 1)
    for name in said[0]
  }


def _reading(
  out: pathlib.Path, data: ml_collections.ConfigDict
) -> dict[str, float]:
  """Rows a second of random batches, each layout's."""
  tokenizer = tokenizers.load(out)
  found = {}
  for packed in (False, True):
    rows = loader.make(
      data, tokenizer, "pretraining", "train", {"data": out}, packed=packed
    )
    batches = loader.Batches({"pretraining": rows}, {"pretraining": 32}, seed=0)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 5:
      count += len(next(batches)["pretraining"]["tokens"])
    rate = count / (time.perf_counter() - start)
    batches.close()
    found["packed_rows_per_s" if packed else "rows_per_s"] = round(rate)
  return found


def measure(
  folder: pathlib.Path, megabytes: float, tokenizer: str
) -> dict[str, float]:
  """What is to be known of one size and one tokenizer."""
  text, part, out = folder / "text.txt", folder / "part.txt", folder / "set"
  try:
    made_text.write(text, megabytes)
    write_head(text, part, _ALONE.value * len(os.sched_getaffinity(0)))
    built, alone = _measured(text, part, out, tokenizer)
    tokens = built["tokens"]
    rate, by_cpu = tokens / built["shards_s"], tokens / built["cpu_s"]
    middle = {
      name: statistics.median(x[name] for x in alone) for name in alone[0]
    }
    written = [path for path in out.glob("**/*") if path.is_file()]
    return {
      "megabytes": megabytes,
      "tokens": tokens,
      "peak_mb": built["peak_mb"],
      "main_mb": built["main_mb"],
      "worker_mb": built["worker_mb"],
      "seconds": round(built["s"], 1),
      "tokens_per_s": round(rate),
      "tokenizer_alone": round(middle["encode_batch"]),
      "share_of_it": round(rate / middle["encode_batch"], 3),
      "share_of_arrays": round(rate / middle["encode_arrays"], 3),
      "tokens_per_cpu_s": round(by_cpu),
      "alone_per_cpu_s": round(middle["encode_batch_cpu"]),
      "arrays_per_cpu_s": round(middle["encode_arrays_cpu"]),
      "share_by_cpu": round(by_cpu / middle["encode_batch_cpu"], 3),
      "share_of_arrays_by_cpu": round(by_cpu / middle["encode_arrays_cpu"], 3),
      "shards": len(list(out.glob("*/rows/*/*array_record*"))),
      "disk_mb": round(sum(path.stat().st_size for path in written) / 1e6),
      **_reading(out, _config(text, tokenizer)),
    }
  finally:
    for path in (text, part):
      path.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)


def main(argv: list[str]) -> None:
  """Prints a table and writes it as JSON."""
  del argv
  if not _FOLDER.value:
    raise errors.UserError("give --folder=FOLDER, where there is room")
  if _BUILD.value:
    _build(_BUILD.value, _FOLDER.value)
    return
  if _OUT.value:
    claims.claim(_OUT.value, overwrite=_OVERWRITE.value)
  folder = pathlib.Path(_FOLDER.value)
  folder.mkdir(parents=True, exist_ok=True)
  name, sizes = _TOKENIZER.value, [float(size) for size in _SIZES.value]
  found = [measure(folder, size, name) for size in sizes]
  others = {name: measure(folder, sizes[0], name) for name in _OTHERS.value}
  rows = [(name, x) for x in found] + list(others.items())
  terminal.table(
    [[name, *x.values()] for name, x in rows], ["tokenizer", *found[0]]
  )
  if _OUT.value:
    settings = {
      "machine": f"{platform.machine()}, {os.cpu_count()} cores",
      "tokenizer": f"{_TOKENIZER.value}, {_VOCABULARY.value} pieces",
      "row_length": _ROW.value,
      "tokenizer_sample": _SAMPLE.value,
    }
    others = {pathlib.Path(name).name: x for name, x in others.items()}
    storage.write_json(
      _OUT.value, settings | {"sizes": found, "others": others}
    )
    claims.sign(_OUT.value)


if __name__ == "__main__":
  command.run_main(main)
