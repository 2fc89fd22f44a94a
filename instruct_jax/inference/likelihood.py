"""How likely a policy finds given continuations of given contexts.

Texts become tokens as in lm-evaluation-harness: spaces at a context's end
belong to what follows, and a continuation's tokens are those of the whole text
beyond the context's own. Continuations of the same context cost it once, and
what is asked shares rows of the device (`rows`).
"""

import dataclasses
from collections.abc import Container, Iterator, Sequence

import jax
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.inference import context as context_lib
from instruct_jax.inference import encode, rows
from instruct_jax.models import heads
from instruct_jax.parallel import hosts
from instruct_jax.tokenizers import answers, templates

Ids = rows.Ids


@dataclasses.dataclass(frozen=True)
class Reader:
  """A policy that reads."""

  model: heads.LanguageModel
  params: dict
  tokenizer: tokenizers.Tokenizer
  mesh: jax.sharding.Mesh
  template: str = encode.RAW_TEMPLATE  # what is put around contexts
  ctx: context_lib.Context | None = None  # of the run that it comes from

  @property
  def reach(self) -> int:
    """Tokens that it was trained to read, context and continuation."""
    return self.model.config.context_length


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """Of one continuation."""

  logprob: float  # nats, the sum over its tokens
  tokens: int
  is_greedy: bool  # whether decoding greedily would say it
  is_cut: bool = False  # whether the context was longer than the model reads

  @property
  def mean(self) -> float:
    """Nats a token; 0 for none."""
    return self.logprob / max(1, self.tokens)


def of_texts(
  reader: Reader, asked: Sequence[tuple[str, str]]
) -> list[Likelihood]:
  """Of each (context, continuation), in their order; see `encoded`."""
  return of_tokens(reader, encoded(reader, asked))


def of_tokens(
  reader: Reader, asked: Sequence[tuple[Ids, Ids]]
) -> list[Likelihood]:
  """Of each (context, continuation), both as tokens, in their order."""
  found: dict[int, Likelihood] = {}
  for some in by_batch(reader, asked):
    found.update(some)
  return [found[place] for place in range(len(asked))]


def encoded(
  reader: Reader, asked: Sequence[tuple[str, str]]
) -> list[tuple[Ids, Ids]]:
  """The tokens of contexts, one at least, and of their continuations.

  A context begins as the tokenizer has texts begin; where that is nothing, an
  empty one is the end-of-text token.
  """
  if reader.template != encode.RAW_TEMPLATE:
    return _in_template(reader, asked)
  tokenizer = reader.tokenizer
  bare = [context.rstrip() for context, _ in asked]
  known = list(dict.fromkeys(bare))
  contexts = dict(zip(known, tokenizer.encode_batch(known)))
  whole = tokenizer.encode_batch([x + y for x, y in asked])
  start = tuple(tokenizer.start_ids)
  pairs = []
  for text, ids in zip(bare, whole):
    before = len(contexts[text])
    first = (*start, *ids[:before]) or (tokenizer.eot_id,)
    pairs.append((first, tuple(ids[before:])))
  return pairs


def _in_template(reader, asked):
  """The same where contexts are prompts, and continuations answers."""
  prompts = [context for context, _ in asked]
  texts = [text for _, text in asked]
  before = templates.encode(prompts, reader.tokenizer, reader.template)
  said = answers.encode(
    *(prompts, texts, [False] * len(texts)), reader.tokenizer, reader.template
  )
  return [(tuple(a), tuple(b.ids)) for a, b in zip(before, said)]


def by_batch(
  reader: Reader,
  asked: Sequence[tuple[Ids, Ids]],
  known: Container[int] = (),
) -> Iterator[dict[int, Likelihood]]:
  """{place in `asked`: its likelihood}, as they are computed.

  But for the places that are `known`: the others' are bit for bit what they are
  when none is.

  What is longer than the model reads loses tokens on the left. Neither what is
  asked beside a continuation nor the devices change what is said of it, but by
  rounding.
  """
  kept = [_cut(*pair, reader.reach) for pair in asked]
  is_cut = [
    len(one[0]) < len(context) or len(one[1]) < len(ids)
    for one, (context, ids) in zip(kept, asked)
  ]
  places: dict[tuple[Ids, Ids], list[int]] = {}
  for place, one in enumerate(kept):  # What is asked twice is read once.
    places.setdefault(one, []).append(place)
  pairs = [*places]
  wanted = {
    n
    for n, one in enumerate(pairs)
    if any(place not in known for place in places[one])
  }
  for some in _by_batch(reader, pairs, wanted):
    yield {
      place: dataclasses.replace(found, is_cut=is_cut[place])
      for one, found in some.items()
      for place in places[one]
      if place not in known
    }


def _by_batch(reader, pairs, wanted):
  """{pair: its likelihood} of different pairs that fit the model."""
  if not wanted:
    return
  if empty := [one for one in pairs if not one[1]]:
    yield {one: Likelihood(0.0, 0, True) for one in empty}
  if len(empty) == len(pairs):
    return
  pending = None  # One batch is computed while the next is laid out.
  for batch in rows.laid(pairs, reader.mesh).batches(wanted):
    said = rows.read(reader.model, reader.params, batch, reader.mesh)
    if pending:
      yield _found(*pending, pairs)
    pending = batch, said
  if pending:
    yield _found(*pending, pairs)


def _found(batch, said, pairs):
  """{pair: its likelihood} of a batch."""
  logprobs, is_likeliest = (x[batch.is_asked] for x in hosts.fetch(said))
  places, which = np.unique(batch.place[batch.is_asked], return_inverse=True)
  sums = np.bincount(which, logprobs.astype(np.float64))
  counts = np.bincount(which)
  is_greedy = np.bincount(which, is_likeliest) == counts
  return {
    pairs[place]: Likelihood(
      logprob=float(sums[n]),
      tokens=int(counts[n]),
      is_greedy=bool(is_greedy[n]),
    )
    for n, place in enumerate(places)
  }


def _cut(context, continuation, reach):
  """The last tokens that fit, at least one of them before what is read.

  The very last is predicted, not read: it needs no room.
  """
  ids = (*context, *continuation)[-(reach + 1) :]
  first = max(1, len(ids) - len(continuation))
  return ids[:first], ids[first:]
