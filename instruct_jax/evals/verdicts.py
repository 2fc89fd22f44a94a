"""What judge and labelers think of responses, and rows of such figures.

N prompts, M responses; L labelers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.inference import context, respond
from instruct_jax.maths import statistics

GROUP = "training"  # the labelers who say what they prefer
LIKERT = (1.0, 7.0)
Records = Sequence[Mapping[str, Any]]


def clusters_of(records: Records) -> np.ndarray:
  """What tells independent prompts apart [N]: their core, if they have one."""
  return np.asarray([r.get("core", r["prompt"]) for r in records])


def grades(
  ctx: context.Context, records: Records, said: respond.Responses
) -> list[Mapping[str, float]]:
  """The judge's grades [M] of responses to the prompts of these records [M]."""
  judge = ctx.world.judge
  assert judge is not None  # whoever asks has looked
  return [
    bench_lib.grade(judge, record["spec"], text, bool(ended))
    for record, text, ended in zip(records, said.texts, said.ended)
  ]


def worth(
  ctx: context.Context,
  records: Records,
  texts: Sequence[str],
  graded: Sequence[Mapping[str, float]],
) -> np.ndarray:
  """What each training labeler thinks of each response [M, L]."""
  panel = ctx.world.labelers[GROUP]
  return np.asarray(
    [
      [labeler.utility(record["prompt"], text, grade) for labeler in panel]
      for record, text, grade in zip(records, texts, graded)
    ]
  )


def mean(
  name: str,
  values: Sequence[float] | np.ndarray,
  clusters: np.ndarray,
  *,
  bounds: tuple[float, float] | None = None,
) -> dict[str, float]:
  """{name, name_low, name_high}: the mean of values [N] and its interval."""
  values = np.asarray(values, np.float64)
  return _named(name, statistics.mean_interval(values, clusters, bounds=bounds))


def share(
  name: str, values: Sequence[float] | np.ndarray, clusters: np.ndarray
) -> dict[str, float]:
  """The same of what lies within 0 and 1 and whose mean is a share."""
  values = np.asarray(values, np.float64)
  return _named(name, statistics.proportion_interval(values, clusters))


def counts(clusters: np.ndarray, name: str = "n") -> dict[str, int]:
  """How many prompts, and how many independent groups they come in."""
  return {name: len(clusters), "clusters": len(np.unique(clusters))}


def _named(name: str, found: statistics.Interval) -> dict[str, float]:
  return {
    name: found.value,
    f"{name}_low": found.low,
    f"{name}_high": found.high,
  }
