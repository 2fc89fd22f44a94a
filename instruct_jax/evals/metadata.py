"""The metadata that labelers give a response (table 3, figure 4).

Only what the judge can see: hallucination counts on closed-domain prompts,
constraints on prompts that state one.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge")
def evaluate_metadata(bench: bench_lib.Bench) -> bench_lib.Findings:
  """metadata/FLAG/SUBJECT: the share of the prompts where the flag stands."""
  applies = [bench.judge.applies(r["spec"]) for r in bench.records]
  rows = []
  for flag in bench.judge.flags:
    counted = np.asarray([flag in flags for flags in applies])
    if not counted.any():
      continue
    for subject in bench.subjects:
      values = np.asarray([g[flag] for g in bench.graded(subject)])
      rows.append(
        bench_lib.share_row(
          values[counted],
          bench.clusters[counted],
          subject=subject.name,
          flag=flag,
          metric=f"metadata/{flag}/{subject.name}",
        )
      )
  return bench_lib.findings("metadata", rows)
