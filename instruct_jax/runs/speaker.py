"""Finished runs, opened to speak: a policy, and the reward model behind it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.inference import context, rewards
from instruct_jax.runs import reading, records
from instruct_jax.tokenizers import templates


@dataclasses.dataclass(frozen=True)
class Reward:
  """The reward of a run, with its models where they take part."""

  ctx: context.Context
  params: rewards.Models | None


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A policy and what it needs to speak."""

  folder: epath.Path
  ctx: context.Context
  params: dict[str, Any]
  product: records.Product
  reward: Reward | None = None
  scorers: "Scorers | None" = None  # whom somebody named to score

  def normalize(self, text: str) -> str:
    """What a person typed, as the run's data is written."""
    return self.ctx.world.normalize(text, self.ctx.tokenizer)

  def prompt_tokens(self, text: str) -> int:
    """The length of a normalised prompt, its template included."""
    template = self.ctx.config.data.template
    return len(templates.encode([text], self.ctx.tokenizer, template)[0])

  def fits(self, text: str) -> bool:
    """Whether a normalised prompt is within the run's limit."""
    return self.prompt_tokens(text) <= self.ctx.config.data.prompt_length

  def check(self, max_tokens: int, top_k: int) -> None:
    """UserError for more tokens than there is room, or than there are."""
    model, prompt = self.ctx.policy.config, self.ctx.config.data.prompt_length
    room = max(model.reach - prompt, self.ctx.config.data.response_length)
    if max_tokens > room:
      raise errors.UserError(
        f"--max_tokens={max_tokens}: {self.folder} has {model.reach} positions"
        f" ({model.positions}, trained for {model.context_length}) and prompts"
        f" of up to {prompt} tokens, which leaves {room}"
      )
    if top_k > self.ctx.tokenizer.vocab_size:
      raise errors.UserError(
        f"--top_k={top_k}: {self.folder} has a vocabulary of"
        f" {self.ctx.tokenizer.vocab_size} tokens"
      )


@dataclasses.dataclass(frozen=True)
class Scorers:
  """Reward models that somebody named, in the place of a run's own."""

  folders: tuple[str, ...]
  combine: str = "mean"  # of several, as `config.reward.model.combine`


def open_run(
  folder: epath.PathLike,
  *,
  scored: bool = False,
  scorers: Scorers | None = None,
) -> Speaker:
  """The policy of a run; of one that goes on, its newest checkpoint.

  With `scored` also its reward, by the nearest reward models among what it was
  built on, or by those named.

  Raises UserError for what is not a run, hands on no policy, or (with
  `scored`) has no reward model of the same tokenizer.
  """
  folder = epath.Path(folder)
  product = records.product(folder, unfinished=True)
  if product.role != "policy":
    raise errors.UserError(
      f"{folder}: this run made a {product.role} model, which gives scores and"
      " cannot speak. Name a run that made a policy."
    )
  ctx = reading.open_context(folder)
  params = reading.load_parameters(folder, ctx, "policy", unfinished=True)
  one = Speaker(folder, ctx, params, product, scorers=scorers)
  return with_reward(one) if scored else one


def with_reward(one: Speaker) -> Speaker:
  """The speaker with its reward; UserError where it has none."""
  if one.reward is not None:
    return one
  if one.scorers is not None:
    reward = _named_reward(one.folder, one.ctx, one.scorers)
  else:
    reward = _open_reward(one.folder, one.ctx)
  return dataclasses.replace(one, reward=reward)


def without_reward(one: Speaker) -> Speaker:
  """The speaker alone."""
  return dataclasses.replace(one, reward=None)


def _open_reward(folder: epath.Path, ctx: context.Context) -> Reward:
  if "reward" in ctx.config and not rewards.needs_model(ctx.config.reward):
    return Reward(ctx, None)
  there = records.reward_runs(folder)
  if not there:
    raise errors.UserError(
      f"--scores: {folder} was built on no reward model. Name one with"
      " --scorer=RUN, name a run of PPO, or leave --scores out."
    )
  return _reward(folder, ctx, there, "--scores")


def _named_reward(
  folder: epath.Path, ctx: context.Context, scorers: Scorers
) -> Reward:
  """Named reward models alone, whatever else the run was rewarded for."""
  rewards.check_combine(scorers.combine, "--combine")
  ctx = reading.by_model_alone(ctx, scorers.combine)
  there = [epath.Path(path) for path in scorers.folders]
  return _reward(folder, ctx, there, "--scorer")


def _reward(
  folder: epath.Path,
  ctx: context.Context,
  there: Sequence[epath.Path],
  flag: str,
) -> Reward:
  """What the reward models say together; UserError where one cannot."""
  scoring = None
  found = []
  for where in there:
    role = records.product(where).role
    if role != "reward":
      raise errors.UserError(
        f"{flag}={where}: hands on a {role}, where a reward model is needed"
      )
    if reading.speaks_other_words(where, ctx):
      raise errors.UserError(
        f"{flag}: {where} and {folder} have different tokenizers."
      )
    scoring = scoring or reading.open_context(where)
    found.append(reading.load_parameters(where, scoring, "reward"))
  assert scoring is not None  # there is one at least
  _check_reach(scoring, ctx, f"{flag}: {there[0]}")
  needs = dict(zip(rewards.needs(len(found)), found))
  ctx = dataclasses.replace(ctx, scalar=scoring.scalar)
  return Reward(ctx, rewards.together(needs))


def _check_reach(
  scoring: context.Context, ctx: context.Context, what: str
) -> None:
  """UserError where a reward model has no positions for what is said."""
  model, data = scoring.scalar.config, ctx.config.data
  needed = data.prompt_length + data.response_length
  if model.positions == "learned" and needed > model.context_length:
    raise errors.UserError(
      f"{what} learned {model.context_length} positions; prompts and responses"
      f" of the run take up to {needed}"
    )
