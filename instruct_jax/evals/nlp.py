"""Public-NLP-like tasks, greedy: the alignment tax (tables 14 and 15).

Zero-shot, and with examples of the training split before the item (figures 28
and 29 of the paper).
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from instruct_jax.evals import bench as bench_lib
from instruct_jax.worlds import interface

SHOTS = 3  # examples before an item, or as many as there is room for
POOL = 256  # training items of a task that examples are drawn from


@bench_lib.needs("tasks")
def evaluate_nlp(bench: bench_lib.Bench) -> bench_lib.Findings:
  """nlp/TASK/SUBJECT (exact match), nlp/TASK_f1/SUBJECT, nlp/mean/SUBJECT,
  and few_shot/... of the tasks that leave room for an example.

  All tasks are asked in one go; their prompts are complete, so *prompted GPT*
  does as GPT does.
  """
  settings, rooms = bench.settings, {}
  items = {
    name: examples(settings.split, settings.task_prompts)
    for name, examples in bench.tasks.answered.items()
  }
  shots = {name: _fitting(bench, name, items[name]) for name in items}
  rooms["nlp"] = _measure(bench, "nlp", items, dict.fromkeys(items, 0))
  longer = {
    name: _with_examples(bench, name, items[name], shots[name])
    for name in items
    if shots[name]
  }
  if longer:
    rooms["few_shot"] = _measure(bench, "few_shot", longer, shots)
  metrics = {
    row["metric"]: row["value"] for rows in rooms.values() for row in rows
  }
  return metrics, rooms


def _measure(
  bench: bench_lib.Bench,
  group: str,
  items: Mapping[str, Sequence[interface.Item]],
  shots: Mapping[str, int],
) -> bench_lib.Rows:
  """A row for each task, measure and subject."""
  tasks = bench.tasks
  names = np.asarray([name for name, asked in items.items() for _ in asked])
  prompts = [item.prompt for asked in items.values() for item in asked]
  answers = [item.answer for asked in items.values() for item in asked]
  columns = _room(bench) if any(shots[name] for name in items) else 0
  rows = []
  for subject in bench.subjects:
    said = bench.ask(
      subject, prompts, raw=True, temperature=0.0, columns=columns
    ).texts
    exact, f1 = (
      np.asarray([score(*pair) for pair in zip(said, answers)])
      for score in (tasks.exact_match, tasks.f1)
    )
    for task in items:
      mine = names == task
      for label, values in (("", exact[mine]), ("_f1", f1[mine])):
        labels = {"subject": subject.name, "task": task + label}
        rows.append(_row(group, labels | {"shots": shots[task]}, values))
    # Tasks weigh the same, however many items each has.
    sizes = {task: (names == task).mean() * len(items) for task in items}
    weights = 1 / np.asarray([sizes[task] for task in names])
    labels = {"subject": subject.name, "task": "mean"}
    rows.append(_row(group, labels, exact, weights))
  return rows


def _row(group, labels, values, weights=None):
  metric = f"{group}/{labels['task']}/{labels['subject']}"
  return bench_lib.share_row(
    values,
    np.arange(len(values)),
    weights=weights,
    **labels,
    metric=metric,
  )


def _room(bench: bench_lib.Bench) -> int:
  """The columns for items with examples: they fill pretraining's context."""
  return bench.ctx.policy.config.context_length


def _fitting(
  bench: bench_lib.Bench, task: str, items: Sequence[interface.Item]
) -> int:
  """How many examples fit before every item, its answer still in the context.

  As many as fit where the longest ones are drawn; at most `SHOTS`.
  """
  training = bench.tasks.answered[task]("train", POOL)

  def longest(texts):
    return max(map(len, bench.ctx.tokenizer.encode_batch(texts)), default=0)

  item = longest([f"{item.prompt} {item.answer}" for item in items])
  shot = longest([_shot(example) for example in training])
  left = bench.ctx.policy.config.context_length - item - 1  # the end of text
  return max(0, min(SHOTS, left // max(1, shot)))


def _shot(item: interface.Item) -> str:
  return f"{item.prompt} {item.answer} \n "


def _with_examples(
  bench: bench_lib.Bench,
  task: str,
  items: Sequence[interface.Item],
  shots: int,
) -> list[interface.Item]:
  """The items, each after its own examples of the training split."""
  training = bench.tasks.answered[task]("train", POOL)
  rng = random.Random(f"{bench.settings.seed} {task}")
  return [
    interface.Item(
      "".join(map(_shot, rng.sample(training, shots))) + item.prompt,
      item.answer,
    )
    for item in items
  ]
