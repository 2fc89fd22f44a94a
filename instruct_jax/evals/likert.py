"""Overall quality on the labelers' 1 to 7 scale (sections 3.4 and 4.1)."""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge")
def evaluate_likert(bench: bench_lib.Bench) -> bench_lib.Findings:
  """likert/SUBJECT, and the table by use case."""
  use_cases = bench.use_cases
  rows, cases = [], []
  for subject in bench.subjects:
    grades = np.asarray([g["likert"] for g in bench.graded(subject)])
    name = subject.name
    rows.append(
      bench_lib.row(
        grades,
        bench.clusters,
        bounds=(1.0, 7.0),
        subject=name,
        metric=f"likert/{name}",
      )
    )
    cases += [
      bench_lib.row(
        grades[use_cases == case],
        bench.clusters[use_cases == case],
        bounds=(1.0, 7.0),
        subject=name,
        use_case=str(case),
      )
      for case in (() if use_cases is None else np.unique(use_cases))
    ]
  metrics, tables = bench_lib.findings("likert", rows)
  return metrics, tables | {"likert_by_use_case": cases}
