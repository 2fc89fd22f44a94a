"""A policy under measurement: asked, with progress, and nothing twice."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from instruct_jax.base import errors, interrupt, progress
from instruct_jax.inference import continuing, likelihood, respond
from instruct_jax.inference import score as score_lib
from instruct_jax.maths import best_of
from instruct_jax.measuring import asked as asked_lib
from instruct_jax.tokenizers import templates

Likelihood, Said = likelihood.Likelihood, continuing.Said


@dataclasses.dataclass(frozen=True)
class Choice:
  """Each answer is the best of so many, where they are sampled."""

  n: int
  score: score_lib.Score
  temperature: float = 1.0  # where a set asks for the likeliest answer


@dataclasses.dataclass(frozen=True)
class Model:
  """A policy by its name. What it answers depends on itself, what is asked and
  the seed alone: not on batches, devices or what was asked before."""

  name: str
  reader: likelihood.Reader
  answers: asked_lib.Answers
  seed: int = 0
  choice: Choice | None = None

  @property
  def reach(self) -> int:
    """Tokens that it reads, prompt and response."""
    return self.reader.reach

  def room(self, max_tokens: int) -> int:
    """Tokens of a prompt that `say` reads beside what is said to it."""
    return self.reach - self._said_at_most(max_tokens)

  def lengths(self, prompts: Sequence[str]) -> list[int]:
    """Tokens of prompts, as `say` reads them."""
    tokenizer, template = self.reader.tokenizer, self.reader.template
    return [len(ids) for ids in templates.encode(prompts, tokenizer, template)]

  def _said_at_most(self, max_tokens):
    """Half of what it reads is the prompt's."""
    return min(max_tokens, max(1, self.reach // 2))

  def likelihoods(self, asked: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """Of each continuation of (context, continuation), in their order.

    Continuations of one context cost that context once.
    """
    pairs = likelihood.encoded(self.reader, asked)
    call = _name("likelihoods", [[list(a), list(b)] for a, b in pairs])
    said = self._asked(
      call,
      len(pairs),
      "likelihoods",
      lambda places: likelihood.by_batch(
        self.reader, pairs, {*range(len(pairs))} - {*places}
      ),
    )
    return [Likelihood(*row) for row in said]

  def say(
    self,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    stops: Sequence[str] = (),
    temperature: float = 0.0,
    top_p: float = 1.0,
    n: int = 1,
  ) -> list[Said]:
    """What it says to each prompt, `n` times, those of a prompt together.

    Up to the first of the stops. The k-th response to the prompt at a place is
    the same whatever n and the number of prompts behind it. With a `choice`
    each is the best of several, of equal ones the first, and the k-th is chosen
    among the k-th so many. UserError where none of them can be scored.
    """
    samples = n
    if self.choice is not None:
      samples = n * self.choice.n
      temperature = temperature or self.choice.temperature
    said = self._sampled(
      prompts, samples, max_tokens, stops, temperature, top_p
    )
    if self.choice is None:
      return said
    scores = self.choice.score(
      respond.repeated(prompts, samples),
      [one.text for one in said],
      [one.ended for one in said],
    )
    is_unread = np.isnan(scores)
    if prompts and is_unread.all():
      raise errors.UserError(
        f"--best_of={self.choice.n}: --scorer reads none of the prompts with"
        " their answers, all are too long for it; name one that reads more"
      )
    scores = np.where(is_unread, -np.inf, scores)
    places = best_of.places(scores, self.choice.n)
    return [
      dataclasses.replace(said[place], is_unchosen=bool(is_unread[place]))
      for place in places
    ]

  def _sampled(self, prompts, n, max_tokens, stops, temperature, top_p):
    """As `say`, without a choice."""
    request = continuing.Request(
      max_tokens=self._said_at_most(max_tokens),
      stops=tuple(stops),
      temperature=temperature,
      top_p=top_p,
    )
    encoded = templates.encode(
      prompts, self.reader.tokenizer, self.reader.template
    )
    ids = [one for one in encoded for _ in range(n)]
    call = _name("say", [dataclasses.astuple(request), self.seed, n, encoded])
    key = jax.random.key(self.seed)
    episodes = respond.episodes(len(prompts), n).tolist()

    def ask(places):
      of_episode = {episodes[place]: place for place in places}
      asked = {episode: ids[place] for episode, place in of_episode.items()}
      for some in continuing.by_batch(self.reader, asked, key, request):
        yield {of_episode[episode]: one for episode, one in some.items()}

    said = self._asked(call, len(ids), "responses", ask)
    return [Said(*row) for row in said]

  def _asked(self, call, count, what, ask):
    """The answers of a call, of which those that are not known are asked."""
    known = self.answers.known(call)
    places = [place for place in range(count) if place not in known]
    for some in ask(places) if places else ():
      rows = {place: _row(one) for place, one in some.items()}
      self.answers.add(call, rows)
      known |= rows
      progress.say(f"{what} {len(known)}/{count}")
      interrupt.check()
    progress.say("")
    return [known[place] for place in range(count)]


def _row(one: Any) -> list[Any]:
  return [getattr(one, field) for field in _fields(type(one))]


@functools.cache
def _fields(kind):
  return tuple(field.name for field in dataclasses.fields(kind))


def _name(kind: str, content: Any) -> str:
  text = json.dumps([kind, content])
  return hashlib.sha256(text.encode()).hexdigest()[:24]
