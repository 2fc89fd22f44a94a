"""How far labelers agree on what they both compared.

Two labelers need not have seen the same list: what counts is a pair of
responses to one prompt, in whichever order and among whichever others each of
them saw it.
"""

import collections
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.data.read import kinds
from instruct_jax.maths import statistics

Record = kinds.Record
Response = tuple[str, bool]  # and whether it ended by itself
Pair = tuple[Response, Response]
Verdicts = Mapping[Pair, Mapping[str, set[int]]]  # +1, 0, -1 by labeler
_SHOWN = 20  # names of labelers, or of two of them


def order(record: Record) -> np.ndarray:
  """[K, K] of 1 where i beats j, -1 where j beats i, 0 where nobody says.

  Ranks say it of all responses; pairs beside them say some of it again.
  """
  if _is_ranked(record):
    ranks = np.asarray(record["ranks"], np.int64)
    return np.sign(ranks[None, :] - ranks[:, None])
  count = len(record["responses"])
  signs = np.zeros((count, count), np.int64)
  for winner, loser in record["pairs"]:
    signs[winner, loser], signs[loser, winner] = 1, -1
  return signs


def pairs(records: Iterable[Record]) -> dict[str, Any]:
  """Pairs of responses, how many are tied or not compared, and what is odd.

  The share of ties is of the pairs that were compared.
  """
  total = tied = unseen = circles = alone = nothing = twins = 0
  for record in records:
    signs = order(record)
    count = len(signs)
    untied = int(np.count_nonzero(signs)) // 2
    total += count * (count - 1) // 2
    unordered = count * (count - 1) // 2 - untied
    # Who ranks says of every pair; of those that are not named, nobody did.
    tied += unordered if _is_ranked(record) else 0
    unseen += 0 if _is_ranked(record) else unordered
    nothing += not untied
    twins += len({*record["responses"]}) < count
    alone += has_circles_alone(record)
    circles += not _is_ranked(record) and _has_circle(signs)
  share = round(tied / (total - unseen), 4) if total > unseen else 0.0
  return {
    "pairs": total,
    "not_compared": unseen,
    "ties": tied,
    "share_of_ties": share,
    "rankings_all_tied": nothing,
    "rankings_with_circles": circles,
    "rankings_with_circles_alone": alone,
    "rankings_with_one_text_twice": twins,
  }


def has_circles_alone(record: Record) -> bool:
  """Whether whoever beats another is, over others, beaten by that one too."""
  if _is_ranked(record):
    return False
  beats = order(record) > 0
  reached, more = np.zeros_like(beats), beats
  while more.sum() > reached.sum():
    reached = more
    more = reached | (reached.astype(np.float32) @ reached > 0)
  return bool(beats.any() and reached.T[beats].all())


def agreement(records: Sequence[Record]) -> dict[str, Any]:
  """How often two labelers order a pair of responses alike.

  As `preferences.agreement` counts it: pairs that either of them ties are left
  out. A labeler has one verdict on a pair, however often asked, and none where
  one's verdicts differ. The interval takes what one prompt's pairs have in
  common into account.
  """
  of_prompt = collections.defaultdict(list)
  for record in records:
    if "labeler" in record:
      of_prompt[kinds.known_by(record, "rankings")].append(record)
  alike, clusters, several, contrary = [], [], 0, 0
  of_two = collections.defaultdict(list)
  for n, group in enumerate(of_prompt.values()):
    told = _verdicts(group)
    contrary += sum(len(s) > 1 for of in told.values() for s in of.values())
    if len({record["labeler"] for record in group}) < 2:
      continue
    several += _lists_of_several(group)
    for names, same in _compared(told):
      alike.append(same)
      clusters.append(n)
      of_two[" and ".join(names)].append(same)
  labelers = collections.Counter(
    r["labeler"] for r in records if "labeler" in r
  )
  annotators: dict[str, Any] = {
    "labelers": len(labelers),
    "records_of": dict(labelers.most_common(_SHOWN)),
    "ranked_by_several": several,
    "compared_pairs": len(alike),
    "contrary_verdicts_of_one_labeler": contrary,
  }
  if alike:
    rate = statistics.proportion_interval(
      np.asarray(alike), np.asarray(clusters)
    )
    annotators["agreement"] = round(rate.value, 4)
    annotators["interval"] = [round(rate.low, 4), round(rate.high, 4)]
    most = sorted(of_two, key=lambda names: (-len(of_two[names]), names))
    annotators["by_two"] = {
      names: round(float(np.mean(of_two[names])), 4) for names in most[:_SHOWN]
    }
  return annotators


def ratings(
  records: Sequence[Record],
) -> tuple[list[str], np.ndarray, np.ndarray]:
  """(labelers [L], what they say of pairs [L, U], the pairs' prompts [U]).

  1 where a labeler prefers the first response of a pair, -1 the second, 0 ties
  them, NaN who did not compare them, or said different things of them. Pairs
  that no two labelers compared are left out.
  """
  of_prompt = collections.defaultdict(list)
  for record in records:
    if "labeler" in record:
      of_prompt[kinds.known_by(record, "rankings")].append(record)
  units, clusters = [], []
  for n, group in enumerate(of_prompt.values()):
    for by_labeler in _verdicts(group).values():
      plain = {who: said for who, said in by_labeler.items() if len(said) == 1}
      if len(plain) > 1:
        units.append(plain)
        clusters.append(n)
  labelers = sorted({who for unit in units for who in unit})
  place = {who: n for n, who in enumerate(labelers)}
  table = np.full((len(labelers), len(units)), np.nan)
  for n, unit in enumerate(units):
    for who, said in unit.items():
      (table[place[who], n],) = said
  return labelers, table, np.asarray(clusters, int)


def _signs(record: Record) -> Iterator[tuple[Pair, int]]:
  """((one, other), who beats whom) of each pair of different responses.

  The two stand in the order of their texts: +1 says that the first is better.
  """
  texts = record["responses"]
  ended = record.get("ended") or [True] * len(texts)
  responses = [(text.strip(), end) for text, end in zip(texts, ended)]
  signs, seen = order(record).tolist(), set()
  for i, j in itertools.combinations(range(len(responses)), 2):
    if responses[i] > responses[j]:
      i, j = j, i
    pair = responses[i], responses[j]
    if responses[i] != responses[j] and pair not in seen:
      seen.add(pair)
      yield pair, signs[i][j]


def _verdicts(group: Sequence[Record]) -> Verdicts:
  """Who beats whom, of each pair of one prompt, by each labeler: all said."""
  verdicts = collections.defaultdict(lambda: collections.defaultdict(set))
  for record in group:
    for pair, sign in _signs(record):
      if sign or _is_ranked(record):  # else not compared
        verdicts[pair][record["labeler"]].add(sign)
  return verdicts


def _compared(verdicts: Verdicts) -> Iterator[tuple[tuple[str, str], bool]]:
  """(two labelers, whether they agree) of what both order, of one prompt."""
  for by_labeler in verdicts.values():
    orders = [
      (labeler, *signs)
      for labeler, signs in sorted(by_labeler.items())
      if len(signs) == 1 and 0 not in signs
    ]
    for (one, its), (other, others) in itertools.combinations(orders, 2):
      yield (one, other), its == others


def _lists_of_several(group: Sequence[Record]) -> int:
  """Different lists of responses of which several labelers judged a pair."""
  who = collections.defaultdict(set)
  lists = collections.defaultdict(set)
  for record in group:
    judged = frozenset(pair for pair, _ in _signs(record))
    for pair in judged:
      who[pair].add(record["labeler"])
    lists[judged].add(record["labeler"])
  return sum(any(len(who[pair]) > 1 for pair in judged) for judged in lists)


def _is_ranked(record: Record) -> bool:
  """Whether all responses are compared, not some two at a time."""
  return record.get("ranks") is not None


def _has_circle(signs: np.ndarray) -> bool:
  """Whether somebody is, over others, better than oneself."""
  left = np.arange(len(signs))
  while len(left):
    beaten = (signs[np.ix_(left, left)] < 0).any(axis=1)
    if beaten.all():
      return True
    left = left[beaten]
  return False
