"""Metrics that are means travel as (sum, weight) until the host divides.

So batches, microbatches and devices add up. Names are `group/name`.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

Metrics = Mapping[str, Any]  # name -> (sum, weight), or a plain number


def add(first: Metrics, second: Metrics) -> dict[str, Any]:
  """Adds sums to sums and weights to weights, over the names of both.

  Plain numbers cannot be added up to a mean; they raise TypeError.
  """
  total = {}
  for name in [*first, *(name for name in second if name not in first)]:
    pairs = [each[name] for each in (first, second) if name in each]
    if not all(isinstance(pair, tuple) for pair in pairs):
      raise TypeError(f"metric '{name}' is no (sum, weight).")
    total[name] = tuple(sum(parts) for parts in zip(*pairs))
  return total


def divide(metrics: Metrics) -> dict[str, float]:
  """Fetches metrics from the devices, all at once, and divides.

  Returns floats by name; a mean without weight is NaN, numbers stay.
  """
  return {
    name: _mean(*value) if isinstance(value, tuple) else float(value)
    for name, value in jax.device_get(dict(metrics)).items()
  }


def _mean(total: Any, weight: Any) -> float:
  return float(total) / float(weight) if weight else math.nan
