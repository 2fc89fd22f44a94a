"""Reward models on the same held-out comparisons, by where responses come from.

What iterating steps 2 and 3 is for (section 3.1): a reward model has learned
from comparisons of older policies, and may know less of what a newer one says.
A row is a reward model on the pairs of which both responses come from one
source ('sft', the 'policy' of the round before, ...) of one round; accuracy as
in `evals.reward`. M pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import reward

ALL = "all"  # pairs of any two responses


@bench_lib.needs("reward_models", "rankings")
def evaluate_reward_models(bench: bench_lib.Bench) -> bench_lib.Findings:
  """reward_models/accuracy/MODEL/round2/SOURCE/GROUP, on all of the split."""
  rankings = bench.ctx.rows("rankings", bench.settings.split)
  records = [rankings.source[int(i)] for i in rankings.index]
  batch = rankings.take(slice(None))
  index, winner, loser = np.nonzero(batch["beats"])
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])[index]
  members = _members(records, index, winner, loser)
  rows = []
  for name, load in bench.reward_models.items():
    scores = reward.scores(bench.ctx, load(), batch, rows=bench.settings.batch)
    margins = scores[index, winner] - scores[index, loser]
    right = (np.sign(margins) + 1) / 2
    for (comparisons, group), mine in members.items():
      rows.append(
        bench_lib.share_row(
          right[mine],
          clusters[mine],
          model=name,
          comparisons=comparisons,
          labelers=group,
          metric=f"reward_models/accuracy/{name}/{comparisons}/{group}",
        )
      )
  return bench_lib.findings("reward_models", rows)


def _members(
  records: Sequence[Mapping[str, Any]],
  index: np.ndarray,
  winner: np.ndarray,
  loser: np.ndarray,
) -> dict[tuple[str, str], np.ndarray]:
  """{(comparisons, group of labelers): the numbers of its pairs}.

  `index` [M] are the pairs' records, `winner` and `loser` [M] their responses.
  """
  members: dict[tuple[str, str], list[int]] = {}
  for n, (i, a, b) in enumerate(zip(index, winner, loser)):
    record = records[i]
    names = [ALL]
    sources = record.get("sources")
    if sources and sources[a] == sources[b]:
      names.append(f"round{record.get('round', 1)}/{sources[a]}")
    for name in names:
      key = name, record.get("group", reward.ALL)
      members.setdefault(key, []).append(n)
  return {key: np.asarray(members[key]) for key in sorted(members)}
