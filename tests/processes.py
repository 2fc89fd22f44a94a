"""Python programs that run at the same time, as the processes of one job."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Before each program: `rank`, `rest`, and JAX over all of them on the CPU.
START = """
import sys
import jax
port, count, rank, devices, *rest = sys.argv[1:]
rank = int(rank)
jax.config.update("jax_num_cpu_devices", int(devices))
jax.distributed.initialize(f"localhost:{port}", int(count), rank)
"""


def environment(**more: str) -> dict[str, str]:
  """What a child process needs to know; it compiles as the tests do."""
  kept = ("PATH", "HOME", "TMPDIR")
  return {
    **{name: os.environ[name] for name in kept if name in os.environ},
    **{
      name: value
      for name, value in os.environ.items()
      if name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT", "XLA_FLAGS"))
    },
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    **more,
  }


def free_port() -> int:
  """A port that nobody listens at."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def together(
  program: str,
  *rest: str,
  count: int = 2,
  devices: int = 1,
  seconds: float = 400,
  **more: str,
) -> list[str]:
  """The output of each of `count` processes of one job; all must succeed.

  `more` are variables of their environment.
  """
  port, code = free_port(), START + program
  processes = [
    subprocess.Popen(
      [
        sys.executable,
        "-c",
        code,
        *map(str, (port, count, rank, devices, *rest)),
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=environment(**more),
    )
    for rank in range(count)
  ]
  try:
    outputs = [process.communicate(timeout=seconds) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, problems) in zip(processes, outputs):
    assert process.returncode == 0, problems
  return [output for output, _ in outputs]


def job(
  folder: pathlib.Path,
  module: str,
  *arguments: str,
  count: int = 2,
  devices: int = 1,
  typed: str = "",
  more: tuple[str, ...] = (),
) -> list[tuple[int, str, str]]:
  """(exit code, stdout, stderr) of a command, of each of `count` processes.

  The first one reads what is `typed`, the last one has `more` arguments.
  """
  place = (f"--coordinator=localhost:{free_port()}", f"--processes={count}")
  started = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", f"instruct_jax.{module}", *arguments),
        *((*place, f"--process={index}") if count > 1 else ()),
        *(more if index == count - 1 else ()),
      ],
      cwd=folder,
      env=environment(INSTRUCT_JAX_CACHE="", JAX_NUM_CPU_DEVICES=str(devices)),
      stdin=subprocess.DEVNULL if index else subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]
  try:
    outputs = [
      each.communicate(typed if not index else None, timeout=400)
      for index, each in enumerate(started)
    ]
  finally:
    for each in started:
      each.kill()
  return [(p.returncode, *texts) for p, texts in zip(started, outputs)]
