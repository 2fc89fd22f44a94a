"""Runs every evaluation that the data allows, on one bench."""

import json
import logging
import time
from collections.abc import Sequence

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.evals import (
  bench,
  bias,
  hallucination,
  kl,
  language,
  length,
  likert,
  loss,
  metadata,
  nlp,
  preference,
  reward,
  score,
  toxicity,
  truthfulness,
)
from instruct_jax.inference import context
from instruct_jax.parallel import hosts

_log = logging.getLogger(__name__)

Subject = bench.Subject

# What needs no judge, so that people's own files can be evaluated too.
COMMON = {"length": length, "kl": kl, "score": score, "loss": loss}
JUDGED = {
  "preference": preference,
  "likert": likert,
  "metadata": metadata,
  "hallucination": hallucination,
  "truthfulness": truthfulness,
  "toxicity": toxicity,
  "nlp": nlp,
  "bias": bias,
  "language": language,
}


def run(
  ctx: context.Context,
  subjects: Sequence[Subject],
  folder: epath.Path,
  frozen: dict[str, dict],
) -> bench.Findings:
  """Metrics {"group/name": value} and tables {name: rows} of the subjects.

  `frozen` may hold parameters of the 'reward' model ({} where a rule takes its
  place) and of the 'reference' policy. Writes folder/responses.jsonl, what
  every subject said to every test prompt. The same parameters give the same
  numbers.

  Raises UserError for subjects without a name of their own, or no prompts.
  """
  names = [subject.name for subject in subjects]
  if not names or len(set(names)) < len(names):
    raise errors.UserError(f"each subject needs a name of its own: {names}.")
  shared = bench.make(ctx, subjects, frozen)
  metrics, tables = {}, {}
  judged = ctx.world.judge is not None
  for name, module in (JUDGED | COMMON if judged else COMMON).items():
    start = time.monotonic()
    found, rows = module.run(shared)
    metrics |= found
    tables |= rows
    seconds = time.monotonic() - start
    _log.debug("evaluation of %s took %.1f s", name, seconds)
  if frozen.get("reward") and _has_rankings(ctx):
    found, rows = reward.run(ctx, frozen["reward"])
    metrics |= found
    tables |= rows
  _write_responses(shared, epath.Path(folder))
  return metrics, tables


def _has_rankings(ctx: context.Context) -> bool:
  """Whether the run can read rankings: its world's, or a stage's."""
  there = ctx.world.holds(ctx.config.data, "rankings")
  return there or "rankings" in ctx.folders


def _write_responses(shared: bench.Bench, folder: epath.Path) -> None:
  """A line a test prompt: {"prompt", "use_case", "responses": {subject: ...}}.

  Of each response: text, tokens, ended, the judge's likert and score where
  there is a judge, and the reward model's score as 'reward'.
  """
  lines = [{"prompt": r["prompt"], "responses": {}} for r in shared.records]
  judged = shared.judge is not None
  for subject in shared.subjects:
    said = shared.ask(subject, shared.prompts)
    columns = {
      "text": list(said.texts),
      "tokens": said.lengths.tolist(),
      "ended": said.ended.tolist(),
    }
    if judged:
      grades = shared.graded(subject)
      columns["likert"] = [g["likert"] for g in grades]
      columns["score"] = [g["score"] for g in grades]
    if "reward" in shared.frozen:
      rewards = shared.rewards(subject)
      columns["reward"] = [round(float(x), 4) for x in rewards]
    for line, values in zip(lines, zip(*columns.values())):
      line["responses"][subject.name] = dict(zip(columns, values))
  for line, record in zip(lines, shared.records):
    if "use_case" in record:
      line["use_case"] = record["use_case"]
  if hosts.is_writer():
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_lines(folder / "responses.jsonl", map(json.dumps, lines))
