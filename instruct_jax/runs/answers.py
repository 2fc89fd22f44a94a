"""What finished runs answer: prompts in, responses with their scores out.

A response depends on the seed, the turn, the place of its prompt among all and
its number among the prompt's own (`respond.episodes`), not on the other
prompts, nor on how many are said or whether somebody watches them grow. With
`best_of` each is the best of so many, which nobody watches.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from instruct_jax.base import errors, ranges
from instruct_jax.inference import best_of as choice
from instruct_jax.inference import respond, rewards, score
from instruct_jax.maths import best_of
from instruct_jax.runs import speaker

ROWS = 64  # of a batch, if so many are asked for

# (the texts so far, which of them have ended)
Watch = Callable[[Sequence[str], Sequence[bool]], None]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to sample."""

  temperature: float = 1.0  # 0 is greedy
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 0  # 0: as many as the run was trained for
  n: int = 1  # responses a prompt
  seed: int = 0
  best_of: int = 1  # responses of which each is the one the reward likes best

  def __post_init__(self):
    """Raises UserError for what is outside `ranges.SAMPLING`, and for a choice
    among responses that are all the same."""
    for name, row in ranges.SAMPLING.items():
      ranges.require(f"--{name}", getattr(self, name), row)
    if self.best_of > 1 and not self.temperature:
      raise errors.UserError(
        f"--best_of={self.best_of}: at temperature 0 all responses are the"
        " same, so there is nothing to choose from; give another --temperature"
      )
    most = ranges.SAMPLING["n"]
    ranges.require("--n x --best_of", self.samples, most)

  @property
  def samples(self) -> int:
    """Responses a prompt that are sampled."""
    return self.n * self.best_of


@dataclasses.dataclass(frozen=True)
class Response:
  """One response to a prompt."""

  text: str
  ended: bool  # by itself, before the last token allowed
  score: float | None = None  # of the reward, if it was asked for
  terms: Mapping[str, float] | None = None  # what the score is the sum of
  best_of: int = 1  # responses of which it is the one with the best score

  @property
  def remark(self) -> str:
    """What is shown behind the text: that it was cut, and its score."""
    cut = "" if self.ended else " …"
    if self.score is None:
      return cut
    terms = (self.terms or {}).items()
    names = [f"{name} {x:+.2f}" for name, x in terms]
    of_terms = f" = {', '.join(names)}" if len(names) > 1 else ""
    return f"{cut}  ({self.score:+.2f}{of_terms})"

  def __str__(self) -> str:
    return self.text + self.remark


def policy_of(
  one: speaker.Speaker, settings: Settings, *, prompts: int = 1
) -> respond.Policy:
  """The policy that answers so many prompts.

  Raises UserError for settings that this policy cannot follow.
  """
  one.check(settings.max_tokens, settings.top_k)
  if settings.best_of > 1 and one.reward is None:
    raise errors.UserError(
      f"--best_of={settings.best_of}: {one.folder} has no reward to choose by;"
      " give --scorer=RUN of a reward model, or --scores for its own"
    )
  data = one.ctx.config.data
  return respond.policy_of(
    one.ctx,
    one.params,
    rows=min(ROWS, prompts * settings.samples),
    temperature=settings.temperature,
    top_k=settings.top_k,
    top_p=settings.top_p,
    max_tokens=settings.max_tokens or data.response_length,
  )


def answer(
  one: speaker.Speaker,
  prompts: Sequence[str],
  settings: Settings,
  *,
  turn: int = 0,
) -> list[list[Response]]:
  """`settings.n` responses to each normalised prompt; all prompts must fit.

  `turn` numbers the calls of a conversation: each draws anew.
  """
  count = len(prompts)
  policy = policy_of(one, settings, prompts=count)
  key, samples = _key(settings, turn), settings.samples
  said = respond.respond(policy, prompts, key, n=samples)
  asked = respond.repeated(prompts, samples)
  responses = _responses(one, asked, said, rows=policy.rows)
  return [
    _chosen(one, responses[i : i + samples], settings.best_of)
    for i in range(0, len(responses), samples)
  ]


def _chosen(
  one: speaker.Speaker, responses: list[Response], n: int
) -> list[Response]:
  """The best of each n responses that follow each other."""
  if n == 1:
    return responses
  scores = np.asarray([response.score for response in responses])
  ended = np.asarray([response.ended for response in responses])
  worth = choice.shaped(one.ctx, scores, ended)
  return [
    dataclasses.replace(responses[place], best_of=n)
    for place in best_of.places(worth, n)
  ]


def answer_one(
  one: speaker.Speaker,
  prompt: str,
  settings: Settings,
  *,
  turn: int = 0,
  watch: Watch = lambda texts, ended: None,
) -> list[Response]:
  """What `answer` says to one prompt; `watch` sees it while it grows, and
  nothing of what is chosen from."""
  policy, key = policy_of(one, settings), _key(settings, turn)
  ids = respond.episodes(1, settings.samples)
  responses: list[Response] = []
  for first in range(0, len(ids), ROWS):
    some = ids[first : first + ROWS]
    asked = [prompt] * len(some)
    said = None
    for said in respond.grow(policy, asked, key, ids=some):
      if settings.best_of > 1:
        watch([], [])
      else:
        watch(
          [*(r.text for r in responses), *said.texts],
          [*(True for _ in responses), *said.ended.tolist()],
        )
    assert said is not None
    responses += _responses(one, asked, said, rows=policy.rows)
  return _chosen(one, responses, settings.best_of)


def _key(settings: Settings, turn: int) -> jax.Array:
  return jax.random.fold_in(jax.random.key(settings.seed), turn)


def _responses(
  one: speaker.Speaker,
  prompts: Sequence[str],
  said: respond.Responses,
  *,
  rows: int,
) -> list[Response]:
  scored: Sequence[tuple] = [()] * len(prompts)
  if one.reward is not None:
    scored = _scores(one.reward, prompts, said, rows=rows)
  return [
    Response(text, ended, *of_text)
    for text, ended, of_text in zip(said.texts, said.ended.tolist(), scored)
  ]


def _scores(
  reward: speaker.Reward,
  prompts: Sequence[str],
  said: respond.Responses,
  *,
  rows: int,
) -> list[tuple[float, dict[str, float]]]:
  """The reward of each response, and its terms before their weights."""
  ctx = reward.ctx
  columns = score.terms_of(ctx, reward.params, prompts, said, rows=rows)
  totals = rewards.total(ctx.config.reward, columns)
  terms = [
    dict(zip(columns, row))
    for row in zip(*(x.tolist() for x in columns.values()))
  ]
  return list(zip(totals.tolist(), terms))
