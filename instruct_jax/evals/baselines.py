"""What predicts human comparisons without a network: a bag of words.

A logistic regression on pairs (Bradley and Terry 1952 with word counts for
strengths): response i beats j with probability sigma(w . (x_i - x_j)), where
x holds log(1 + count) of every word. A reward model that is no better has
learned which words people like, and nothing about the answer. scikit-learn
counts and fits; it is an extra.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

Record = dict[str, Any]

MIN_COUNT, MOST_WORDS = 3, 20_000
PENALTIES = (0.03, 0.3, 3.0, 30.0)  # tried, of w^2 / 2 beside the summed loss
_WORD = r"\w+"


def what_is_missing() -> str:
  """How to get what `fit` needs, in one line; '' where it is installed."""
  try:
    import sklearn  # noqa: F401
  except ImportError:
    return (
      "the bag of words is left out, as scikit-learn is not installed: "
      "pip install 'instruct_jax[baselines]'"
    )
  return ""


@dataclasses.dataclass(frozen=True)
class BagOfWords:
  """A fitted regression."""

  words: dict[str, int]  # word -> its column
  weights: np.ndarray  # [words] float64
  penalty: float  # the one that validation liked best

  def scores(self, records: Sequence[Record], k_max: int) -> np.ndarray:
    """w . x [N, k_max] of all responses; 0 where there is none."""
    counts = [len(record["responses"]) for record in records]
    is_there = np.arange(k_max) < np.reshape(counts, (-1, 1))
    scores = np.zeros((len(records), k_max))
    if self.words:
      scores[is_there] = _features(records, self.words) @ self.weights
    return scores


def fit(
  train: Sequence[Record],
  validation: Sequence[Record],
  *,
  penalties: Sequence[float] = PENALTIES,
) -> BagOfWords:
  """The regression on the pairs of `train`; a pair weighs 1 / C(K, 2).

  The penalty is the one with the least loss on `validation`'s pairs (the
  largest where there are none). Words that fewer than MIN_COUNT training
  responses use are left out, and all but the MOST_WORDS commonest.
  """
  from sklearn import linear_model  # an extra

  words = _vocabulary(train)
  differences, weights = _pairs(train, words)
  held_out, held_out_weights = _pairs(validation, words)
  if not words or not len(weights):
    return BagOfWords(words, np.zeros(len(words)), max(penalties))
  # It wants two classes: every pair stands there in both orders.
  both = sparse.vstack([differences, -differences])
  wins = np.repeat([1, 0], len(weights))
  regression = linear_model.LogisticRegression(
    fit_intercept=False, warm_start=True, tol=1e-6, max_iter=10_000
  )
  best: tuple[float, BagOfWords] | None = None
  for penalty in sorted(penalties, reverse=True):
    regression.set_params(C=1 / penalty)
    regression.fit(both, wins, sample_weight=np.tile(weights / 2, 2))
    fitted = regression.coef_[0].copy()
    losses = np.logaddexp(0, -(held_out @ fitted))
    loss = float(held_out_weights @ losses)
    if best is None or loss < best[0]:
      best = loss, BagOfWords(words, fitted, penalty)
  assert best is not None  # there is a penalty
  return best[1]


def preferred(record: Record) -> list[tuple[int, int]]:
  """(winner, loser) of every pair that a ranking orders."""
  ranks = record.get("ranks")
  if ranks is None:  # which else order all that pairs do
    return [tuple(pair) for pair in record["pairs"]]
  n = range(len(ranks))
  return [(i, j) for i in n for j in n if ranks[i] < ranks[j]]


def _responses(records: Iterable[Record]) -> list[str]:
  every = (record["responses"] for record in records)
  return list(itertools.chain.from_iterable(every))


def _vocabulary(records: Sequence[Record]) -> dict[str, int]:
  from sklearn.feature_extraction import text

  counter = text.CountVectorizer(
    token_pattern=_WORD, min_df=MIN_COUNT, max_features=MOST_WORDS
  )
  try:
    columns = counter.fit(_responses(records)).vocabulary_
  except ValueError:  # it says so where no word is left
    return {}
  return {word: int(columns[word]) for word in sorted(columns, key=columns.get)}


def _features(
  records: Sequence[Record], words: dict[str, int]
) -> sparse.csr_matrix:
  """log(1 + count) of each word, a row for each response of all records."""
  from sklearn.feature_extraction import text

  counter = text.CountVectorizer(
    token_pattern=_WORD, vocabulary=words, dtype=np.float64
  )
  return counter.transform(_responses(records)).log1p()


def _pairs(
  records: Sequence[Record], words: dict[str, int]
) -> tuple[sparse.csr_matrix, np.ndarray]:
  """(x_winner - x_loser [P, words], weight [P]) of all pairs."""
  winners, losers, weights, first = [], [], [], 0
  for record in records:
    pairs, k = preferred(record), len(record["responses"])
    winners += [first + winner for winner, _ in pairs]
    losers += [first + loser for _, loser in pairs]
    weights += [1 / math.comb(k, 2)] * len(pairs)
    first += k
  if not words or not weights:
    return sparse.csr_matrix((0, len(words))), np.zeros(0)
  x = _features(records, words)
  return x[winners] - x[losers], np.asarray(weights)
