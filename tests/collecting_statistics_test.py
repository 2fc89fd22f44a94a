"""Agreement and biases of labelers, against numbers counted by hand."""

import time

import numpy as np
import pytest

from instruct_jax.collecting import statistics
from instruct_jax.maths import statistics as maths
from instruct_jax.scoring import rankings

Judged = statistics.Judged


def _judged(task, labeler, ranks, **more):
  count = len(ranks)
  plain = {"lengths": (1,) * count, "places": tuple(range(count))}
  return Judged(task, labeler, tuple(ranks), **(plain | more))


def test_pairs_of_a_ranking_say_who_is_better_longer_earlier():
  one = Judged(7, "ann", (2, 1, 2), (10, 30, 20), (2, 0, 1), (1, 2, 3))
  pairs = statistics.pairs_of([one])
  # (0, 1), (0, 2), (1, 2)
  assert pairs.better.tolist() == [-1, 0, 1]
  assert pairs.longer.tolist() == [-1, -1, 1]
  assert pairs.earlier.tolist() == [-1, -1, 1]
  assert pairs.gold.tolist() == [1, 1, 1]
  assert pairs.task.tolist() == [7, 7, 7]
  assert pairs.pair.tolist() == [1, 2, 5]


def test_rankings_of_different_k_stand_by_labeler_and_task():
  pairs = statistics.pairs_of(
    [
      _judged(2, "ben", [1, 2]),
      _judged(1, "ben", [1, 2, 3]),
      _judged(2, "ann", [2, 1]),
    ]
  )
  assert pairs.labelers == ("ann", "ben")
  assert pairs.labeler.tolist() == [0, 1, 1, 1, 1]
  assert pairs.task.tolist() == [2, 1, 1, 1, 2]
  assert pairs.better.tolist() == [-1, 1, 1, 1, 1]


def test_agreement_is_the_share_of_pairs_that_both_order_alike():
  # Pairs (0,1), (0,2), (1,2) of task 1: ann + + +, ben - + +, cy + 0 -.
  judged = [
    _judged(1, "ann", [1, 2, 3]),
    _judged(1, "ben", [2, 1, 3]),
    _judged(1, "cy", [1, 3, 2]),
    _judged(2, "ann", [1, 2]),  # alone
  ]
  judged[2] = _judged(1, "cy", [1, 3, 1])
  found = statistics.agreement(statistics.pairs_of(judged))
  assert (found.tasks, found.of_tasks) == (1, 1)
  # ann and ben: 2 of 3; ann and cy: (0,1) alike, (1,2) not: 1 of 2; ben and
  # cy: (0,1) not, (1,2) not: 0 of 2.
  by_two = {one.labelers: one.share for one in found.by_two}
  assert by_two["ann", "ben"].value == pytest.approx(2 / 3)
  assert by_two["ann", "cy"].value == pytest.approx(1 / 2)
  assert by_two["ben", "cy"].value == 0
  assert found.pairwise.value == pytest.approx(3 / 7)
  assert found.pairwise.n == 7


def test_agreement_is_that_of_the_evaluation():
  rng = np.random.default_rng(3)
  judged, records = [], []
  for task in range(30):
    for labeler in ("ann", "ben", "cy")[: 1 + task % 3]:
      ranks = rng.integers(1, 4, size=4).tolist()
      judged.append(_judged(task, labeler, ranks))
      records.append(
        {
          "prompt": f"p{task}",
          "responses": [f"r{task}{k}" for k in range(4)],
          "ranks": ranks,
          "labeler": labeler,
        }
      )
  found = statistics.agreement(statistics.pairs_of(judged))
  (row,) = rankings.agreeing(records)
  assert found.pairwise.value == pytest.approx(row["pairwise"])
  assert found.pairwise.low == pytest.approx(row["low"])
  assert found.alpha.value == pytest.approx(row["alpha"])
  assert found.tasks == 20


def test_of_many_tasks_some_are_drawn_always_the_same():
  judged = [
    _judged(task, labeler, [1, 2] if task % 2 else [2, 1])
    for task in range(50)
    for labeler in ("ann", "ben")
  ]
  pairs = statistics.pairs_of(judged)
  found = statistics.agreement(pairs, most_tasks=10)
  assert (found.tasks, found.of_tasks) == (50, 10)
  assert found.pairwise.n == 10
  assert found == statistics.agreement(pairs, most_tasks=10)


def test_nobody_shares_a_task():
  nothing = statistics.agreement(statistics.pairs_of([]))
  assert nothing == statistics.Agreement(0, 0, None, None, ())
  alone = statistics.pairs_of([_judged(1, "ann", [1, 2])])
  assert statistics.agreement(alone) == nothing
  assert statistics.against_others(alone) == {}


def test_each_against_the_mean_of_the_others():
  judged = [
    _judged(1, "ann", [1, 2]),
    _judged(1, "ben", [1, 2]),
    _judged(1, "cy", [2, 1]),
    _judged(2, "ann", [1, 2]),
    _judged(2, "ben", [2, 1]),
  ]
  found = statistics.against_others(statistics.pairs_of(judged))
  # ann: task 1 ben and cy are even, task 2 against ben. ben: task 1 even,
  # task 2 against ann. cy: against both.
  assert found["ann"].n == 1
  assert found["ann"].value == 0
  assert found["ben"].value == 0
  assert found["cy"].n == 1
  assert found["cy"].value == 0


def test_against_gold_leaves_ties_of_either_out():
  judged = [
    _judged(1, "ann", [1, 2, 3], gold=(1, 3, 2)),  # + + -
    _judged(1, "ben", [1, 1, 2], gold=(1, 3, 2)),  # 0 + -
    _judged(2, "ann", [1, 2]),
  ]
  found = statistics.against_gold(statistics.pairs_of(judged))
  assert found["ann"].value == pytest.approx(2 / 3)
  assert found["ben"].value == pytest.approx(1 / 2)
  assert found["ann"].n == 3


def test_who_prefers_the_longer_and_what_stood_first():
  long_first = {"lengths": (9, 5), "places": (1, 0)}
  judged = [
    _judged(1, "ann", [1, 2], **long_first),
    _judged(2, "ann", [1, 2], **long_first),
    _judged(3, "ann", [2, 1], **long_first),
    _judged(4, "ann", [1, 1], **long_first),
    _judged(5, "ann", [1, 2], lengths=(5, 5), places=(0, 1)),
    _judged(1, "ben", [2, 1], **long_first),
  ]
  pairs = statistics.pairs_of(judged)
  own, others = statistics.longer_preferred(pairs)
  assert own["ann"].value == pytest.approx(2 / 3)
  assert own["ann"].n == 3
  assert own["ben"].value == 0
  assert others == {"ann": 0, "ben": pytest.approx(2 / 3)}
  earlier = statistics.earlier_preferred(pairs)
  # The longer stood second: ann took the first on tasks 3 and 5.
  assert earlier["ann"].value == pytest.approx(2 / 4)
  assert earlier["ben"].value == 1
  plain = maths.proportion_interval(np.asarray([0.0, 0, 1, 1]), np.arange(4))
  assert earlier["ann"] == plain


def test_spread_and_median():
  found = statistics.spread([1, 7, 7, 1])
  assert found == statistics.Spread(4.0, 3.0, (2, 0, 0, 0, 0, 0, 2))
  assert statistics.spread([]) is None
  assert statistics.median([3.0, 1.0, 10.0]) == 3.0
  assert statistics.median([]) is None


def test_forty_labelers_and_33000_tasks_take_seconds():
  rng = np.random.default_rng(0)
  judged = []
  for task in range(33_000):
    who = rng.choice(40, 3 if task % 10 == 0 else 1, replace=False)
    lengths = tuple(rng.integers(1, 900, size=9).tolist())
    for labeler in who:
      judged.append(
        Judged(
          task,
          f"labeler {labeler}",
          tuple(rng.permutation(9).tolist()),
          lengths,
          tuple(rng.permutation(9).tolist()),
        )
      )
  began = time.process_time()
  pairs = statistics.pairs_of(judged)
  assert len(pairs.task) == len(judged) * 36
  found = statistics.agreement(pairs)
  assert found.of_tasks == statistics.MOST_TASKS
  assert abs(found.pairwise.value - 0.5) < 0.02
  for of in (
    statistics.against_others,
    statistics.against_gold,
    statistics.earlier_preferred,
  ):
    of(pairs)
  statistics.longer_preferred(pairs)
  took = time.process_time() - began
  assert took < 30
