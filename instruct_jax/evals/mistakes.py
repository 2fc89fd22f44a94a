"""Simple mistakes that aligned models still make (section 4.3, figure 9).

False premises, hedging on plain questions, and several constraints at once:
the share of a kind's prompts that a subject handles right. Denying everything
and hedging on everything are told by `true_premise` and `no_single_answer`,
the counterparts of the first two.
"""

import numpy as np

from instruct_jax.evals import bench as bench_lib

# Measured together: what is asked of a model that hedges, and of one that
# should.
HEDGING = ("plain_question", "no_single_answer")


@bench_lib.needs("judge", "tasks")
def evaluate_mistakes(bench: bench_lib.Bench) -> bench_lib.Findings:
  """mistakes/KIND/SUBJECT: the share handled right; `hedging` of both kinds."""
  settings, rows = bench.settings, []
  asked = {
    kind: questions(settings.split, settings.task_prompts)
    for kind, questions in bench.tasks.mistakes.items()
  }
  for subject in bench.subjects:
    right = {
      kind: _handled(bench, subject, questions)
      for kind, questions in asked.items()
      if questions
    }
    if all(kind in right for kind in HEDGING):
      right["hedging"] = np.concatenate([right[kind] for kind in HEDGING])
    rows += [
      bench_lib.share_row(
        values,
        np.arange(len(values)),  # every prompt stands for itself
        subject=subject.name,
        prompts=kind,
        metric=f"mistakes/{kind}/{subject.name}",
      )
      for kind, values in right.items()
    ]
  return bench_lib.findings("mistakes", rows) if rows else ({}, {})


def _handled(bench, subject, questions):
  """1 where a subject handles a question right [N]."""
  said = bench.ask(subject, [question.prompt for question in questions])
  return np.asarray(
    [
      bench.tasks.handles(question.spec, text, bool(ended))
      for question, text, ended in zip(questions, said.texts, said.ended)
    ]
  )
