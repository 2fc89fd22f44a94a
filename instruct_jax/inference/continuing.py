"""What a policy says to texts of any length, until a text that ends it.

Prompts of like lengths are one table of a width that is a power of four, so
that sets of data share programs; each is answered in slots (`generate`). Prompt
i is episode i: what is said to it depends on the policy, the key and its place
alone.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import (
  batching,
  choice,
  generate,
  likelihood,
  respond,
)
from instruct_jax.tokenizers import templates

AT_ONCE = 512  # prompts that are answered before anything is handed on
_WIDTH, _LENGTH = 32, 16  # tokens, of the smallest programs


@dataclasses.dataclass(frozen=True)
class Said:
  """To one prompt."""

  text: str  # before what ended it
  tokens: int
  ended: bool  # by itself or by a stop, not by the number of tokens
  is_cut: bool = False  # whether the prompt was longer than the model reads
  is_unchosen: bool = False  # whether it should be the best of several, and is
  # the first of them, since who chooses could read none


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked of every prompt."""

  max_tokens: int
  stops: tuple[str, ...] = ()  # texts that end what is said
  temperature: float = 0.0  # 0 is greedy
  top_k: int = 0
  top_p: float = 1.0


def to_texts(
  reader: likelihood.Reader,
  prompts: Sequence[str],
  key: jax.Array,
  request: Request,
) -> list[Said]:
  """To each prompt in the reader's template, in their order."""
  ids = templates.encode(prompts, reader.tokenizer, reader.template)
  found: dict[int, Said] = {}
  places = range(len(ids))
  for some in by_batch(reader, dict(zip(places, ids)), key, request):
    found.update(some)
  return [found[place] for place in places]


def by_batch(
  reader: likelihood.Reader,
  prompts: dict[int, Sequence[int]],
  key: jax.Array,
  request: Request,
) -> Iterator[dict[int, Said]]:
  """{episode: what is said}, as it is said, to prompts by their episodes.

  A prompt that leaves no room for the tokens loses its beginning. Raises
  UserError where the model reads no more than the tokens themselves.
  """
  room = reader.reach - request.max_tokens
  if room < 1:
    raise errors.UserError(
      f"{request.max_tokens} tokens are to be said, and the model reads"
      f" {reader.reach} with the prompt"
    )
  classes: dict[int, list[int]] = {}
  for episode, ids in prompts.items():
    classes.setdefault(_width(len(ids), room), []).append(episode)
  for width, episodes in sorted(classes.items()):
    policy = _policy(reader, width, request, len(episodes))
    for start in range(0, len(episodes), AT_ONCE):
      some = episodes[start : start + AT_ONCE]
      cut = {n: prompts[n][-width:] for n in some}
      said = _said(policy, cut, key, request)
      yield {
        n: dataclasses.replace(one, is_cut=len(cut[n]) < len(prompts[n]))
        for n, one in said.items()
      }


def _width(tokens, room):
  """Of the program that reads so many: few programs, of few widths."""
  width = _WIDTH
  while width < min(tokens, room):
    width *= 4
  return min(width, room)


def _policy(reader, width, request, count):
  """For so many prompts of a width."""
  tokenizer = reader.tokenizer
  ends = (tokenizer.eot_id, *tokenizer.stop_ids)
  ends += templates.ends(reader.template, tokenizer)
  stops = (*ends, *stop_tokens(tokenizer, request.stops))
  length = max(_LENGTH, 1 << (request.max_tokens - 1).bit_length())
  length = min(length, reader.reach - width)
  sampling = choice.Sampling(
    max_tokens=length,
    stop_ids=tuple(dict.fromkeys(stops)),
    pad_id=tokenizer.pad_id,
    temperature=request.temperature,
    top_k=request.top_k,
    top_p=request.top_p,
    slots=_slots(reader, width + length, count),
  )
  return respond.Policy(
    model=reader.model,
    params=reader.params,
    tokenizer=tokenizer,
    template=reader.template,
    width=width,
    columns=width,
    sampling=sampling,
    mesh=reader.mesh,
    rows=0,
  )


def _slots(reader, tokens, count):
  """As many as fit; on a CPU no more than are of use to so many prompts, in
  powers of two, so that sets of data share programs."""
  fitting = generate.fitting_slots(reader.model.config, tokens, reader.mesh)
  few = generate.usual_slots(min(count, AT_ONCE), 0)
  return min(fitting, 1 << (few - 1).bit_length()) if few else fitting


def _said(policy, prompts, key, request):
  """To prompts that fit, by their episodes."""
  table = {
    "prompt": np.zeros((len(prompts), policy.width), np.int32),
    "is_prompt": np.zeros((len(prompts), policy.width), bool),
    "episode": np.asarray([*prompts], np.int32),
    "limit": np.full(len(prompts), request.max_tokens, np.int32),
  }
  for row, ids in enumerate(prompts.values()):
    table["prompt"][row, policy.width - len(ids) :] = ids
    table["is_prompt"][row, policy.width - len(ids) :] = True
  answer = functools.partial(respond.respond_to_rows, policy, key=key)
  generation = batching.in_batches(
    answer, _filled(table, policy), policy.mesh, rows=AT_ONCE
  )
  texts = loader.decode_responses(
    generation.tokens, generation.is_response, policy.tokenizer
  )
  found = {}
  for row, episode in enumerate(prompts):
    text, stopped = _before_stops(texts[row], request.stops)
    found[episode] = Said(
      text=text,
      tokens=int(generation.is_response[row].sum()),
      ended=bool(generation.ended[row]) or stopped,
    )
  return found


def _filled(table, policy):
  """The table with rows of which nothing is asked, as many as are usual."""
  size = batching.rounded(AT_ONCE, policy.mesh)
  spare = size - len(table["limit"])
  return {
    name: np.pad(x, [(0, spare), *[(0, 0)] * (x.ndim - 1)])
    for name, x in table.items()
  }


def _before_stops(text, stops):
  """A text up to the first of the stops, and whether there is one."""
  ends = [place for stop in stops if (place := text.find(stop)) >= 0]
  return (text[: min(ends)], True) if ends else (text, False)


@functools.lru_cache(64)
def stop_tokens(
  tokenizer: tokenizers.Tokenizer, stops: tuple[str, ...]
) -> tuple[int, ...]:
  """The tokens that hold a stop: with one of them nothing more need be said.

  A stop that comes in several tokens is found in the text, after it is said.
  """
  if not stops:
    return ()
  special = {
    tokenizer.eot_id,
    tokenizer.pad_id,
    *tokenizer.special_ids.values(),
  }
  ids = [n for n in range(tokenizer.vocab_size) if n not in special]
  return tuple(
    n for n in ids if any(stop in tokenizer.decode([n]) for stop in stops)
  )
