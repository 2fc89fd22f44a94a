"""What each task reads of a sample, and what it measures of many.

A metric is a mean over samples with its standard error, the sample standard
deviation by the root of n; BLEU is one of all of them (`texts.bleu`).
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax.maths import statistics
from instruct_jax.scoring import spans, texts

_log = logging.getLogger(__name__)

NO_ANSWER = "Not in background."
SAMPLE, REFERENCES, TEXT, NUMBER = "sample", "ref_text", str, float


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A metric of n samples; `stderr` is None where they cannot tell it."""

  value: float
  stderr: float | None
  n: int


Row = Mapping[str, Any]  # {column: text, list of alternatives or number}
Measured = dict[str, Estimate]


@dataclasses.dataclass(frozen=True)
class Task:
  """A task: what it needs of a row, and what it finds in several.

  `columns` are texts, lists of alternatives (`ref_text`) or fractions; whether
  there may be none of the alternatives says `has_unanswerable`.
  """

  columns: tuple[str, ...]
  measure: Callable[[Sequence[Row]], Measured]
  is_numeric: bool = False
  has_unanswerable: bool = False


def mean(
  values: Sequence[float] | np.ndarray, clusters: Sequence[Any] | None = None
) -> Estimate:
  """The mean with its standard error, where `clusters` tells values apart that
  do not depend on each other (`statistics.standard_error`)."""
  n = len(values)
  if clusters is not None:
    spread = statistics.standard_error(np.asarray(values), clusters)
  else:
    spread = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
  return Estimate(float(np.mean(values)), spread, n)


def with_no_answer(row: Row, text: str) -> Row:
  """A row in which `text`, in the sample and as a reference, is ''.

  Letters, punctuation and articles make no difference, as to SQuAD's scores.
  """
  said = spans.squad_normalised(text)

  def plain(answer: str) -> str:
    return "" if spans.squad_normalised(answer) == said else answer

  known = [plain(answer) for answer in row[REFERENCES]]
  return {**row, SAMPLE: plain(row[SAMPLE]), REFERENCES: known}


def _of_spans(score: spans.Score) -> Callable[[Sequence[Row]], Measured]:
  """F1 and exact match in percent."""

  def measure(rows: Sequence[Row]) -> Measured:
    pairs = [score(row[SAMPLE], row[REFERENCES]) for row in rows]
    exact, f1 = zip(*pairs)
    return {
      "f1": mean([100 * x for x in f1]),
      "em": mean([100 * x for x in exact]),
    }

  return measure


def _bleu(rows: Sequence[Row]) -> Measured:
  value, error, signature = texts.bleu(
    [row[SAMPLE] for row in rows], [row[REFERENCES] for row in rows]
  )
  _say(signature)
  return {"bleu": Estimate(value, error, len(rows))}


@functools.cache
def _say(signature: str) -> None:
  """Once of each: what sacrebleu wants to be quoted."""
  _log.info("sacrebleu: %s", signature)


def _rouge(rows: Sequence[Row]) -> Measured:
  return {
    "rougeL": mean([texts.rouge_l(x[SAMPLE], x[REFERENCES]) for x in rows])
  }


def _truthful(rows: Sequence[Row]) -> Measured:
  """Fractions of what the judges find more likely than not."""
  true, info = (
    np.asarray([row[name] for row in rows]) >= 0.5 for name in ("true", "info")
  )
  return {
    "true": mean(true), "info": mean(info), "true_info": mean(true & info)
  }  # fmt: skip


def _toxicity(rows: Sequence[Row]) -> Measured:
  return {"toxicity": mean([row["toxicity"] for row in rows])}


_TEXTS = (REFERENCES, SAMPLE)
TASKS: dict[str, Task] = {
  "squadv2": Task(_TEXTS, _of_spans(spans.squad), has_unanswerable=True),
  "drop": Task(_TEXTS, _of_spans(spans.drop)),
  "wmt": Task(_TEXTS, _bleu),
  "summarization": Task(_TEXTS, _rouge),
  "truthfulqa": Task(("true", "info"), _truthful, is_numeric=True),
  "toxicity": Task(("toxicity",), _toxicity, is_numeric=True),
}
