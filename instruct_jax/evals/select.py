"""Picks the SFT epoch whose responses the reward model likes best.

Appendix C.1: validation loss is best after one epoch, yet reward and human
preference go on rising, so the final model is picked by reward-model score on
validation prompts. Both are reported for every epoch. N prompts.
"""

import dataclasses
import logging
import zlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from instruct_jax.base import errors, progress
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import loss
from instruct_jax.inference import context, respond, rewards, score

_log = logging.getLogger(__name__)

SPLIT = "validation"


@dataclasses.dataclass(frozen=True)
class Asked:
  """What every epoch is asked, and with which key."""

  records: tuple[dict, ...]  # of the prompts
  demonstrations: list[dict]
  key: jax.Array

  @property
  def prompts(self) -> list[str]:
    """The texts of the prompts."""
    return [record["prompt"] for record in self.records]


@dataclasses.dataclass(frozen=True)
class Measured:
  """What is found of one epoch."""

  said: respond.Responses
  scores: np.ndarray  # [N] of the reward
  loss: float  # of the demonstrations, nats a token
  tokens: int  # of the demonstrations' responses


def open_asked(ctx: context.Context) -> Asked:
  """The validation prompts and demonstrations, as `config.selection` says."""
  key = jax.random.fold_in(
    jax.random.key(ctx.config.seed), zlib.crc32(b"select")
  )
  records = bench_lib.open_prompts(ctx, SPLIT)[: ctx.config.selection.prompts]
  return Asked(records, loss.demonstrations(ctx, SPLIT), key)


def measure(
  ctx: context.Context, asked: Asked, policy: dict, reward: rewards.Models
) -> Measured:
  """Asks one policy. All sample with the same keys."""
  settings = ctx.config.selection
  speaking = respond.policy_of(
    ctx, policy, temperature=settings.temperature, rows=settings.batch
  )
  said = respond.respond(speaking, asked.prompts, asked.key)
  scores = score.rewards_of(
    ctx, reward, asked.prompts, said, rows=settings.batch
  )
  value, tokens = loss.of_demonstrations(
    ctx, policy, asked.demonstrations, rows=settings.batch
  )
  return Measured(said, scores, value, tokens)


def select_epoch(
  ctx: context.Context,
  epochs: Sequence[tuple[int, Callable[[], dict]]],
  reward: rewards.Models,
) -> tuple[dict[str, float], int]:
  """(metrics, the best step) of epochs (step, function that loads it).

  `config.selection` has the number of prompts, the temperature and the rows
  of a batch. Of equal scores the earlier one wins.
  Raises UserError for no epochs.
  """
  if not epochs:
    raise errors.UserError("there is no epoch to select from.")
  asked = open_asked(ctx)
  metrics, mean_scores = {}, {}
  with progress.Progress(ctx.config.experiment, len(epochs)) as line:
    for done, (step, load) in enumerate(epochs, start=1):
      found = measure(ctx, asked, load(), reward)
      mean_scores[step] = float(found.scores.astype("float64").mean())
      metrics[f"select/score/{step}"] = mean_scores[step]
      metrics[f"select/loss/{step}"] = found.loss
      _log.info("select: step %d, score %.4f", step, mean_scores[step])
      line.update(done)
  best = max(mean_scores, key=lambda step: (mean_scores[step], -step))
  return metrics | {
    "select/best_step": float(best),
    "select/best_score": mean_scores[best],
  }, best
