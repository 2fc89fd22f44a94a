"""The metadata that labelers give a response (table 3, figure 4).

Only what the judge can see: hallucination counts on closed-domain prompts,
constraints on prompts that state one.
"""

import json

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.worlds.microworld import judge


def run(bench: bench_lib.Bench) -> bench_lib.Findings:
  """metadata/FLAG/SUBJECT: the share of the prompts where the flag stands."""
  applies = [_applies(json.loads(r["spec"])) for r in bench.records]
  rows = []
  for flag in judge.FLAGS:
    counted = np.asarray([a.get(flag, True) for a in applies])
    if not counted.any():
      continue
    for subject in bench.subjects:
      values = np.asarray([g[flag] for g in bench.graded(subject)])
      rows.append(
        bench_lib.row(
          values[counted],
          bench.clusters[counted],
          bounds=(0.0, 1.0),
          subject=subject.name,
          flag=flag,
          metric=f"metadata/{flag}/{subject.name}",
        )
      )
  return bench_lib.findings("metadata", rows)


def _applies(spec: dict) -> dict[str, bool]:
  """Which flags say something about a prompt; those not named always do."""
  constrained = any(
    spec.get(key) for key in ("constraints", "language", "polite")
  )
  return {
    "hallucination": bool(spec.get("source")),
    "satisfies_constraint": constrained,
  }
