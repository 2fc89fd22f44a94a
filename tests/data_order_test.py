"""Orders of rows, lengths and batches made ahead, without much memory."""

import threading
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.data.batch import ahead, histograms, loader, mixtures, shuffle
from tests import data_toys


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  lengths=st.lists(st.integers(0, 65_535), min_size=1, max_size=60),
  cut=st.integers(0, 60),
)
def test_percentiles_are_those_of_all_lengths(lengths, cut):
  halves = [histograms.of(lengths[:cut]), histograms.of(lengths[cut:])]
  found = histograms.from_json(histograms.merged(halves).to_json())
  assert len(found) == len(lengths)
  for percent in (0, 1, 50, 75, 90, 95, 99, 100):
    at = np.percentile(lengths, percent, method="inverted_cdf")
    assert found.at(percent) == at
    assert found.between(percent) == np.percentile(lengths, percent)


def test_long_lengths_are_rounded_up_a_little():
  lengths = np.arange(1 << 16, 1 << 21, 977)
  found = histograms.of(lengths)
  for n in lengths[::50]:
    value = histograms.of([n]).values[0]
    assert n <= value <= n * (1 + 2**-15)
  assert len(found) == len(lengths)
  assert len(histograms.of(np.arange(1 << 20)).values) < 6 << 16


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_a_large_order_is_a_permutation(monkeypatch, count):
  expected = shuffle.order([7, 1], count)
  assert (expected == np.random.default_rng([7, 1]).permutation(count)).all()
  monkeypatch.setattr(shuffle, "IN_MEMORY", 0)
  order = shuffle.order([7, 1], count)
  assert isinstance(order, shuffle.Order)
  rows = order[:]
  assert sorted(rows.tolist()) == list(range(count))
  assert order[2:5].tolist() == rows[2:5].tolist()
  places = np.array([0, count - 1, 0])
  assert order[places].tolist() == rows[places].tolist()
  assert shuffle.order([7, 1], count)[:].tolist() == rows.tolist()
  if count > 64:
    assert shuffle.order([7, 2], count)[:].tolist() != rows.tolist()


def test_a_large_order_looks_like_chance(monkeypatch):
  """Places and rows are as little related as those of a permutation."""
  monkeypatch.setattr(shuffle, "IN_MEMORY", 0)
  count, seeds = 3000, range(40)
  related, fixed = [], 0
  for seed in seeds:
    rows = shuffle.order([seed], count)[:]
    related.append(np.corrcoef(np.arange(count), rows)[0, 1])
    fixed += int((rows == np.arange(count)).sum())
    steps = np.abs(np.diff(rows))
    assert abs(steps.mean() / count - 1 / 3) < 0.03
  assert np.abs(related).max() < 4.5 / np.sqrt(count)
  assert abs(np.mean(related)) < 4 / np.sqrt(count * len(seeds))
  assert 15 < fixed < 75  # one in a permutation, on average


def test_an_order_of_billions_takes_no_memory():
  order = shuffle.order([0], 10**10)
  rows = order[np.arange(5 * 10**9, 5 * 10**9 + 1000)]
  assert len(set(rows.tolist())) == 1000
  assert rows.min() >= 0
  assert rows.max() < 10**10


def test_batches_of_a_large_set_are_a_function_of_the_step(monkeypatch):
  monkeypatch.setattr(shuffle, "IN_MEMORY", 16)
  part = np.repeat(np.arange(2), [40, 20])
  records = [{"prompt": str(n), "part": int(p)} for n, p in enumerate(part)]
  for weights in ((), (0.75, 0.25)):
    rows = data_toys.rows_of("prompts", records, weights=weights)

    def make(rows=rows, **process):
      rows_, sizes = {"prompts": rows}, {"prompts": 6}
      return loader.Batches(rows_, sizes, seed=3, **process)

    whole = make()
    seen = [whole[step]["prompts"]["index"] for step in range(10)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(60)) or weights
    shared = [make(process_index=i, process_count=3) for i in range(3)]
    for step in (9, 0, 4):
      parts = [process[step]["prompts"]["index"] for process in shared]
      assert np.concatenate(parts).tolist() == seen[step].tolist()


def test_parts_that_stand_together_take_no_memory():
  for part in ([0, 0, 1, 1, 1, 2], [1, 0, 1, 2, 0, 0]):
    mixture = mixtures.Mixture((1, 1, 1), np.asarray(part))
    for n in range(3):
      own = [i for i, p in enumerate(part) if p == n]
      rows = mixture.rows_of[n]
      assert len(rows) == len(own)
      assert rows[np.arange(len(own))].tolist() == own
      is_run = own == list(range(own[0], own[-1] + 1))
      assert isinstance(rows, np.ndarray) != is_run


def test_batches_are_made_before_they_are_asked_for():
  made, go_on = [], threading.Event()

  def make(step):
    made.append(step)
    go_on.set()
    return step * 10

  batches = ahead.Ahead(make)
  assert batches[3] == 30
  deadline = time.monotonic() + 5
  while made != [3, 4, 5] and time.monotonic() < deadline:
    time.sleep(0.01)
  assert made == [3, 4, 5]
  assert [batches[4], batches[5], batches[3]] == [40, 50, 30]
  batches.close()
  threads = [t.name for t in threading.enumerate()]
  assert not any(name.startswith("batches") for name in threads)


def test_an_error_comes_out_where_its_step_is_asked_for():
  def make(step):
    if step == 2:
      raise OSError(5, "no", "shard")
    return step

  batches = ahead.Ahead(make)
  assert [batches[0], batches[1]] == [0, 1]
  with pytest.raises(OSError, match="shard"):
    batches[2]
  assert batches[3] == 3
  batches.close()
