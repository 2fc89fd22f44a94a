"""Responses of a policy to prompts, in batches of one shape.

N prompts, P prompt width, R response length. Prompts are padded on the left,
responses on the right. A batch always has `rows` rows, so one program is
compiled for a width and a temperature, however many prompts there are.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import context, generate
from instruct_jax.parallel import hosts, sharding
from instruct_jax.tokenizers import templates

RAW_TEMPLATE = "{prompt}"


@dataclasses.dataclass(frozen=True)
class Responses:
  """What a policy said to N prompts, in their order."""

  texts: tuple[str, ...]
  ended: np.ndarray  # [N] bool: by itself, not cut at R tokens
  prompt: np.ndarray  # [N, P] int32
  is_prompt: np.ndarray  # [N, P] bool
  response: np.ndarray  # [N, R] int32
  is_response: np.ndarray  # [N, R] bool

  @property
  def lengths(self) -> np.ndarray:
    """Tokens [N] of the responses, the end included."""
    return self.is_response.sum(axis=1)

  @property
  def sequences(self) -> dict[str, np.ndarray]:
    """The arrays that a model reads."""
    names = ("prompt", "is_prompt", "response", "is_response")
    return {name: getattr(self, name) for name in names}


def width_of(ctx: context.Context, template: str) -> int:
  """The columns that the longest allowed prompt takes in a template.

  `data.prompt_length` counts the tokens of `data.template`; another template
  that adds more widens the prompt by the difference.
  """
  own, other = (
    len(templates.encode([""], ctx.tokenizer, form)[0])
    for form in (ctx.config.data.template, template)
  )
  return ctx.config.data.prompt_length + max(0, other - own)


def encode_prompts(
  ctx: context.Context, prompts: Sequence[str], template: str
) -> dict[str, np.ndarray]:
  """prompt [N, P] int32 and is_prompt [N, P] bool of all the prompts.

  Raises UserError where one does not fit into the template's columns.
  """
  width = width_of(ctx, template)
  prompt, is_prompt, kept = loader.encode_prompts(
    prompts, ctx.tokenizer, template, width
  )
  if len(kept) < len(prompts):
    first = min(set(range(len(prompts))) - set(kept.tolist()))
    raise errors.UserError(
      f"{len(prompts) - len(kept)} of {len(prompts)} prompts do not fit into "
      f"{width} tokens, the first: {prompts[first]!r}. Raise "
      "data.prompt_length."
    )
  return {"prompt": prompt, "is_prompt": is_prompt}


def encode_responses(
  ctx: context.Context, texts: Sequence[str], ended: Sequence[bool]
) -> dict[str, np.ndarray]:
  """response [N, R] int32 and is_response [N, R] bool, cut at R tokens.

  The end token stands after a text that ended by itself, where there is room.
  """
  limit, end = ctx.config.data.response_length, [ctx.tokenizer.eot_id]
  response = np.full((len(texts), limit), ctx.tokenizer.pad_id, np.int32)
  is_response = np.zeros(response.shape, bool)
  for n, ids in enumerate(ctx.tokenizer.encode_batch(list(texts))):
    ids = (ids + end if ended[n] else ids)[:limit]
    response[n, : len(ids)] = ids
    is_response[n, : len(ids)] = True
  return {"response": response, "is_response": is_response}


def in_batches(
  rows_by_name: dict[str, np.ndarray], rows: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
  """(batch of `rows` rows, how many of them are real); row 0 fills up."""
  count = len(next(iter(rows_by_name.values())))
  for start in range(0, count, rows):
    real = min(rows, count - start)
    index = np.zeros(rows, np.int64)
    index[:real] = np.arange(start, start + real)
    yield {k: x[index] for k, x in rows_by_name.items()}, real


def place(
  ctx: context.Context, batch: dict[str, np.ndarray]
) -> dict[str, jax.Array]:
  """The batch on the mesh; every process holds all of it and gives its share.

  Raises UserError where the rows do not divide over the mesh.
  """
  index, count = jax.process_index(), jax.process_count()
  share = len(next(iter(batch.values()))) // count
  own = {k: x[index * share : (index + 1) * share] for k, x in batch.items()}
  return sharding.global_batch(own, ctx.mesh)


def sample(
  ctx: context.Context,
  policy: dict,
  prompts: Sequence[str],
  key: jax.Array,
  *,
  template: str,
  temperature: float,
  rows: int,
) -> Responses:
  """One response a prompt; repeat a prompt to have several.

  A response depends on the parameters, the key, its prompt and its place in
  `prompts`, which is its episode id. No top-k, no top-p; temperature 0 takes
  the likeliest token.

  Raises UserError where a prompt is too long, or the model's learned positions
  do not reach as far.
  """
  encoded = encode_prompts(ctx, prompts, template)
  _check_reach(ctx, encoded["prompt"].shape[1])
  sampling = ctx.sampling(temperature=temperature)
  pending = []  # All are dispatched before the first is waited for.
  numbered = encoded | {"episode": np.arange(len(prompts), dtype=np.int32)}
  for batch, real in in_batches(numbered, rows):
    placed = place(ctx, batch)
    found = generate.generate(
      ctx.policy,
      policy,
      placed["prompt"],
      placed["is_prompt"],
      placed["episode"],
      key,
      sampling,
    )
    pending.append(((found.tokens, found.is_response, found.ended), real))
  shape = (0, sampling.max_tokens)
  none = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(0, bool)
  parts = [[x[:real] for x in hosts.fetch(found)] for found, real in pending]
  tokens, is_response, ended = map(np.concatenate, zip(none, *parts))
  texts = loader.decode_responses(tokens, is_response, ctx.tokenizer)
  return Responses(
    tuple(texts), ended, **encoded, response=tokens, is_response=is_response
  )


def _check_reach(ctx: context.Context, width: int) -> None:
  model = ctx.policy.config
  needed = width + ctx.config.data.response_length
  if model.positions == "learned" and needed > model.context_length:
    raise errors.UserError(
      f"prompts of {width} tokens and their responses need {needed} positions, "
      f"but the model learned {model.context_length}: raise data.row_length."
    )
