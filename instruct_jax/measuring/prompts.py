"""Prompts made of parts, and what becomes of one that a model cannot read.

Instruction and question always stay. Where the whole is longer than a model
reads, examples go first, the farthest before the nearer; then earlier questions
of the passage, likewise; then the passage loses words at its end. All of it is
counted. What is too long even so loses its beginning (`continuing`).
"""

import dataclasses
import re
from collections.abc import Sequence

from instruct_jax.measuring import models, options

LINE = ("\n",)  # the stop of an answer of one line
_BROKEN = re.compile(r"\S+\Z")  # what is left of a word


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Its parts, in the order in which they stand."""

  start: str = ""  # what is to be done
  examples: tuple[str, ...] = ()
  opening: str = ""  # before the passage
  passage: str = ""
  history: tuple[str, ...] = ()  # earlier questions of it, answered
  end: str = ""  # what is asked

  @property
  def text(self) -> str:
    """All of it."""
    before = "".join((self.start, *self.examples, self.opening))
    return "".join((before, self.passage, *self.history, self.end))


@dataclasses.dataclass(frozen=True)
class Answers:
  """To prompts, in their order."""

  prompts: list[str]  # as they were read
  texts: list[str]  # what was said, without white space around it
  counts: dict[str, int]  # of what was cut, for people


def ask(
  model: models.Model,
  prompts: Sequence[Prompt],
  *,
  max_tokens: int,
  stops: Sequence[str] = LINE,
) -> Answers:
  """What a model says greedily, up to the first of the stops."""
  kept = fitted(model, prompts, max_tokens)
  read = [one.text for one in kept]
  said = model.say(read, max_tokens=max_tokens, stops=stops)
  texts = [one.text.strip() for one in said]
  found = counts(prompts, kept) | options.counts(said)
  if silent := sum(not text for text in texts):
    found["responses without a word"] = silent
  return Answers(read, texts, found)


def fitted(
  model: models.Model, prompts: Sequence[Prompt], max_tokens: int
) -> list[Prompt]:
  """Prompts that leave room for so many tokens, as far as may be."""
  room = model.room(max_tokens)
  kept = list(prompts)
  places = list(range(len(kept)))
  while places:
    sizes = model.lengths([kept[n].text for n in places])
    longer = [(n, size) for n, size in zip(places, sizes) if size > room]
    places = []
    for n, size in longer:
      shorter = _shorter(kept[n], size, room)
      if shorter != kept[n]:
        kept[n] = shorter
        places.append(n)
  return kept


def _shorter(prompt: Prompt, size: int, room: int) -> Prompt:
  """A prompt of `size` tokens without some of what it can do without."""
  # Characters that certainly are too many, of text like all of it.
  over = 0.8 * (size - room) * len(prompt.text) / size
  if prompt.examples:
    return dataclasses.replace(prompt, examples=_later(prompt.examples, over))
  if prompt.history:
    return dataclasses.replace(prompt, history=_later(prompt.history, over))
  kept = max(0, len(prompt.passage) - max(1, int(over)))
  passage = prompt.passage[:kept]
  if not prompt.passage[kept : kept + 1].isspace():
    passage = _BROKEN.sub("", passage)
  return dataclasses.replace(prompt, passage=passage.rstrip())


def _later(parts: tuple[str, ...], over: float) -> tuple[str, ...]:
  """Parts without the first, nor those that certainly are too many."""
  gone = 0
  while parts and (not gone or gone + len(parts[0]) < over):
    gone += len(parts[0])
    parts = parts[1:]
  return parts


def counts(before: Sequence[Prompt], after: Sequence[Prompt]) -> dict[str, int]:
  """What prompts have lost, for people."""
  named = {
    "examples": "prompts with fewer examples, to fit",
    "history": "prompts with fewer earlier questions, to fit",
    "passage": "passages cut at their end, to fit",
  }
  found = {
    what: sum(
      getattr(a, name) != getattr(b, name) for a, b in zip(before, after)
    )
    for name, what in named.items()
  }
  return {what: count for what, count in found.items() if count}
