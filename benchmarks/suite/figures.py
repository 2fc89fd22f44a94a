"""What the runs of two sides say: checks, medians, ratios, shares.

A run is what a worker's channel says of it: seconds, cpu_seconds, peak_bytes,
tokens, ... Pure functions: no clock, no file.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

Run = dict[str, Any]
CLOSE = 1e-4  # of the largest logit of a probe: float32, another order of sums


@dataclasses.dataclass(frozen=True)
class Ratio:
  """How many times as fast the first of two sides was, pair by pair."""

  median: float
  low: float
  high: float


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
  """Of (value of one, value of other) pairs: one / other, and the spread."""
  each = [one / other for one, other in pairs]
  return Ratio(statistics.median(each), min(each), max(each))


def rate(run: Run) -> float:
  """Units of work a second: tokens, or pairs, episodes, as the row counts."""
  return run["units"] / run["seconds"]


def faster(ours: Sequence[Run], theirs: Sequence[Run]) -> Ratio:
  """Our rate by theirs, of runs that were made side by side."""
  return ratio([(rate(a), rate(b)) for a, b in zip(ours, theirs, strict=True)])


def smaller(ours: Sequence[Run], theirs: Sequence[Run]) -> Ratio:
  """Our peak memory by theirs: below 1 is less."""
  pairs = zip(ours, theirs, strict=True)
  return ratio([(a["peak_bytes"], b["peak_bytes"]) for a, b in pairs])


def slower(more: Sequence[Run], less: Sequence[Run]) -> Ratio:
  """The time of the first by that of the second."""
  pairs = zip(more, less, strict=True)
  return ratio([(a["seconds"], b["seconds"]) for a, b in pairs])


def summary(
  ready: dict[str, Any],
  first: Run,
  runs: Sequence[Run],
  *,
  flops: float,
  peak_flops: float,
) -> dict[str, Any]:
  """What of one side goes into the table and the JSON file.

  `flops` are those that the work needs, each real token once, whatever a side
  spends; the share of the peak is thus that of useful work.
  """
  seconds = [run["seconds"] for run in runs]
  median = statistics.median(seconds)
  found = {
    "median_s": round(median, 4),
    "min_s": round(min(seconds), 4),
    "max_s": round(max(seconds), 4),
    "cpu_s": round(statistics.median(r["cpu_seconds"] for r in runs), 4),
    "first_run_s": round(first["seconds"], 2),
    "units_per_s": round(statistics.median(map(rate, runs)), 3),
    "peak_GB": round(max(r["peak_bytes"] for r in runs) / 1e9, 3),
    "seconds": [round(x, 4) for x in seconds],
  }
  if flops and peak_flops:
    found["share_of_peak"] = round(flops / median / peak_flops, 4)
  if "compile_seconds" in first:
    found["compile_s"] = round(first["compile_seconds"], 2)
  found |= {key: ready[key] for key in ("versions", "chosen") if key in ready}
  found |= {
    key: runs[-1][key] for key in ("chosen", "padding") if key in runs[-1]
  }
  return found


def problems(
  spec: dict[str, Any],
  sides: dict[str, tuple[dict[str, Any], Sequence[Run]]],
  *,
  exact: bool = True,
) -> list[str]:
  """Why the sides did not do the same work; [] where they did.

  `sides` holds, by name, what a worker said when it was ready and its runs.
  `exact`: every run has the spec's own number of units.
  """
  found = []
  wanted = spec["units"]
  for name, (_, runs) in sides.items():
    for run in runs:
      if exact and run["units"] != wanted:
        found.append(f"{name}: {run['units']} units of work, not {wanted}")
        break
      if run["units"] <= 0 or run["seconds"] <= 0:
        found.append(f"{name}: a run without work or time")
        break
      if not run.get("finite", True):
        found.append(f"{name}: a loss is not finite")
        break
      if not run.get("tokens_as_told", True):
        found.append(f"{name}: other tokens than the weights give")
        break
      if run.get("skipped"):
        found.append(f"{name}: an update was skipped")
        break
  found += _unlike({name: ready for name, (ready, _) in sides.items()})
  found += _unlikely({name: runs[-1] for name, (_, runs) in sides.items()})
  return found


def _unlike(ready):
  """Whose weights, or logits of a probe, are not the first side's."""
  (first, one), *others = ready.items()
  found = []
  for name, other in others:
    if one.get("weights") != other.get("weights"):
      found.append(f"{name}: other weights than {first}'s")
    elif not are_close(one.get("probe", []), other.get("probe", [])):
      found.append(f"{name}: other logits than {first}'s for the probe")
  return found


def _unlikely(runs):
  """Whose likelihoods, where runs say them, are not the first side's."""
  (first, one), *others = runs.items()
  return [
    f"{name}: other likelihoods than {first}'s"
    for name, other in others
    if "nats" in one and not are_close([one["nats"]], [other["nats"]])
  ]


def are_close(one: Sequence[float], other: Sequence[float]) -> bool:
  """Whether logits are the same but for rounding."""
  if len(one) != len(other) or not all(map(math.isfinite, (*one, *other))):
    return False
  size = max(map(abs, one), default=1.0)
  return all(abs(a - b) <= CLOSE * size for a, b in zip(one, other))


def exponent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
  """(p, c) of y = c x^p by least squares on logarithms.

  Raises ValueError with fewer than two different x, or a number not above 0.
  """
  if len(set(x)) < 2 or min(*x, *y) <= 0:
    raise ValueError("an exponent needs two sizes, and numbers above 0")
  lx, ly = [math.log(v) for v in x], [math.log(v) for v in y]
  slope, intercept = statistics.linear_regression(lx, ly)
  return slope, math.exp(intercept)
