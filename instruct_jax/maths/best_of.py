"""The best of n responses to a prompt: which they are, and how far that goes.

N prompts, n responses to each, those of a prompt one after the other. In a pool
there are M to each.
"""

import math

import numpy as np


def kl(n: int) -> float:
  """log n - (n - 1) / n: nats from the policy that says the responses.

  KL(best-of-n || policy) where no two responses have one score (Stiennon et al.
  2020, appendix G.3); where some have, it is at most that (Beirami et al. 2024,
  arXiv:2401.01879, theorem 1).
  """
  return math.log(n) - (n - 1) / n


def places(scores: np.ndarray, n: int) -> np.ndarray:
  """Where the best of each prompt's scores stands in [N x n]: int64 [N].

  Of equal scores the first, so that of fewer responses none comes before it
  which is not still there among more.
  """
  best = np.asarray(scores).reshape(-1, n).argmax(axis=1)
  return best + np.arange(len(best)) * n


def expected(scores: np.ndarray, values: np.ndarray, *, n: int) -> np.ndarray:
  """The mean value [N] of the best of n, over all choices of n of a pool of M.

  Takes scores and values [N, M]. The response whose score is the i-th from
  below, i = 1 .. M, is the best of C(i - 1, n - 1) of the C(M, n) choices, so
  that is its weight: unbiased, and surer than one choice of n (Nakano et al.
  2021, appendix I; Gao et al. 2022). Responses of equal scores share theirs.
  Raises ValueError for n outside 1 .. M.
  """
  scores, values = np.asarray(scores), np.asarray(values, np.float64)
  most = scores.shape[1]
  if not 1 <= n <= most:
    raise ValueError(f"the best of {n} of a pool of {most}")
  total = math.comb(most, n)
  # In whole numbers before they are divided: they are large.
  weights = np.asarray([math.comb(i, n - 1) / total for i in range(most)])
  means = []
  for row_scores, row_values in zip(scores, values):
    order = np.argsort(row_scores, kind="stable")
    _, place = np.unique(row_scores[order], return_inverse=True)
    shared = np.bincount(place, weights) / np.bincount(place)
    mean = shared[place] @ row_values[order]
    # The weights add up to 1 but for rounding.
    means.append(np.clip(mean, row_values.min(), row_values.max()))
  return np.asarray(means)
