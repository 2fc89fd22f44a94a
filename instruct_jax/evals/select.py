"""Picks the SFT epoch whose responses the reward model likes best.

Appendix C.1: validation loss is best after one epoch, yet reward and human
preference go on rising, so the final model is picked by reward-model score on
validation prompts. Both are reported for every epoch.
"""

import logging
import zlib
from collections.abc import Callable, Sequence

import jax

from instruct_jax.base import errors, progress
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import loss
from instruct_jax.inference import context, respond, rewards, score

_log = logging.getLogger(__name__)

SPLIT = "validation"


def select_epoch(
  ctx: context.Context,
  epochs: Sequence[tuple[int, Callable[[], dict]]],
  reward: rewards.Models,
) -> tuple[dict[str, float], int]:
  """(metrics, the best step) of epochs (step, function that loads it).

  `config.selection` has the number of prompts, the temperature and the rows
  of a batch. All epochs sample with the same keys; of equal scores the earlier
  one wins.
  Raises UserError for no epochs.
  """
  if not epochs:
    raise errors.UserError("there is no epoch to select from.")
  settings = ctx.config.selection
  records = bench_lib.open_prompts(ctx, SPLIT)[: settings.prompts]
  prompts = [record["prompt"] for record in records]
  demonstrations = loss.demonstrations(ctx, SPLIT)
  key = jax.random.fold_in(
    jax.random.key(ctx.config.seed), zlib.crc32(b"select")
  )
  metrics, mean_scores = {}, {}
  with progress.Progress(ctx.config.experiment, len(epochs)) as line:
    for done, (step, load) in enumerate(epochs, start=1):
      policy = load()
      speaking = respond.policy_of(
        ctx, policy, temperature=settings.temperature, rows=settings.batch
      )
      said = respond.respond(speaking, prompts, key)
      scores = score.rewards_of(ctx, reward, prompts, said, rows=settings.batch)
      mean_scores[step] = float(scores.astype("float64").mean())
      value, _ = loss.of_demonstrations(
        ctx, policy, demonstrations, rows=settings.batch
      )
      metrics[f"select/score/{step}"] = mean_scores[step]
      metrics[f"select/loss/{step}"] = value
      _log.info("select: step %d, score %.4f", step, mean_scores[step])
      line.update(done)
  best = max(mean_scores, key=lambda step: (mean_scores[step], -step))
  return metrics | {
    "select/best_step": float(best),
    "select/best_score": mean_scores[best],
  }, best
