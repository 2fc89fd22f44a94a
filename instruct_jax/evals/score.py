"""The reward model's view: mean score and win rate over the baseline.

Demonstrations score 0 on average (section 3.5). High scores with low
preference are over-optimisation.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("reward")
def evaluate_score(bench: bench_lib.Bench) -> bench_lib.Findings:
  """score/SUBJECT and score_wins/SUBJECT_over_BASELINE (ties half)."""
  scores = {s.name: bench.rewards(s) for s in bench.subjects}
  rows = [
    bench_lib.row(values, bench.clusters, subject=name, metric=f"score/{name}")
    for name, values in scores.items()
  ]
  wins = []
  if bench.baseline is not None:
    base = bench.baseline.name
    wins = [
      bench_lib.share_row(
        (np.sign(values - scores[base]) + 1) / 2,
        bench.clusters,
        subject=name,
        baseline=base,
        metric=f"score_wins/{name}_over_{base}",
      )
      for name, values in scores.items()
      if name != base
    ]
  metrics, tables = bench_lib.findings("score", rows)
  more, won = bench_lib.findings("score_wins", wins)
  return metrics | more, tables | won
