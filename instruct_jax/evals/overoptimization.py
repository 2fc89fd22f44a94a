"""Over-optimisation of the reward model: what it says, and what judges say.

Gao et al. 2022 (arXiv:2210.10760), whose gold reward model is the world's exact
judge here, and whose proxy is the run's own reward: against KL from the start,
in nats a response, the proxy goes on rising where the gold score bends down.

  ppo        the checkpoints that a run kept: the KL is measured on their own
             responses, E_{y ~ π} [log π(y|x) - log π_start(y|x)]; step 0 is the
             start itself
  best_of_n  the start's best of n by the proxy, for n = 1, 2, 4, ... from one
             pool of responses (`maths.best_of.expected`); its KL is at most
             log n - (n - 1) / n

N prompts, M responses of the pool to each.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from instruct_jax.base import progress
from instruct_jax.evals import bench as bench_lib
from instruct_jax.evals import preference, verdicts
from instruct_jax.inference import context, respond, rewards, score
from instruct_jax.maths import best_of

PPO, BEST_OF_N = "ppo", "best_of_n"
TABLE = "overoptimization"
_PLACE = {PPO: "step", BEST_OF_N: "n"}
_MEASURES = ("kl", "proxy", "gold", "likert", "preferred")


def measure_overoptimization(
  ctx: context.Context,
  start: dict,
  steps: Mapping[int, Callable[[], dict]],
  reward: rewards.Models,
) -> bench_lib.Findings:
  """overoptimization/{kl,proxy,gold,likert,preferred}/METHOD/STEP-OR-N.

  gold is the judge's score, 0 to 1; preferred the share of the training
  labelers' votes against an own response of the start's to the same prompt.
  Each with its 95 % interval over `prompts`, clustered by core, in the table
  `overoptimization`.

  Args:
    ctx: `config.overoptimization` says how many prompts of which split, and
      how many responses the pool has.
    start: the policy that the run started from, whose best of n are taken.
    steps: {step: loads the policy that the run kept there}.
    reward: the parameters of the proxy.

  Raises UserError where the split has no prompts.
  """
  root = jax.random.fold_in(
    jax.random.key(ctx.config.seed), zlib.crc32(TABLE.encode())
  )
  k_own, k_steps, k_pool = jax.random.split(root, 3)
  asked = _ask(ctx, start, reward, k_own)
  rows: bench_lib.Rows = []
  with progress.Progress(ctx.config.experiment, len(steps) + 2) as line:
    for step, load in ({0: lambda: start} | dict(steps)).items():
      rows.append(_of_step(asked, start, load(), step, k_steps))
      line.update(len(rows))
    rows += _best_of_n(asked, start, k_pool)
    line.update(len(steps) + 2)
  metrics = {
    f"{TABLE}/{name}/{row['method']}/{row[_PLACE[row['method']]]}": float(
      row[name]
    )
    for row in rows
    for name in _MEASURES
  }
  return metrics, {TABLE: rows}


def counts(most: int) -> list[int]:
  """1, 2, 4, ... up to the most."""
  return [2**power for power in range(most.bit_length())]


@dataclasses.dataclass(frozen=True)
class _Asked:
  """Who is asked what, by whom it is judged, and the start's own responses."""

  ctx: context.Context
  reward: rewards.Models
  records: tuple[dict, ...]  # of the prompts
  texts: tuple[str, ...] = ()  # [N] of the start's own responses
  worth: np.ndarray | None = None  # [N, L] of these

  @property
  def settings(self) -> ConfigDict:
    """The section `config.overoptimization`."""
    return self.ctx.config.overoptimization

  @property
  def clusters(self) -> np.ndarray:
    """What tells independent prompts apart [N]."""
    return verdicts.clusters_of(self.records)


def _ask(ctx, start, reward, key):
  settings = ctx.config.overoptimization
  records = bench_lib.open_prompts(ctx, settings.split)[: settings.prompts]
  asked = _Asked(ctx, reward, records)
  said = _respond(asked, start, key)
  graded = verdicts.grades(ctx, records, said)
  worth = verdicts.worth(ctx, records, said.texts, graded)
  return dataclasses.replace(asked, texts=said.texts, worth=worth)


def _respond(asked, policy, key, n=1):
  speaking = respond.policy_of(asked.ctx, policy, rows=asked.settings.batch)
  prompts = [record["prompt"] for record in asked.records]
  return respond.respond(speaking, prompts, key, n=n)


def _judged(asked, said, n):
  """What is thought of n responses a prompt, {measure: [N x n]}."""
  ctx, rows = asked.ctx, asked.settings.batch
  records = [record for record in asked.records for _ in range(n)]
  prompts = [record["prompt"] for record in records]
  graded = verdicts.grades(ctx, records, said)
  won = preference.wins(
    said.texts,
    tuple(text for text in asked.texts for _ in range(n)),
    verdicts.worth(ctx, records, said.texts, graded),
    asked.worth.repeat(n, axis=0),
  )
  proxy = score.rewards_of(ctx, asked.reward, prompts, said, rows=rows)
  return {
    "proxy": proxy.astype(np.float64),
    "gold": np.asarray([grade["score"] for grade in graded]),
    "likert": np.asarray([grade["likert"] for grade in graded]),
    "preferred": won.mean(axis=1),
  }


def _of_step(asked, start, policy, step, key):
  """The row of a kept step; the start is step 0."""
  said = _respond(asked, policy, key)
  ours, theirs = (
    score.logprobs(
      asked.ctx, params, said.sequences, rows=asked.settings.batch
    ).astype(np.float64)
    for params in (policy, start)
  )
  kl = verdicts.mean("kl", ours - theirs, asked.clusters)
  labels = {"method": PPO, "step": step} | kl
  return _row(asked, labels, _judged(asked, said, 1))


def _best_of_n(asked, start, key):
  """A row for each n, all from one pool of responses."""
  most = asked.settings.responses
  said = _respond(asked, start, key, n=most)
  judged = {
    name: values.reshape(-1, most)
    for name, values in _judged(asked, said, most).items()
  }
  rows = []
  for n in counts(most):
    values = {
      name: best_of.expected(judged["proxy"], of_pool, n=n)
      for name, of_pool in judged.items()
    }
    labels = {"method": BEST_OF_N, "n": n, "kl": best_of.kl(n)}
    rows.append(_row(asked, labels, values))
  return rows


def _row(asked, labels, values):
  """A row of the table: labels, and means over prompts of values [N]."""
  clusters = asked.clusters
  row = labels | verdicts.mean("proxy", values["proxy"], clusters)
  for name, bounds in (("gold", (0.0, 1.0)), ("likert", verdicts.LIKERT)):
    row |= verdicts.mean(name, values[name], clusters, bounds=bounds)
  row |= verdicts.share("preferred", values["preferred"], clusters)
  return row | verdicts.counts(clusters, "prompts")
