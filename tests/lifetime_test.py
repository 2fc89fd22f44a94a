"""Seconds since the process was started, and to its first step."""

import subprocess
import sys
import time

from tests import processes


def test_the_imports_count():
  program = (
    "import time; time.sleep(0.5)\n"
    "from instruct_jax.base import lifetime\n"
    "print(lifetime.seconds(), lifetime.to_first_step(),"
    " lifetime.to_first_step())"
  )
  began = time.monotonic()
  said = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    check=True,
    env=processes.environment(),
  ).stdout.split()
  whole = time.monotonic() - began
  assert 0.5 < float(said[0]) <= float(said[1]) < whole + 0.1
  assert said[2] == "None"
