"""Closed-domain hallucination (figure 4): making up what is not in the text.

On `evaluation.judged_prompts` closed-domain prompts, more than there are
among the test prompts of all use cases. An answer that does not attempt the
task makes nothing up: the rate among those that do stands apart.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge", "tasks")
def evaluate_hallucination(bench: bench_lib.Bench) -> bench_lib.Findings:
  """hallucination/KIND/SUBJECT: all, by use case, answerable and
  unanswerable, and attempts, which are those that try the task."""
  closed = bench.tasks.closed_domain
  records = [r for r in bench.pool if r.get("use_case") in closed]
  records = records[: bench.settings.judged_prompts]
  if not records:
    return {}, {}
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  kinds = _kinds(bench, records)
  rows = []
  for subject in bench.subjects:
    grades = _grades(bench, subject, records)
    made_up = np.asarray([g["hallucination"] for g in grades])
    attempts = np.asarray([not g["fails_instruction"] for g in grades])
    rows += [
      bench_lib.share_row(
        made_up[mask],
        clusters[mask],
        subject=subject.name,
        prompts=kind,
        metric=f"hallucination/{kind}/{subject.name}",
      )
      for kind, mask in (kinds | {"attempts": attempts}).items()
      if mask.any()
    ]
  return bench_lib.findings("hallucination", rows)


def _kinds(bench, records):
  """{kind of prompts: which of the records are of it [N]}."""
  kinds = {"all": np.ones(len(records), bool)}
  for case in bench.tasks.closed_domain:
    kinds[case] = np.asarray([r["use_case"] == case for r in records])
  unanswerable = np.asarray(
    [bench.tasks.is_unanswerable(r["spec"]) for r in records]
  )
  return kinds | {"answerable": ~unanswerable, "unanswerable": unanswerable}


def _grades(bench, subject, records):
  said = bench.ask(subject, [record["prompt"] for record in records])
  return [
    bench_lib.grade(bench.judge, r["spec"], text, bool(ended))
    for r, text, ended in zip(records, said.texts, said.ended)
  ]
