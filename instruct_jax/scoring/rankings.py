"""Which model people prefer, by the rankings in a file.

Rankings as `data.read.sources` reads them, with "models" [K] beside their
"responses": who gave each ("sources", which this package's own rankings have,
serves where it lacks). Any two responses of different models that a labeler
ordered or tied are a comparison.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.clean import annotators
from instruct_jax.data.read import sources
from instruct_jax.maths import agreement
from instruct_jax.scoring import comparisons

_OF = ("models", "sources")  # who gave each response


def read(spec: str) -> list[dict[str, Any]]:
  """The rankings of a file, each with "models" [K].

  Raises UserError for what `sources` refuses, and a ranking without models.
  """
  found = []
  for number, record in enumerate(sources.read(spec, "rankings"), start=1):
    models = next((record[key] for key in _OF if key in record), None)
    count = len(record["responses"])
    if not isinstance(models, list) or len(models) != count:
      raise errors.UserError(
        f'{spec}: ranking {number} has no "models"; a list that names who gave'
        f" each of its {count} responses is needed to say who wins"
      )
    found.append(record | {"models": [str(model) for model in models]})
  return found


def compared(
  records: Iterable[Mapping[str, Any]],
) -> list[comparisons.Comparison]:
  """The comparisons of rankings with "models"; "group" is the labelers'."""
  found = []
  for record in records:
    signs = annotators.order(dict(record))
    is_ranked = record.get("ranks") is not None
    texts, models = record["responses"], record["models"]
    for i, j in itertools.combinations(range(len(texts)), 2):
      if models[i] == models[j] or not (signs[i, j] or is_ranked):
        continue
      found.append(
        comparisons.of_record(
          record,
          (models[i], models[j]),
          (texts[i], texts[j]),
          float(signs[i, j] + 1) / 2,
          {},
        )
      )
  return found


def agreeing(records: Sequence[dict[str, Any]]) -> comparisons.Rows:
  """How far labelers agree on pairs of responses; () where none share any.

  One row: "pairwise" with "low" and "high", of the pairs that both order (as
  section 3.4 counts them), and "alpha", Krippendorff's, nominal, of better,
  worse and tied, with "alpha_low" and "alpha_high". Each pair counts for alpha
  in both orders, half each, so that which response is called the first makes
  no difference.
  """
  labelers, ratings, clusters = annotators.ratings(records)
  if len(labelers) < 2:
    return []
  both, twice = np.hstack([ratings, -ratings]), np.tile(clusters, 2)
  found = agreement.alpha(both, "nominal", clusters=twice)
  ordered = np.where(ratings == 0, np.nan, ratings)
  share, _ = agreement.pairwise(ordered, clusters)
  if found is None:
    return []
  return [
    {
      "what": "pairs",
      "level": "nominal",
      "pairwise": share.value if share else None,
      "low": share.low if share else None,
      "high": share.high if share else None,
      "alpha": found.value,
      "alpha_low": found.low,
      "alpha_high": found.high,
      "labelers": len(labelers),
      "units": found.units // 2,
    }
  ]
