"""First-fit packing against a plain loop, and rows made of pieces."""

import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.data.batch import packing


def plainly(lengths, row_length):
  """First fit, the longest first, as a book would write it."""
  free, row_of = [], [0] * len(lengths)
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    row = next((r for r, f in enumerate(free) if f >= lengths[i]), len(free))
    if row == len(free):
      free.append(row_length)
    free[row] -= lengths[i]
    row_of[i] = row
  return row_of


@st.composite
def problems(draw):
  row_length = draw(st.integers(1, 40))
  lengths = draw(st.lists(st.integers(1, row_length), max_size=60))
  return lengths, row_length


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(problems())
def test_first_fit_is_the_plain_loop(problem):
  lengths, row_length = problem
  found = packing.first_fit(np.asarray(lengths, np.int32), row_length)
  assert found.tolist() == plainly(lengths, row_length)


def test_a_million_documents_take_seconds():
  rng = np.random.default_rng(0)
  lengths = np.minimum(rng.lognormal(5.5, 1.2, 10**6).astype(int) + 1, 2048)
  start = time.perf_counter()
  row_of = packing.first_fit(lengths, 2048)
  assert time.perf_counter() - start < 20  # 0.3 s on an idle core
  filled = np.bincount(row_of, weights=lengths)
  assert filled.max() <= 2048
  assert filled.sum() / (len(filled) * 2048) > 0.99


def test_long_texts_are_cut():
  starts, lengths = packing.cut(np.array([0, 9, 10]), np.array([9, 1, 8]), 4)
  assert starts.tolist() == [0, 4, 8, 9, 10, 14]
  assert lengths.tolist() == [4, 4, 1, 1, 4, 4]


@pytest.fixture
def pieces():
  stream = np.arange(1, 20, dtype=np.uint16)
  other = np.arange(100, 105, dtype=np.int32)
  texts = [
    (np.array([0, 3, 8]), np.array([3, 5, 11]), np.array([1, 4, 2])),
    (np.array([0]), np.array([5]), np.array([1])),
  ]
  return packing.pack([stream, other], texts, 8, 0)


def test_pieces_of_a_row(pieces):
  table, stream = pieces
  assert stream.tolist() == [0, 0, 0, 1]
  batch = table.take(slice(None))
  assert batch["tokens"].tolist() == [
    [9, 10, 11, 12, 13, 14, 15, 16],
    [4, 5, 6, 7, 8, 1, 2, 3],
    [17, 18, 19, 0, 0, 0, 0, 0],
    [100, 101, 102, 103, 104, 0, 0, 0],
  ]
  assert batch["segments"].tolist() == [
    [1] * 8,
    [1] * 5 + [2] * 3,
    [1] * 3 + [0] * 5,
    [1] * 5 + [0] * 3,
  ]
  assert batch["is_target"].astype(int).tolist() == [
    [0, 0, 1, 1, 1, 1, 1, 1],
    [0, 0, 0, 0, 1, 0, 1, 1],
    [0, 1, 1, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1, 0, 0, 0],
  ]
  assert (batch["is_token"] == (batch["segments"] > 0)).all()
  assert table.padding == 8 / 32
  kinds = {name: array.dtype for name, array in batch.items()}
  assert kinds == {
    "tokens": np.int32,
    "is_token": bool,
    "segments": np.int32,
    "is_target": bool,
  }


@pytest.mark.parametrize("indices", [[2, 0, 0], [3], [], slice(1, 3)])
def test_any_rows_are_taken(pieces, indices):
  table, _ = pieces
  everything, some = table.take(slice(None)), table.take(indices)
  for name, array in everything.items():
    picked = (
      array[np.asarray(indices, int)] if indices == [] else array[indices]
    )
    np.testing.assert_array_equal(some[name], picked)
