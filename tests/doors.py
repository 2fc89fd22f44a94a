"""Command lines, each in a process of its own that has imported jax already.

A process imports what the doors need, but no door, and forks once for every
command; the fork runs the door's module as `python -m` does. It has no thread
and no device yet, so it is what a fresh process would be after its imports.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]

PROGRAM = '''
import importlib, io, json, os, runpy, signal, sys, traceback, warnings
warnings.simplefilter("ignore")  # of forking with jax imported
for name in """
  experiments.common jax ml_dtypes rouge_score.rouge_scorer sacrebleu
  safetensors.numpy sentencepiece tokenizers
  instruct_jax.algorithms.ppo instruct_jax.data.inspect
  instruct_jax.data.public.convert instruct_jax.hf.llama2c
  instruct_jax.report.closing instruct_jax.runs.build instruct_jax.runs.chat
  instruct_jax.runs.exchange
""".split():
  importlib.import_module(name)

def be(command):
  os.chdir(command["folder"])
  os.environ.update(command["environment"])
  signal.signal(signal.SIGINT, signal.default_int_handler)
  for number, path in enumerate([os.devnull, *command["outputs"]]):
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
    os.dup2(os.open(path, flags), number)
  sys.stdin, sys.stdout, sys.stderr = (
    io.TextIOWrapper(
      open(number, mode, closefd=False), encoding="utf-8"
    )
    for number, mode in enumerate(("rb", "wb", "wb"))
  )
  module, *arguments = command["arguments"]
  sys.argv = ["-m", *arguments]
  sys.path[0] = command["folder"]
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as error:
    code = error.code or 0
  except BaseException:
    traceback.print_exc()
    code = 1
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)

print("ready", flush=True)
for line in sys.stdin:
  child = os.fork()
  if not child:
    be(json.loads(line))
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


@dataclasses.dataclass(frozen=True)
class Done:
  """How a command ended, and what it said."""

  code: int
  out: str
  err: str


class Doors:
  """Runs commands in a folder, one after another."""

  def __init__(self, process: subprocess.Popen, scratch: pathlib.Path):
    self._process, self._scratch = process, scratch

  def run(self, folder: pathlib.Path, *arguments: str, **environment) -> Done:
    """`python -m` with these arguments, given in `folder`."""
    outputs = [self._scratch / name for name in ("out", "err")]
    for path in outputs:
      path.write_bytes(b"")
    command = {
      "folder": str(folder),
      "arguments": arguments,
      "environment": environment,
      "outputs": [str(path) for path in outputs],
    }
    self._process.stdin.write(json.dumps(command) + "\n")
    self._process.stdin.flush()
    code = int(self._process.stdout.readline())
    return Done(code, *(path.read_text() for path in outputs))


@contextlib.contextmanager
def opened(scratch: pathlib.Path) -> Iterator[Doors]:
  """A process that runs commands; their outputs pass through `scratch`."""
  process = subprocess.Popen(
    [sys.executable, "-c", PROGRAM],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ
    | {
      "PYTHONPATH": str(ROOT),
      "JAX_PLATFORMS": "cpu",
      "INSTRUCT_JAX_CACHE": "",
      "HOME": str(scratch),
    },
  )
  try:
    assert process.stdout.readline() == "ready\n"
    yield Doors(process, scratch)
  finally:
    process.stdin.close()
    process.wait(timeout=60)
