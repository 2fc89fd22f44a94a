"""In a process of its own: what is freed is used again, not asked for anew."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from instruct_jax.base import allocation
if sys.argv[1] == "keep" and not allocation.keep():
  print(-1, 0)
  raise SystemExit
size = 200 << 20  # more than the 32 MB at which glibc's own limit ends

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  bytearray(size)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
  return int(open("/proc/self/statm").read().split()[1]) * 4096

faults()
again, before = faults(), held()
allocation.trim()
print(again, before - held())
"""


@pytest.mark.parametrize("mode", ["keep", "plain"])
def test_freed_memory_is_used_again(mode):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, mode],
    capture_output=True,
    text=True,
    check=True,
  )
  again, given_back = map(int, done.stdout.split())
  if again < 0:
    pytest.skip("a C library that cannot be told")
  if mode == "plain":
    assert again > 1000  # every page of 200 MB, or of huge ones
  else:
    assert again < 10
    assert given_back > 150 << 20
