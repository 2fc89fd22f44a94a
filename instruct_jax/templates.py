"""What is put around a prompt: `config.data.template`.

A name or a text with '{prompt}' in it:

  plain            nothing
  human_assistant  Human: ... Assistant:, as HH-RLHF writes dialogues
  chatml           <|im_start|>user ... <|im_end|> <|im_start|>assistant
  chat_template    the model's own, in Jinja2, run in a sandbox

A prompt is one string. Turns of a dialogue have '\\n\\nHuman: ' and
'\\n\\nAssistant: ' between them (HH-RLHF's notation, its first 'Human:' off);
chat templates get them as messages. What a template spells of special tokens
becomes those; what a prompt spells of them stays ordinary text.
"""

import functools
import re
from collections.abc import Sequence

import jinja2
import jinja2.sandbox

from instruct_jax import errors, tokenizers

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
# Private-use characters, which no prompt may hold: places of the contents.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_SLOT = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def check(template: str) -> None:
  """UserError for a template that is neither a name nor holds '{prompt}'."""
  if template in NAMES or "{prompt}" in template:
    return
  if re.fullmatch(r"\w+", template):
    raise errors.unknown("data.template", template, NAMES)
  raise errors.UserError(
    f"data.template={template!r} has no {{prompt}} to put the prompt in, and is"
    f" none of {', '.join(NAMES)}"
  )


def encode(
  texts: Sequence[str], tokenizer: tokenizers.Tokenizer, template: str
) -> list[list[int]]:
  """The ids of prompts in their template, with what starts a text.

  A chat template says itself what a text starts with.

  Raises UserError where the model has no chat template, or it fails.
  """
  source = _chat_source(template, tokenizer)
  if source is None:
    check(template)
    form = PLAIN.get(template, template)
    filled = [form.replace("{prompt}", text) for text in texts]
    start = list(tokenizer.start_ids)
    return [start + ids for ids in tokenizer.encode_batch(filled)]
  start = list(tokenizer.start_ids) if template == "chatml" else []
  runs, plans = [], []
  for text in texts:
    plan = _plan(source, text, tokenizer)
    plans.append(plan)
    runs += [part for part in plan if isinstance(part, str)]
  encoded = iter(tokenizer.encode_batch(runs))
  return [
    start
    + [
      i
      for part in plan
      for i in (next(encoded) if isinstance(part, str) else [part])
    ]
    for plan in plans
  ]


def ends(template: str, tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
  """Ids that end a response in this template, beside the tokenizer's own."""
  if template == "chatml" and _END in tokenizer.special_ids:
    return (tokenizer.special_ids[_END],)
  return ()


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
  contents = [turn["content"] for turn in turns]
  if "trim" in source:  # of the contents, which it does not see
    contents = [content.strip() for content in contents]
  slots = [
    turn | {"content": f"{_OPEN}{n}{_CLOSE}"} for n, turn in enumerate(turns)
  ]
  text = _rendered(source, slots, tokenizer)
  if [int(n) for n in _SLOT.findall(text)] != list(range(len(turns))):
    raise errors.UserError(
      "the model's chat template leaves a turn out, or repeats one; take"
      f" another data.template: {', '.join(NAMES[:-1])}"
    )
  plan = []
  for part in _splitter(tuple(tokenizer.special_ids))(text):
    if part in tokenizer.special_ids:
      plan.append(tokenizer.special_ids[part])
    elif part:
      plan.append(_SLOT.sub(lambda found: contents[int(found[1])], part))
  return plan


def _rendered(source, slots, tokenizer):
  names = {i: text for text, i in tokenizer.special_ids.items()}
  special = {
    "bos_token": names.get((tokenizer.start_ids or (None,))[0], ""),
    "eos_token": names.get(tokenizer.eot_id, ""),
  }
  try:
    return _compiled(source).render(
      messages=slots, add_generation_prompt=True, **special
    )
  except errors.UserError:
    raise
  except Exception as error:  # whatever a stranger's template throws
    raise errors.UserError(
      f"the model's chat template failed: {type(error).__name__}: {error}"
    ) from None


@functools.lru_cache(8)
def _compiled(source):
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols"],
  )

  def refuse(message):
    raise errors.UserError(f"the model's chat template says: {message}")

  environment.globals["raise_exception"] = refuse
  environment.globals["strftime_now"] = lambda form: ""  # the same every day
  try:
    return environment.from_string(source)
  except jinja2.TemplateError as error:
    raise errors.UserError(
      f"the model's chat template is no Jinja2: {error}"
    ) from None


@functools.lru_cache(8)
def _splitter(special):
  """A function that cuts a text at special tokens, the longest first."""
  if not special:
    return lambda text: [text]
  longest = sorted(special, key=len, reverse=True)
  pattern = re.compile("(" + "|".join(map(re.escape, longest)) + ")")
  return pattern.split
