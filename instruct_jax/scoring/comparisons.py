"""Comparisons of two models' answers, whoever compared them, and their tables.

A comparison says which share of the votes the first of two models won on a
prompt: 1, 0, a half for a tie, or what part of a panel preferred it. Who
compared may be people, a world's labelers, a reward model or a model that is
asked: here they are all the same.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from instruct_jax.maths import length_control, statistics, strengths

RAW, ALIKE = "raw", "length-controlled"
BY = ("labelers", "source", "use_case")  # what rates are told apart by
# Ties between any two models where strengths would be infinite without.
PRIOR = 1.0
_Z = 1.959963984540054

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Who won on a prompt."""

  prompt: str
  models: tuple[str, str]
  won: float  # by the first, 0 .. 1
  lengths: tuple[int, int]  # of the answers, in characters
  cluster: str = ""  # what dependent prompts share; '': the prompt itself
  labels: Mapping[str, str] = dataclasses.field(default_factory=dict)  # BY
  place: int = 0  # of the prompt among all

  @property
  def longer(self) -> int:
    """By how many characters the first's answer is."""
    return self.lengths[0] - self.lengths[1]

  def turned(self) -> "Comparison":
    """The same, the other model first."""
    (a, b), (long, wide) = self.models, self.lengths
    return dataclasses.replace(
      self, models=(b, a), lengths=(wide, long), won=1 - self.won
    )


def of_worth(
  records: Sequence[Mapping[str, Any]],
  texts: Mapping[str, Sequence[str]],
  worth: Mapping[str, np.ndarray],
  labels: Mapping[str, str],
) -> list[Comparison]:
  """Comparisons of all models with each other by what answers are worth.

  Args:
    records: of the N prompts; their "core", "source", "use_case" are taken.
    texts: the N answers of each model.
    worth: what they are worth, [N] to one judge or [N, L] to each of a panel;
      equal worth and identical texts are ties, and what is NaN to somebody is
      not compared.
    labels: of all comparisons.
  """
  found = []
  for (a, mine), (b, theirs) in itertools.combinations(worth.items(), 2):
    votes = (np.sign(np.asarray(mine) - np.asarray(theirs)) + 1) / 2
    shares = votes.reshape(len(records), -1).mean(axis=1)
    for n in np.flatnonzero(~np.isnan(shares)).tolist():
      answers = texts[a][n], texts[b][n]
      won = 0.5 if answers[0] == answers[1] else float(shares[n])
      one = of_record(records[n], (a, b), answers, won, labels)
      found.append(dataclasses.replace(one, place=n))
  return found


def of_record(
  record: Mapping[str, Any],
  models: tuple[str, str],
  answers: tuple[str, str],
  won: float,
  labels: Mapping[str, str],
) -> Comparison:
  """The comparison of two answers to the prompt of a record."""
  return Comparison(
    record["prompt"],
    models,
    won,
    (len(answers[0]), len(answers[1])),
    str(record.get("core", record["prompt"])),
    labels_of(record) | dict(labels),
  )


def labels_of(record: Mapping[str, Any]) -> dict[str, str]:
  """What a record tells of BY; the labelers are those of its "group"."""
  keys = {"labelers": "group"}
  given = {by: record.get(keys.get(by, by)) for by in BY}
  return {by: str(value) for by, value in given.items() if value}


def models_of(comparisons: Sequence[Comparison]) -> list[str]:
  """The models, in the order in which they come."""
  return list(dict.fromkeys(m for x in comparisons for m in x.models))


def win_rates(comparisons: Sequence[Comparison], models: Sequence[str]) -> Rows:
  """How often each model beats those before it in `models`: raw, and as long.

  Two rows for each two models, of all prompts and of each group of BY (then
  with its name, as {"source": "gpt"}): {"subject", "baseline", "rate",
  "value", "low", "high", "n", "clusters"}, whose "rate" is 'raw' or
  'length-controlled' (AlpacaEval 2, `length_control.win_rate`, its difficulties
  from the other models that were compared with the same baseline); of all
  prompts that one says in "characters_longer" by how many the subject's answers
  are on average. Intervals are clustered by prompt.
  """
  by_pair = collections.defaultdict(list)
  for one in comparisons:
    for each in (one, one.turned()):
      by_pair[each.models].append(each)
  rows = []
  for b, a in itertools.combinations(models, 2):
    if (a, b) not in by_pair:
      continue
    of_two = by_pair[a, b]
    rivals = [by_pair[m, b] for m in models if m not in (a, b)]
    hard = _difficulties(of_two, [of for of in rivals if of])
    for group, mine in _groups(of_two):
      names = {"subject": a, "baseline": b, **group}
      for rate, interval in _rates(mine, hard).items():
        row = names | {"rate": rate} | dataclasses.asdict(interval)
        if rate == ALIKE and not group:
          row["characters_longer"] = float(np.mean([x.longer for x in mine]))
        rows.append(row)
  return rows


def apart(name: str, rows: Rows) -> dict[str, Rows]:
  """A table of what holds for all prompts, and one by each of BY.

  {'win_rates': ..., 'win_rates_by_source': ...}, those that have rows.
  """
  tables: dict[str, Rows] = {}
  for row in rows:
    by = [key for key in BY if key in row]
    tables.setdefault("_by_".join([name, *by]), []).append(row)
  return tables


def _groups(
  comparisons: Sequence[Comparison],
) -> list[tuple[dict[str, str], list[Comparison]]]:
  """(what a group is told apart by, its comparisons), all of them first."""
  groups: list[tuple[dict[str, str], list[Comparison]]] = []
  groups.append(({}, list(comparisons)))
  for by in BY:
    members = collections.defaultdict(list)
    for one in comparisons:
      if one.labels.get(by):
        members[one.labels[by]].append(one)
    groups += [({by: name}, members[name]) for name in sorted(members)]
  return groups


def _rates(
  comparisons: Sequence[Comparison], hard: Mapping[str, float] | None
) -> dict[str, statistics.Interval]:
  """The raw rate and the length-controlled one."""
  won = np.asarray([x.won for x in comparisons])
  clusters = np.asarray([x.cluster or x.prompt for x in comparisons])
  lengths = np.asarray([x.lengths for x in comparisons])
  raw = statistics.proportion_interval(won, clusters)
  difficulty = None
  if hard is not None:
    difficulty = np.asarray([hard.get(x.prompt, 0.0) for x in comparisons])
  alike = length_control.win_rate(won, lengths, clusters, difficulty=difficulty)
  return {RAW: raw, ALIKE: alike.rate}


def _difficulties(
  of_two: Sequence[Comparison], rivals: Sequence[Sequence[Comparison]]
) -> dict[str, float] | None:
  """{prompt: its γ} by what other models did there against the baseline."""
  if not rivals:
    return None
  place = {prompt: n for n, prompt in enumerate({x.prompt: 0 for x in of_two})}
  won = np.full((len(rivals), len(place)), np.nan)
  lengths = np.zeros((len(rivals), len(place), 2))
  for m, of_rival in enumerate(rivals):
    mine = [x for x in of_rival if x.prompt in place]
    at = np.asarray([place[x.prompt] for x in mine], int)
    counts = np.bincount(at, minlength=len(place))
    known = counts > 0
    shares = np.bincount(at, [x.won for x in mine], len(place))
    won[m, known] = shares[known] / counts[known]
    for side in range(2):
      total = np.bincount(at, [x.lengths[side] for x in mine], len(place))
      lengths[m, known, side] = total[known] / counts[known]
  gamma = length_control.difficulties(list(won), list(lengths))
  return dict(zip(place, gamma.tolist()))


def strengths_table(
  comparisons: Sequence[Comparison], models: Sequence[str]
) -> tuple[Rows, str]:
  """(the Bradley-Terry strength of each model, what to know of them or '').

  Rows, the strongest first: "model", "value" in log-odds against the average
  model with "low" and "high", clustered by prompt; "beats_average", σ of that;
  "n" comparisons and "won", the share of them that it won. Where no strengths
  are the likeliest (a model that always won, groups that never met) any two
  models get a tie more, and the text says which and why.
  """
  place = {model: n for n, model in enumerate(models)}
  first, second = (
    np.asarray([place[x.models[side]] for x in comparisons], int)
    for side in range(2)
  )
  won = np.asarray([x.won for x in comparisons])
  clusters = np.asarray([x.cluster or x.prompt for x in comparisons])
  wins = strengths.table(first, second, won, len(models))
  groups = strengths.ungraspable(wins)
  fitted = strengths.fit(wins, prior=PRIOR if groups else 0.0)
  of = strengths.clustered(fitted, first, second, won, clusters)
  # Where all of a model's comparisons came out alike they say nothing of how
  # they vary: the larger of both errors stands.
  spread = np.maximum(of.errors, fitted.errors)
  games = (wins + wins.T).sum(axis=1)
  rows = [
    {
      "model": models[n],
      "value": float(fitted.values[n]),
      "low": float(fitted.values[n] - _Z * spread[n]),
      "high": float(fitted.values[n] + _Z * spread[n]),
      "beats_average": float(special.expit(fitted.values[n])),
      "won": float(wins[n].sum() / games[n]) if games[n] else None,
      "n": round(float(games[n])),
    }
    for n in np.argsort(-fitted.values, kind="stable")
  ]
  return rows, _said(groups, models)


def _said(groups: Sequence[Sequence[int]], models: Sequence[str]) -> str:
  if not groups:
    return ""
  named = "; ".join(", ".join(models[n] for n in group) for group in groups)
  return (
    f"strengths are drawn together by {PRIOR:g} tie between any two models:"
    f" between these groups one side always won, or they never met: {named}"
  )
