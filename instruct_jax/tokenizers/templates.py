"""What is put around a prompt: `config.data.template`.

A name or a text with '{prompt}' in it:

  plain            nothing
  human_assistant  Human: ... Assistant:, as HH-RLHF writes dialogues
  chatml           <|im_start|>user ... <|im_end|> <|im_start|>assistant
  chat_template    the model's own, in Jinja2, run in a sandbox

A prompt is one string. Turns of a dialogue have '\\n\\nHuman: ' and
'\\n\\nAssistant: ' between them (HH-RLHF's notation, its first 'Human:' off);
chat templates get them as messages. What a template spells of special tokens
becomes those; what a prompt spells of them stays ordinary text. The sandbox
keeps a template from the machine; it does not bound its time and memory.
"""

import functools
import re
from collections.abc import Callable, Sequence

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import chat

PLAIN = {
  "plain": "{prompt}",
  "human_assistant": "Human: {prompt}\n\nAssistant:",
}
CHATML = (
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
  "{{ message['content'] }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = (*PLAIN, "chatml", "chat_template")
_END = "<|im_end|>"
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_MARK = re.compile(r"\n+(?=\n(Human|Assistant):)")
_ROLES = {"Human": "user", "Assistant": "assistant"}


Turns = tuple[tuple[str, str], ...]  # (what was asked, what was said)


def check(template: str) -> None:
  """UserError for a template that is neither a name nor holds '{prompt}'."""
  if template in NAMES or "{prompt}" in template:
    return
  if re.fullmatch(r"\w+", template):
    known = errors.unknown("data.template", template, NAMES)
    raise errors.UserError(
      f"{known} A text with {{prompt}} in it is right, too."
    )
  raise errors.UserError(
    f"data.template={template!r} has no {{prompt}} to put the prompt in, and is"
    f" none of {', '.join(NAMES)}"
  )


def encode(
  texts: Sequence[str], tokenizer: tokenizers.Tokenizer, template: str
) -> list[list[int]]:
  """The ids of prompts in their template, with what starts a text.

  A chat template says itself what a text starts with; another that spells it
  does not get it twice. What would be no tokens at all is one end-of-text.

  Raises UserError where the model has no chat template, or it fails.
  """
  rows = _encode(texts, tokenizer, template)
  return [ids or [tokenizer.eot_id] for ids in rows]


def added(tokenizer: tokenizers.Tokenizer, template: str) -> int:
  """How many tokens stand around a prompt: the template's and the start."""
  return len(_encode([""], tokenizer, template)[0])


def _encode(texts, tokenizer, template):
  source = _chat_source(template, tokenizer)
  if source is None:
    check(template)
    rows = _filled_form(PLAIN.get(template, template), texts, tokenizer)
  else:
    plans = [_plan(source, text, tokenizer) for text in texts]
    rows = tokenizer.encode_parts(plans)
  start = [] if template == "chat_template" else list(tokenizer.start_ids)
  return [ids if ids[: len(start)] == start else start + ids for ids in rows]


def _filled_form(form, texts, tokenizer):
  """The ids of a text with '{prompt}' in it, and maybe special tokens."""
  parts = _splitter(tuple(tokenizer.special_ids))(form)
  if len(parts) == 1:
    return tokenizer.encode_batch([form.replace("{prompt}", t) for t in texts])
  special = tokenizer.special_ids
  return tokenizer.encode_parts(
    [
      [
        special.get(part, part.replace("{prompt}", text))
        for part in parts
        if part
      ]
      for text in texts
    ]
  )


def ends(template: str, tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
  """Ids that end a response in this template, beside the tokenizer's own."""
  if template == "chatml" and _END in tokenizer.special_ids:
    return (tokenizer.special_ids[_END],)
  return ()


def has_turns(template: str) -> bool:
  """Whether a template tells what was asked before from what was said."""
  if template in NAMES:
    return template != "plain"
  return "\n\nAssistant:" in template


def dialogue(turns: Sequence[tuple[str, str]], prompt: str) -> str:
  """The prompt that goes on from earlier (prompt, response) turns.

  A response that spells the mark of a turn has it without its empty line, so
  that it stays one turn.
  """
  before = "".join(
    f"{asked}\n\nAssistant: {_MARK.sub('', said.strip())}\n\nHuman: "
    for asked, said in turns
  )
  return before + prompt


def messages(prompt: str) -> list[dict[str, str]]:
  """The turns of a prompt: {"role": 'user' or 'assistant', "content"}."""
  first, *rest = _TURN.split(prompt)
  turns = [{"role": "user", "content": first}]
  for role, content in zip(rest[::2], rest[1::2]):
    turns.append({"role": _ROLES[role], "content": content})
  return turns


def _chat_source(template, tokenizer):
  if template == "chatml":
    return CHATML
  if template != "chat_template":
    return None
  if not tokenizer.chat_template:
    raise errors.UserError(
      "data.template='chat_template': this model's tokenizer brings none; take"
      f" one of {', '.join(NAMES[:-1])} or a text with {{prompt}}"
    )
  return tokenizer.chat_template


def _plan(source, prompt, tokenizer):
  """Special ids and runs of ordinary text, in order."""
  turns = messages(prompt)
  names = tuple(sorted(tokenizer.special_names.items()))
  text = chat.slotted(source, tuple(turn["role"] for turn in turns), names)
  plan = []
  for part in _splitter(tuple(tokenizer.special_ids))(text):
    if part in tokenizer.special_ids:
      plan.append(tokenizer.special_ids[part])
    elif part:
      plan.append(chat.filled(part, [turn["content"] for turn in turns]))
  return plan


@functools.lru_cache(8)
def _splitter(special: tuple[str, ...]) -> Callable[[str], list[str]]:
  """A function that cuts a text at special tokens, the longest first."""
  if not special:
    return lambda text: [text]
  longest: list[str] = sorted(special, key=len, reverse=True)
  pattern = re.compile("(" + "|".join(map(re.escape, longest)) + ")")
  return pattern.split
