"""What is put around a prompt: `config.data.template`.

A name or a text with '{prompt}' in it:

  plain            nothing
  human_assistant  Human: ... Assistant:, as HH-RLHF writes dialogues
  chatml           <|im_start|>user ... <|im_end|> <|im_start|>assistant
  chat_template    the model's own, in Jinja2, run in a sandbox

A prompt is one string. Turns of a dialogue have '\\n\\nHuman: ' and
'\\n\\nAssistant: ' between them (HH-RLHF's notation, its first 'Human:' off;
`messages` has all of it). Chat templates get them as messages, and those of a
`Dialogue` as they were given, the system's too. What a template spells of
special tokens becomes those; what a prompt spells of them stays ordinary text.
The sandbox keeps a template from the machine; it does not bound its time and
memory. What follows a prompt is in `answers`.
"""

import re
from collections.abc import Sequence

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import messages as messages_lib
from instruct_jax.tokenizers import rendering

PLAIN = {
  "plain": "{prompt}",
  "human_assistant": "Human: {prompt}\n\nAssistant:",
}
NAMES = (*PLAIN, *rendering.OWN)
_END = "<|im_end|>"


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
  source = rendering.source_of(template, tokenizer)
  if source is None:
    check(template)
    rows = _filled_form(PLAIN.get(template, template), texts, tokenizer)
  else:
    plans = [rendering.plan(source, text, tokenizer) for text in texts]
    rows = tokenizer.encode_parts(plans)
  return [rendering.started(ids, tokenizer, template) for ids in rows]


def _filled_form(form, texts, tokenizer):
  """The ids of a text with '{prompt}' in it, and maybe special tokens."""
  parts = rendering.splitter(tuple(tokenizer.special_ids))(form)
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


def dialogue(
  turns: Sequence[tuple[str, str]], prompt: str, system: str = ""
) -> str:
  """The prompt that goes on from earlier (prompt, response) turns.

  What stands alone is as it was given.
  """
  if not turns and not system:
    return prompt
  said = [(messages_lib.SYSTEM, system)] if system else []
  for asked, answer in turns:
    said.append((messages_lib.USER, asked))
    said.append((messages_lib.ASSISTANT, answer.strip()))
  return messages_lib.Dialogue([*said, (messages_lib.USER, prompt)])


def messages(prompt: str) -> list[dict[str, str]]:
  """The messages of a prompt: {"role", "content"}."""
  return [
    {"role": role, "content": content}
    for role, content in messages_lib.of(prompt)
  ]
