"""The lengths of a workload, drawn once and the same for every side.

Ragged means: a geometric distribution cut at its maximum, whose mean after
the cut is what the workload says.
"""

from typing import Any

import numpy as np


def truncated_mean(end: float, longest: int) -> float:
  """The mean of a geometric length with this chance of an end at every token,
  given that it is at most `longest`."""
  n = np.arange(1, longest + 1)
  weights = end * (1 - end) ** (n - 1)
  return float((n * weights).sum() / weights.sum())


def chance_of(mean: float, longest: int) -> float:
  """The chance of an end that gives this mean; by bisection.

  Raises ValueError for a mean that no such distribution has: it lies between
  1 and that of the uniform distribution, (longest + 1) / 2.
  """
  if not 1 < mean < (longest + 1) / 2:
    raise ValueError(f"mean {mean} of lengths 1 to {longest}")
  low, high = 1e-9, 1 - 1e-9  # chances: the mean falls as they rise
  for _ in range(200):
    middle = (low + high) / 2
    if truncated_mean(middle, longest) > mean:
      low = middle
    else:
      high = middle
  return (low + high) / 2


def ragged(seed: int, count: int, *, mean: float, longest: int) -> np.ndarray:
  """Lengths [count] of 1..longest with just this mean, up to rounding.

  They are the quantiles of the distribution at (i + 1/2) / count, so that no
  draw of few lengths is short or long by luck, in an order drawn by `seed`.
  """
  end = chance_of(mean, longest)
  n = np.arange(1, longest + 1)
  weights = end * (1 - end) ** (n - 1)
  up_to = np.cumsum(weights / weights.sum())
  at = (np.arange(count) + 0.5) / count
  drawn = np.minimum(np.searchsorted(up_to, at) + 1, longest)
  return np.random.default_rng(seed).permutation(drawn).astype(np.int32)


def prompts(
  seed: int, lasts: np.ndarray, shortest: int, longest: int, vocab_size: int
) -> list[list[int]]:
  """Prompts of random tokens, of lengths spread evenly from the shortest to
  the longest, each with its own last token."""
  draw = np.random.default_rng(seed)
  count = len(lasts)
  lengths = draw.permutation(
    np.linspace(shortest, longest, count).round().astype(int)
  )
  return [
    [*draw.integers(2, vocab_size, length - 1).tolist(), int(last)]
    for length, last in zip(lengths, lasts)
  ]


def texts(
  seed: int,
  responses: np.ndarray,
  shortest: int,
  longest: int,
  vocab_size: int,
) -> list[dict[str, Any]]:
  """Demonstrations: prompts as above and responses of these lengths."""
  draw = np.random.default_rng(seed + 1)
  lasts = draw.integers(2, vocab_size, len(responses))
  before = prompts(seed, lasts, shortest, longest, vocab_size)
  return [
    {
      "prompt": prompt,
      "response": [*draw.integers(2, vocab_size, length - 1).tolist(), 1],
    }
    for prompt, length in zip(before, responses)
  ]
