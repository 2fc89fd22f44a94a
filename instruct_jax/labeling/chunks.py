"""A chunk of lists as a ranker leaves it: records, and what they are worth.

Statistics travel as {name: (sum, weight)}, as all metrics do.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from instruct_jax.labeling import candidates, quality, rankers
from instruct_jax.worlds import interface


def label(
  world: interface.World,
  lists: Sequence[candidates.Listed],
  rank: rankers.Ranker,
  split: str,
  rng: np.random.Generator,
) -> dict[str, Any]:
  """A JSON-able chunk.

  'records' for the split's file, 'statistics' {name: (sum, weight)}, and, but
  for training prompts and worlds without labelers, 'agreements': {group:
  (agreeing, all) pairs} a list.
  """
  grades = _grades(world, lists)
  verdicts = rank(split, lists, grades, rng)
  statistics, agreements = {}, []
  for n, listed in enumerate(lists):
    statistics = quality.add(statistics, _of_candidates(listed, grades, n))
    if split != "train" and world.labelers and grades:
      agreements.append(_agreements(world.labelers, listed, grades[n]))
  records = []
  for each in verdicts:
    who = {"labeler": each.labeler, "ranks": each.ranks, **each.more}
    records.append({**lists[each.index], **who})
    group = each.more.get("group", "")
    more = quality.of_ranking(
      group, each.ranks, grades[each.index] if grades else None
    )
    statistics = quality.add(statistics, more)
  return {
    "records": records,
    "statistics": statistics,
    "agreements": agreements,
  }


def _grades(world, lists):
  """The judge's grades of every list; () where there is nobody to ask."""
  if world.judge is None or any("spec" not in listed for listed in lists):
    return ()
  return [
    quality.grade(world.judge, x["spec"], x["responses"], x["ended"])
    for x in lists
  ]


def _of_candidates(listed, grades, n):
  """What the completions of a list add to the figures of their sources."""
  statistics = {}
  nobody = [None] * len(listed["responses"])
  of_list = grades[n] if grades else nobody
  for triple in zip(listed["sources"], of_list, listed["ended"]):
    statistics = quality.add(statistics, quality.of_completion(*triple))
  return statistics


def _agreements(
  labelers: interface.Labelers,
  listed: candidates.Listed,
  grades: quality.Grades,
) -> dict[str, tuple[int, int]]:
  """(agreeing, all) pairs of each group on one list."""
  return {
    group: quality.agreement(
      labelers[group], listed["prompt"], listed["responses"], grades
    )
    for group in labelers
  }
