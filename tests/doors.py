"""Command lines, each in a process of its own that has imported jax already.

A process imports what the doors need, but no door, and forks for every command;
the fork runs the door's module as `python -m` does. It has no thread and no
device yet, so it is what a fresh process would be after its imports, which take
three of the five seconds that a short command takes.
"""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]

PROGRAM = '''
import importlib, io, json, os, runpy, signal, sys, traceback, warnings
warnings.simplefilter("ignore")  # of forking with jax imported
for name in """
  experiments.common jax ml_dtypes sacrebleu
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
  devices = command["environment"].get("JAX_NUM_CPU_DEVICES")
  if devices:  # which jax has read when it was imported
    sys.modules["jax"].config.update("jax_num_cpu_devices", int(devices))
  signal.signal(signal.SIGINT, signal.default_int_handler)
  for number, path in enumerate([os.devnull, *command["outputs"]]):
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND
    os.dup2(os.open(path, flags), number)
  sys.stdin, sys.stdout, sys.stderr = (
    io.TextIOWrapper(
      open(number, mode, closefd=False),
      encoding="utf-8",
      line_buffering=number == 2,
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
  sys.exit(code)  # as every process ends, with what libraries do then

tasks = "/proc/self/task"  # of whatever language; where there is Linux
assert not os.path.isdir(tasks) or len(os.listdir(tasks)) == 1
print("ready", flush=True)
for line in sys.stdin:
  asked = json.loads(line)
  if isinstance(asked, int):
    child, status = os.waitpid(asked, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status) if child else None
    print(json.dumps(code), flush=True)
  else:
    child = os.fork()
    if not child:
      be(asked)
    print(child, flush=True)
'''


@dataclasses.dataclass(frozen=True)
class Done:
  """How a command ended, and what it said."""

  code: int
  out: str
  err: str


class Started:
  """A command that goes on, or has ended."""

  def __init__(self, doors: "Doors", pid: int, out: pathlib.Path):
    self.pid = pid
    self.returncode: int | None = None  # -N: ended by the signal N
    self._doors, self._out = doors, out

  def poll(self) -> int | None:
    """Its exit code, None while it goes on."""
    if self.returncode is None:
      self.returncode = self._doors.ask(self.pid)
    return self.returncode

  def wait(self, timeout: float = 900) -> int:
    """Its exit code; raises subprocess.TimeoutExpired after so many seconds."""
    end = time.monotonic() + timeout
    while self.poll() is None:
      if time.monotonic() > end:
        raise subprocess.TimeoutExpired("a command", timeout)
      time.sleep(0.02)
    assert self.returncode is not None
    return self.returncode

  def communicate(self, timeout: float = 900) -> tuple[str, None]:
    """What it has said when it has ended; as `wait`."""
    self.wait(timeout)
    return self.output(), None

  def output(self) -> str:
    """What it has said up to now; of both streams, where they are one."""
    return self._out.read_text()

  def send_signal(self, number: int) -> None:
    """Nothing where it has ended."""
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self) -> None:
    """SIGKILL; nothing where it has ended."""
    self.send_signal(signal.SIGKILL)


class Doors:
  """Runs commands in a folder."""

  def __init__(self, process: subprocess.Popen, scratch: pathlib.Path):
    self._process, self._scratch = process, scratch
    self._numbers = itertools.count()

  def run(self, folder: pathlib.Path, *arguments: str, **environment) -> Done:
    """`python -m` with these arguments, given in `folder`, to its end."""
    out, err = self._files("out", "err")
    started = self._start(folder, arguments, environment, [out, err])
    code = started.wait(24 * 3600)
    return Done(code, out.read_text(), err.read_text())

  def start(
    self,
    folder: pathlib.Path,
    *arguments: str,
    out: pathlib.Path | None = None,
    **environment,
  ) -> Started:
    """The same under way; both of its streams go to one file, which is new."""
    if out is None:
      (out,) = self._files(f"out-{next(self._numbers)}")
    out.write_bytes(b"")
    return self._start(folder, arguments, environment, [out, out])

  def ask(self, asked):
    """What the process that forks answers."""
    self._process.stdin.write(json.dumps(asked) + "\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def _files(self, *names):
    files = [self._scratch / name for name in names]
    for path in files:
      path.write_bytes(b"")
    return files

  def _start(self, folder, arguments, environment, outputs):
    command = {
      "folder": str(folder),
      "arguments": arguments,
      "environment": environment,
      "outputs": [str(path) for path in outputs],
    }
    return Started(self, self.ask(command), outputs[0])


@functools.cache
def house(number: int = 0) -> Doors:
  """Doors for all tests of this process, closed when it ends.

  Those of two numbers hash words differently, as two processes do: they walk
  through sets in different orders.
  """
  scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
  stack = contextlib.ExitStack()
  folder = pathlib.Path(stack.enter_context(scratch))
  atexit.register(stack.close)
  return stack.enter_context(opened(folder))


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
      "OMP_NUM_THREADS": "1",  # no thread of a library's
      "HOME": str(scratch),
    },
  )
  try:
    assert process.stdout.readline() == "ready\n"
    yield Doors(process, scratch)
  finally:
    process.stdin.close()
    process.wait(timeout=60)
