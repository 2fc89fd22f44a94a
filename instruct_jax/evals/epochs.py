"""SFT by epoch: loss of demonstrations, reward, judge and labelers.

Appendix C.1: validation loss overfits after one epoch, yet reward and human
preference go on rising. All epochs answer the same validation prompts with the
same keys.
"""

from collections.abc import Callable, Sequence
from typing import Any

from instruct_jax.base import progress
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import preference, select, verdicts
from instruct_jax.inference import context, rewards

_MEASURES = ("loss", "score", "likert", "preferred")


def measure_epochs(
  ctx: context.Context,
  epochs: Sequence[tuple[int, Callable[[], dict]]],
  reward: rewards.Models,
) -> bench_lib.Findings:
  """epochs/{loss,score,likert,preferred}/EPOCH, and the table `epochs`.

  Likert where the world has a judge; preferred, the share of the training
  labelers' votes against the first epoch's response to the same prompt, where
  it has labelers, too. Of means over `n` prompts there is the 95 % interval,
  as score_low and score_high; the loss is a mean over `tokens`.

  Args:
    ctx: whose `config.selection` says on how many prompts, and how.
    epochs: (step, function that loads the policy) of each, in their order.
    reward: the reward model's parameters.

  Raises UserError where there is no prompt or no demonstration to ask about.
  """
  asked = select.open_asked(ctx)
  clusters = verdicts.clusters_of(asked.records)
  rows: bench_lib.Rows = []
  first = None
  with progress.Progress(ctx.config.experiment, len(epochs)) as line:
    for number, (step, load) in enumerate(epochs, start=1):
      found = select.measure(ctx, asked, load(), reward)
      row: dict[str, Any] = {"epoch": number, "step": step}
      row |= {"loss": found.loss, "tokens": found.tokens}
      row |= verdicts.mean("score", found.scores, clusters)
      if ctx.world.judge is not None:
        graded = verdicts.grades(ctx, asked.records, found.said)
        likert = [grade["likert"] for grade in graded]
        row |= verdicts.mean("likert", likert, clusters, bounds=verdicts.LIKERT)
        if verdicts.GROUP in ctx.world.labelers:
          texts = found.said.texts
          worth = verdicts.worth(ctx, asked.records, texts, graded)
          first = first or (texts, worth)
          won = preference.wins(texts, first[0], worth, first[1])
          row |= verdicts.share("preferred", won.mean(axis=1), clusters)
      rows.append(row | verdicts.counts(clusters))
      line.update(number)
  metrics = {
    f"epochs/{name}/{row['epoch']}": float(row[name])
    for row in rows
    for name in _MEASURES
    if name in row
  }
  return metrics, {"epochs": rows}
