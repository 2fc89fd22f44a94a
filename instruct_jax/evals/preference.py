"""Which of two subjects labelers prefer (section 4.1, the main figure).

One fixed panel judges every pair: all training labelers, and apart from them
all held-out ones. A prompt's win is the share of the panel that prefers the
first subject's response, ties and identical texts counting half; intervals
are clustered by prompt.
"""

import itertools

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge", "labelers")
def evaluate_preference(bench: bench_lib.Bench) -> bench_lib.Findings:
  """preference/A_over_B/GROUP for all pairs; by use case over the baseline."""
  texts = {s.name: bench.ask(s, bench.prompts).texts for s in bench.subjects}
  rows, cases = [], []
  for group in bench.ctx.world.labelers:
    worth = {s.name: utilities(bench, s, group) for s in bench.subjects}
    for a, b in itertools.permutations(worth, 2):
      won = wins(texts[a], texts[b], worth[a], worth[b]).mean(axis=1)
      labels = {"subject": a, "baseline": b, "labelers": group}
      metric = f"preference/{a}_over_{b}/{group}"
      rows.append(_row(won, bench.clusters, metric=metric, **labels))
      if bench.baseline and b == bench.baseline.name:
        cases += _by_use_case(bench, won, labels)
  metrics, tables = bench_lib.findings("preference", rows)
  return metrics, tables | {"preference_by_use_case": cases}


def utilities(
  bench: bench_lib.Bench, subject: bench_lib.Subject, group: str
) -> np.ndarray:
  """What each labeler of a group thinks of each response [N, L]."""
  said = bench.ask(subject, bench.prompts).texts
  panel = bench.ctx.world.labelers[group]
  return np.asarray(
    [
      [labeler.utility(prompt, text, grades) for labeler in panel]
      for prompt, text, grades in zip(
        bench.prompts, said, bench.graded(subject)
      )
    ]
  )


def wins(
  texts_a: tuple[str, ...],
  texts_b: tuple[str, ...],
  worth_a: np.ndarray,
  worth_b: np.ndarray,
) -> np.ndarray:
  """1 where A's response is preferred, 0.5 for a tie, [N, L]."""
  same = np.asarray([a == b for a, b in zip(texts_a, texts_b)])
  return np.where(same[:, None], 0.5, (np.sign(worth_a - worth_b) + 1) / 2)


def _by_use_case(bench, won, labels):
  use_cases = bench.use_cases
  return [
    _row(
      won[use_cases == case],
      bench.clusters[use_cases == case],
      use_case=str(case),
      **labels,
    )
    for case in (() if use_cases is None else np.unique(use_cases))
  ]


def _row(won, clusters, **labels):
  return bench_lib.share_row(won, clusters, **labels)
