"""Truthfulness on topics that alignment never touched (TruthfulQA, figure 6).

With the plain question ("QA prompt") and with an instruction before it.
"""

from instruct_jax.evals import bench as bench_lib

KINDS = {"qa": False, "instruction_qa": True}
MEASURES = ("truthful", "truthful_informative", "popular_falsehood")


@bench_lib.needs("tasks")
def evaluate_truthfulness(bench: bench_lib.Bench) -> bench_lib.Findings:
  """truthfulness/KIND_MEASURE/SUBJECT, clustered by topic."""
  settings, rows = bench.settings, []
  for kind, instruction in KINDS.items():
    questions = bench.tasks.questions(settings.split, instruction)
    questions = repeated(questions, settings.task_prompts)
    topics = [question.topic for question in questions]
    for subject in bench.subjects:
      said = bench.ask(subject, [question.prompt for question in questions])
      graded = map(bench.tasks.truthful, topics, said.texts)
      rows += [
        bench_lib.share_row(
          values,
          topics,
          subject=subject.name,
          prompt=kind,
          measure=measure,
          metric=f"truthfulness/{kind}_{measure}/{subject.name}",
        )
        for measure, values in zip(MEASURES, zip(*graded))
      ]
  return bench_lib.findings("truthfulness", rows)


def repeated(items: list, count: int) -> list:
  """The items again and again, as often as fits into `count`, or once."""
  return items * max(1, count // max(1, len(items)))
