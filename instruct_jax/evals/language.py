"""Generalisation: another language, and a form never seen (section 4.3)."""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("judge", "tasks")
def evaluate_language(bench: bench_lib.Bench) -> bench_lib.Findings:
  """language/KIND/SUBJECT (Likert), and language/KIND_share of a language."""
  settings, rows = bench.settings, []
  for kind, questions_of in bench.tasks.unseen.items():
    questions = questions_of(settings.split, settings.task_prompts)
    texts = [question.prompt for question in questions]
    is_in_language = bench.tasks.speaks.get(kind)
    for subject in bench.subjects:
      said = bench.ask(subject, texts)
      grades = [
        bench_lib.grade(bench.judge, q.spec, text, bool(ended))["likert"]
        for q, text, ended in zip(questions, said.texts, said.ended)
      ]
      labels = _labels(subject, kind)
      rows.append(bench_lib.row(grades, texts, bounds=(1.0, 7.0), **labels))
      if is_in_language is not None:
        share = np.asarray([is_in_language(text) for text in said.texts])
        labels = _labels(subject, f"{kind}_share")
        rows.append(bench_lib.share_row(share, texts, **labels))
  return bench_lib.findings("language", rows)


def _labels(subject, measure):
  return {
    "subject": subject.name,
    "measure": measure,
    "metric": f"language/{measure}/{subject.name}",
  }
