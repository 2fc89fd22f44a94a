"""Runs every evaluation that the data allows, on one bench."""

import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import (
  errors,
  outside,
  progress,
  run_folder,
  storage,
)
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
  mistakes,
  nlp,
  preference,
  prefix_file,
  reward,
  reward_models,
  score,
  toxicity,
  truthfulness,
)
from instruct_jax.inference import context
from instruct_jax.inference import rewards as rewards_lib
from instruct_jax.parallel import hosts
from instruct_jax.worlds import mixture

_log = logging.getLogger(__name__)

Subject = bench.Subject

# What is measured, where the data allows it (`bench.needs`), in this order.
EVALUATIONS: dict[str, bench.Evaluate] = {
  "preference": preference.evaluate_preference,
  "likert": likert.evaluate_likert,
  "metadata": metadata.evaluate_metadata,
  "hallucination": hallucination.evaluate_hallucination,
  "truthfulness": truthfulness.evaluate_truthfulness,
  "toxicity": toxicity.evaluate_toxicity,
  "nlp": nlp.evaluate_nlp,
  "bias": bias.evaluate_bias,
  "language": language.evaluate_language,
  "mistakes": mistakes.evaluate_mistakes,
  "length": length.evaluate_length,
  "kl": kl.evaluate_kl,
  "score": score.evaluate_score,
  "loss": loss.evaluate_loss,
  "reward": reward.evaluate_reward,
  "reward_models": reward_models.evaluate_reward_models,
}
MEASURED = "measured"


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a suite found."""

  metrics: dict[str, float]
  tables: dict[str, bench.Rows]
  # By name: MEASURED, or what it needs and the data has not.
  evaluations: dict[str, str] = dataclasses.field(default_factory=dict)


def evaluations_of(extra: str) -> dict[str, bench.Evaluate]:
  """Every evaluation by name; `extra` are people's own, by import path.

  Several have commas between. Raises UserError where one is not there.
  """
  paths = [path.strip() for path in extra.split(",") if path.strip()]
  key = "config.evaluation.extra"
  return EVALUATIONS | {path: outside.function(path, key) for path in paths}


def check(config: ConfigDict) -> None:
  """UserError where `config.evaluation` names what is not there."""
  section = config.evaluation
  if not section.subjects:
    raise errors.UserError(
      "config.evaluation.subjects is empty: name a policy to evaluate"
    )
  for name, subject in section.subjects.items():
    if subject.run and subject.run not in config.needs:
      raise errors.unknown(
        f"config.evaluation.subjects.{name}.run", subject.run, config.needs
      )
    mixed = mixture.names(config, worlds.of(config.data))
    if subject.mixture and subject.mixture not in mixed:
      raise errors.unknown(
        f"config.evaluation.subjects.{name}.mixture", subject.mixture, mixed
      )
    if subject.best_of > 1:
      rewards_lib.check(config)
      has_model = config.needs.get("reward", "") != ""
      if rewards_lib.needs_model(config.reward) and not has_model:
        raise errors.UserError(
          f"config.evaluation.subjects.{name}.best_of={subject.best_of}: there"
          " is no reward model to choose with; name one in"
          " config.needs.reward, or reward something else"
          " (config.reward.model.weight=0)"
        )
  for name, need in section.get("reward_models", {}).items():
    if need not in config.needs:
      raise errors.unknown(
        f"config.evaluation.reward_models.{name}", need, config.needs
      )
  prefix_file.check(config)
  for name in section.left_out:
    if name not in section.subjects:
      raise errors.unknown(
        "config.evaluation.left_out: subject", name, section.subjects
      )
  if section.baseline in section.left_out:
    raise errors.UserError(
      f"config.evaluation.left_out has {section.baseline}, with which the"
      " others are compared (config.evaluation.baseline)"
    )
  if section.baseline not in section.subjects:
    raise errors.unknown(
      "config.evaluation.baseline", section.baseline, section.subjects
    )
  if section.reference and section.reference not in section.subjects:
    raise errors.unknown(
      "config.evaluation.reference", section.reference, section.subjects
    )
  if not section.prompts:
    raise errors.UserError(
      "config.evaluation.prompts=0: at least 1 is needed to evaluate"
      " (config.evaluation.suite=none turns it off)"
    )


def left_out(config: ConfigDict) -> dict[str, str]:
  """{subject: why} of those of `config.evaluation` that are not there."""
  found, world = {}, worlds.of(config.data)
  for name, section in config.evaluation.subjects.items():
    of = section.mixture
    if name in config.evaluation.left_out:
      found[name] = "config.evaluation.left_out names it"
    elif of and not mixture.is_there(config, world, of):
      found[name] = f"no such data: config.mixtures.{of} is empty"
  return found


def evaluate_policies(
  ctx: context.Context,
  subjects: Sequence[Subject],
  folder: epath.Path,
  frozen: dict[str, rewards_lib.Models],
  compared: Mapping[str, Callable[[], dict]] | None = None,
) -> Outcome:
  """Every evaluation that the data allows, of the subjects.

  `frozen` may hold parameters of the 'reward' models and of the 'reference'
  policy; `compared` load the reward models that are compared, by name. Writes
  folder/responses.jsonl, what every subject said to every test prompt. The same
  parameters give the same numbers.

  Raises UserError for subjects without a name of their own, no prompts, or an
  evaluation of people's own that returns something else than findings.
  """
  names = [subject.name for subject in subjects]
  if not names or len(set(names)) < len(names):
    raise errors.UserError(f"each subject needs a name of its own: {names}.")
  shared = bench.make(ctx, subjects, frozen, compared)
  outcome = Outcome(*_asked(shared))
  evaluations = evaluations_of(shared.settings.extra)
  with progress.Progress(
    f"{ctx.config.experiment} evaluation", len(evaluations), even=False
  ) as line:
    for number, (name, evaluate) in enumerate(evaluations.items(), start=1):
      line.say(name)
      _measure(shared, name, evaluate, outcome)
      line.update(number)
    line.say("responses")
    _write_responses(shared, epath.Path(folder))
  return outcome


def _asked(shared: bench.Bench) -> bench.Findings:
  """How every subject was asked, and how prefixes were chosen, as tables."""
  rows = [
    {
      "subject": subject.name,
      "temperature": shared.temperature(subject),
      "responses a prompt": subject.best_of,
      "prefix": subject.prefix.name if subject.prefix else "",
    }
    for subject in shared.subjects
  ]
  tables: dict[str, bench.Rows] = {"subjects": rows}
  if models := [dict(s.facts) for s in shared.subjects if s.facts]:
    tables["models"] = models
  if absent := left_out(shared.ctx.config):
    tables["left_out"] = [
      {"model": name, "why": why} for name, why in absent.items()
    ]
  if shared.prefixes:
    tables["prefixes"] = list(shared.prefixes)
  scored = [row for row in shared.prefixes if "metric" in row]
  return {row["metric"]: row["value"] for row in scored}, tables


def _measure(
  shared: bench.Bench, name: str, evaluate: bench.Evaluate, outcome: Outcome
) -> None:
  """One evaluation, if it has what it needs, into the outcome."""
  if lacking := bench.missing(shared, evaluate):
    outcome.evaluations[name] = f"needs {' and '.join(lacking)}"
    return
  start = time.monotonic()
  if name in EVALUATIONS:
    findings = evaluate(shared)
  else:
    then = ". The run itself is finished: mend it and give the command again."
    with outside.calling(f"config.evaluation.extra={name}: failed", then):
      findings = evaluate(shared)
    _check(name, findings, outcome)
  outcome.metrics.update(findings[0])
  outcome.tables.update(findings[1])
  outcome.evaluations[name] = MEASURED
  _log.debug("%s took %.1f s", name, time.monotonic() - start)


def _check(name: str, findings: Any, before: Outcome) -> None:
  """UserError where an evaluation of people's own returned no findings."""
  wrong = _wrong_findings(findings)
  if not wrong:
    taken = [n for n in findings[0] if n in before.metrics]
    taken += [n for n in findings[1] if n in before.tables]
    wrong = f"'{taken[0]}' has been measured already" if taken else ""
  if wrong:
    raise errors.UserError(
      f"config.evaluation.extra={name}: {wrong}; an evaluation returns metrics"
      ' {"group/name": number} and tables {name: [row, ...]}, a row being a'
      " JSON object"
    )


def _wrong_findings(findings: Any) -> str:
  if not isinstance(findings, tuple) or len(findings) != 2:
    return f"it returned {findings!r:.80}"
  metrics, tables = findings
  if not isinstance(metrics, dict) or not isinstance(tables, dict):
    return f"it returned {findings!r:.80}"
  for name, value in metrics.items():
    if not isinstance(value, (int, float)):
      return f"the metric '{name}' is {value!r:.80}"
  for name, rows in tables.items():
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
      return f"the table '{name}' is {rows!r:.80}"
  try:
    json.dumps(findings)
  except (TypeError, ValueError) as error:
    return f"what it returned cannot be written: {error}"
  return ""


def _write_responses(shared: bench.Bench, folder: epath.Path) -> None:
  """A line a test prompt: {"prompt", "use_case", "responses": {subject: ...}}.

  Of each response: text, tokens, ended, the temperature that it was sampled at,
  the judge's likert and score where there is a judge, the reward model's score
  as 'reward', and where there are labelers 'preferred': {other subject: share
  of the training labelers who prefer it to the other's, ties counting half}.
  """
  lines = [{"prompt": r["prompt"], "responses": {}} for r in shared.records]
  judged = shared.judge is not None
  preferred = preferred_shares(shared)
  for subject in shared.subjects:
    said = shared.ask(subject, shared.prompts)
    columns = {
      "text": list(said.texts),
      "tokens": said.lengths.tolist(),
      "ended": said.ended.tolist(),
      "temperature": [shared.temperature(subject)] * len(said.texts),
    }
    if judged:
      grades = shared.graded(subject)
      columns["likert"] = [g["likert"] for g in grades]
      columns["score"] = [g["score"] for g in grades]
    if shared.is_rewarded:
      rewards = shared.rewards(subject)
      columns["reward"] = [round(float(x), 4) for x in rewards]
    if subject.name in preferred:
      columns["preferred"] = preferred[subject.name]
    for line, values in zip(lines, zip(*columns.values())):
      line["responses"][subject.name] = dict(zip(columns, values))
  for line, record in zip(lines, shared.records):
    if "use_case" in record:
      line["use_case"] = record["use_case"]
  if hosts.is_writer():
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_lines(
      run_folder.files(folder).responses, map(json.dumps, lines)
    )


def preferred_shares(
  shared: bench.Bench,
) -> dict[str, list[dict[str, float]]]:
  """{subject: for each prompt {other: share that prefers the subject}}."""
  panels = shared.ctx.world.labelers
  if shared.judge is None or not panels:
    return {}
  group = "training" if "training" in panels else next(iter(panels))
  texts = {s.name: shared.ask(s, shared.prompts).texts for s in shared.subjects}
  worth = {
    s.name: preference.utilities(shared, s, group) for s in shared.subjects
  }
  shares = {name: [{} for _ in shared.records] for name in texts}
  for a, b in itertools.permutations(texts, 2):
    won = preference.wins(texts[a], texts[b], worth[a], worth[b]).mean(axis=1)
    for line, share in zip(shares[a], won):
      line[b] = round(float(share), 4)
  return shares
