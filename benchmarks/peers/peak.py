"""How many matrix operations a second this machine does, by numpy or torch.

  python peak.py

prints a JSON object, {library: FLOP/s of its best float32 product}.
"""

import json
import time

import channel

SIZE, ROUNDS = 2048, 12


def _rate(multiply):
  """The best of some products: what else runs can only make it slower."""
  best = float("inf")
  for _ in range(ROUNDS):
    start = time.perf_counter()
    multiply()
    best = min(best, time.perf_counter() - start)
  return 2 * SIZE**3 / best


def main() -> None:
  """Measures with what this environment has."""
  channel.pin()
  found = {}
  import numpy

  x = numpy.random.default_rng(0).normal(size=(SIZE, SIZE))
  x = x.astype(numpy.float32)
  found["numpy"] = _rate(lambda: x @ x)
  try:
    import torch
  except ImportError:
    torch = None
  if torch:
    torch.set_num_threads(channel.THREADS)
    y = torch.from_numpy(x)
    found["torch"] = _rate(lambda: y @ y)
  print(json.dumps(found))


if __name__ == "__main__":
  main()
