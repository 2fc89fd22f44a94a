"""How long responses are, and how many end by themselves."""

from instruct_jax.evals import bench as bench_lib


def evaluate_length(bench: bench_lib.Bench) -> bench_lib.Findings:
  """length/SUBJECT in tokens, the end included, and ended/SUBJECT."""
  rows = []
  for subject in bench.subjects:
    said = bench.ask(subject, bench.prompts)
    for measure, values, row in (
      ("length", said.lengths, bench_lib.row),
      ("ended", said.ended, bench_lib.share_row),
    ):
      rows.append(
        row(
          values,
          bench.clusters,
          subject=subject.name,
          measure=measure,
          metric=f"{measure}/{subject.name}",
        )
      )
  return bench_lib.findings("length", rows)
