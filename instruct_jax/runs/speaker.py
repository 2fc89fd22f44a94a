"""Finished runs, opened to speak: a policy, and the reward model behind it."""

import dataclasses
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.inference import context, rewards
from instruct_jax.runs import reading, records
from instruct_jax.tokenizers import templates


@dataclasses.dataclass(frozen=True)
class Scorer:
  """The reward of a run, with its model where that takes part."""

  ctx: context.Context
  params: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A policy and what it needs to speak."""

  folder: epath.Path
  ctx: context.Context
  params: dict[str, Any]
  product: records.Product
  scorer: Scorer | None = None

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


def open_run(folder: epath.PathLike, *, scored: bool = False) -> Speaker:
  """The policy of a run; of one that goes on, its newest checkpoint.

  With `scored` also its reward, by the nearest reward model among what it was
  built on.

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
  scorer = _open_scorer(folder, ctx) if scored else None
  return Speaker(folder, ctx, params, product, scorer)


def with_scorer(one: Speaker) -> Speaker:
  """The speaker with its reward; UserError where it has none."""
  if one.scorer is not None:
    return one
  return dataclasses.replace(one, scorer=_open_scorer(one.folder, one.ctx))


def without_scorer(one: Speaker) -> Speaker:
  """The speaker alone."""
  return dataclasses.replace(one, scorer=None)


def _open_scorer(folder: epath.Path, ctx: context.Context) -> Scorer:
  if "reward" in ctx.config and not rewards.needs_model(ctx.config.reward):
    return Scorer(ctx, None)
  where = records.reward_run(folder)
  if where is None:
    raise errors.UserError(
      f"--scores: {folder} was built on no reward model. Name a run of PPO, or"
      " leave --scores out."
    )
  if reading.speaks_other_words(where, ctx):
    raise errors.UserError(
      f"--scores: {where} and {folder} have different tokenizers."
    )
  scoring = reading.open_context(where)
  params = reading.load_parameters(where, scoring, "reward")
  return Scorer(dataclasses.replace(ctx, scalar=scoring.scalar), params)
