"""Kinds of pairs of responses, by which a reward model's accuracy may differ.

How far apart a labeler put the two (places between them in the ranking; points
where they were rated), whose responses they are, and where the prompt is from.
M pairs of N rankings.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MOST = 5  # places apart, or more
Record = Mapping[str, Any]


def kinds(
  records: Sequence[Record],
  index: np.ndarray,
  winner: np.ndarray,
  loser: np.ndarray,
) -> dict[str, np.ndarray]:
  """{kind: the numbers of its pairs}, kinds of one sort beside each other.

  `index` [M] are the pairs' rankings, `winner` and `loser` [M] the two.
  """
  places = [_places(record) for record in records]
  found = collections.defaultdict(list)
  for n, (i, a, b) in enumerate(zip(index, winner, loser)):
    for kind in _of_pair(records[i], places[i], int(a), int(b)):
      found[kind].append(n)
  return {name: np.asarray(found[sort, name]) for sort, name in sorted(found)}


def _of_pair(
  record: Record, places: Sequence[int] | None, a: int, b: int
) -> Iterator[tuple[int, str]]:
  """(sort, name) of each kind that a pair, of which `a` won, is of."""
  if places is not None:
    apart = places[b] - places[a]
    more = " or more" if apart >= MOST else ""
    noun = "place" if apart == 1 else "places"
    yield 0, f"{min(apart, MOST)} {noun} apart{more}"
  if "ratings" in record:
    ratings = record["ratings"]
    yield 1, f"rated {abs(ratings[a] - ratings[b]):g} apart"
  if "sources" in record:
    first, second = sorted((record["sources"][a], record["sources"][b]))
    same = first == second
    yield 2, f"two of {first}" if same else f"{first} and {second}"
  if "source" in record and "group" in record:  # else it stands for a group
    yield 3, f"prompts of {record['source']}"


def _places(record: Record) -> list[int] | None:
  """The place [K] of each response among all that differ; None without ranks.

  Of ranks only their order counts: 1, 1, 4 are the places 0, 0, 1.
  """
  ranks = record.get("ranks")
  if ranks is None:
    return None
  order = sorted(set(ranks))
  return [order.index(rank) for rank in ranks]
