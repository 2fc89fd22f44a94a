"""Messages as a chat template writes them: special ids, and runs of text."""

import functools
import re
from collections.abc import Callable, Sequence

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import chat
from instruct_jax.tokenizers import messages as messages_lib

OWN = ("chatml", "chat_template")  # the templates that get messages
CHATML = (
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
  "{{ message['content'] }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Plan = list[str | int]  # as `Tokenizer.encode_parts` takes it


def started(
  ids: list[int], tokenizer: tokenizers.Tokenizer, template: str
) -> list[int]:
  """A text's ids with what starts one, where the template has it not."""
  start = [] if template == "chat_template" else list(tokenizer.start_ids)
  return ids if ids[: len(start)] == start else start + ids


def source_of(template: str, tokenizer: tokenizers.Tokenizer) -> str | None:
  """A chat template in Jinja2; None where the template is a text.

  Raises UserError where the model has none.
  """
  if template == "chatml":
    return CHATML
  if template != "chat_template":
    return None
  if not tokenizer.chat_template:
    raise errors.UserError(
      "data.template='chat_template': this model's tokenizer brings none; take"
      f" one of {', '.join(chat.OTHERS)} or a text with {{prompt}}"
    )
  return tokenizer.chat_template


def plan(source: str, prompt: str, tokenizer: tokenizers.Tokenizer) -> Plan:
  """What a chat template makes of a prompt; a dialogue's messages are exact.

  Raises UserError where it fails, or changes what the turns of a string say.
  """
  said = messages_lib.of(prompt)
  if isinstance(prompt, messages_lib.Dialogue):
    return of_messages(source, said, tokenizer)
  text = chat.slotted(source, tuple(role for role, _ in said), names(tokenizer))
  return split(text, True, said, tokenizer)


def of_messages(
  source: str,
  said: Sequence[messages_lib.Message],
  tokenizer: tokenizers.Tokenizer,
  *,
  asks: bool = True,
) -> Plan:
  """What a chat template makes of messages, as `transformers` has it.

  `asks` for the assistant's next turn. Raises UserError where it fails.
  """
  text, has_slots = chat.written(source, said, names(tokenizer), asks=asks)
  return split(text, has_slots, said, tokenizer)


def split(
  text: str,
  has_slots: bool,
  said: Sequence[messages_lib.Message],
  tokenizer: tokenizers.Tokenizer,
) -> Plan:
  """A template's text cut at special tokens, the contents in their places."""
  contents, special = [content for _, content in said], tokenizer.special_ids
  if not has_slots:
    spelled = [name for name in special for c in contents if name in c]
    if spelled:
      raise errors.UserError(
        "the model's chat template changes what these messages say, and one"
        f" spells the special token {spelled[0]}, so that it would become one;"
        " take it out, or another data.template"
      )
  plan: Plan = []
  for part in splitter(tuple(special))(text):
    if part in special:
      plan.append(special[part])
    elif part:
      plan.append(chat.filled(part, contents) if has_slots else part)
  return plan


def names(tokenizer: tokenizers.Tokenizer) -> chat.Names:
  """What templates call the tokenizer's special tokens."""
  return tuple(sorted(tokenizer.special_names.items()))


@functools.lru_cache(8)
def splitter(special: tuple[str, ...]) -> Callable[[str], list[str]]:
  """A function that cuts a text at special tokens, the longest first."""
  if not special:
    return lambda text: [text]
  longest: list[str] = sorted(special, key=len, reverse=True)
  pattern = re.compile("(" + "|".join(map(re.escape, longest)) + ")")
  return pattern.split
