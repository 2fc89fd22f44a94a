"""One chunk of the rankings job: prompts -> completions -> ranked records.

K completions of a prompt. A chunk is a function of `config.seed`, the split
and its number.
"""

import dataclasses
import logging
import zlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.data.batch import limits
from instruct_jax.inference import context, respond
from instruct_jax.labeling import quality
from instruct_jax.worlds import interface

_log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
TRAINING = "training"  # the group whose rankings the reward model reads
_KEPT = ("use_case", "spec", "core")  # of a prompt's record


@dataclasses.dataclass(frozen=True)
class Source:
  """Where completions come from."""

  name: str
  policy: str  # one of the policies that the job was given
  temperature: float
  prompted: bool
  share: float  # of the completions


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be ranked, and by whose answers."""

  ctx: context.Context
  policies: dict[str, dict]
  sources: tuple[Source, ...]
  prompts: dict[str, list[dict]]  # by split

  def chunks(self, split: str) -> int:
    """How many chunks the split's prompts make."""
    return -(-len(self.prompts[split]) // self.ctx.config.rankings.chunk)


def check(config: ConfigDict) -> None:
  """UserError where nobody could rank, or `config.rankings` is impossible."""
  world, section = worlds.of(config.data), config.rankings
  if world.judge is None or TRAINING not in world.labelers:
    raise errors.UserError(
      f"data.source={world.name}: there is nobody who can rank; give"
      " rankings (data.rankings)."
    )
  for name, source in section.sources.items():
    if source.policy not in config.needs:
      raise errors.unknown(
        f"config.rankings.sources.{name}.policy", source.policy, config.needs
      )
  total = sum(source.share for source in section.sources.values())
  if abs(total - 1) > 1e-6:
    raise errors.UserError(
      f"config.rankings.sources: the shares must add up to 1, not {total:g}."
    )
  most = config.data.k_max or section.k_max  # 0: as the rankings have
  if not 2 <= section.k_min <= section.k_max <= most:
    raise errors.UserError(
      f"config.rankings: 2 <= k_min ({section.k_min}) <= k_max "
      f"({section.k_max}) <= data.k_max ({most}) is needed."
    )
  for split, count in zip(SPLITS, world.counts(config.data, "prompts") or ()):
    if section[split] > count:
      raise errors.UserError(
        f"config.rankings.{split}={section[split]}: the split has {count}"
        " prompts: lower it, or raise data.sizes.prompts."
      )
  if not section.train:
    raise errors.UserError(
      "config.rankings.train=0: a reward model needs rankings to train on"
    )


def make_plan(ctx: context.Context, policies: dict[str, dict]) -> Plan:
  """The plan of `config.rankings`.

  Raises UserError as `check`, for too few prompts that fit, and for prompts
  without a judge's spec.
  """
  check(ctx.config)
  sources = tuple(
    Source(name, x.policy, x.temperature, x.prompted, x.share)
    for name, x in sorted(ctx.config.rankings.sources.items())
  )
  prompts = {split: _prompts(ctx, split) for split in SPLITS}
  return Plan(ctx, policies, sources, prompts)


def _prompts(ctx: context.Context, split: str) -> list[dict]:
  """The first prompts of the split that are short enough."""
  count = ctx.config.rankings[split]
  if not count:
    return []
  rows = ctx.rows("prompts", split)
  if count > len(rows):
    raise errors.UserError(
      f"config.rankings.{split}={count}, but the split has {len(rows)} "
      "prompts that fit: lower it, or raise data.sizes.prompts."
    )
  for line in limits.warnings("prompts", {split: rows.counts}, ctx.config.data):
    _log.warning("warning: %s", line)
  records = [dict(rows.source[int(i)]) for i in rows.index[:count]]
  if any("spec" not in record for record in records):
    raise errors.UserError(
      "these prompts have no 'spec' for the judge, so nobody here can rank;"
      " give rankings (data.rankings)."
    )
  return records


def make_chunk(plan: Plan, split: str, number: int) -> dict[str, Any]:
  """A JSON-able chunk.

  'records' for the split's file, 'statistics' {name: (sum, weight)}, and, but
  for training prompts, 'agreements': {group: (agreeing, all) pairs} a list.
  """
  section, seed = plan.ctx.config.rankings, plan.ctx.config.seed
  world = plan.ctx.world
  start = number * section.chunk
  prompts = plan.prompts[split][start : start + section.chunk]
  name = zlib.crc32(f"rankings/{split}/{number}".encode())
  rng = np.random.default_rng((seed, name))
  count = rng.integers(section.k_min, section.k_max + 1, len(prompts))
  shares = np.asarray([source.share for source in plan.sources])
  origin = rng.choice(len(shares), int(count.sum()), p=shares / shares.sum())
  owner = np.repeat(np.arange(len(prompts)), count)
  texts, ended = _complete(
    plan,
    [prompts[i]["prompt"] for i in owner],
    origin,
    jax.random.fold_in(jax.random.key(seed), name),
  )
  records, statistics, agreements = [], {}, []
  assert world.judge is not None  # `plan` has asked for one
  for i, prompt in enumerate(prompts):
    mine = np.flatnonzero(owner == i)
    listed: dict[str, Any] = {
      "prompt": prompt["prompt"],
      "responses": [texts[j] for j in mine],
      "ended": [bool(ended[j]) for j in mine],
      "sources": [plan.sources[origin[j]].name for j in mine],
      **{key: prompt[key] for key in _KEPT if key in prompt},
    }
    grades = quality.grade(
      world.judge, listed["spec"], listed["responses"], listed["ended"]
    )
    ranked, more = _label(world.labelers, listed, grades, split, rng)
    records += ranked
    statistics = quality.add(statistics, more)
    if split != "train":
      agreements.append(_agreements(world.labelers, listed, grades))
  return {
    "records": records,
    "statistics": statistics,
    "agreements": agreements,
  }


def _complete(
  plan: Plan, prompts: list[str], origin: np.ndarray, key: jax.Array
) -> tuple[list[str], np.ndarray]:
  """Texts and whether they ended, each from the source that `origin` names."""
  texts, ended = [""] * len(prompts), np.zeros(len(prompts), bool)
  for number, source in enumerate(plan.sources):
    mine = np.flatnonzero(origin == number)
    template = (
      plan.ctx.world.prompted_template
      if source.prompted
      else plan.ctx.config.data.template
    )
    policy = respond.policy_of(
      plan.ctx,
      plan.policies[source.policy],
      template=template,
      temperature=source.temperature,
      rows=plan.ctx.config.rankings.batch,
    )
    said = respond.respond(
      policy,
      [prompts[i] for i in mine],
      jax.random.fold_in(key, number),
    )
    ended[mine] = said.ended
    for i, text in zip(mine, said.texts):
      texts[i] = text
  return texts, ended


def _label(
  labelers: interface.Labelers,
  listed: dict[str, Any],
  grades: quality.Grades,
  split: str,
  rng: np.random.Generator,
) -> tuple[list[dict], quality.Statistics]:
  """A record for each labeler, drawn at random: one of each group to test."""
  records, statistics = [], {}
  for triple in zip(listed["sources"], grades, listed["ended"]):
    statistics = quality.add(statistics, quality.of_completion(*triple))
  for group in (TRAINING,) if split == "train" else tuple(labelers):
    panel = labelers[group]
    labeler = panel[int(rng.integers(len(panel)))]
    ranks = labeler.rank(listed["prompt"], listed["responses"], grades)
    who = {"labeler": labeler.name, "group": group}
    records.append({**listed, "ranks": ranks, **who})
    more = quality.of_ranking(group, ranks, grades)
    statistics = quality.add(statistics, more)
  return records, statistics


def _agreements(
  labelers: interface.Labelers, listed: dict[str, Any], grades: quality.Grades
) -> dict[str, tuple[int, int]]:
  """(agreeing, all) pairs of each group on one list."""
  return {
    group: quality.agreement(
      labelers[group], listed["prompt"], listed["responses"], grades
    )
    for group in labelers
  }
