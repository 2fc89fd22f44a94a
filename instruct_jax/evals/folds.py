"""Reward models and labelers that they never saw: cross-validation (4.1).

Labelers are in groups, and of each group there is a reward model that learned
from the rankings of all labelers but these. It is asked about pairs of prompts
that nobody's model learned from, by three kinds of labelers:

  left_out    its own group's, whom it never saw
  trained_on  all other groups', from whose rankings it learned
  nobody      those of no group: they have ranked no training prompt

The paper's figures are means of five such models, over labelers left out (69.6
+- 0.9 %) and trained on (72.4 +- 0.4 %). M pairs.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import reward
from instruct_jax.inference import context

LEFT_OUT, TRAINED_ON, NOBODY = "left_out", "trained_on", "nobody"
_PAPER = {
  LEFT_OUT: paper.RM_ACCURACY["held_out"],
  TRAINED_ON: paper.RM_ACCURACY["training"],
}


@dataclasses.dataclass(frozen=True)
class _Asked:
  """The rankings of a split, and whose the pairs in them are."""

  batch: loader.Batch
  group: np.ndarray  # [M] of the labeler, from 1; 0: of none
  clusters: np.ndarray  # [M]


def measure_folds(
  ctx: context.Context,
  groups: Sequence[Sequence[str]],
  models: Mapping[int, Callable[[], dict]],
  *,
  splits: Sequence[str],
) -> bench_lib.Findings:
  """folds/accuracy/LABELERS/NUMBER of each model, and their means.

  Equal scores count half. folds/accuracy/LABELERS is the mean over the models,
  folds/standard_error/LABELERS the standard deviation over them divided by the
  root of their number; the difference is trained_on less left_out of a model.

  Args:
    ctx: whose rankings they are asked about.
    groups: the labelers of each group.
    models: {number of the group that is left out: loads the parameters}.
    splits: of the rankings; none of them may have been trained on.

  Raises UserError where a model has no pair of labelers left out.
  """
  asked = [_asked(ctx, groups, split) for split in splits]
  group = np.concatenate([one.group for one in asked])
  clusters = np.concatenate([one.clusters for one in asked])
  rows = []
  for number, load in models.items():
    right = _right(ctx, load(), asked)
    for labelers, mine in _kinds(group, number).items():
      if mine.any():
        rows.append(
          bench_lib.share_row(
            right[mine],
            clusters[mine],
            model=str(number),
            labelers=labelers,
            metric=f"folds/accuracy/{labelers}/{number}",
          )
        )
      elif labelers != NOBODY:
        raise errors.UserError(
          f"there is not one pair that labelers of group {number}"
          f" ({', '.join(groups[number - 1])}) ordered in the splits"
          f" {', '.join(splits)}"
        )
  metrics, tables = bench_lib.findings("folds", rows)
  more, means = _means(rows)
  return metrics | more, tables | {"folds_mean": means}


def _asked(ctx, groups, split):
  rankings = ctx.rows("rankings", split)
  records = [rankings.source[int(i)] for i in rankings.index]
  place = {name: n for n, names in enumerate(groups, 1) for name in names}
  group = np.asarray([place.get(r.get("labeler"), 0) for r in records])
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  batch = rankings.take(slice(None))
  index, _, _ = np.nonzero(batch["beats"])
  return _Asked(batch, group[index], clusters[index])


def _right(ctx, params, asked):
  """Whether a model has each pair right [M]; a half for equal scores."""
  rows = ctx.config.evaluation.batch
  margins = [
    reward.pair_margins(
      reward.scores(ctx, params, one.batch, rows=rows), one.batch["beats"]
    )[0]
    for one in asked
  ]
  return (np.sign(np.concatenate(margins)) + 1) / 2


def _kinds(group, number):
  """{kind of labelers: which pairs are theirs [M]} for one model."""
  return {
    LEFT_OUT: group == number,
    TRAINED_ON: (group > 0) & (group != number),
    NOBODY: group == 0,
  }


def _means(rows: bench_lib.Rows) -> tuple[dict[str, float], bench_lib.Rows]:
  """The means over models with their standard errors, beside the paper's."""
  by_kind: dict[str, dict[str, float]] = {}
  for row in rows:
    by_kind.setdefault(row["labelers"], {})[row["model"]] = row["value"]
  metrics: dict[str, float] = {}
  table: bench_lib.Rows = []
  for labelers, values in by_kind.items():
    mean, error = _mean(list(values.values()))
    metrics[f"folds/accuracy/{labelers}"] = mean
    metrics[f"folds/standard_error/{labelers}"] = error
    row: dict[str, Any] = {"labelers": labelers, "accuracy": mean}
    row["standard_error"] = error
    if labelers in _PAPER:
      theirs = _PAPER[labelers]
      row["paper"] = theirs.value / 100
      if theirs.margin is not None:
        row["paper_margin"] = theirs.margin / 100
    table.append(row)
  left_out, trained_on = by_kind[LEFT_OUT], by_kind[TRAINED_ON]
  mean, error = _mean([trained_on[n] - left_out[n] for n in left_out])
  metrics["folds/difference"] = mean
  metrics["folds/standard_error/difference"] = error
  row = {"labelers": "difference", "accuracy": mean, "standard_error": error}
  return metrics, [*table, row]


def _mean(values: Sequence[float]) -> tuple[float, float]:
  """The mean of two numbers or more, and its standard error."""
  deviation = float(np.std(values, ddof=1))
  return float(np.mean(values)), deviation / math.sqrt(len(values))
