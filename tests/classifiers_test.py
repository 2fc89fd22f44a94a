"""N-grams counted by a loop, regressions by a law, folds that see no group."""

import collections
import math

import numpy as np
import pytest
from etils import epath
from scipy import sparse, special

from instruct_jax.base import errors
from instruct_jax.measuring import classifiers

TEXTS = ["The cat, the CAT sat", "a", "", "sat the cat"]


def by_loop(symbols, lengths):
  """{n-gram: how often}."""
  return collections.Counter(
    tuple(symbols[i : i + n])
    for n in lengths
    for i in range(len(symbols) - n + 1)
  )


@pytest.mark.parametrize("lengths", [(1,), (1, 2), (2, 3, 4)])
@pytest.mark.parametrize("kind", ["word", "letter"])
def test_ngrams_are_those_of_a_loop(kind, lengths):
  plain = [classifiers.words(text) for text in TEXTS]
  if kind == "letter":
    plain = [list(f" {' '.join(words)} ") for words in plain]
  counted = [by_loop(symbols, lengths) for symbols in plain]
  function = getattr(classifiers, f"{kind}_grams")
  rows = function(TEXTS, lengths, 14).toarray()
  column = {}  # of an n-gram: the same wherever it stands
  for row, counts in zip(rows, counted):
    assert sorted(row[row > 0]) == sorted(counts.values())
    for gram, count in counts.items():
      places = set(np.flatnonzero(row == count))
      column[gram] = column.get(gram, places) & places
  assert all(column.values())


def test_lengths_of_rows():
  rows = classifiers.lengthless(sparse.csr_matrix([[1.0, 0, 3], [0, 0, 0]]))
  whole = math.hypot(1, 1 + math.log(3))
  expected = [[1 / whole, 0, (1 + math.log(3)) / whole], [0, 0, 0]]
  np.testing.assert_allclose(rows.toarray(), expected)


def test_the_fit_is_where_the_loss_has_no_slope():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(40, 3))
  features[:, 1] = 0
  targets = rng.uniform(size=40)
  weights = classifiers.fit(sparse.csr_matrix(features), targets, penalty=2.0)
  left = special.expit(features @ weights[:-1] + weights[-1]) - targets
  np.testing.assert_allclose(features.T @ left + 2 * weights[:-1], 0, atol=1e-2)
  np.testing.assert_allclose(left.sum(), 0, atol=1e-2)
  assert weights[1] == 0


def test_a_fold_is_seen_by_all_regressions_but_its_own():
  rng = np.random.default_rng(1)
  features = sparse.csr_matrix(rng.normal(size=(50, 4)))
  targets = rng.integers(0, 2, 50).astype(float)
  folds = np.arange(50) % classifiers.FOLDS
  one = classifiers.cross_fit(features, targets, folds)
  changed = np.where(folds == 2, 1 - targets, targets)
  other = classifiers.cross_fit(features, changed, folds)
  same = (one.weights == other.weights).all(axis=1)
  assert same.tolist() == [False, False, True, False, False]
  says = one.says(features, folds)
  row = 7  # of fold 2
  logit = features[row].toarray()[0] @ one.weights[2, :-1] + one.weights[2, -1]
  assert says[row] == pytest.approx(1 / (1 + math.exp(-logit)))


def test_folds_are_of_like_sizes_and_of_the_group_alone():
  folds = [classifiers.fold_of(f"question {n}") for n in range(1000)]
  assert set(folds) == set(range(classifiers.FOLDS))
  assert max(collections.Counter(folds).values()) < 260
  assert folds[3] == classifiers.fold_of("question 3")


def test_what_is_kept_is_not_made_again(tmp_path):
  path, calls = epath.Path(tmp_path / "a" / "b.npz"), []

  def make():
    calls.append(1)
    return {"x": np.arange(3)}

  for _ in range(2):
    np.testing.assert_array_equal(classifiers.kept(path, make)["x"], range(3))
  assert len(calls) == 1
  path.write_bytes(b"PK\x03\x04 and then nothing")
  with pytest.raises(errors.UserError, match=r"b\.npz.*delete it"):
    classifiers.kept(path, make)
