"""Dialogues as one prompt string, which several formats need.

The notation is HH-RLHF's: turns after '\\n\\nHuman: ' and '\\n\\nAssistant: ',
the first 'Human:' off. A message that spells such a mark itself would be read
as two; dialogues with one before the last turn are dropped.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from instruct_jax.data.public import formats

HUMAN, ASSISTANT = "Human", "Assistant"
_ROLES = {
  "user": HUMAN,
  "human": HUMAN,
  "prompter": HUMAN,
  "assistant": ASSISTANT,
  "gpt": ASSISTANT,
}
_MARK = re.compile(rf"\n\n({HUMAN}|{ASSISTANT}):")
FORGED = "dropped: a message that spells the mark of a turn"


@dataclasses.dataclass(frozen=True)
class Conversation:
  """A prompt and the last answer; or why there is none, to be counted."""

  prompt: str = ""
  response: str = ""
  wrong: str = ""


def split(dialogue: str) -> tuple[str, str]:
  """(prompt, last answer) of a dialogue in HH-RLHF's notation."""
  prompt, _, response = dialogue.rpartition(f"\n\n{ASSISTANT}:")
  return _opened(prompt), response.strip()


def turns(
  messages: Sequence[Any], where: str
) -> tuple[list[str], list[tuple[str, str]], str]:
  """What a system says first, if anything; (speaker, text) of the turns; and
  why it is no conversation, or ''."""
  said, opening = [], []
  for n, message in enumerate(messages, 1):
    role, text = _message(message, f"{where}, message {n}")
    if role == "system" and n == 1:
      opening = [text] if text else []
    elif role not in _ROLES:
      return [], [], f"dropped: a message of the role '{role[:20]}'"
    elif not text:
      return [], [], "dropped: a message without a text"
    else:
      said.append((_ROLES[role], text))
  return opening, said, ""


def disorder(said: Sequence[tuple[str, str]]) -> str:
  """Why turns are no questions with their answers, to be counted; or ''."""
  speakers = [speaker for speaker, _ in said]
  if speakers[-1:] != [ASSISTANT]:
    return "dropped: no answer at the end"
  if speakers != [HUMAN, ASSISTANT] * (len(said) // 2):
    return "dropped: the turns do not alternate"
  return ""


def conversation(messages: Sequence[Any], where: str) -> Conversation:
  """The messages as a prompt; what a system says first opens it."""
  opening, said, wrong = turns(messages, where)
  wrong = wrong or disorder(said)
  if not wrong and is_forged([text for _, text in said[:-1]] + opening):
    wrong = FORGED
  if wrong:
    return Conversation(wrong=wrong)
  prompt = "\n\n".join([*opening, prompt_of(said[:-1])])
  return Conversation(prompt, said[-1][1])


def _message(message: Any, where: str) -> tuple[str, str]:
  names = ("role", "content")
  if isinstance(message, dict) and "from" in message:
    names = ("from", "value")
  role = formats.key(message, names[0], str, where)
  return role, formats.optional(message, names[1], str, where).strip()


def prompt_of(turns: Sequence[tuple[str, str]]) -> str:
  """The (speaker, text) of turns as one string."""
  return _opened("".join(f"\n\n{speaker}: {text}" for speaker, text in turns))


def _opened(dialogue: str) -> str:
  """A dialogue without the mark of its first turn."""
  return dialogue.strip().removeprefix(f"{HUMAN}:").strip()


def is_forged(texts: Sequence[str]) -> bool:
  """Whether one of the texts spells the mark of a turn itself."""
  return any(_MARK.search(f"\n\n{text}") for text in texts)
