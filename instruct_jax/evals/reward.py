"""How well a reward model predicts labelers on held-out prompts (section 5.1).

N rankings, K completions. Accuracy and log loss are over pairs that the
labeler ordered; equal scores count half, so chance is 0.5 and log 2. How sure
the model is, against how often it is right, is the table "calibration"; which
pairs it has right, the table "reward_pairs" (`pairs`). Beside
the model: "the longer wins"; the judge where the rankings have its spec, and a
bag of words where they are people's.
"""

import itertools
import logging

import numpy as np

from instruct_jax.data.batch import loader
from instruct_jax.evals import baselines, calibration
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import pairs as pairs_lib
from instruct_jax.inference import context, rewards, score

_log = logging.getLogger(__name__)
ALL = "all"  # rankings whose records name no group of labelers


@bench_lib.needs("reward_model", "rankings")
def evaluate_reward(bench: bench_lib.Bench) -> bench_lib.Findings:
  """What `measure_accuracy` finds of the bench's reward model."""
  return measure_accuracy(bench.ctx, bench.frozen["reward"])


def measure_accuracy(
  ctx: context.Context, reward: rewards.Models
) -> bench_lib.Findings:
  """reward/accuracy/GROUP, reward/log_loss/GROUP and what they compare with.

  On the rankings of the first `evaluation.prompts` different prompts of
  `evaluation.split`, by group of labelers; where records name a "source" and
  no group, of all and by source.
  """
  settings = ctx.config.evaluation
  rankings = ctx.rows("rankings", settings.split)
  records = [rankings.source[int(i)] for i in rankings.index]
  first = dict.fromkeys(record["prompt"] for record in records)
  first = set(itertools.islice(first, settings.prompts))
  used = [n for n, record in enumerate(records) if record["prompt"] in first]
  records, batch = [records[n] for n in used], rankings.take(used)
  predictors = {
    "": scores(ctx, reward, batch, rows=settings.batch),
    "_longer": _lengths(ctx, records, batch),
  }
  judge = ctx.world.judge
  if judge is not None and all("spec" in record for record in records):
    predictors["_judge"] = _judge(judge, records, batch["ranks"].shape[1])
  elif missing := baselines.what_is_missing():
    _log.info(missing)
  elif train := _comparisons(ctx, "train"):
    model = baselines.fit(train, _comparisons(ctx, "validation"))
    k_max = batch["ranks"].shape[1]
    predictors["_words"] = model.scores(records, k_max)
  rows = []
  for label, predicted in predictors.items():
    rows += _rows(label, predicted, records, batch["beats"])
  metrics, tables = bench_lib.findings("reward", rows)
  metrics["reward/rankings"] = float(len(records))
  sure, bins = _calibration(predictors[""], records, batch["beats"])
  by_pairs = _by_pairs(predictors[""], records, batch["beats"])
  return metrics | sure | by_pairs[0], (
    tables | {"calibration": bins} | by_pairs[1]
  )


def _rows(label, predicted, records, beats):
  """The table's rows of one predictor, for every group."""
  rows = []
  for group, margins, clusters in _by_group(predicted, records, beats):
    names = {"labelers": group, "predictor": label.strip("_") or "reward"}
    rows.append(
      bench_lib.share_row(
        (np.sign(margins) + 1) / 2,
        clusters,
        **names,
        metric=f"reward/accuracy{label}/{group}",
      )
    )
    if not label:
      rows.append(
        bench_lib.row(
          np.logaddexp(0.0, -margins),
          clusters,
          **names,
          metric=f"reward/log_loss/{group}",
        )
      )
  return rows


def _calibration(predicted, records, beats):
  """(reward/calibration_error/GROUP, the rows of all groups' bins)."""
  metrics, rows = {}, []
  for group, margins, clusters in _by_group(predicted, records, beats):
    bins, error = calibration.measure(margins, clusters, labelers=group)
    metrics[f"reward/calibration_error/{group}"] = error
    rows += bins
  return metrics, rows


def _by_pairs(predicted, records, beats):
  """reward/by/KIND/GROUP: accuracy on each kind of pairs."""
  margins, index = pair_margins(predicted, beats)
  right = (np.sign(margins) + 1) / 2
  clusters = _clusters(records)[index]
  groups = {name: of[index] for name, of in _groups(records).items()}
  rows = []
  for kind, numbers in pairs_lib.kinds(records, *np.nonzero(beats)).items():
    for group, members in groups.items():
      mine = numbers[members[numbers]]
      if len(mine):
        rows.append(
          bench_lib.share_row(
            right[mine],
            clusters[mine],
            compared=kind,
            labelers=group,
            metric=f"reward/by/{kind.replace(' ', '_')}/{group}",
          )
        )
  return bench_lib.findings("reward_pairs", rows)


def _clusters(records):
  """What tells independent rankings apart [N]."""
  return np.asarray([r.get("core", r["prompt"]) for r in records])


def _by_group(predicted, records, beats):
  """Yields (group, margins [M], clusters [M]) of the M pairs of each group."""
  margins, index = pair_margins(predicted, beats)
  clusters = _clusters(records)[index]
  for group, members in _groups(records).items():
    mine = members[index]
    if mine.any():
      yield group, margins[mine], clusters[mine]


def _groups(records):
  """{group: which records are its [N] bool}, in order of appearance."""
  names = [
    [record["group"]]
    if "group" in record
    else [ALL, record["source"]]
    if "source" in record
    else [ALL]
    for record in records
  ]
  known = dict.fromkeys(itertools.chain.from_iterable(names))
  return {name: np.asarray([name in of for of in names]) for name in known}


def _comparisons(ctx, split):
  """The rankings of a split as they were written; () for none."""
  return ctx.world.records(ctx.config.data, "rankings", split, ctx.folders)


def _lengths(ctx, records, batch):
  """Tokens [N, K] of all responses as they were written, with their ends."""
  lengths = np.zeros(batch["is_completion"].shape)
  for n, record in enumerate(records):
    tokens = ctx.tokenizer.encode_batch(record["responses"])
    ended = record.get("ended") or [True] * len(tokens)
    lengths[n, : len(tokens)] = [len(t) + e for t, e in zip(tokens, ended)]
  return lengths


def scores(
  ctx: context.Context,
  reward: rewards.Models,
  batch: loader.Batch,
  *,
  rows: int,
) -> np.ndarray:
  """The model's scores [N, K] of all completions; 0 where there is none.

  Each different (prompt, response) is scored once.
  """
  shape = batch["is_completion"].shape
  n, k = np.nonzero(batch["is_completion"])
  flat = {
    "prompt": batch["prompt"][n],
    "is_prompt": batch["is_prompt"][n],
    "response": batch["response"][n, k],
    "is_response": batch["is_response"][n, k],
  }
  keys = np.concatenate(list(flat.values()), axis=1, dtype=np.int32)
  _, first, inverse = np.unique(
    keys, axis=0, return_index=True, return_inverse=True
  )
  once = {name: x[first] for name, x in flat.items()}
  table = np.zeros(shape, np.float64)
  of_once = score.model_scores(ctx, reward, once, rows=rows)
  table[n, k] = of_once[inverse.ravel()]
  return table


def pair_margins(
  predicted: np.ndarray, beats: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(winner's minus loser's prediction, index of its ranking) of every pair.

  Takes predictions [N, K] and who beats whom [N, K, K].
  """
  index, winner, loser = np.nonzero(beats)
  margins = predicted[index, winner] - predicted[index, loser]
  return np.asarray(margins, np.float64), index


def _judge(judge, records, k_max):
  """The judge's scores [N, K]; 0 where there is no completion."""
  table = np.zeros((len(records), k_max))
  for n, record in enumerate(records):
    pairs = zip(record["responses"], record["ended"])
    grades = [bench_lib.grade(judge, record["spec"], *pair) for pair in pairs]
    table[n, : len(grades)] = [g["score"] for g in grades]
  return table
