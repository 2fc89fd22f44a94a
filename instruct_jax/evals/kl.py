"""How far each subject has moved from the reference, in nats a sequence.

KL(π || π_ref) = E_{y ~ π} [log π(y|x) - log π_ref(y|x)], by Monte Carlo on the
subject's own responses to the test prompts, both at temperature 1 (README,
detail 15). The reference is the SFT model, unless the config names another.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.inference import score
from instruct_jax.maths import best_of


def evaluate_kl(bench: bench_lib.Bench) -> bench_lib.Findings:
  """kl/SUBJECT and kl_per_token/SUBJECT of the subjects not prompted.

  Not of the best of n responses, whose probability nobody knows:
  kl_bound/SUBJECT is how far they are from the policy that says them
  (`maths.best_of.kl`).

  The reference is frozen['reference'], or, where there is none, the subject
  that `evaluation.reference` names (by default the baseline); each row names
  it, since comparisons with different ones may be joined.
  Nothing else is measured without either, nor of a subject that is not sampled
  at temperature 1.
  """
  bounds = {
    f"kl_bound/{s.name}": best_of.kl(s.best_of)
    for s in bench.subjects
    if s.best_of > 1
  }
  reference, frozen = bench.reference, bench.frozen.get("reference")
  if isinstance(frozen, dict):
    reference = bench_lib.Subject("reference", frozen)
  if reference is None:
    return bounds, {}
  rows = []
  for subject in bench.plain:
    if subject.best_of > 1:  # log π of what was chosen is not its own
      continue
    if bench.temperature(subject) != 1.0:
      continue
    said = bench.ask(subject, bench.prompts)
    policy = _logprobs(bench, subject, said.sequences)
    same = subject.params is reference.params
    sft = policy if same else _logprobs(bench, reference, said.sequences)
    kl = policy.astype(np.float64) - sft
    rows.append(
      bench_lib.row(
        kl,
        bench.clusters,
        subject=subject.name,
        reference=reference.name,
        per_token=float(kl.sum() / max(1, said.lengths.sum())),
        metric=f"kl/{subject.name}",
      )
    )
  if not rows:
    return bounds, {}
  metrics, tables = bench_lib.findings("kl", rows)
  per_token = {f"kl_per_token/{r['subject']}": r["per_token"] for r in rows}
  return metrics | per_token | bounds, tables


def _logprobs(bench, subject, sequences):
  ctx, rows = subject.context(bench.ctx), bench.settings.batch
  return score.logprobs(ctx, subject.params, sequences, rows=rows)
