"""Scores of whole texts: sacrebleu's BLEU and rouge-score's ROUGE-L."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

_DRAWS, _SEED = 1000, 12345  # as sacrebleu's own


def rouge_l(sample: str, references: Sequence[str]) -> float:
  """ROUGE-L, the F measure against the nearest reference, without stemming."""
  # Late: with it come nltk, scikit-learn and pandas, a third of what all
  # commands would import before they do anything.
  from rouge_score import rouge_scorer

  scorer = rouge_scorer.RougeScorer(["rougeL"])
  return scorer.score_multi(references, sample)["rougeL"].fmeasure


def bleu(
  samples: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float | None, str]:
  """BLEU of a corpus in percent, its standard error, sacrebleu's signature.

  The standard error is that of 1,000 draws of as many samples (Koehn 2004),
  None for a single one. Samples may have different numbers of references.
  """
  # None, which its annotations do not know, is where others have one more.
  streams: list[Any] = list(itertools.zip_longest(*references))
  metric = BLEU()
  value = metric.corpus_score(samples, streams).score
  signature = str(metric.get_signature())
  if len(samples) == 1:
    return value, None, signature
  counts = np.stack([_counts(*pair) for pair in zip(samples, references)])
  rng = np.random.default_rng(_SEED)
  drawn = rng.integers(len(counts), size=(_DRAWS, len(counts)))
  values = [_bleu(counts[rows].sum(axis=0)) for rows in drawn]
  return value, float(np.std(values, ddof=1)), signature


def _counts(sample: str, references: Sequence[str]) -> np.ndarray:
  """What BLEU sums over a corpus: n-grams that match, n-grams, two lengths."""
  one = BLEU().corpus_score([sample], [[x] for x in references])
  return np.asarray([*one.counts, *one.totals, one.sys_len, one.ref_len])


def _bleu(sums: np.ndarray) -> float:
  """BLEU of such sums."""
  counts = [int(x) for x in sums]
  matched, ngrams, (length, nearest) = counts[:4], counts[4:8], counts[8:]
  return BLEU.compute_bleu(
    matched, ngrams, length, nearest, smooth_method="exp"
  ).score
