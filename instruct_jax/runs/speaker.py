"""Finished runs as speakers: prompts in, texts out.

Rows are sampled in batches of one shape, so a program is compiled once; the
last batch is filled up. Response i to the prompt at place p is episode
p * n + i: it depends on the seed, the turn and that number, not on the other
prompts.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import context, generate
from instruct_jax.models import forward
from instruct_jax.runs import reading
from instruct_jax.tokenizers import templates

ROWS = 64  # of a batch, if so many are asked for


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to sample."""

  temperature: float = 1.0  # 0 is greedy
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 0  # 0: as many as the run was trained for
  n: int = 1  # responses a prompt
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Response:
  """One response to a prompt."""

  text: str
  ended: bool  # by itself, before the last token allowed
  score: float | None = None  # of the reward model, if one was asked for


@dataclasses.dataclass(frozen=True)
class Scorer:
  """A reward model."""

  ctx: context.Context
  params: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A policy and what it needs to speak."""

  folder: epath.Path
  ctx: context.Context
  params: dict[str, Any]
  product: reading.Product
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


def open_run(folder: epath.PathLike, *, scored: bool = False) -> Speaker:
  """The policy of a run; of one that goes on, its newest checkpoint.

  With `scored` also the nearest reward model among what it was built on.

  Raises UserError for what is not a run, hands on no policy, or (with
  `scored`) has no reward model of the same tokenizer.
  """
  folder = epath.Path(folder)
  product = reading.product(folder, unfinished=True)
  if product.role != "policy":
    raise errors.UserError(
      f"{folder}: this run made a {product.role} model, which gives scores and"
      " cannot speak. Name a run that made a policy."
    )
  ctx = reading.open_context(folder)
  params = reading.load_parameters(folder, ctx, "policy", unfinished=True)
  scorer = _open_scorer(folder, ctx) if scored else None
  return Speaker(folder, ctx, params, product, scorer)


def sampling(speaker: Speaker, settings: Settings) -> generate.Sampling:
  """The settings as `generate` takes them; UserError for too many tokens."""
  ctx, data = speaker.ctx, speaker.ctx.config.data
  decoder = ctx.policy.config
  room = decoder.context_length - data.prompt_length
  if decoder.positions == "learned" and settings.max_tokens > room:
    raise errors.UserError(
      f"--max_tokens={settings.max_tokens}: {speaker.folder} has"
      f" {decoder.context_length} positions and prompts of up to"
      f" {data.prompt_length} tokens, which leaves {room}."
    )
  return dataclasses.replace(
    ctx.sampling(temperature=settings.temperature),
    top_k=settings.top_k,
    top_p=settings.top_p,
    max_tokens=settings.max_tokens or data.response_length,
  )


def respond(
  speaker: Speaker,
  prompts: Sequence[str],
  settings: Settings,
  *,
  turn: int = 0,
) -> list[list[Response]]:
  """`settings.n` responses to each normalised prompt; all prompts must fit.

  `turn` numbers the calls of a conversation: each draws anew.
  """
  ctx, data = speaker.ctx, speaker.ctx.config.data
  how = sampling(speaker, settings)
  prompt, is_prompt, kept = loader.encode_prompts(
    prompts, ctx.tokenizer, data.template, data.prompt_length
  )
  if len(kept) != len(prompts):
    raise ValueError("a prompt is too long; see Speaker.fits")
  per_call = min(len(prompts), max(1, ROWS // settings.n))
  root = jax.random.fold_in(jax.random.key(settings.seed), turn)
  found = []
  for start in range(0, len(prompts), per_call):
    count = per_call * settings.n
    episodes = start * settings.n + np.arange(count, dtype=np.int32)
    rows = episodes // settings.n % len(prompts)
    found += _batch(speaker, prompt[rows], is_prompt[rows], episodes, root, how)
  found = found[: len(prompts) * settings.n]
  return [found[i : i + settings.n] for i in range(0, len(found), settings.n)]


def _batch(
  speaker: Speaker,
  prompt: np.ndarray,
  is_prompt: np.ndarray,
  episodes: np.ndarray,
  key: jax.Array,
  how: generate.Sampling,
) -> list[Response]:
  tokenizer = speaker.ctx.tokenizer
  made = generate.generate(
    speaker.ctx.policy, speaker.params, prompt, is_prompt, episodes, key, how
  )
  scores = [None] * len(prompt)
  if speaker.scorer is not None:
    sequences = {
      "prompt": prompt,
      "is_prompt": is_prompt,
      "response": generate.canonical_end(made.tokens, how.stop_ids),
      "is_response": made.is_response,
    }
    scorer = speaker.scorer
    found = _scores(scorer.ctx.scalar, scorer.params, sequences)
    scores = np.asarray(found).tolist()
  texts = loader.decode_responses(made.tokens, made.is_response, tokenizer)
  ended = np.asarray(made.ended).tolist()
  return [Response(*row) for row in zip(texts, ended, scores)]


_scores = functools.partial(jax.jit, static_argnums=0)(forward.scores)


def _open_scorer(folder: epath.Path, ctx: context.Context) -> Scorer:
  where = reading.reward_run(folder)
  if where is None:
    raise errors.UserError(
      f"--scores: {folder} was built on no reward model. Name a run of PPO, or"
      " leave --scores out."
    )
  scoring = reading.open_context(where)
  probe = scoring.tokenizer, ctx.tokenizer
  if probe[0].vocab_size != probe[1].vocab_size:
    raise errors.UserError(
      f"--scores: {where} and {folder} have different tokenizers."
    )
  params = reading.load_parameters(where, scoring, "reward")
  return Scorer(scoring, params)
