"""What rankings are worth: agreement, ties, and how often the judge concurs.

K completions of one prompt, L labelers. Statistics travel as {name: (sum,
weight)}, as all metrics do.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from instruct_jax.maths import preferences
from instruct_jax.worlds import interface

Statistics = dict[str, tuple[float, float]]
Grades = Sequence[Mapping[str, float]]


def grade(
  judge: interface.Judge,
  spec: str,
  responses: Sequence[str],
  ended: Sequence[bool],
) -> list[interface.Grades]:
  """The judge's grades of the K responses to a prompt with this spec."""
  return [judge.grade(spec, *pair) for pair in zip(responses, ended)]


def agreement(
  panel: Sequence[interface.Labeler],
  prompt: str,
  responses: Sequence[str],
  grades: Grades,
) -> tuple[int, int]:
  """(agreeing, all) pairs when every labeler of a panel ranks the same list.

  Pairs of labelers times pairs of responses that both order (section 3.4).
  """
  ranks = [labeler.rank(prompt, responses, grades) for labeler in panel]
  return preferences.agreement(np.asarray(ranks))


def of_ranking(
  group: str, ranks: Sequence[int], grades: Grades | None
) -> Statistics:
  """Share of tied pairs, and of the pairs where labeler and judge concur.

  The judge's order counts only where its scores differ; `grades` is None where
  there is no judge, and `group` '' for labelers of none.
  """
  places = np.asarray(ranks)
  first, second = np.triu_indices(len(ranks), k=1)
  said = np.sign(places[second] - places[first])  # +1: the first is better
  found = {
    "rankings/completions": (float(len(ranks)), 1.0),
    "rankings/ties": (float((said == 0).sum()), float(len(said))),
  }
  if grades is None:
    return found
  scores = np.asarray([g["score"] for g in grades])
  gold = np.sign(scores[first] - scores[second])
  both = (said != 0) & (gold != 0)
  concur = float((said == gold)[both].sum())
  return found | {
    "rankings/judge_ties": (float((gold == 0).sum()), float(len(said))),
    f"labelers/judge_concurs/{group or 'all'}": (concur, float(both.sum())),
  }


def of_completion(
  source: str, grades: Mapping[str, float] | None, ended: bool
) -> Statistics:
  """What one completion adds to the figures of the policy it came from.

  `grades` are the judge's; None without one.
  """
  likert = {}
  if grades is not None:
    likert[f"candidates/likert/{source}"] = (float(grades["likert"]), 1.0)
  return likert | {f"candidates/ended/{source}": (float(ended), 1.0)}


def add(total: Statistics, more: Statistics) -> Statistics:
  """The sum of both, by name."""
  out = {name: (float(s), float(w)) for name, (s, w) in total.items()}
  for name, (value, weight) in more.items():
    before = out.get(name, (0.0, 0.0))
    out[name] = (before[0] + value, before[1] + weight)
  return out
