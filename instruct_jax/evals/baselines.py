"""What predicts human comparisons without a network: a bag of words.

A logistic regression on pairs (Bradley and Terry 1952 with word counts for
strengths): response i beats j with probability sigma(w . (x_i - x_j)), where
x holds log(1 + count) of every word. A reward model that is no better has
learned which words people like, and nothing about the answer.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, sparse, special

Record = dict[str, Any]

MIN_COUNT, MOST_WORDS = 3, 20_000
PENALTIES = (0.03, 0.3, 3.0, 30.0)  # tried, of w^2 / 2 beside the summed loss


@dataclasses.dataclass(frozen=True)
class BagOfWords:
  """A fitted regression."""

  words: dict[str, int]  # word -> its column
  weights: np.ndarray  # [words] float64
  penalty: float  # the one that validation liked best

  def scores(self, records: Sequence[Record], k_max: int) -> np.ndarray:
    """w . x [N, k_max] of all responses; 0 where there is none."""
    found = np.zeros((len(records), k_max))
    for n, record in enumerate(records):
      count = len(record["responses"])
      found[n, :count] = _features(record, self.words) @ self.weights
    return found


def fit(train: Sequence[Record], validation: Sequence[Record]) -> BagOfWords:
  """The regression on the pairs of `train`; a pair weighs 1 / C(K, 2).

  The penalty is the one of PENALTIES with the least loss on `validation`'s
  pairs (the largest where there are none). Words that fewer than MIN_COUNT
  training responses use are left out, and all but the MOST_WORDS commonest.
  """
  words = _vocabulary(train)
  differences, weights = _pairs(train, words)
  held_out, held_out_weights = _pairs(validation, words)
  if not words or not len(weights):
    return BagOfWords(words, np.zeros(len(words)), PENALTIES[-1])
  best, start = None, np.zeros(len(words))
  for penalty in reversed(PENALTIES):
    start = _fitted(differences, weights, penalty, start)
    margins = held_out @ start
    loss = float((held_out_weights * np.logaddexp(0, -margins)).sum())
    if best is None or loss < best[0]:
      best = loss, BagOfWords(words, start, penalty)
  return best[1]


def preferred(record: Record) -> list[tuple[int, int]]:
  """(winner, loser) of every pair that a ranking orders."""
  if record.get("pairs") is not None:
    return [tuple(pair) for pair in record["pairs"]]
  ranks = record["ranks"]
  n = range(len(ranks))
  return [(i, j) for i in n for j in n if ranks[i] < ranks[j]]


def _vocabulary(records):
  counts = collections.Counter()
  for record in records:
    for response in record["responses"]:
      counts.update(set(_words(response)))
  common = [word for word, n in counts.items() if n >= MIN_COUNT]
  common.sort(key=lambda word: (-counts[word], word))
  return {word: i for i, word in enumerate(common[:MOST_WORDS])}


def _words(text):
  return re.findall(r"\w+", text.lower())


def _features(record, words):
  """log(1 + count) [K, words], sparse."""
  rows, columns, values = [], [], []
  for k, response in enumerate(record["responses"]):
    counts = collections.Counter(w for w in _words(response) if w in words)
    rows += [k] * len(counts)
    columns += [words[word] for word in counts]
    values += [math.log1p(n) for n in counts.values()]
  shape = (len(record["responses"]), len(words))
  return sparse.csr_matrix((values, (rows, columns)), shape)


def _pairs(records, words):
  """(x_winner - x_loser [P, words], weight [P]) of all pairs."""
  blocks, weights = [sparse.csr_matrix((0, len(words)))], []
  for record in records:
    pairs = preferred(record)
    if pairs:
      x = _features(record, words)
      winner, loser = map(list, zip(*pairs))
      blocks.append(x[winner] - x[loser])
      weights += [1 / math.comb(len(record["responses"]), 2)] * len(pairs)
  return sparse.vstack(blocks, format="csr"), np.asarray(weights)


def _fitted(differences, weights, penalty, start):
  def loss(w):
    margins = differences @ w
    value = (weights * np.logaddexp(0, -margins)).sum()
    pull = differences.T @ (weights * special.expit(-margins))
    return value + penalty / 2 * w @ w, penalty * w - pull

  found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
  return found.x
