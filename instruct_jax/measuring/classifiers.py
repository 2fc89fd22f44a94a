"""Logistic regressions on the n-grams of texts, fitted across folds.

What judges answers where no network does: it takes seconds and is the same
wherever it is fitted. Groups of rows (questions, prompts) lie in folds, and
what is said of a group comes from a regression that never saw it.

N texts, H features, F folds.
"""

import dataclasses
import functools
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from scipy import sparse, special

from instruct_jax.base import errors, progress, storage
from instruct_jax.parallel import hosts

FOLDS = 5
_NEWTON, _SMALL = 20, 1e-3  # steps of the fit, and the slope that ends it
_CONJUGATE, _CLOSE = 50, 1e-3  # steps within a step, and what ends them
_PRIME = np.uint64(0x100000001B3)  # FNV's
_MIX = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
  """Its words, in small letters."""
  return _WORD.findall(text.lower())


def word_grams(
  texts: Sequence[str], lengths: Sequence[int], bits: int
) -> sparse.csr_matrix:
  """Counts of n-grams of words [N, 2^bits], by their hash."""
  number = functools.cache(lambda word: zlib.crc32(word.encode()))
  return _counts([[number(x) for x in words(t)] for t in texts], lengths, bits)


def letter_grams(
  texts: Sequence[str], lengths: Sequence[int], bits: int
) -> sparse.csr_matrix:
  """The same of n-grams of letters, in words with one space around each."""
  plain = (f" {' '.join(words(text))} " for text in texts)
  codes = [np.frombuffer(x.encode("utf-32-le"), np.uint32) for x in plain]
  return _counts(codes, lengths, bits)


def _counts(symbols, lengths, bits):
  """Counts of n-grams of each row's symbols, which are whole numbers."""
  sizes = [len(row) for row in symbols]
  row = np.repeat(np.arange(len(sizes)), sizes)
  flat = np.concatenate([*map(_whole, symbols), np.zeros(0, np.uint64)])
  rows, columns = [], []
  for n in lengths:
    last = max(0, len(flat) - n + 1)
    mixed = np.full(last, n, np.uint64)
    for k in range(n):
      mixed = (mixed ^ flat[k : last + k]) * _PRIME
    is_one = row[:last] == row[n - 1 : last + n - 1]
    rows.append(row[:last][is_one])
    columns.append((mixed[is_one] * _MIX) >> np.uint64(64 - bits))
  place = np.concatenate(rows), np.concatenate(columns).astype(np.int64)
  ones = np.ones(len(place[0]))
  return sparse.csr_matrix((ones, place), shape=(len(sizes), 1 << bits))


def _whole(row):
  return np.asarray(row, np.uint64)


def lengthless(counts: sparse.csr_matrix) -> sparse.csr_matrix:
  """1 + log of counts, each row by its length as a vector; 0 stays 0."""
  logs = counts.copy()
  logs.data = 1 + np.log(logs.data)
  norms = np.sqrt(np.asarray(logs.multiply(logs).sum(axis=1)).ravel())
  return sparse.diags(1 / np.maximum(norms, 1e-9)) @ logs


def fit(
  features: sparse.csr_matrix, targets: np.ndarray, *, penalty: float
) -> np.ndarray:
  """Weights [H + 1], the constant last, of a logistic regression.

  The least of the cross-entropy to targets [N] in 0 .. 1, summed, and
  penalty |w|² / 2, but for the constant.
  """
  used = np.unique(features.indices)  # what no text has keeps a weight of 0
  found = _least(features[:, used], targets, penalty)
  weights = np.zeros(features.shape[1] + 1)
  weights[used], weights[-1] = found[:-1], found[-1]
  return weights


def _least(features, targets, penalty):
  """By Newton's method, its steps by conjugate gradients.

  Nothing here is BLAS's: products of long vectors would wait for its threads
  where other work keeps the cores busy.
  """
  rows = sparse.hstack([features, np.ones((len(targets), 1))]).tocsr()
  turned = rows.T.tocsr()
  squares = turned.multiply(turned).tocsr()
  ridge = np.full(rows.shape[1], penalty)
  ridge[-1] = 0
  weights = np.zeros(rows.shape[1])

  def loss(weights):
    logits = rows @ weights
    value = (np.logaddexp(0, logits) - targets * logits).sum()
    return value + (ridge * weights * weights).sum() / 2

  for _ in range(_NEWTON):
    said = special.expit(rows @ weights)
    slope = turned @ (said - targets) + ridge * weights
    if np.abs(slope).max() < _SMALL:
      break
    spread = said * (1 - said)
    step = _solved(
      lambda x, spread=spread: turned @ (spread * (rows @ x)) + ridge * x,
      squares @ spread + ridge + 1e-9,
      slope,
    )
    now, size = loss(weights), 1.0
    while size > 1e-4 and loss(weights - size * step) > now:
      size /= 2
    weights = weights - size * step
  return weights


def _solved(product, diagonal, right):
  """x with product(x) near `right`, by preconditioned conjugate gradients."""
  x, left = np.zeros_like(right), right.copy()
  scaled = left / diagonal
  towards, size = scaled, (left * scaled).sum()
  first = size
  for _ in range(_CONJUGATE):
    moved = product(towards)
    length = size / (towards * moved).sum()
    x, left = x + length * towards, left - length * moved
    scaled = left / diagonal
    before, size = size, (left * scaled).sum()
    if size < _CLOSE * first:
      break
    towards = scaled + size / before * towards
  return x


def fold_of(group: str) -> int:
  """Its fold, which depends on nothing else."""
  content = hashlib.sha256(group.encode()).digest()
  return int.from_bytes(content[:8], "big") % FOLDS


@dataclasses.dataclass(frozen=True)
class CrossFitted:
  """A regression a fold, fitted on the rows of all others."""

  weights: np.ndarray  # [F, H + 1] float32

  def says(self, features: sparse.csr_matrix, folds: np.ndarray) -> np.ndarray:
    """Probabilities [N], each of the regression that never saw its fold."""
    found = np.zeros(len(folds))
    for fold in np.unique(folds):
      is_here = folds == fold
      weights = self.weights[fold].astype(np.float64)
      logits = features[is_here] @ weights[:-1] + weights[-1]
      found[is_here] = special.expit(logits)
    return found


def cross_fit(
  features: sparse.csr_matrix,
  targets: np.ndarray,
  folds: np.ndarray,
  *,
  penalty: float = 1.0,
) -> CrossFitted:
  """A regression for each fold, without its rows."""
  features = features.tocsr()
  weights = []
  for fold in range(FOLDS):
    rest = folds != fold
    weights.append(fit(features[rest], targets[rest], penalty=penalty))
  return CrossFitted(np.asarray(weights, np.float32))


Arrays = dict[str, np.ndarray]


def kept(path: epath.Path, make: Callable[[], Arrays]) -> Arrays:
  """The arrays that a file holds; it is made where it is not there.

  Every process calls it; the first makes the file.
  """

  def write():
    if not path.exists():
      progress.say(f"fitting {path.stem}")
      content = io.BytesIO()
      np.savez_compressed(content, allow_pickle=False, **make())
      path.parent.mkdir(parents=True, exist_ok=True)
      storage.write(path, content.getvalue())

  hosts.once(f"classifier {path.name}", write)
  try:
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
      return dict(arrays)
  except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise errors.UserError(
      f"{path}: damaged ({error}); delete it, and it is made again"
    ) from error


def digest(*parts: Any) -> str:
  """Of what a classifier is fitted on, which JSON can hold."""
  content = hashlib.sha256()
  for part in parts:
    content.update(json.dumps(part).encode() + b"\n")
  return content.hexdigest()[:16]
