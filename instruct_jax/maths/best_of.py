"""The best of n responses to a prompt: which they are, and how far that goes.

N prompts, n responses to each, those of a prompt one after the other.
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
