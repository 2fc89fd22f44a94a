"""What *prompted GPT* reads in front of a prompt, chosen among candidates.

The paper's GPT-3 (prompted) is "provided a few-shot prefix to 'prompt' it into
an instruction-following mode" (figure 1): of a few that its authors wrote by
hand, the one with the highest reward-model score on validation prompts. So
here: the candidates are the world's, or those of a file
(`config.evaluation.prefix.candidates`), some of them with demonstrations of the
training split (few-shot); nothing but validation prompts chooses. Without a
reward model the world's `prompted_template` is taken as it is.
"""

import dataclasses
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from instruct_jax.base import progress
from instruct_jax.data.batch import loader
from instruct_jax.evals import prefix_file
from instruct_jax.inference import context, encode, respond, score
from instruct_jax.inference import rewards as rewards_lib
from instruct_jax.maths import statistics
from instruct_jax.tokenizers import templates
from instruct_jax.worlds import interface

_log = logging.getLogger(__name__)

Prefix = interface.Prefix
SPLIT = "validation"
POOL = 1000  # demonstrations that shots are drawn from
SPARE = 4  # tokens more that a prompt may be between other texts
DEFAULT = "default"  # the name of a template that is no candidate


@dataclasses.dataclass(frozen=True)
class Choice:
  """The prefix that was chosen, and a row for every candidate."""

  prefix: Prefix
  rows: tuple[dict[str, Any], ...]
  columns: int  # of the program that samples behind long prefixes


def default_of(world: interface.World) -> Prefix:
  """What is taken where no reward model chooses."""
  for prefix in world.prefixes:
    if prefix.template == world.prompted_template:
      return prefix
  return Prefix(DEFAULT, world.prompted_template)


def choose(
  ctx: context.Context,
  params: dict,
  reward: rewards_lib.Models,
  records: Sequence[Mapping[str, Any]],
  *,
  subject: str,
  temperature: float,
) -> Choice:
  """The candidate whose responses score best, the first of equals.

  Args:
    ctx: its `config.evaluation.prefix` has the candidates.
    params: of the policy that is prompted.
    reward: the reward model's.
    records: the validation prompts.
    subject: what the policy is called.
    temperature: that it answers at.

  What does not fit is listed with the reason and takes no part.
  """
  possible, left_out = candidates(ctx, [r["prompt"] for r in records])
  policies = [
    policy_of(
      *(ctx, params, prefix),
      temperature=temperature,
      rows=ctx.config.evaluation.batch,
    )
    for prefix in possible
  ]
  widest = max(policy.columns for policy in policies)
  figures = []
  title = f"{ctx.config.experiment} prefix of {subject}"
  with progress.Progress(title, len(possible)) as line:
    for done, (prefix, policy) in enumerate(zip(possible, policies), start=1):
      policy = _widened(ctx, policy, widest)
      figures.append(_score(ctx, policy, prefix, reward, records))
      _log.info("prefix %s: score %.4f", prefix.name, figures[-1].value)
      line.update(done)
  best = max(range(len(figures)), key=lambda n: (figures[n].value, -n))
  found = [
    _row(subject, prefix, figure, "yes" if n == best else "no")
    for n, (prefix, figure) in enumerate(zip(possible, figures))
  ]
  found += [_row(subject, x, None, f"left out: {why}") for x, why in left_out]
  return Choice(possible[best], tuple(found), widest)


def _score(ctx, policy, prefix, reward, records) -> statistics.Interval:
  """The mean reward of a policy's responses; all policies share the keys."""
  prompts = [record["prompt"] for record in records]
  clusters = np.asarray([r.get("core", r["prompt"]) for r in records])
  settings = ctx.config.evaluation
  key = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(b"prefix"))
  said = respond.respond(policy, prompts, key)
  said = cut(ctx, prompts, said, prefix.stop)
  values = score.rewards_of(ctx, reward, prompts, said, rows=settings.batch)
  return statistics.mean_interval(np.asarray(values, np.float64), clusters)


def _row(subject, prefix, figure, chosen):
  row = {"prompted": subject, "prefix": prefix.name, "chosen": chosen}
  if figure is not None:
    row |= dataclasses.asdict(figure)
    row |= {"metric": f"prefix/{subject}/{prefix.name}"}
  return row | {"template": prefix.template, "stop": prefix.stop}


def can_choose(ctx: context.Context, frozen: Mapping[str, Any]) -> bool:
  """Whether there is a reward model that takes part in the reward."""
  asked = ctx.config.evaluation.prefix.prompts
  needs_model = rewards_lib.needs_model(ctx.config.reward)
  return bool(asked) and "reward" in frozen and needs_model


def candidates(
  ctx: context.Context, prompts: Sequence[str]
) -> tuple[list[Prefix], list[tuple[Prefix, str]]]:
  """Those that can be used, their shots drawn, and the others with why not.

  The default is among them, wherever they are from.
  """
  path = ctx.config.evaluation.prefix.candidates
  every = prefix_file.read(path) if path else ctx.world.prefixes
  named, default = list(every), default_of(ctx.world)
  if default.template not in [prefix.template for prefix in named]:
    named.insert(0, default)
  possible, left_out = [], []
  for prefix in named:
    for filled, why in _filled(ctx, prefix):
      why = why or _misfit(ctx, filled, prompts)
      if why:
        left_out.append((filled, why))
      else:
        possible.append(filled)
  if not possible:  # the error of a prompt that is too long, if it is one
    possible = [default]
  return possible, left_out


def _filled(ctx, prefix):
  """Yields (prefix, why it cannot be), of few-shot ones one for each draw."""
  if prefix_file.SHOTS not in prefix.template:
    yield prefix, ""
    return
  settings = ctx.config.evaluation.prefix
  shots = _shots(ctx, prefix)
  bare = prefix.template.replace(prefix_file.SHOTS, "")
  room = settings.tokens - templates.added(ctx.tokenizer, bare)
  for count in settings.shots:
    short = [text for text, tokens in shots if tokens <= room // count]
    for draw in range(1, settings.draws + 1):
      name = f"{prefix.name}_{count}_shots_{draw}"
      if len(short) < count:
        yield (
          dataclasses.replace(prefix, name=name),
          f"{len(short)} of {len(shots)} training demonstrations are short"
          f" enough for {count} in evaluation.prefix.tokens={settings.tokens}",
        )
        continue
      rng = np.random.default_rng(
        (ctx.config.evaluation.seed, zlib.crc32(name.encode()))
      )
      drawn = rng.choice(len(short), count, replace=False)
      text = "".join(short[n] for n in drawn.tolist())
      template = prefix.template.replace(prefix_file.SHOTS, text)
      yield dataclasses.replace(prefix, name=name, template=template), ""


def _shots(ctx: context.Context, prefix: Prefix) -> list[tuple[str, int]]:
  """(text, tokens) of training demonstrations as a candidate writes them.

  At most POOL of them, drawn from all. Those that would be read as something
  else in a template, or as the end of a turn, are not taken.
  """
  if not ctx.holds("demonstrations"):
    return []
  records = ctx.world.records(
    ctx.config.data, "demonstrations", "train", ctx.folders
  )
  rng = np.random.default_rng(ctx.config.evaluation.seed)
  pool = rng.permutation(len(records))[:POOL]
  special = (
    *ctx.tokenizer.special_ids,
    prefix_file.PROMPT,
    prefix_file.RESPONSE,
    prefix_file.SHOTS,
  )
  texts = []
  for n in pool.tolist():
    asked, said = (str(records[n][key]) for key in ("prompt", "response"))
    within = f"{asked}\0{said}"
    if any(name in within for name in special):
      continue
    if said.strip() and not (prefix.stop and prefix.stop in within):
      before, _, rest = prefix.shot.partition(prefix_file.PROMPT)
      texts.append(
        before + asked + rest.replace(prefix_file.RESPONSE, said.strip())
      )
  lengths = map(len, ctx.tokenizer.encode_batch(texts))
  return list(zip(texts, lengths))


def _misfit(ctx, prefix, prompts):
  """Why prompts do not fit behind a prefix, or ''."""
  width = _width(ctx, prefix)
  *_, kept = loader.encode_prompts(
    prompts, ctx.tokenizer, prefix.template, width
  )
  if len(kept) == len(prompts):
    return ""
  return (
    f"{len(prompts) - len(kept)} of {len(prompts)} prompts do not fit into the"
    f" {width} tokens that the model has room for"
  )


def _width(ctx: context.Context, prefix: Prefix) -> int:
  """The columns of prompts behind a prefix.

  No more than learned positions reach: there it is the prompts at hand that
  have to fit, not the longest that are allowed.
  """
  width = encode.width_of(ctx, prefix.template) + SPARE
  model = ctx.policy.config
  if model.positions != "learned":
    return width
  return min(width, model.context_length - ctx.config.data.response_length)


def policy_of(
  ctx: context.Context,
  params: dict,
  prefix: Prefix,
  *,
  columns: int = 0,
  **how: Any,
) -> respond.Policy:
  """Who answers behind a prefix; `how` as in `respond.policy_of`.

  Behind a long one by the program of so many `columns`, if that is enough.
  """
  is_usual = prefix.template == ctx.world.prompted_template
  if is_usual and encode.width_of(ctx, prefix.template) <= _width(ctx, prefix):
    # Shares its program with the plain one.
    return respond.policy_of(ctx, params, template=prefix.template, **how)
  policy = respond.policy_of(ctx, params, **how)
  width = _width(ctx, prefix)
  policy = dataclasses.replace(
    policy,
    template=prefix.template,
    width=width,
    columns=max(width, policy.columns),
  )
  return _widened(ctx, policy, columns)


def _widened(ctx, policy, columns):
  """A policy that takes the program of the long prefixes, if it needs it.

  All others take that of the plain prompts.
  """
  plain = encode.shared_width(ctx, ctx.config.data.template)
  if policy.columns <= plain or columns < policy.width:
    return policy
  return dataclasses.replace(policy, columns=columns)


def cut(
  ctx: context.Context,
  prompts: Sequence[str],
  said: respond.Responses,
  stop: str,
) -> respond.Responses:
  """Responses that end before `stop`; those without it are as they were."""
  which = [n for n, text in enumerate(said.texts) if stop and stop in text]
  if not which:
    return said
  texts = list(said.texts)
  for n in which:
    texts[n] = texts[n].partition(stop)[0].rstrip()
  encoded = encode.responses(
    ctx,
    [texts[n] for n in which],
    [True] * len(which),
    prompts=[prompts[n] for n in which],
    template=ctx.config.data.template,
  )
  arrays = {"ended": said.ended, "response": said.response}
  arrays |= {"judged": said.judged, "is_response": said.is_response}
  arrays = {name: np.array(array) for name, array in arrays.items()}
  arrays["ended"][which] = True
  arrays["response"][which] = encoded["response"]
  arrays["judged"][which] = encoded["response"]
  arrays["is_response"][which] = encoded["is_response"]
  return dataclasses.replace(said, texts=tuple(texts), **arrays)
