"""What a response is worth: the reward model's score, or a rule's.

`config.reward.kind` chooses. 'model' is the paper's. The others are plain
functions of texts, run on the host: add yours to RULES. B responses.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import context
from instruct_jax.models import forward, heads

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Reward:
  """Scores responses; call it with the reward model's parameters ({}: none)."""

  kind: str
  words: tuple[str, ...]
  scalar: heads.ScalarModel
  tokenizer: tokenizers.Tokenizer

  def __call__(
    self, params: dict, sequences: dict[str, jax.Array]
  ) -> jax.Array:
    """Scores [B] float32; can be compiled."""
    if self.kind == MODEL:
      return forward.scores(self.scalar, params, sequences)
    shape = jax.ShapeDtypeStruct(sequences["response"].shape[:1], jnp.float32)
    return jax.pure_callback(
      self._by_rule,
      shape,
      sequences["prompt"],
      sequences["is_prompt"],
      sequences["response"],
      sequences["is_response"],
    )

  def _by_rule(self, prompt, is_prompt, response, is_response):
    decode = functools.partial(
      loader.decode_responses, tokenizer=self.tokenizer
    )
    found = RULES[self.kind](
      decode(prompt, is_prompt), decode(response, is_response), self.words
    )
    return np.asarray(found, np.float32)


def of(ctx: context.Context) -> Reward:
  """The reward of a run; raises as `check`."""
  section = ctx.config.reward
  check(section)
  return Reward(section.kind, tuple(section.words), ctx.scalar, ctx.tokenizer)


def check(section: ConfigDict) -> None:
  """UserError where the section `config.reward` names no reward."""
  if section.kind != MODEL and section.kind not in RULES:
    raise errors.unknown("config.reward.kind", section.kind, (MODEL, *RULES))
  if section.kind == "words" and not section.words:
    raise errors.UserError(
      "config.reward.words is empty; name the words that responses should use"
    )


def words(
  prompts: Sequence[str], responses: Sequence[str], listed: tuple[str, ...]
) -> list[float]:
  """How many of the listed words each response uses, whatever their case.

  A word counts once: saying it again earns nothing.
  """
  del prompts
  wanted = {word.lower() for word in listed}
  return [
    float(len(wanted & set(re.findall(r"\w+", response.lower()))))
    for response in responses
  ]


RULES: dict[str, Callable[..., Sequence[float]]] = {"words": words}
