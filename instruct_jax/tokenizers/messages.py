"""A dialogue: its messages, and the one string that it is written as.

A message is {"role", "content"}: perhaps one of the 'system', first, then the
'user' and the 'assistant' in turns. As a string a dialogue is in HH-RLHF's
notation: what the system says, an empty line, what the user asks first (its
'Human: ' off), then '\\n\\nAssistant: ' and '\\n\\nHuman: ' before each turn.
Templates that are texts with {prompt} in them put that string there; chat
templates get the messages. White space around an answer goes, and a message
that spells the mark of a turn has it without its empty line, so that it stays
one turn.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Message = tuple[str, str]  # (role, content)

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_MARK = re.compile(r"\n+(?=\n(Human|Assistant):)")
_SPOKEN = {"Human": USER, "Assistant": ASSISTANT}


class Dialogue(str):
  """The string of a dialogue, which knows the messages that it is of."""

  messages: tuple[Message, ...]

  def __new__(cls, messages: Sequence[Message]) -> "Dialogue":
    self = super().__new__(cls, _written(messages))
    self.messages = tuple((role, content) for role, content in messages)
    return self

  def __getnewargs__(self) -> tuple[Any, ...]:
    return (self.messages,)

  @property
  def has_turns(self) -> bool:
    """Whether something was said before what is asked."""
    return any(role == ASSISTANT for role, _ in self.messages)


def of(text: str) -> tuple[Message, ...]:
  """The messages of a prompt: a dialogue's, else what its string spells."""
  if isinstance(text, Dialogue):
    return text.messages
  first, *rest = _TURN.split(text)
  turns = zip(rest[::2], rest[1::2])
  return ((USER, first), *((_SPOKEN[name], said) for name, said in turns))


def plain(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
  """(role, content) of messages as JSON has them; parts of text are joined."""
  return tuple((one["role"], _joined(one["content"])) for one in messages)


def trained(messages: Sequence[Mapping[str, Any]]) -> list[int]:
  """Which messages are the assistant's, but for those of the weight 0."""
  return [
    n
    for n, one in enumerate(messages)
    if one["role"] == ASSISTANT and one.get("weight", 1)
  ]


def opening(messages: Sequence[Message]) -> str:
  """The dialogue before the assistant first speaks."""
  roles = [role for role, _ in messages]
  end = roles.index(ASSISTANT) if ASSISTANT in roles else len(roles)
  return Dialogue(messages[:end])


def _written(messages: Sequence[Message]) -> str:
  system = [text for role, text in messages if role == SYSTEM]
  turns = [(role, text) for role, text in messages if role != SYSTEM]
  text = "\n\n".join(_MARK.sub("", one) for one in system)
  for n, (role, content) in enumerate(turns):
    content = _MARK.sub("", content)
    if role == ASSISTANT:
      text += f"\n\nAssistant: {content.strip()}"
    elif n:
      text += f"\n\nHuman: {content}"
    else:
      text += f"\n\n{content}" if text else content
  return text


def _joined(content: Any) -> str:
  if isinstance(content, str):
    return content
  return "".join(part["text"] for part in content)
