"""Whether a reward model is as sure as it may be (reliability diagrams).

P(i is preferred to j) = σ(r_i - r_j) is what the model predicts (equation 1).
Each pair that a labeler ordered is turned so that the model's favourite comes
first: the prediction is then at least a half, and what is observed is whether
the favourite won. Pairs are put into bins of equal width by the prediction
(Guo et al. 2017, On Calibration of Modern Neural Networks, section 2).
"""

from typing import Any

import numpy as np

from instruct_jax.evals import bench as bench_lib

BINS = 10  # of equal width between 0.5 and 1


def measure(
  margins: np.ndarray, clusters: np.ndarray, **labels: Any
) -> tuple[bench_lib.Rows, float]:
  """(a row for each bin that has pairs, the expected calibration error).

  Takes winner's minus loser's score [N] and what tells independent pairs apart
  [N]. A row's value is how often the favourite won, "predicted" what the model
  said on average, "n" the pairs; equal scores count half. The error is the
  mean distance of the two, weighted by pairs, in [0, 0.5].
  """
  predicted = 1 / (1 + np.exp(-np.minimum(np.abs(margins), 700.0)))
  won = (np.sign(margins) + 1) / 2
  place = np.minimum(((predicted - 0.5) * 2 * BINS).astype(int), BINS - 1)
  rows, error = [], 0.0
  for number in np.unique(place):
    mine = place == number
    low = 50 + number * 50 // BINS
    row = bench_lib.share_row(
      won[mine],
      clusters[mine],
      **labels,
      bin=f"{low}–{low + 50 // BINS} %",
      predicted=float(predicted[mine].mean()),
    )
    rows.append(row)
    error += mine.mean() * abs(row["value"] - row["predicted"])
  return rows, float(error)
