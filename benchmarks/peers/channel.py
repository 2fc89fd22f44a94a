"""What a worker and the suite say to each other: JSON lines on stdin, stdout.

The worker says {"event": "ready", ...} when it has loaded its work; each line
"run" is answered with {"event": "done", "seconds", "cpu_seconds",
"peak_bytes", ...} of one run; "stop", or the end of the input, ends it. What
libraries print goes to stderr. Both sides' workers use this file, so it needs
nothing but Python.
"""

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

THREADS = 2  # of every side


def peak_bytes() -> int:
  """The most memory since `reset_peak`; of the whole process where Linux's
  /proc is not there."""
  try:
    with open("/proc/self/status") as file:
      for line in file:
        if line.startswith("VmHWM:"):
          return int(line.split()[1]) * 1024
  except OSError:
    pass
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
  """Forgets the peak so far, where the system can."""
  try:
    with open("/proc/self/clear_refs", "w") as file:
      file.write("5")
  except OSError:
    pass


def pin(threads: int = THREADS) -> None:
  """Keeps this process on so many cores, where the system can."""
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Channel:
  """The worker's end."""

  def __init__(self):
    self._out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    self._start = 0.0, 0.0

  def ready(self, **fields: Any) -> None:
    """Says that the work is loaded, and waits for the first run."""
    self._send("ready", fields)
    self._wait()

  def done(self, **fields: Any) -> None:
    """Says what a run took and gave, and waits for the next."""
    seconds, cpu = time.perf_counter(), time.process_time()
    clocks = {
      "seconds": seconds - self._start[0],
      "cpu_seconds": cpu - self._start[1],
      "peak_bytes": peak_bytes(),
    }
    self._send("done", clocks | fields)
    self._wait()

  def failed(self, error: BaseException) -> None:
    """Says why the worker ends."""
    lines = traceback.format_exception_only(error)
    self._send("failed", {"why": "".join(lines).strip()})

  def _send(self, event, fields):
    self._out.write(json.dumps({"event": event} | fields) + "\n")
    self._out.flush()

  def _wait(self):
    """Returns when the next run may begin; its clocks start."""
    if sys.stdin.readline().strip() != "run":
      raise SystemExit(0)
    reset_peak()
    self._start = time.perf_counter(), time.process_time()


def serve(workloads: dict[str, Callable[[dict, Channel], None]]) -> None:
  """Runs the workload that the command line names: NAME and its spec, a file.

  A workload calls `ready` once, then `done` after each run, until that raises
  SystemExit.
  """
  pin()
  channel = Channel()
  name = sys.argv[1]
  with open(sys.argv[2]) as file:
    spec = json.load(file)
  try:
    workloads[name](spec, channel)
  except SystemExit:
    raise
  except BaseException as error:
    traceback.print_exc()
    channel.failed(error)
    sys.exit(1)
