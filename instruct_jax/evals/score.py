"""The reward model's view: mean score and win rate over the baseline.

Demonstrations score 0 on average (section 3.5). High scores with low
preference are over-optimisation.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib


def run(bench: bench_lib.Bench) -> bench_lib.Findings:
  """score/SUBJECT and score_wins/SUBJECT_over_BASELINE (ties half)."""
  if "reward" not in bench.frozen:
    return {}, {}
  found = {s.name: bench.rewards(s) for s in bench.subjects}
  rows = [
    bench_lib.row(values, bench.clusters, subject=name, metric=f"score/{name}")
    for name, values in found.items()
  ]
  wins = []
  if bench.baseline is not None:
    base = bench.baseline.name
    wins = [
      bench_lib.row(
        (np.sign(values - found[base]) + 1) / 2,
        bench.clusters,
        bounds=(0.0, 1.0),
        subject=name,
        baseline=base,
        metric=f"score_wins/{name}_over_{base}",
      )
      for name, values in found.items()
      if name != base
    ]
  metrics, tables = bench_lib.findings("score", rows)
  more, won = bench_lib.findings("score_wins", wins)
  return metrics | more, tables | won
