"""What runs say of themselves: who answers, and what they can be asked."""

from collections.abc import Mapping

import jax

from instruct_jax.hf import folder as hf_folder
from instruct_jax.runs import conversation, records, speaker
from instruct_jax.worlds import interface

EXAMPLES = 5
_LONGEST = 100  # characters of an example


def about(name: str, one: speaker.Speaker) -> list[str]:
  """Who a run is: where it lies, its model, its template, what made it."""
  config, model = one.ctx.config, one.ctx.policy.config
  size = sum(x.size for x in jax.tree.leaves(one.params))
  turns = "turns" if conversation.has_turns(one) else "no turns"
  return [
    f"{name}: {one.folder}",
    f"  {_origin(one)}",
    f"  {size:,} parameters, {model.layers} layers of {model.width};"
    f" {one.ctx.tokenizer.vocab_size:,} tokens ({one.ctx.tokenizer.kind})",
    f"  template {config.data.template!r} ({turns}); prompts of up to"
    f" {config.data.prompt_length} tokens, responses of"
    f" {config.data.response_length} unless /max_tokens says otherwise",
  ]


def _origin(one: speaker.Speaker) -> str:
  if hf_folder.is_reference(one.folder):
    return "a checkpoint in Hugging Face format"
  config, product = one.ctx.config, one.product
  where = "" if product.run == one.folder else f" of {product.run}"
  needs = records.read_needs(one.folder)
  made_of = [f"{key} {path.name}" for key, path in needs.items()]
  data = config.data
  kinds = ("pretraining", "demonstrations", "rankings", "prompts")
  files = [f"{kind} {data[kind]}" for kind in kinds if data.get(kind)]
  return "; ".join(
    [
      f"{config.experiment}:{config.variant}, step {product.step}{where}"
      f" ({product.item})",
      f"built on {', '.join(made_of)}" if made_of else "built on nothing",
      f"data: {', '.join([data.source, *files])}",
    ]
  )


def examples(one: speaker.Speaker) -> list[str]:
  """A few prompts that a run can be asked; of its world, else a word."""
  ctx = one.ctx
  found = interface.examples(ctx.world, ctx.config.data, ctx.folders)
  usable = []
  for text in dict.fromkeys(found):
    line = " ".join(text.split())
    fits = len(line) <= _LONGEST and one.fits(one.normalize(line))
    usable += [line] if line and fits else []
  return usable[:EXAMPLES] or [_general(one)]


def _general(one: speaker.Speaker) -> str:
  if conversation.has_turns(one):
    return "What is the capital of France?"
  return "Once upon a time"


def greeting(speakers: Mapping[str, speaker.Speaker]) -> list[str]:
  """What a conversation opens with."""
  turns = [
    name for name, one in speakers.items() if conversation.has_turns(one)
  ]
  if len(turns) == len(speakers):
    memory = "What was said before is remembered; /reset forgets it."
  elif not turns:
    memory = "Every line stands alone: what was said before is not remembered."
  else:
    memory = f"Only {', '.join(turns)} remembers what was said before."
  first = next(iter(speakers.values()))
  shown = [f"  {text}" for text in examples(first)[:3]]
  return [
    f"{', '.join(speakers)}: a line is a prompt, /help says what else."
    " Ctrl-C stops an answer, Ctrl-D ends.",
    memory,
    "For example:",
    *shown,
  ]
