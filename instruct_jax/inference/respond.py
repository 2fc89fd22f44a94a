"""The one sampler: what a policy says to prompts.

Rollouts, rankings, evaluations, the samples on the way and conversations all
sample here. N prompts or B rows, P prompt width, R response length.

Which draws a response gets is the caller's choice of episode ids (see
`generate`), each with a key of its own:

  a list of prompts  the place in the list; of n responses to each prompt, the
                     k-th has an id that does not depend on n (`episodes`)
  rollouts           the row of the iteration's global batch; every iteration
                     has its own key
  a conversation     as a list; every turn has its own key. `grow` says the
                     same while it is being said

Judges and reward models see one end token, whichever of the stop tokens was
sampled: they are given `judged`, and texts are made of it.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import (
  batching,
  choice,
  context,
  encode,
  generate,
  growing,
)
from instruct_jax.models import heads
from instruct_jax.parallel import hosts, sharding


@dataclasses.dataclass(frozen=True)
class Policy:
  """Who speaks, and how."""

  model: heads.LanguageModel
  params: dict[str, Any]
  tokenizer: tokenizers.Tokenizer
  template: str  # what is put around a prompt
  width: int  # P
  columns: int  # P of the program that samples
  sampling: choice.Sampling
  mesh: jax.sharding.Mesh
  rows: int  # 0, or what the caller has memory for at a time


@dataclasses.dataclass(frozen=True)
class Responses:
  """What a policy said to N prompts, in their order."""

  texts: tuple[str, ...]
  ended: np.ndarray  # [N] bool: by itself, not cut at R tokens
  prompt: np.ndarray  # [N, P] int32
  is_prompt: np.ndarray  # [N, P] bool
  response: np.ndarray  # [N, R] int32, as sampled
  judged: np.ndarray  # [N, R] int32, as judges and reward models see it
  is_response: np.ndarray  # [N, R] bool

  @property
  def lengths(self) -> np.ndarray:
    """Tokens [N] of the responses, the end included."""
    return self.is_response.sum(axis=1)

  @property
  def sequences(self) -> dict[str, np.ndarray]:
    """The arrays that the policy's own log-probabilities are computed from."""
    names = ("prompt", "is_prompt", "response", "is_response")
    return {name: getattr(self, name) for name in names}


def policy_of(
  ctx: context.Context,
  params: dict[str, Any],
  *,
  template: str = "",
  rows: int = 0,
  **sampling: Any,
) -> Policy:
  """The policy of a run: its own template unless given, R tokens at most.

  `sampling` are fields of `choice.Sampling`, by default plain sampling at
  temperature 1. No more than `rows` responses grow at a time, where that is not
  0; fewer where the device likes fewer. It changes no sample.

  Raises UserError for an impossible field, and where the model's learned
  positions do not reach as far as prompt and response.
  """
  template = template or ctx.config.data.template
  how = dataclasses.replace(ctx.sampling(), **sampling)
  how = dataclasses.replace(how, slots=_fewer(how.slots, rows))
  width = encode.width_of(ctx, template)
  model = ctx.policy.config
  needed = width + how.max_tokens
  if model.positions == "learned" and needed > model.context_length:
    raise errors.UserError(
      f"prompts of {width} tokens and their responses need {needed} positions, "
      f"but the model learned {model.context_length}: raise data.row_length."
    )
  return Policy(
    model=ctx.policy,
    params=params,
    tokenizer=ctx.tokenizer,
    template=template,
    width=width,
    columns=encode.shared_width(ctx, template),
    sampling=how,
    mesh=ctx.mesh,
    rows=rows,
  )


def _fewer(one: int, other: int) -> int:
  """The lesser of two numbers of which 0 means no bound."""
  return min(one, other) if one and other else one or other


def respond(
  policy: Policy, prompts: Sequence[str], key: jax.Array, *, n: int = 1
) -> Responses:
  """n responses to each prompt, those of a prompt one after the other.

  The k-th of a prompt depends on the policy, the prompt, the key, its place in
  `prompts` and k alone.

  Raises UserError where a prompt is too long.
  """
  ids = episodes(len(prompts), n)
  prompts = repeated(prompts, n)
  encoded = encode.prompts(
    prompts, policy.tokenizer, policy.template, policy.width
  )
  # As the keys of training lie, so that both share a program.
  key = sharding.everywhere(key, policy.mesh)
  size = max(QUEUE, 4 * policy.sampling.slots)
  size = batching.rounded(size, policy.mesh)
  generation = batching.in_batches(
    lambda batch: respond_to_rows(policy, batch, key),
    _queued(encoded | {"episode": ids}, size, policy),
    policy.mesh,
    rows=size,
  )
  generation = jax.tree.map(lambda x: x[: len(prompts)], generation)
  return _responses(policy, encoded, generation)


def repeated(prompts: Sequence[str], n: int) -> list[str]:
  """Each prompt n times, one after the other."""
  return [prompt for prompt in prompts for _ in range(n)]


def episodes(prompts: int, n: int) -> np.ndarray:
  """The ids [prompts x n] int32 of n responses to each prompt of a list.

  The first of a prompt has its place in the list; those that follow lie as far
  apart on the circle of 2^32 numbers as any so many can (Fibonacci hashing,
  Knuth, volume 3, section 6.4), so that no two are one while there are fewer
  than 10^9.
  """
  place, number = np.divmod(np.arange(prompts * n, dtype=np.uint64), n)
  ids = (place + number * np.uint64(_GOLDEN)) % np.uint64(1 << 32)
  return ids.astype(np.uint32).view(np.int32)


_GOLDEN = 2654435769  # 2^32 over the golden ratio


# Prompts that are asked at a time. Fewer are filled up with rows of which
# nothing is asked: they cost nothing, and all lists share a program.
QUEUE = 1024


def _queue(policy):
  size = max(QUEUE, 4 * policy.sampling.slots)
  return batching.rounded(size, policy.mesh)


def _queued(encoded, size, policy):
  """The rows of all prompts, filled up to a multiple of `size`."""
  count, width = encoded["prompt"].shape
  padding = (0, -count % size), (policy.columns - width, 0)
  table = encoded | {
    "limit": np.full(count, policy.sampling.max_tokens, np.int32),
  }
  return {name: np.pad(x, padding[: x.ndim]) for name, x in table.items()}


def grow(
  policy: Policy,
  prompts: Sequence[str],
  key: jax.Array,
  *,
  ids: np.ndarray | None = None,
  seconds: float = 0.1,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[Responses]:
  """What `respond` returns, ever more of it; the last is all of it.

  The first has a token of each response; then they come about every so many
  seconds. All prompts are one batch. `ids` [N] int32 are their episodes, their
  places unless given.

  Raises UserError where a prompt is too long.
  """
  encoded = encode.prompts(
    prompts, policy.tokenizer, policy.template, policy.width
  )
  episode = episodes(len(prompts), 1) if ids is None else ids
  rows = batching.one_batch(encoded | {"episode": episode}, policy.mesh)
  state = growing.Growing(
    policy.model,
    policy.params,
    rows["prompt"],
    rows["is_prompt"],
    rows["episode"],
    key,
    policy.sampling,
    mesh=policy.mesh,
  )
  tokens = 1
  while True:
    generation = hosts.fetch(state.generation)
    generation = jax.tree.map(lambda x: x[: len(prompts)], generation)
    yield _responses(policy, encoded, generation)
    if not state.is_running:
      return
    start = clock()
    state.grow(tokens)
    _ = state.is_running
    # All processes run the same programs, whosever clock is late.
    took = hosts.once("time to grow", lambda s=start: clock() - s)
    tokens = tokens * 2 if took < seconds / 2 else tokens
    if took > seconds:
      tokens = max(1, tokens // 2)


def _responses(policy, encoded, generation):
  judged = np.asarray(generation.judged)
  texts = loader.decode_responses(
    judged, generation.is_response, policy.tokenizer
  )
  return Responses(
    tuple(texts),
    generation.ended,
    **encoded,
    response=generation.tokens,
    judged=judged,
    is_response=generation.is_response,
  )


def respond_to_rows(
  policy: Policy, rows: Mapping[str, jax.Array], key: jax.Array
) -> generate.Generation:
  """One response to each row: prompt, is_prompt [B, P] and episode [B] int32.

  Where there is a limit [B] int32, a response has no more tokens; of a row of
  0 nothing is asked. Can be compiled. The rows are padded to any width.

  They are filled up as lists are, and so share the program of these, unless so
  many rows would grow in more slots then.
  """
  count, slots = len(rows["prompt"]), policy.sampling.slots
  size = max(count, _queue(policy))
  if generate.usual_slots(count, slots) != generate.usual_slots(size, slots):
    size = count
  if "limit" not in rows:
    rows = _unlimited(dict(rows), policy.sampling.max_tokens)
  if rows["prompt"].shape != (size, policy.columns):
    rows = batching.filled(rows, size, policy.mesh, columns=policy.columns)
  said = generate.generate(
    policy.model,
    policy.params,
    rows["prompt"],
    rows["is_prompt"],
    rows["episode"],
    key,
    policy.sampling,
    limits=rows["limit"],
    mesh=policy.mesh,
  )
  return said if size == count else batching.first(said, count, policy.mesh)


@functools.partial(jax.jit, static_argnums=1)
def _unlimited(rows, most):
  return rows | {"limit": jnp.full(len(rows["prompt"]), most, jnp.int32)}
