"""What subjects say to prompts, sampled once."""

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence

import jax

from instruct_jax.inference import context, encode, respond


@dataclasses.dataclass(frozen=True)
class Subject:
  """A policy under evaluation."""

  name: str
  params: dict
  prompted: bool = False  # through the template of *prompted GPT*


def template_of(
  ctx: context.Context, subject: Subject, *, raw: bool = False
) -> str:
  """The template that a subject's prompts go through; `raw`: none."""
  if raw:
    return encode.RAW_TEMPLATE
  if subject.prompted:
    return ctx.world.prompted_template
  return ctx.config.data.template


def asker(ctx: context.Context) -> Callable[..., respond.Responses]:
  """The function `ask`, which samples responses and remembers them.

  ask(subject, prompts, raw=False, temperature=None) -> Responses: `raw` leaves
  the template away; the temperature is `evaluation.temperature` unless given.
  Repeated prompts get different samples. All subjects share their randomness.
  """
  known: dict[tuple, respond.Responses] = {}
  settings = ctx.config.evaluation

  def ask(
    subject: Subject,
    prompts: Sequence[str],
    *,
    raw: bool = False,
    temperature: float | None = None,
  ) -> respond.Responses:
    template = template_of(ctx, subject, raw=raw)
    heat = settings.temperature if temperature is None else temperature
    asked = (id(subject.params), template, heat, tuple(prompts))
    if asked not in known:
      name = zlib.crc32(json.dumps(prompts).encode())
      key = jax.random.fold_in(jax.random.key(settings.seed), name)
      policy = respond.policy_of(
        ctx,
        subject.params,
        template=template,
        temperature=heat,
        rows=settings.batch,
      )
      known[asked] = respond.respond(policy, prompts, key)
    return known[asked]

  return ask
