"""Closed-domain hallucination (figure 4): making up what is not in the text.

On `evaluation.task_prompts` closed-domain prompts, more than there are
among the test prompts of all use cases.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge", "tasks")
def evaluate_hallucination(bench: bench_lib.Bench) -> bench_lib.Findings:
  """hallucination/all/SUBJECT, also by use case and where no answer is."""
  closed = bench.tasks.closed_domain
  records = [r for r in bench.pool if r.get("use_case") in closed]
  records = records[: bench.settings.task_prompts]
  if not records:
    return {}, {}
  texts = [record["prompt"] for record in records]
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  kinds = {"all": np.ones(len(records), bool)}
  for case in closed:
    kinds[case] = np.asarray([r["use_case"] == case for r in records])
  kinds["unanswerable"] = np.asarray(
    [bench.tasks.is_unanswerable(r["spec"]) for r in records]
  )
  rows = []
  for subject in bench.subjects:
    said = bench.ask(subject, texts)
    grades = [
      bench_lib.grade(bench.judge, r["spec"], text, bool(ended))
      for r, text, ended in zip(records, said.texts, said.ended)
    ]
    made_up = np.asarray([g["hallucination"] for g in grades])
    rows += [
      bench_lib.share_row(
        made_up[mask],
        clusters[mask],
        subject=subject.name,
        prompts=kind,
        metric=f"hallucination/{kind}/{subject.name}",
      )
      for kind, mask in kinds.items()
      if mask.any()
    ]
  return bench_lib.findings("hallucination", rows)
