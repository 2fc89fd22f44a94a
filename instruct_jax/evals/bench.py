"""What the evaluations of one suite share: subjects, prompts, responses.

All subjects see the same prompts. What a subject says depends on its
parameters, the prompts and `config.evaluation.seed` alone, never on what was
asked before, and is sampled once.
"""

import dataclasses
import functools
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from instruct_jax.base import errors
from instruct_jax.evals import prefixes
from instruct_jax.inference import best_of, context, encode, respond, score
from instruct_jax.inference import rewards as rewards_lib
from instruct_jax.maths import statistics
from instruct_jax.worlds import interface

_log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
Findings = tuple[dict[str, float], dict[str, Rows]]


Evaluate = Callable[["Bench"], Findings]


@dataclasses.dataclass(frozen=True)
class Subject:
  """A policy under evaluation."""

  name: str
  params: dict
  prompted: bool = False  # through the template of *prompted GPT*
  best_of: int = 1  # responses a prompt, of which the reward's best is given
  temperature: float | None = None  # None: `evaluation.temperature`
  prefix: interface.Prefix | None = None  # if prompted; None: the default
  columns: int = 0  # of the program that samples behind a long prefix
  ctx: context.Context | None = None  # if its model is none of the bench's
  # What it is and was trained with: its row of the table "models".
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def context(self, ctx: context.Context) -> context.Context:
    """The context whose policy it is; `ctx` is the others'."""
    return self.ctx or ctx


@dataclasses.dataclass(frozen=True)
class Bench:
  """The arguments of every evaluation."""

  ctx: context.Context
  subjects: tuple[Subject, ...]
  records: tuple[dict, ...]  # the test prompts of all subjects
  pool: tuple[dict, ...]  # every prompt of the split, these first
  ask: Callable[..., respond.Responses]
  rewards: Callable[[Subject], np.ndarray]
  # 'reward', 'reference': parameters, where there are some.
  frozen: dict[str, rewards_lib.Models]
  # Functions that load reward models which are to be compared, by name.
  reward_models: Mapping[str, Callable[[], dict]] = dataclasses.field(
    default_factory=dict
  )
  # Of each prompted subject whose prefix was chosen, a row a candidate.
  prefixes: tuple[dict[str, Any], ...] = ()

  @property
  def is_rewarded(self) -> bool:
    """Whether `rewards` can be asked: the reward model is here, or no part."""
    needs_model = rewards_lib.needs_model(self.ctx.config.reward)
    return "reward" in self.frozen or not needs_model

  @property
  def settings(self) -> ConfigDict:
    """The section `config.evaluation`."""
    return self.ctx.config.evaluation

  def temperature(self, subject: Subject) -> float:
    """What a subject answers users' prompts at."""
    return temperature_of(self.settings, subject)

  @property
  def judge(self) -> interface.Judge:
    """Who grades responses; None to an evaluation that does not need one."""
    return cast(interface.Judge, self.ctx.world.judge)

  @property
  def tasks(self) -> interface.Tasks:
    """The world's sets; None to an evaluation that does not need them."""
    return cast(interface.Tasks, self.ctx.world.tasks)

  @property
  def prompts(self) -> tuple[str, ...]:
    """The texts of the test prompts."""
    return tuple(record["prompt"] for record in self.records)

  @property
  def clusters(self) -> np.ndarray:
    """What tells independent test prompts apart [N].

    Prompts with one core (the same question in other words of greeting, the
    same passage) are not independent.
    """
    return np.asarray([r.get("core", r["prompt"]) for r in self.records])

  @property
  def plain(self) -> tuple[Subject, ...]:
    """The subjects that read prompts as the reference does."""
    return tuple(s for s in self.subjects if not s.prompted)

  @property
  def use_cases(self) -> np.ndarray | None:
    """The use cases of the test prompts [N], where all have one."""
    names = [record.get("use_case") for record in self.records]
    return None if None in names else np.asarray(names)

  @property
  def baseline(self) -> Subject | None:
    """The subject that the others are held against, if it is there."""
    return self._named(self.settings.baseline)

  @property
  def reference(self) -> Subject | None:
    """The subject that KL is measured from, if it is there."""
    return self._named(self.settings.reference or self.settings.baseline)

  def _named(self, name: str) -> Subject | None:
    return next((s for s in self.subjects if s.name == name), None)

  def graded(self, subject: Subject) -> list[Mapping[str, float]]:
    """The judge's grades of a subject's responses to the test prompts."""
    said = self.ask(subject, self.prompts)
    return [
      grade(self.judge, record["spec"], text, bool(ended))
      for record, text, ended in zip(self.records, said.texts, said.ended)
    ]


# What an evaluation may need, and whether it is there.
NEEDS: dict[str, Callable[[Bench], bool]] = {
  "judge": lambda bench: bench.judge is not None,
  "labelers": lambda bench: bool(bench.ctx.world.labelers),
  "tasks": lambda bench: bench.tasks is not None,
  "reward": lambda bench: bench.is_rewarded,
  "reward_model": lambda bench: "reward" in bench.frozen,
  "reward_models": lambda bench: bool(bench.reward_models),
  "rankings": lambda bench: bench.ctx.holds("rankings"),
  "demonstrations": lambda bench: bench.ctx.holds("demonstrations"),
}


def needs(*names: str) -> Callable[[Evaluate], Evaluate]:
  """Declares what an evaluation needs (NEEDS); without it, it is left out."""
  for name in names:
    if name not in NEEDS:
      raise errors.unknown("need of an evaluation", name, NEEDS)

  def declare(evaluate: Evaluate) -> Evaluate:
    setattr(evaluate, "needs", names)  # noqa: B010
    return evaluate

  return declare


def missing(bench: Bench, evaluate: Evaluate) -> tuple[str, ...]:
  """What an evaluation needs and the bench has not."""
  declared = getattr(evaluate, "needs", ())
  return tuple(name for name in declared if not NEEDS[name](bench))


def make(
  ctx: context.Context,
  subjects: Sequence[Subject],
  frozen: dict[str, rewards_lib.Models],
  reward_models: Mapping[str, Callable[[], dict]] | None = None,
) -> Bench:
  """The bench on the first `evaluation.prompts` prompts of its split.

  Prompted subjects without a prefix get one (`prefixes`).
  """
  settings = ctx.config.evaluation
  subjects, chosen = _prefixed(ctx, subjects, frozen)
  pool = open_prompts(ctx, settings.split)
  records = pool[: settings.prompts]
  ask = asker(ctx, frozen.get("reward"))
  prompts = [record["prompt"] for record in records]

  @functools.cache
  def rewards(name):
    return score.rewards_of(
      ctx,
      frozen.get("reward"),
      prompts,
      ask(by_name[name], prompts),
      rows=settings.batch,
    )

  by_name = {subject.name: subject for subject in subjects}
  return Bench(
    ctx,
    tuple(subjects),
    records,
    pool,
    ask,
    lambda subject: rewards(subject.name),
    dict(frozen),
    dict(reward_models or {}),
    chosen,
  )


def _prefixed(ctx, subjects, frozen):
  """(the subjects, each prompted one with its prefix; rows of candidates)."""
  if not any(s.prompted and s.prefix is None for s in subjects):
    return tuple(subjects), ()
  default = prefixes.default_of(ctx.world)
  records = _choosing(ctx) if prefixes.can_choose(ctx, frozen) else ()
  found, rows = [], []
  for subject in subjects:
    prefix, columns = subject.prefix, subject.columns
    if subject.prompted and prefix is None:
      prefix = default
      if records:
        choice = prefixes.choose(
          *(subject.context(ctx), subject.params, frozen["reward"], records),
          subject=subject.name,
          temperature=temperature_of(ctx.config.evaluation, subject),
        )
        prefix, columns = choice.prefix, choice.columns
        rows += choice.rows
    found.append(dataclasses.replace(subject, prefix=prefix, columns=columns))
  return tuple(found), tuple(rows)


def _choosing(ctx):
  """The validation prompts that choose a prefix; none where there are none."""
  try:
    records = open_prompts(ctx, prefixes.SPLIT)
  except errors.UserError as error:
    _log.warning("the prefix of prompted GPT is not chosen: %s", error)
    return ()
  return records[: ctx.config.evaluation.prefix.prompts]


def temperature_of(settings: ConfigDict, subject: Subject) -> float:
  """What a subject answers at: its own temperature, or the section's."""
  if subject.temperature is None:
    return settings.temperature
  return subject.temperature


def template_of(
  ctx: context.Context, subject: Subject, *, raw: bool = False
) -> str:
  """The template that a subject's prompts go through; `raw`: none."""
  if raw:
    return encode.RAW_TEMPLATE
  if subject.prompted:
    return _prefix_of(ctx, subject).template
  return ctx.config.data.template


def _prefix_of(ctx, subject):
  """What a prompted subject reads around a prompt."""
  return subject.prefix or prefixes.default_of(ctx.world)


def open_prompts(ctx: context.Context, split: str) -> tuple[dict, ...]:
  """The records of a split's prompts that are short enough."""
  rows = ctx.rows("prompts", split)
  return tuple(dict(rows.source[int(i)]) for i in rows.index)


def asker(
  ctx: context.Context, reward: rewards_lib.Models | None = None
) -> Callable[..., respond.Responses]:
  """The function `ask`, which samples responses and remembers them.

  ask(subject, prompts, raw=False, temperature=None, columns=0) -> Responses:
  `raw` leaves the template away; such prompts may be as long as the columns
  that all are answered on, or as so many `columns` if these are more. The
  temperature is the subject's unless given.
  Repeated prompts get different samples. All subjects share their randomness.
  A subject whose `best_of` is n gives the best of n (`inference.best_of`) by
  `config.reward`, with a missing end marked as `config.rl` says, if it is
  there; but the first where what is asked is no user's prompt (`raw`) or all n
  would be the same. `reward` are the reward model's parameters.
  """
  known: dict[tuple, respond.Responses] = {}
  settings = ctx.config.evaluation

  def ask(
    subject: Subject,
    prompts: Sequence[str],
    *,
    raw: bool = False,
    temperature: float | None = None,
    columns: int = 0,
  ) -> respond.Responses:
    template = template_of(ctx, subject, raw=raw)
    is_prompted = subject.prompted and not raw
    stop = _prefix_of(ctx, subject).stop if is_prompted else ""
    heat = temperature_of(settings, subject)
    heat = heat if temperature is None else temperature
    n = subject.best_of if heat and not raw else 1
    asked = (
      *(id(subject.params), template, stop, heat, tuple(prompts), n),
      columns,
    )
    if asked not in known:
      name = zlib.crc32(json.dumps(prompts).encode())
      key = jax.random.fold_in(jax.random.key(settings.seed), name)
      own = subject.context(ctx)
      how = {"temperature": heat, "rows": settings.batch}
      if is_prompted:
        prefix = _prefix_of(ctx, subject)
        policy = prefixes.policy_of(
          own, subject.params, prefix, columns=subject.columns, **how
        )
      else:
        policy = respond.policy_of(
          own, subject.params, template=template, **how
        )
        if raw:
          room = max(columns, policy.columns)
          policy = dataclasses.replace(policy, width=room, columns=room)
      worth = functools.partial(_worth, ctx, reward)
      if stop:  # what is chosen among is what is left of them
        every = respond.repeated(prompts, n)
        said = respond.respond(policy, prompts, key, n=n)
        said = prefixes.cut(ctx, every, said, stop)
        if n > 1:
          said = best_of.of(said, worth(every, said), n=n)
        known[asked] = said
      else:
        known[asked] = best_of.answer(policy, prompts, key, n=n, reward=worth)
    return known[asked]

  return ask


def _worth(ctx, reward, prompts, said):
  """What responses are chosen by [N]."""
  rows = ctx.config.evaluation.batch
  scores = score.rewards_of(ctx, reward, prompts, said, rows=rows)
  return best_of.shaped(ctx, scores, said.ended)


@functools.cache
def grade(
  judge: interface.Judge, spec: str, text: str, ended: bool
) -> Mapping[str, float]:
  """The judge's grades of one response; do not change what it returns."""
  return judge.grade(spec, text, ended)


def row(
  values: Sequence[float] | np.ndarray,
  clusters: Sequence[Any] | np.ndarray,
  *,
  bounds: tuple[float, float] | None = None,
  **labels: Any,
) -> dict[str, Any]:
  """A table's row: labels, mean and 95 % interval clustered by prompt.

  For what is no share: a score, nats, a Likert grade (`bounds` 1 and 7).
  """
  mean = statistics.mean_interval(
    np.asarray(values, np.float64), np.asarray(clusters), bounds=bounds
  )
  return labels | _figures(mean)


def share_row(
  values: Sequence[float] | np.ndarray,
  clusters: Sequence[Any] | np.ndarray,
  *,
  weights: np.ndarray | None = None,
  **labels: Any,
) -> dict[str, Any]:
  """As `row`, of values from 0 to 1 whose mean is a share: wins, accuracies.

  Its interval stays within 0 and 1 (`statistics.proportion_interval`).
  """
  share = statistics.proportion_interval(
    np.asarray(values, np.float64), np.asarray(clusters), weights=weights
  )
  return labels | _figures(share)


def _figures(interval: statistics.Interval) -> dict[str, Any]:
  return {
    "value": interval.value,
    "low": interval.low,
    "high": interval.high,
    "n": interval.n,
    "clusters": interval.clusters,
  }


def findings(table: str, rows: Rows) -> Findings:
  """Metrics {row["metric"]: row["value"]}, and the rows as a table."""
  return {r["metric"]: r["value"] for r in rows}, {table: rows}
