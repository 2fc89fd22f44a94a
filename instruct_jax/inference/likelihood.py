"""How likely a policy finds given continuations of given contexts.

Texts become tokens as in lm-evaluation-harness: spaces at a context's end
belong to what follows, and a continuation's tokens are those of the whole text
beyond the context's own. Continuations of the same context are one item, whose
context is computed once; items of like lengths are one table, and share rows of
the device without padding (`models.packed`). The sizes of tables are powers of
four, so that sets of data share programs.

I items, P context, K continuations of an item, R tokens of one.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.inference import batching, encode
from instruct_jax.inference import context as context_lib
from instruct_jax.models import forward, heads, packed
from instruct_jax.tokenizers import answers, templates

Ids = tuple[int, ...]
SLOTS = 2**15  # of a batch, as it is padded
MOST = 16  # continuations of an item
_CONTEXT, _CONTINUATION = 64, 16  # tokens, of the smallest tables


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
  reader: Reader, asked: Sequence[tuple[Ids, Ids]]
) -> Iterator[dict[int, Likelihood]]:
  """{place in `asked`: its likelihood}, as they are computed.

  What is longer than the model reads loses tokens on the left. Neither what is
  asked beside a continuation nor the devices change what is said of it, but by
  rounding.
  """
  kept = [_cut(*pair, reader.reach) for pair in asked]
  read = functools.partial(_read, reader.model, reader.params)
  for shape, items in _classes(kept).items():
    for start in range(0, len(items), shape.rows):
      some = items[start : start + shape.rows]
      said = batching.in_batches(
        read, _table(kept, some, shape), reader.mesh, rows=shape.rows
      )
      yield {
        place: Likelihood(
          logprob=float(said["logprobs"][n, k]),
          tokens=len(kept[place][1]),
          is_greedy=bool(said["is_greedy"][n, k]),
          is_cut=kept[place] != asked[place],
        )
        for n, item in enumerate(some)
        for k, place in enumerate(item)
      }


def _cut(context, continuation, reach):
  """The last tokens that fit, at least one of them before what is read."""
  ids = (*context, *continuation)[-reach:]
  first = max(1, len(ids) - len(continuation))
  return ids[:first], ids[first:]


@dataclasses.dataclass(frozen=True)
class _Shape:
  """Of a table: all of a class have it, and so share a program."""

  context: int  # P
  continuations: int  # K
  continuation: int  # R

  @property
  def rows(self) -> int:
    """Items at a time."""
    width = self.context + self.continuations * self.continuation
    return max(1, SLOTS // width)


def _classes(pairs: Sequence[tuple[Ids, Ids]]) -> dict[_Shape, list[list[int]]]:
  """Places of continuations that share a context, by the table they fit."""
  of_context: dict[Ids, list[int]] = {}
  for place, (context, _) in enumerate(pairs):
    of_context.setdefault(context, []).append(place)
  classes: dict[_Shape, list[list[int]]] = {}
  for places in of_context.values():
    for n in range(0, len(places), MOST):
      item = places[n : n + MOST]
      longest = max(len(pairs[place][1]) for place in item)
      shape = _Shape(
        context=_power(len(pairs[item[0]][0]), _CONTEXT),
        continuations=_power(len(item), 1),
        continuation=_power(longest, _CONTINUATION),
      )
      classes.setdefault(shape, []).append(item)
  return dict(sorted(classes.items(), key=lambda x: dataclasses.astuple(x[0])))


def _power(count: int, least: int) -> int:
  """`least` times the next power of four."""
  while least < count:
    least *= 4
  return least


def _table(
  pairs: Sequence[tuple[Ids, Ids]], items: Sequence[list[int]], shape: _Shape
) -> dict[str, np.ndarray]:
  """The items as rankings: contexts padded on the left, what follows on the
  right, and continuations of nothing where an item has fewer."""
  contexts = (len(items), shape.context)
  responses = (len(items), shape.continuations, shape.continuation)
  table = {
    "prompt": np.zeros(contexts, np.int32),
    "is_prompt": np.zeros(contexts, bool),
    "response": np.zeros(responses, np.int32),
    "is_response": np.zeros(responses, bool),
  }
  for i, item in enumerate(items):
    context = pairs[item[0]][0]
    table["prompt"][i, shape.context - len(context) :] = context
    table["is_prompt"][i, shape.context - len(context) :] = True
    for k, place in enumerate(item):
      ids = pairs[place][1]
      table["response"][i, k, : len(ids)] = ids
      table["is_response"][i, k, : len(ids)] = True
  return table


@functools.partial(jax.jit, static_argnums=0)
def _read(
  model: heads.LanguageModel, params: dict, rankings: dict[str, jax.Array]
) -> dict[str, jax.Array]:
  def of_items(rows):
    logprobs, is_likeliest = forward.completions_read(model, params, rows)
    is_greedy = is_likeliest | ~rows["is_response"]
    return {
      "logprobs": logprobs.sum(axis=2),
      "is_greedy": is_greedy.all(axis=2),
    }

  return packed.mapped(of_items, rankings)[0]
