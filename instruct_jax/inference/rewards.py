"""What a response is worth: a weighted sum of known terms.

`config.reward` has a section for each of TERMS, with its weight; 0 is off. A
term is one function, called with its section and with what it may judge; the
reward of one's own needs no more than an import path:

  --config.reward.function.path=my_package.my_module:my_reward

is called as `my_reward(prompts, responses)` with two lists of texts, on the
host, each process with rows of its own, and returns a finite number for each.
The prompts are as the policy reads them, in their template. N responses.

Several reward models may judge together: `config.needs.reward` names them with
commas between, `config.reward.model.combine` says what counts, COMBINE. Their
needs are called reward, reward_2, reward_3, ...; the parameters of one are its
tree, those of several a tuple of trees.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from instruct_jax.base import errors, outside
from instruct_jax.data.batch import loader
from instruct_jax.inference import batching, context
from instruct_jax.models import forward, packed
from instruct_jax.parallel import hosts, sharding

_PATH = "config.reward.function.path"
Models = dict[str, Any] | tuple[dict[str, Any], ...]
# Of several models' scores [M, N], each of whose mean over demonstrations is 0
# (section 3.5): the mean, or the least (worst-case optimisation, Coste et al.
# 2023, arXiv:2310.02743, section 3).
COMBINE = {"mean": jnp.mean, "worst": jnp.min}
_ROLE = "reward"


@dataclasses.dataclass(frozen=True)
class Judged:
  """What a term may judge. Responses end in one token, whichever it was."""

  ctx: context.Context
  params: Models | None  # of the reward model, where there is one
  sequences: dict[str, jax.Array]  # prompt, is_prompt, response, is_response
  slices: int = 1  # in which a network reads them

  @functools.cached_property
  def texts(self) -> tuple[list[str], list[str]]:
    """Prompts and responses of this process's rows."""
    index, count = jax.process_index(), jax.process_count()
    rows = hosts.fetch(self.sequences)
    share = len(rows["response"]) // count
    rows = {k: x[index * share : (index + 1) * share] for k, x in rows.items()}
    prompts, responses = (
      loader.decode_responses(
        rows[kind], rows[f"is_{kind}"], self.ctx.tokenizer
      )
      for kind in ("prompt", "response")
    )
    return prompts, responses

  def by_text(self, values: Sequence[float] | np.ndarray) -> jax.Array:
    """Scores [N] on the devices, from those of this process's texts."""
    array = np.asarray(values, np.float32)
    if jax.process_count() == 1:
      return jnp.asarray(array)
    return sharding.global_batch(array, self.ctx.mesh)


def model(section: ConfigDict, judged: Judged) -> jax.Array:
  """The reward model's score at the last token (section 3.5)."""
  del section
  assert judged.params is not None  # where the term counts, they are there
  return model_scores(
    judged.ctx, judged.params, judged.sequences, slices=judged.slices
  )


def words(section: ConfigDict, judged: Judged) -> jax.Array:
  """How many of `words` each response uses, whatever their case.

  A word counts once: saying it again earns nothing.
  """
  listed = {word.lower() for word in section.words}
  _, responses = judged.texts
  return judged.by_text(
    [len(listed & set(re.findall(r"\w+", x.lower()))) for x in responses]
  )


def length(section: ConfigDict, judged: Judged) -> jax.Array:
  """- max(0, tokens - free) / (R - free), between -1 and 0.

  The tokens include the end; R is `data.response_length`. With `free` 0 this
  is linear in the length; with more it is the soft overlong punishment of DAPO
  (Yu et al. 2025, equation 13), whose interval is R - free.
  """
  limit = judged.ctx.config.data.response_length
  tokens = judged.sequences["is_response"].sum(axis=1)
  over = jnp.maximum(jnp.asarray(tokens, jnp.float32) - section.free, 0)
  return -over / (limit - section.free)


def function(section: ConfigDict, judged: Judged) -> jax.Array:
  """What the function at `path` returns for prompts and responses."""
  where = f"config.reward.function.path={section.path}"
  prompts, responses = judged.texts
  with outside.calling(f"{where}: failed on {len(responses)} responses"):
    values = outside.function(section.path, _PATH)(
      list(prompts), list(responses)
    )
    scores = np.asarray(values, np.float32)
  if scores.shape != (len(responses),):
    raise errors.UserError(
      f"{where}: returned an array of shape {scores.shape} for"
      f" {len(responses)} responses; one number for each is right"
    )
  bad = np.flatnonzero(~np.isfinite(scores))
  if len(bad):
    raise errors.UserError(
      f"{where}: returned {scores[bad[0]]} for the response"
      f" {responses[bad[0]]!r}; a finite number is right"
    )
  return judged.by_text(scores)


TERMS: dict[str, Callable[[ConfigDict, Judged], jax.Array]] = {
  "model": model,
  "words": words,
  "length": length,
  "function": function,
}


def scores(
  ctx: context.Context,
  params: Models | None,
  sequences: dict[str, jax.Array],
  *,
  slices: int = 1,
) -> dict[str, jax.Array]:
  """{term: its scores [N] float32, unweighted} of the terms that are on.

  `params` are the reward model's, None where `needs_model` says no; it reads
  the sequences in so many slices. Ordinary Python: cannot be compiled whole.
  """
  judged = Judged(ctx, params, sequences, slices)
  return {
    name: TERMS[name](section, judged)
    for name, section in active(ctx.config.reward).items()
  }


def total(section: ConfigDict, terms: dict[str, Any]) -> Any:
  """The weighted sum [N] of {term: scores [N]}."""
  return sum(section[name].weight * terms[name] for name in terms)


def model_scores(
  ctx: context.Context,
  params: Models,
  sequences: dict[str, jax.Array],
  *,
  slices: int = 1,
) -> jax.Array:
  """The reward model's scores [N] alone, whatever `config.reward` weighs.

  Of several models what `config.reward.model.combine` says; they read one after
  the other, in one program. A model reads so many slices of the sequences at a
  time, at most. Fewer than an iteration's are filled up with empty ones, which
  cost nothing: rollouts, evaluations and the reward model's own bias share a
  program.
  """
  count = len(sequences["prompt"])
  size = batching.rounded(max(count, TOGETHER), ctx.mesh)
  if size > count:
    sequences = batching.filled(sequences, size, ctx.mesh)
  parts = packed.parts_of(sequences, -(-size * slices // count))
  if isinstance(params, tuple):
    each = [_model_scores(ctx.scalar, parts, x, sequences) for x in params]
    scores = _combined(ctx.config.reward.model.combine, each)
  else:
    scores = _model_scores(ctx.scalar, parts, params, sequences)
  return scores if size == count else batching.first(scores, count, ctx.mesh)


TOGETHER = 512  # the episodes of an iteration of the paper (appendix C.4)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _model_scores(scalar, parts, params, sequences):
  function = functools.partial(forward.scores, scalar, params)
  return packed.mapped(function, sequences, parts=parts)[0]


@functools.partial(jax.jit, static_argnums=0)
def _combined(how, each):
  return COMBINE[how](jnp.stack(each), axis=0)


def named(reference: str) -> dict[str, str]:
  """{need: its reference} of the reward models that `needs.reward` names."""
  parts = [part.strip() for part in reference.split(",")]
  return dict(zip(needs(len(parts)), parts))


def needs(count: int) -> tuple[str, ...]:
  """The needs of so many reward models: reward, reward_2, reward_3, ..."""
  return (_ROLE, *(f"{_ROLE}_{number}" for number in range(2, count + 1)))


def together(by_need: Mapping[str, Any]) -> Any:
  """What stands under 'reward' or, of several models, a tuple of what stands
  under reward, reward_2, ...; raises KeyError for none."""
  names = needs(max(1, sum(map(is_one, by_need))))
  every = tuple(by_need[name] for name in names)
  return every if len(every) > 1 else every[0]


def is_one(need: str) -> bool:
  """Whether a need is a reward model that judges: reward, reward_2, ..."""
  return re.fullmatch(rf"{_ROLE}(_[1-9]\d*)?", need) is not None


def several(config: ConfigDict) -> bool:
  """Whether more than one reward model judges in a run."""
  return "," in config.needs.get(_ROLE, "")


def model_alone(combine: str) -> ConfigDict:
  """A section `config.reward` in which the model alone counts."""
  section: dict[str, Any] = {name: {"weight": 0.0} for name in TERMS}
  section["function"]["path"] = ""
  section["model"] = {"weight": 1.0, "combine": combine}
  return ConfigDict(section).lock()


def active(section: ConfigDict) -> dict[str, ConfigDict]:
  """The sections of the terms that are on, in the order of TERMS."""
  unknown = [name for name in section if name not in TERMS]
  if unknown:
    raise errors.UserError(
      f"config.reward.{unknown[0]} is no term of the reward; known:"
      f" {', '.join(TERMS)}, each a section with its weight, as in"
      " config.reward.words.weight"
    )
  has_path = bool(section.function.path)
  return {
    name: section[name]
    for name in TERMS
    if section[name].weight and (name != "function" or has_path)
  }


def needs_model(section: ConfigDict) -> bool:
  """Whether a reward model takes part in the reward."""
  return "model" in active(section)


def check_combine(how: str, key: str) -> None:
  """UserError where `key` says what no COMBINE is."""
  if how not in COMBINE:
    raise errors.unknown(key, how, COMBINE)


def check(config: ConfigDict) -> None:
  """UserError where `config.reward` is none, or none that can be computed."""
  terms = active(config.reward)
  for name, section in terms.items():
    if not math.isfinite(section.weight):
      raise errors.UserError(
        f"config.reward.{name}.weight={section.weight}: must be finite"
      )
  if "model" in terms:
    check_combine(config.reward.model.combine, "config.reward.model.combine")
  if not terms:
    raise errors.UserError(
      "config.reward: every weight is 0, so there is no reward; set one, as"
      " config.reward.model.weight=1.0"
    )
  if "words" in terms and not terms["words"].words:
    raise errors.UserError(
      "config.reward.words.words is empty; name the words that responses"
      " should use"
    )
  limit = config.data.response_length
  if "length" in terms and not 0 <= terms["length"].free < limit:
    raise errors.UserError(
      f"config.reward.length.free={terms['length'].free}: must be at least 0"
      f" and less than config.data.response_length={limit}"
    )
  if "function" in terms:
    outside.function(terms["function"].path, _PATH)
