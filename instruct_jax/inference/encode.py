"""Texts as the rows that a model reads: N prompts on P columns, R responses.

Prompts are padded on the left, responses on the right.
"""

from collections.abc import Sequence

import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import context
from instruct_jax.tokenizers import answers, templates

RAW_TEMPLATE = "{prompt}"


def width_of(ctx: context.Context, template: str) -> int:
  """The columns that the longest allowed prompt takes in a template.

  `data.prompt_length` counts the tokens of `data.template`; another template
  that adds more widens the prompt by the difference.
  """
  usual, other = (
    templates.added(ctx.tokenizer, form)
    for form in (ctx.config.data.template, template)
  )
  return ctx.config.data.prompt_length + max(0, other - usual)


def shared_width(ctx: context.Context, template: str) -> int:
  """The columns for prompts in a template where they are answered.

  Those of the world's wider one, where a text with its response is then at most
  a quarter longer: both share a program, and its seconds of compiling.
  """
  width, wider = (
    width_of(ctx, form) for form in (template, ctx.world.prompted_template)
  )
  most = (width + ctx.config.data.response_length) // SPARE
  return wider if width < wider <= width + most else width


SPARE = 4  # a quarter


def prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  width: int,
) -> dict[str, np.ndarray]:
  """prompt [N, P] int32 and is_prompt [N, P] bool of all the texts; P = width.

  Raises UserError where one does not fit into the columns.
  """
  prompt, is_prompt, kept = loader.encode_prompts(
    texts, tokenizer, template, width
  )
  if len(kept) < len(texts):
    first = min(set(range(len(texts))) - set(kept.tolist()))
    raise errors.UserError(
      f"{len(texts) - len(kept)} of {len(texts)} prompts do not fit into "
      f"{width} tokens, the first: {texts[first]!r}. Raise "
      "data.prompt_length."
    )
  return {"prompt": prompt, "is_prompt": is_prompt}


def responses(
  ctx: context.Context,
  texts: Sequence[str],
  ended: Sequence[bool],
  *,
  prompts: Sequence[str] | None = None,
  template: str = RAW_TEMPLATE,
) -> dict[str, np.ndarray]:
  """response [N, R] int32 and is_response [N, R] bool, cut at R tokens.

  As they follow the prompts in their template, where those are given. The end
  token stands after a text that ended by itself, where there is room.
  """
  limit = ctx.config.data.response_length
  said = answers.encode(
    [""] * len(texts) if prompts is None else prompts,
    texts,
    ended,
    ctx.tokenizer,
    template,
  )
  response = np.full((len(texts), limit), ctx.tokenizer.pad_id, np.int32)
  is_response = np.zeros(response.shape, bool)
  for n, answer in enumerate(said):
    ids = answer.ids[:limit]
    response[n, : len(ids)] = ids
    is_response[n, : len(ids)] = True
  return {"response": response, "is_response": is_response}


def sequences(
  ctx: context.Context,
  texts: Sequence[str],
  replies: Sequence[str],
  ended: Sequence[bool],
  *,
  template: str,
) -> dict[str, np.ndarray]:
  """Prompts in their template with their responses: what a model reads."""
  width = width_of(ctx, template)
  return prompts(texts, ctx.tokenizer, template, width) | responses(
    ctx, replies, ended, prompts=texts, template=template
  )
