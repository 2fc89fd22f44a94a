"""How well a reward model predicts labelers on held-out prompts (section 5.1).

N rankings, K completions. Accuracy and log loss are over pairs that the
labeler ordered; equal scores count half, so chance is 0.5 and log 2. Beside
the model: "the longer wins", and the judge where the rankings have its spec.
"""

import itertools

import numpy as np

from instruct_jax import context
from instruct_jax.data import batches
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import scoring

UNGROUPED = "all"  # rankings whose records name no group of labelers


def run(ctx: context.Context, reward: dict) -> bench_lib.Findings:
  """reward/accuracy/GROUP, reward/log_loss/GROUP and what they compare with.

  On the rankings of the first `evaluation.prompts` different prompts of
  `evaluation.split`, by group of labelers.
  """
  settings = ctx.config.evaluation
  rankings = batches.make(
    ctx.config.data, ctx.tokenizer, "rankings", settings.split, ctx.folders
  )
  records = [rankings.source[int(i)] for i in rankings.index]
  first = dict.fromkeys(record["prompt"] for record in records)
  first = set(itertools.islice(first, settings.prompts))
  used = [n for n, record in enumerate(records) if record["prompt"] in first]
  records, batch = [records[n] for n in used], rankings.take(used)
  ranked = batch["ranks"], batch["is_completion"]
  predictors = {
    "": scores(ctx, reward, batch, rows=settings.batch),
    "_longer": batch["is_response"].sum(axis=2).astype(np.float64),
  }
  if all("spec" in record for record in records):
    predictors["_judge"] = _judge(records, batch["ranks"].shape[1])
  groups = np.asarray([r.get("group", UNGROUPED) for r in records])
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  rows = []
  for label, predicted in predictors.items():
    margins, index = pair_margins(predicted, *ranked)
    right = (np.sign(margins) + 1) / 2
    for group in dict.fromkeys(groups.tolist()):
      mine = groups[index] == group
      if not mine.any():
        continue
      names = {"labelers": group, "predictor": label.strip("_") or "reward"}
      rows.append(
        bench_lib.row(
          right[mine],
          clusters[index][mine],
          bounds=(0.0, 1.0),
          **names,
          metric=f"reward/accuracy{label}/{group}",
        )
      )
      if not label:
        rows.append(
          bench_lib.row(
            np.logaddexp(0.0, -margins[mine]),
            clusters[index][mine],
            **names,
            metric=f"reward/log_loss/{group}",
          )
        )
  metrics, tables = bench_lib.findings("reward", rows)
  return metrics | {"reward/rankings": float(len(records))}, tables


def scores(
  ctx: context.Context, reward: dict, batch: batches.Batch, *, rows: int
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
  found = np.zeros(shape, np.float64)
  found[n, k] = scoring.scores(ctx, reward, once, rows=rows)[inverse.ravel()]
  return found


def pair_margins(
  predicted: np.ndarray, ranks: np.ndarray, is_completion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(winner's minus loser's prediction, index of its ranking) of every pair.

  Takes [N, K] each; tied pairs and pairs with padding are left out.
  """
  real = is_completion[:, :, None] & is_completion[:, None, :]
  beats = (ranks[:, :, None] < ranks[:, None, :]) & real
  index, winner, loser = np.nonzero(beats)
  margins = predicted[index, winner] - predicted[index, loser]
  return np.asarray(margins, np.float64), index


def _judge(records, k_max):
  """The judge's scores [N, K]; 0 where there is no completion."""
  found = np.zeros((len(records), k_max))
  for n, record in enumerate(records):
    pairs = zip(record["responses"], record["ended"])
    grades = [bench_lib.grade(record["spec"], *pair) for pair in pairs]
    found[n, : len(grades)] = [g["score"] for g in grades]
  return found
