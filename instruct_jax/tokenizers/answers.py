"""What is said to a prompt, as tokens: behind its template, and what counts."""

import functools
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import chat, rendering, templates
from instruct_jax.tokenizers import messages as messages_lib

_MARKS = f"[{chat.BEGIN}{chat.END}]"


class Answer(NamedTuple):
  """What is said to a prompt, as tokens."""

  ids: list[int]
  is_target: list[bool] | None  # which of them a loss counts; None: all


def encode(
  prompts: Sequence[str],
  texts: Sequence[str],
  ended: Sequence[bool],
  tokenizer: tokenizers.Tokenizer,
  template: str,
) -> list[Answer]:
  """The tokens that follow the tokens of each prompt (`templates.encode`).

  Of those that `ended` the last is `end_id`. Behind a chat template they are
  what it writes there, as far as that token; where it does not go on from what
  it writes around the prompt, or ends an answer otherwise, and behind a
  template that is a text, the answer's text and `end_id`.

  Raises UserError where a chat template fails.
  """
  source = rendering.source_of(template, tokenizer)
  if source is None:
    end = [tokenizer.eot_id]
    return [
      Answer(ids + end if by_itself else ids, None)
      for ids, by_itself in zip(tokenizer.encode_batch(list(texts)), ended)
    ]
  end = end_id(template, tokenizer)
  said = [
    (*messages_lib.of(prompt), (messages_lib.ASSISTANT, text))
    for prompt, text in zip(prompts, texts)
  ]
  before = templates.encode(prompts, tokenizer, template)
  whole = tokenizer.encode_parts(
    [rendering.of_messages(source, one, tokenizer, asks=False) for one in said]
  )
  found = []
  for one, first, ids, by_itself in zip(said, before, whole, ended):
    ids, start = rendering.started(ids, tokenizer, template), len(first)
    is_target = None
    if ids[:start] == first and end in ids[start:]:
      stop = ids.index(end, start) + by_itself
      if chat.marks(source):
        marked = _marked(source, one, tokenizer, template, ids)
        is_target = marked[start:stop]
      ids = ids[start:stop]
    else:
      ids = tokenizer.encode(one[-1][1]) + [end] * by_itself
    found.append(Answer(ids, is_target))
  return found


def end_id(template: str, tokenizer: tokenizers.Tokenizer) -> int:
  """What ends an answer: the stop token that the template writes, if any."""
  source = rendering.source_of(template, tokenizer)
  if source is None:
    return tokenizer.eot_id
  special = tuple(tokenizer.special_ids.items())
  name = _written_end(source, rendering.names(tokenizer), special)
  found = tokenizer.special_ids.get(name, tokenizer.eot_id)
  return found if found in tokenizer.stop_ids else tokenizer.eot_id


@functools.lru_cache(8)
def _written_end(source, names, special):
  """The special token that a template writes right behind an answer, or ''."""
  try:
    turns = (("user", "a"), ("assistant", "b"))
    text, has_slots = chat.written(source, turns, names, asks=False)
  except errors.UserError:  # it is told where a prompt is encoded
    return ""
  tokens = tuple(name for name, _ in special)
  last = text.rpartition(chat.CLOSE if has_slots else "b")[2]
  plain, *more = rendering.splitter(tokens)(last)
  return more[0] if more and not plain.strip() else ""


def _marked(source, said, tokenizer, template, ids):
  """Which tokens [len(ids)] hold something of the last {% generation %}.

  As transformers' masks: a token that is in it in part is in it.
  """
  text, has_slots = chat.written(
    source, said, rendering.names(tokenizer), asks=False, marked=True
  )
  before, begins, rest = text.rpartition(chat.BEGIN)
  within, ends, _ = rest.partition(chat.END)
  if not (begins and ends):
    raise errors.UserError(
      "the model's chat template marks nothing of what the assistant says last"
      " with {% generation %}, so nothing of it would be learned; take another"
      f" data.template: {', '.join(chat.OTHERS)}"
    )
  plans = [
    rendering.split(re.sub(_MARKS, "", part), has_slots, said, tokenizer)
    for part in (before, before + within)
  ]
  parts = tokenizer.encode_parts(plans)
  first, last = (rendering.started(part, tokenizer, template) for part in parts)
  start, stop = _shared(first, ids), _shared(last, ids)
  stop += stop < len(last)  # a token that goes on behind it
  return [start <= n < stop for n in range(len(ids))]


def _shared(a, b):
  """How many first tokens two rows have in common."""
  pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b))
  return sum(1 for _ in pairs)
