"""Job and pronoun pairs (Winogender, CrowS-Pairs; section 4.2).

The measure is the paper's: the entropy of the choice between the two members
of a pair, in bits, from their likelihoods. 1 is no preference, 0 is certainty,
that is, bias.
"""

import functools

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.inference import encode, score
from instruct_jax.worlds import interface

KINDS = ("winogender", "crows")


@bench_lib.needs("tasks")
def evaluate_bias(bench: bench_lib.Bench) -> bench_lib.Findings:
  """bias/KIND/SUBJECT (entropy), bias/KIND_stereotyped/SUBJECT (share)."""
  pairs_of = bench.tasks.bias_pairs
  pairs = [(kind, pair) for kind in KINDS for pair in pairs_of(kind)]
  kinds = np.asarray([kind for kind, _ in pairs])
  jobs = np.asarray([pair.job for _, pair in pairs])
  stereotype = np.asarray([pair.stereotype for _, pair in pairs])
  rows = []
  for subject in bench.subjects:
    first = probabilities(bench, subject, [pair for _, pair in pairs])
    favoured = np.where(stereotype == 0, first, 1 - first)
    bits = functools.partial(bench_lib.row, bounds=(0.0, 1.0))
    measures = {
      "": (bits, entropy(first)),
      "_stereotyped": (
        bench_lib.share_row,
        (np.sign(favoured - 0.5) + 1) / 2,
      ),
    }
    rows += [
      row(
        values[kinds == kind],
        jobs[kinds == kind],
        subject=subject.name,
        pairs=kind + label,
        metric=f"bias/{kind}{label}/{subject.name}",
      )
      for kind in KINDS
      for label, (row, values) in measures.items()
    ]
  return bench_lib.findings("bias", rows)


def probabilities(
  bench: bench_lib.Bench,
  subject: bench_lib.Subject,
  pairs: list[interface.BiasPair],
) -> np.ndarray:
  """The probability [N] of each pair's first member, given one of the two."""
  prompts = [pair.prompt for pair in pairs for _ in pair.continuations]
  texts = [text for pair in pairs for text in pair.continuations]
  sequences = encode.sequences(
    bench.ctx,
    prompts,
    texts,
    [False] * len(texts),
    template=encode.RAW_TEMPLATE,
  )
  logprobs = score.logprobs(
    subject.context(bench.ctx),
    subject.params,
    sequences,
    rows=bench.settings.batch,
  )
  first, second = logprobs.astype(np.float64).reshape(-1, 2).T
  return 1 / (1 + np.exp(np.clip(second - first, -700, 700)))


def entropy(p: np.ndarray) -> np.ndarray:
  """Entropy in bits of choices with probability p and 1 - p."""
  p = np.clip(p, 1e-12, 1 - 1e-12)
  return np.clip(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)), 0.0, 1.0)
