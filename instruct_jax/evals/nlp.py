"""Public-NLP-like tasks, zero-shot and greedy: the alignment tax (table 14)."""

import numpy as np

from instruct_jax.evals import bench as bench_lib


@bench_lib.needs("tasks")
def evaluate_nlp(bench: bench_lib.Bench) -> bench_lib.Findings:
  """nlp/TASK/SUBJECT (exact match), nlp/TASK_f1/SUBJECT, nlp/mean/SUBJECT.

  All tasks are asked in one go; their prompts are complete, so *prompted GPT*
  does as GPT does.
  """
  settings, tasks = bench.settings, bench.tasks
  items = [
    (name, item)
    for name, examples in tasks.answered.items()
    for item in examples(settings.split, settings.task_prompts)
  ]
  names = np.asarray([name for name, _ in items])
  prompts = [item.prompt for _, item in items]
  answers = [item.answer for _, item in items]
  rows = []
  for subject in bench.subjects:
    said = bench.ask(subject, prompts, raw=True, temperature=0.0).texts
    exact, f1 = (
      np.asarray([score(*pair) for pair in zip(said, answers)])
      for score in (tasks.exact_match, tasks.f1)
    )
    for task in tasks.answered:
      mine = names == task
      for label, values in (("", exact[mine]), ("_f1", f1[mine])):
        rows.append(_row(subject, task + label, values))
    # Tasks weigh the same, however many items each has.
    sizes = {
      task: (names == task).mean() * len(tasks.answered) for task in names
    }
    weights = 1 / np.asarray([sizes[task] for task in names])
    rows.append(_row(subject, "mean", exact, weights))
  return bench_lib.findings("nlp", rows)


def _row(subject, task, values, weights=None):
  return bench_lib.share_row(
    values,
    np.arange(len(values)),
    weights=weights,
    subject=subject.name,
    task=task,
    metric=f"nlp/{task}/{subject.name}",
  )
