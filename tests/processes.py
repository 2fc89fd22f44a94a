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
  """What a child process needs to know."""
  kept = ("PATH", "HOME", "TMPDIR")
  return {
    **{name: os.environ[name] for name in kept if name in os.environ},
    **{k: v for k, v in os.environ.items() if k.startswith("JAX_COMPILATION")},
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    **more,
  }


def together(
  program: str, *rest: str, count: int = 2, devices: int = 1
) -> list[str]:
  """The output of each of `count` processes of one job; all must succeed."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  code = START + program
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
      env=environment(),
    )
    for rank in range(count)
  ]
  try:
    outputs = [process.communicate(timeout=400) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, problems) in zip(processes, outputs):
    assert process.returncode == 0, problems
  return [output for output, _ in outputs]
