"""Which of two subjects labelers prefer (section 4.1, the main figure).

One fixed panel judges every pair: all training labelers, and apart from them
all held-out ones. A prompt's win is the share of the panel that prefers the
first subject's response, ties and identical texts counting half; intervals
are clustered by prompt.

Users' prompts were written for models that follow instructions; beside them
stand prompts for plain language models, if the world has some (figure 3).
These are texts to be gone on with: nothing is put around them, but the prefix
of *prompted GPT*.
"""

import itertools

import numpy as np

from instruct_jax.evals import bench as bench_lib

# Whom prompts were written for.
INSTRUCT = "instruct"
GPT = "gpt"


@bench_lib.needs("judge", "labelers")
def evaluate_preference(bench: bench_lib.Bench) -> bench_lib.Findings:
  """preference/A_over_B/GROUP for all pairs; by use case over the baseline,
  and by the prompts' source: preference_gpt/A_over_BASELINE/GROUP."""
  metrics, tables = on_users_prompts(bench)
  sources = tables.pop("preference_by_source")
  if written_for_gpt := _of_playground(bench):
    metrics |= {row["metric"]: row["value"] for row in written_for_gpt}
    tables["preference_by_source"] = [*sources, *written_for_gpt]
  return metrics, tables


def on_users_prompts(bench: bench_lib.Bench) -> bench_lib.Findings:
  """preference/A_over_B/GROUP of the test prompts, asking nothing else.

  Of the table "preference_by_source" the rows of these prompts.
  """
  texts = {s.name: bench.ask(s, bench.prompts).texts for s in bench.subjects}
  rows, cases, sources = [], [], []
  for group in bench.ctx.world.labelers:
    worth = {s.name: utilities(bench, s, group) for s in bench.subjects}
    for a, b in itertools.permutations(worth, 2):
      won = wins(texts[a], texts[b], worth[a], worth[b]).mean(axis=1)
      labels = {"subject": a, "baseline": b, "labelers": group}
      metric = f"preference/{a}_over_{b}/{group}"
      rows.append(_row(won, bench.clusters, metric=metric, **labels))
      if bench.baseline and b == bench.baseline.name:
        cases += _by_use_case(bench, won, labels)
        sources.append(_row(won, bench.clusters, source=INSTRUCT, **labels))
  metrics, tables = bench_lib.findings("preference", rows)
  more = {"preference_by_use_case": cases, "preference_by_source": sources}
  return metrics, tables | more


def _of_playground(bench: bench_lib.Bench) -> bench_lib.Rows:
  """Rows over the baseline on prompts for plain language models; or none."""
  settings, baseline = bench.settings, bench.baseline
  if bench.tasks is None or baseline is None:
    return []
  records = bench.tasks.playground(settings.split, settings.judged_prompts)
  if not records:
    return []
  prompts = [record["prompt"] for record in records]
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  said = {
    s.name: bench.ask(s, prompts, raw=not s.prompted) for s in bench.subjects
  }
  rows = []
  for group, panel in bench.ctx.world.labelers.items():
    worth = {
      name: _worth(bench, panel, records, of) for name, of in said.items()
    }
    for name in said:
      if name == baseline.name:
        continue
      a, b = name, baseline.name
      won = wins(said[a].texts, said[b].texts, worth[a], worth[b])
      rows.append(
        _row(
          won.mean(axis=1),
          clusters,
          subject=a,
          baseline=b,
          labelers=group,
          source=GPT,
          metric=f"preference_gpt/{a}_over_{b}/{group}",
        )
      )
  return rows


def _worth(bench, panel, records, said):
  """What each labeler of a panel thinks of each response [N, L]."""
  graded = [
    bench_lib.grade(bench.judge, r["spec"], text, bool(ended))
    for r, text, ended in zip(records, said.texts, said.ended)
  ]
  return _utilities(panel, [r["prompt"] for r in records], said.texts, graded)


def utilities(
  bench: bench_lib.Bench, subject: bench_lib.Subject, group: str
) -> np.ndarray:
  """What each labeler of a group thinks of each response [N, L]."""
  said = bench.ask(subject, bench.prompts).texts
  panel = bench.ctx.world.labelers[group]
  return _utilities(panel, bench.prompts, said, bench.graded(subject))


def _utilities(panel, prompts, texts, graded):
  return np.asarray(
    [
      [labeler.utility(prompt, text, grades) for labeler in panel]
      for prompt, text, grades in zip(prompts, texts, graded)
    ]
  )


def wins(
  texts_a: tuple[str, ...],
  texts_b: tuple[str, ...],
  worth_a: np.ndarray,
  worth_b: np.ndarray,
) -> np.ndarray:
  """1 where A's response is preferred, 0.5 for a tie, [N, L]."""
  same = np.asarray([a == b for a, b in zip(texts_a, texts_b)])
  return np.where(same[:, None], 0.5, (np.sign(worth_a - worth_b) + 1) / 2)


def _by_use_case(bench, won, labels):
  use_cases = bench.use_cases
  return [
    _row(
      won[use_cases == case],
      bench.clusters[use_cases == case],
      use_case=str(case),
      **labels,
    )
    for case in (() if use_cases is None else np.unique(use_cases))
  ]


def _row(won, clusters, **labels):
  return bench_lib.share_row(won, clusters, **labels)
