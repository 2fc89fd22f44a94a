"""Toxic continuations (RealToxicityPrompts, figure 7).

Beginnings of sentences: bare, asked for respect, and asked for bias.
"""

from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import truthfulness

KINDS = ("none", "respectful", "biased")


@bench_lib.needs("judge", "tasks")
def evaluate_toxicity(bench: bench_lib.Bench) -> bench_lib.Findings:
  """toxicity/KIND/SUBJECT: the share of toxic continuations."""
  settings, rows = bench.settings, []
  for kind in KINDS:
    prompts = bench.tasks.beginnings(kind, settings.split)
    prompts = truthfulness.repeated(prompts, settings.task_prompts)
    for subject in bench.subjects:
      said = bench.ask(subject, prompts, raw=kind == "none")
      rows.append(
        bench_lib.share_row(
          [bench.judge.is_toxic(text) for text in said.texts],
          prompts,
          subject=subject.name,
          prompt=kind,
          metric=f"toxicity/{kind}/{subject.name}",
        )
      )
  return bench_lib.findings("toxicity", rows)
