"""A worker that does nothing, for tests of the suite: a script of its own.

  python benchmarks_toys.py WORKLOAD SPEC

The spec says how many units each run has, and after how many it dies.
"""

import pathlib
import sys

PEERS = pathlib.Path(__file__).resolve().parents[1] / "benchmarks" / "peers"
sys.path.insert(0, str(PEERS))

import channel  # noqa: E402


def count(spec, link):
  """Runs of `units` units; the one after `lives` runs is the last."""
  print("what a library prints is no answer")
  link.ready(weights=spec["weights"], probe=spec["probe"])
  runs = 0
  while True:
    runs += 1
    if runs > spec.get("lives", 1000):
      raise MemoryError("no room")
    if spec.get("dies_at") == runs:
      sys.stderr.write("a last word\n")
      sys.stderr.flush()
      raise SystemExit(7)
    link.done(units=spec["units"], finite=spec.get("finite", True))


if __name__ == "__main__":
  channel.serve({"count": count})
