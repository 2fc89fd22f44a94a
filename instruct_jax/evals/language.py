"""Generalisation: another language, and a form never seen (section 4.3)."""

import json

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.worlds.microworld import claims, tasks

CODED_SHARE = 0.3  # of the words, for an answer to count as zorp


def run(bench: bench_lib.Bench) -> bench_lib.Findings:
  """language/zorp, language/form (Likert) and language/zorp_share."""
  split, items = bench.settings.split, bench.settings.task_prompts
  sets = {
    "zorp": tasks.held_out_language(split, items),
    "form": tasks.held_out_format(split)[:items],
  }
  rows = []
  for kind, prompts in sets.items():
    texts = [prompt.text for prompt in prompts]
    for subject in bench.subjects:
      said = bench.ask(subject, texts)
      grades = [
        bench_lib.grade(json.dumps(p.spec), text, bool(ended))["likert"]
        for p, text, ended in zip(prompts, said.texts, said.ended)
      ]
      rows.append(_row(subject, kind, grades, texts, (1.0, 7.0)))
      if kind == "zorp":
        coded = np.asarray([claims.parse(t).zorp for t in said.texts])
        share = coded > CODED_SHARE
        rows.append(_row(subject, "zorp_share", share, texts, (0.0, 1.0)))
  return bench_lib.findings("language", rows)


def _row(subject, measure, values, clusters, bounds):
  return bench_lib.row(
    values,
    clusters,
    bounds=bounds,
    subject=subject.name,
    measure=measure,
    metric=f"language/{measure}/{subject.name}",
  )
