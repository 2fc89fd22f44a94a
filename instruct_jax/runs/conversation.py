"""A conversation with runs: how they sample, and what was said before.

Where a template has turns, a run's prompt holds what it was asked before and
what it answered; where it has none, every prompt stands alone.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.runs import answers, speaker
from instruct_jax.tokenizers import templates

Turns = templates.Turns
Speakers = Mapping[str, speaker.Speaker]  # by name

_EDGES = re.compile(r"^\W+|\W+$")  # what is no part of a word


@dataclasses.dataclass(frozen=True)
class Talk:
  """One conversation."""

  speakers: Speakers
  settings: answers.Settings
  draws: int = 0  # prompts since the seed was set; each draws anew
  turns: Mapping[str, Turns] = dataclasses.field(default_factory=dict)  # by run

  def sampling(self, **changes: Any) -> "Talk":
    """The conversation with other settings; a seed starts its draws anew.

    Raises UserError for what no setting can be, or a run cannot follow.
    """
    settings = dataclasses.replace(self.settings, **changes)
    for one in self.speakers.values():
      answers.policy_of(one, settings)
    draws = 0 if "seed" in changes else self.draws
    return dataclasses.replace(self, settings=settings, draws=draws)

  def asked(self, said: Mapping[str, tuple[Turns, str, str]]) -> "Talk":
    """After a prompt: (turns that went before, prompt, response) by run."""
    turns = {
      name: (*before, (prompt, response))
      for name, (before, prompt, response) in said.items()
      if has_turns(self.speakers[name])
    }
    return dataclasses.replace(
      self, draws=self.draws + 1, turns={**self.turns, **turns}
    )


def whole(turns: Sequence[tuple[str, str]], text: str, system: str = "") -> str:
  """What a run reads: what was said before, then the prompt."""
  return templates.dialogue(turns, text, system)


def has_turns(one: speaker.Speaker) -> bool:
  """Whether a run knows what was said before."""
  return templates.has_turns(one.ctx.config.data.template)


def as_typed(
  one: speaker.Speaker, words: Sequence[str], text: str
) -> list[str]:
  """Normalised words as they stand in a text, each once; else as they are."""
  found: dict[str, str] = {}
  for typed in dict.fromkeys(text.split()):
    for word in one.normalize(typed).split():
      start = typed.lower().find(word)
      part = typed[start : start + len(word)]
      whole_word = _EDGES.sub("", typed) or typed
      found.setdefault(word, part if start >= 0 else whole_word)
  return list(dict.fromkeys(found.get(word, word) for word in words))


def problem(one: speaker.Speaker, text: str) -> str:
  """Why a normalised prompt cannot be used; '' if it can."""
  if not text.strip():
    return "nothing is left of the prompt in the data"
  if not one.fits(text):
    limit = one.ctx.config.data.prompt_length
    tokens = one.prompt_tokens(text)
    return f"a prompt of {tokens} tokens is longer than the limit {limit}"
  return ""


def fitting(
  one: speaker.Speaker, turns: Sequence[tuple[str, str]], text: str
) -> tuple[Turns, str]:
  """The newest turns before a prompt that a run can take, and why not all.

  All are left out where its template takes none of them.
  """
  for first in range(len(turns)):
    kept = tuple(turns[first:])
    try:
      if one.fits(templates.dialogue(kept, text)):
        limit = one.ctx.config.data.prompt_length
        return kept, _forgotten(first, f"its limit is {limit} tokens")
    except errors.UserError as error:
      return (), _forgotten(len(turns), str(error))
  limit = one.ctx.config.data.prompt_length
  return (), _forgotten(len(turns), f"its limit is {limit} tokens")


def _forgotten(count: int, why: str) -> str:
  if not count:
    return ""
  what = "the oldest turn" if count == 1 else f"the {count} oldest turns"
  return f"{what} forgotten: {why}"
