"""Candidates: K responses of a prompt, each from one of several policies.

A chunk of prompts is a function of `config.seed`, the split and its number.
The section `config.rankings` or, where nobody ranks yet, `config.candidates`
says how many prompts, K, and the sources.
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
from instruct_jax.data.read import kinds
from instruct_jax.inference import context, respond

_log = logging.getLogger(__name__)
SPLITS = kinds.SPLITS
Listed = dict[str, Any]  # a prompt, its "responses" [K], "ended", "sources"
_KEPT = ("use_case", "spec", "core", "messages")  # of a prompt's record


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
  """What is to be answered, and by whom."""

  ctx: context.Context
  policies: dict[str, dict]
  sources: tuple[Source, ...]
  prompts: dict[str, list[dict]]  # by split

  @property
  def section(self) -> ConfigDict:
    """`config.rankings` or `config.candidates`, as the job is called."""
    return self.ctx.config[self.ctx.config.job]

  def chunks(self, split: str) -> int:
    """How many chunks the split's prompts make."""
    return -(-len(self.prompts[split]) // self.section.chunk)


def check(config: ConfigDict) -> None:
  """UserError where the job's section is impossible; reads no file."""
  job = config.job
  section = config[job]
  for name, source in section.sources.items():
    if source.policy not in config.needs:
      raise errors.unknown(
        f"config.{job}.sources.{name}.policy", source.policy, config.needs
      )
  total = sum(source.share for source in section.sources.values())
  if abs(total - 1) > 1e-6:
    raise errors.UserError(
      f"config.{job}.sources: the shares must add up to 1, not {total:g}."
    )
  most = config.data.k_max or section.k_max  # 0: as the rankings have
  if not 2 <= section.k_min <= section.k_max <= most:
    raise errors.UserError(
      f"config.{job}: 2 <= k_min ({section.k_min}) <= k_max "
      f"({section.k_max}) <= data.k_max ({most}) is needed."
    )
  counts = worlds.of(config.data).counts(config.data, "prompts") or ()
  for split, count in zip(SPLITS, counts):
    if section[split] > count:
      raise errors.UserError(
        f"config.{job}.{split}={section[split]}: the split has {count}"
        " prompts: lower it, or raise data.sizes.prompts."
      )
  if not section.train:
    raise errors.UserError(
      f"config.{job}.train=0: a reward model needs rankings to train on"
    )


def make_plan(
  ctx: context.Context,
  policies: dict[str, dict],
  prompts: dict[str, list[dict]],
) -> Plan:
  """The plan of the job's section; raises UserError as `check`."""
  check(ctx.config)
  sources = tuple(
    Source(name, x.policy, x.temperature, x.prompted, x.share)
    for name, x in sorted(ctx.config[ctx.config.job].sources.items())
  )
  return Plan(ctx, policies, sources, prompts)


def first_prompts(ctx: context.Context, split: str) -> list[dict]:
  """The first prompts of the split that are short enough, as many as asked.

  Raises UserError where there are fewer.
  """
  job, count = ctx.config.job, ctx.config[ctx.config.job][split]
  if not count:
    return []
  found = _fitting(ctx, split)
  if count > len(found):
    raise errors.UserError(
      f"config.{job}.{split}={count}, but the split has {len(found)} "
      "prompts that fit: lower it, or raise data.sizes.prompts."
    )
  return found[:count]


def new_prompts(ctx: context.Context, split: str) -> list[dict]:
  """As many prompts as asked, those first that no ranking has had before.

  Fewer, with a warning, where the split has fewer: how many prompts files
  hold is not known before they are read.
  """
  count = ctx.config[ctx.config.job][split]
  if not count:
    return []
  compared = _compared(ctx)
  found = _fitting(ctx, split)
  new = [r for r in found if kinds.known_by(r, "prompts") not in compared]
  old = [r for r in found if kinds.known_by(r, "prompts") in compared]
  taken = (new + old)[:count]
  if len(new) < count:
    _log.warning(
      "warning: %d %s prompts are asked for; the split has %d that were not"
      " compared before and %d that were: %d are taken",
      *(count, split, len(new), len(old), len(taken)),
    )
  return taken


def _compared(ctx: context.Context) -> set[str]:
  """The prompts of all rankings so far, of whatever split."""
  if not ctx.holds("rankings"):
    return set()
  return {
    kinds.known_by(dict(record), "rankings")
    for split in SPLITS
    for record in ctx.world.records(
      ctx.config.data, "rankings", split, ctx.folders
    )
  }


def _fitting(ctx: context.Context, split: str) -> list[dict]:
  """The prompts of the split that are short enough, in their order."""
  rows = ctx.rows("prompts", split)
  for line in limits.warnings("prompts", {split: rows.counts}, ctx.config.data):
    _log.warning("warning: %s", line)
  return [dict(rows.source[int(i)]) for i in rows.index]


def seed_of(name: str) -> int:
  """What a chunk's draws begin with, beside `config.seed`."""
  return zlib.crc32(name.encode())


def sample(
  plan: Plan, split: str, number: int, *, name: str, rng: np.random.Generator
) -> list[Listed]:
  """The lists of one chunk, in the order of its prompts.

  `rng` draws how many responses a prompt gets and from whom; what they say
  follows from `config.seed` and `name`.
  """
  section = plan.section
  start = number * section.chunk
  prompts = plan.prompts[split][start : start + section.chunk]
  count = rng.integers(section.k_min, section.k_max + 1, len(prompts))
  shares = np.asarray([source.share for source in plan.sources])
  origin = rng.choice(len(shares), int(count.sum()), p=shares / shares.sum())
  owner = np.repeat(np.arange(len(prompts)), count)
  key = jax.random.key(plan.ctx.config.seed)
  texts, ended = _complete(
    plan,
    [prompts[i]["prompt"] for i in owner],
    origin,
    jax.random.fold_in(key, seed_of(name)),
  )
  lists = []
  for i, prompt in enumerate(prompts):
    mine = np.flatnonzero(owner == i)
    lists.append(
      {
        "prompt": prompt["prompt"],
        "responses": [texts[j] for j in mine],
        "ended": [bool(ended[j]) for j in mine],
        "sources": [plan.sources[origin[j]].name for j in mine],
        **{key: prompt[key] for key in _KEPT if key in prompt},
      }
    )
  return lists


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
      rows=plan.section.batch,
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
