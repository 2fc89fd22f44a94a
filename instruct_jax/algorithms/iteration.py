"""An iteration, from samples to updates: what algorithms that sample share.

Prompts become scored episodes (`played`), an algorithm makes training parts of
them, and those are put into random order and split into the minibatches of an
iteration. `config.rl` has the numbers. B episodes, R response; M minibatches.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, sft
from instruct_jax.base import errors, phases
from instruct_jax.inference import context, decoding, rewards
from instruct_jax.maths import arrays, groups, rl


def start(ctx: context.Context, checkpoints: dict) -> tuple[dict, dict]:
  """(params, frozen) of a policy that starts from SFT, its reference, where
  nothing but the policy is trained."""
  policy = checkpoints["policy"]
  frozen = {"reference": policy}
  if rewards.needs_model(ctx.config.reward):
    frozen["reward"] = rewards.together(checkpoints)
  return {"policy": policy}, frozen


def played(
  ctx: context.Context,
  state: algorithms.State,
  prompts: dict,
  key: jax.Array,
  *,
  sampler: dict | None = None,
) -> episodes.Episodes:
  """One episode a row of prompts, sampled by the policy and scored.

  `sampler` are the parameters of another who answers in its place; the logprobs
  stay those of the policy.
  """
  answers = state.params["policy"] if sampler is None else sampler
  with phases.phase("generate") as made:
    answers = decoding.laid_out(ctx, answers, state)
    generation = episodes.sample(ctx, answers, prompts, key)
    made(generation)
  del answers  # A copy for sampling makes room for what scores.
  with phases.phase("score") as made:
    scored = episodes.score(
      ctx, state.params, state.frozen, prompts, generation
    )
    made(scored)
  return scored


def text_of(ctx: context.Context, batch: dict) -> dict:
  """The part 'ptx', which is there where `rl.ptx_coef` is not 0.

  Validation may be without text.
  """
  is_mixed_in = ctx.config.rl.ptx_coef and "pretraining" in batch
  return {"ptx": batch["pretraining"]} if is_mixed_in else {}


def shaped_scores(ctx: context.Context, scored: episodes.Episodes) -> jax.Array:
  """The scores [B], those without an end as `rl.missing_end` says."""
  return rl.shape_scores(
    scored.scores,
    scored.ended,
    mode=ctx.config.rl.missing_end,
    value=ctx.config.rl.missing_end_value,
  )


def metrics(scored: episodes.Episodes, returns: jax.Array) -> dict:
  """What the episodes are like: a mean over them, or over their tokens.

  `returns` [B] are what is learned from, in all, of each.
  """
  is_response = scored.is_response
  is_episode = is_response.any(axis=1)  # Not what fills a batch up.
  kl = jnp.where(is_response, scored.logprobs - scored.ref_logprobs, 0.0)
  tokens = is_response.sum(axis=1)
  of_episodes = {
    "objective/kl": kl.sum(axis=1),
    "objective/score": scored.scores,
    "objective/return": returns,
    "response/length": tokens,
    "response/end_rate": scored.ended,
  } | {f"reward/{name}": scores for name, scores in scored.terms.items()}
  means = {
    name: arrays.sum_and_weight(x, is_episode)
    for name, x in of_episodes.items()
  }
  if scored.padding is not None:
    means["padding/scoring"] = scored.padding
  return means | {
    "objective/kl_per_token": arrays.sum_and_weight(kl, is_response),
    "count/tokens": (tokens.sum(dtype=jnp.float32), 1.0),
    "count/episodes": (is_episode.sum(dtype=jnp.float32), 1.0),
  }


def permuted(parts: dict, key: jax.Array, config: ConfigDict) -> dict:
  """A new random order for every inner epoch, split into minibatches.

  All parts [B, ...] get the same order.
  """
  count = len(jax.tree.leaves(parts)[0])
  orders = [
    jax.random.permutation(k, count)
    for k in jax.random.split(key, config.rl.inner_epochs)
  ]
  order = jnp.concatenate(orders)
  return split(jax.tree.map(lambda x: x[order], parts), updates(config))


def split(tree: Any, minibatches: int) -> Any:
  """[M x rows, ...] -> [M, rows, ...], in their order."""

  def one(x):
    size = arrays.exact_div(
      len(x), minibatches, "rows of an iteration / minibatches"
    )
    return x.reshape(minibatches, size, *x.shape[1:])

  return jax.tree.map(one, tree)


def ptx(
  ctx: context.Context, policy: dict, rows: dict
) -> tuple[jax.Array, jax.Array, float]:
  """The term of pretraining text (equation 2), as in `sft`."""
  # γ multiplies the mean over tokens (README, detail 15).
  total, weight = sft.PARTS["pretraining"](ctx, policy, rows, None)
  return total, weight, ctx.config.rl.ptx_coef


def adapted(
  ctx: context.Context, extra: dict, metrics: dict, *, episodes: int
) -> dict:
  """Adaptive KL coefficient, if a target is set (README, detail 12).

  `episodes` are those of an iteration.
  """
  config = ctx.config.rl
  if not config.kl_target:
    return extra
  total, weight = metrics["objective/kl"]
  kl_coef = rl.next_kl_coef(
    extra["kl_coef"],
    total / weight,
    target=config.kl_target,
    horizon=config.kl_horizon,
    episodes=episodes,
  )
  return extra | {"kl_coef": kl_coef}


def group_metrics(of_groups: jax.Array, is_episode: jax.Array) -> dict:
  """How the returns [N, G] of a prompt's responses differ; is_episode [B]."""
  is_group = is_episode.reshape(of_groups.shape).any(axis=1)
  return {
    "groups/zero_std": equal_share(of_groups, is_episode),
    "groups/reward_std": arrays.sum_and_weight(groups.std(of_groups), is_group),
  }


def equal_share(
  of_groups: jax.Array, is_episode: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """(sum, weight): how many groups [N, G] have one number; is_episode [B]."""
  is_group = is_episode.reshape(of_groups.shape).any(axis=1)
  return arrays.sum_and_weight(groups.is_flat(of_groups), is_group)


def warning_of_equals(
  config: ConfigDict, metrics: dict[str, float], *, name: str
) -> str:
  """What to do where no response of a group has a better score than another.

  The metric `name` is the share of such groups; '' where it is below 1.
  """
  if not metrics.get(name, 0.0) >= 1:  # NaN where there is no group at all
    return ""
  return (
    "in every group all responses have the same score, so none is learned to be"
    " better than another. Where this goes on, look at samples.jsonl and at"
    " what config.reward says of it; prompts that are neither too easy nor too"
    " hard, more responses to each (config.rl.group_size="
    f"{config.rl.group_size}) or a higher config.rl.temperature="
    f"{config.rl.temperature} tell them apart. {name} in metrics.jsonl is the"
    " share of such groups in each step"
  )


def check_prompts(config: ConfigDict) -> None:
  """UserError where the devices don't divide the prompts of a batch."""
  arrays.exact_div(
    config.batch.prompts,
    config.mesh.data * config.mesh.fsdp,
    "config.batch.prompts / (config.mesh.data x config.mesh.fsdp)",
  )


def check(config: ConfigDict, *, roles: Sequence[str]) -> None:
  """UserError where a batch lacks data, or the config an optimizer of `roles`,
  or where responses without an end would be marked wrongly."""
  kinds = {"prompts"} | ({"pretraining"} if config.rl.ptx_coef else set())
  for section in ("batch", "validation"):
    missing = sorted(kinds - set(config[section]))
    if missing and (config[section] or section == "batch"):
      raise errors.UserError(
        f"config.{section}.{missing[0]} is missing: config.algorithm="
        f"{config.algorithm} learns from {' and '.join(sorted(kinds))} with"
        f" config.rl.ptx_coef={config.rl.ptx_coef}"
      )
  if config.rl.ptx_coef and not config.batch.pretraining:
    raise errors.UserError(
      f"config.batch.pretraining=0: config.rl.ptx_coef={config.rl.ptx_coef}"
      " mixes text in, and this says how many rows of it an iteration reads;"
      " give both, or neither"
    )
  algorithms.require(config, needs=["policy"], optimizer=roles)
  if config.rl.missing_end not in rl.MISSING_END:
    raise errors.unknown(
      "config.rl.missing_end", config.rl.missing_end, rl.MISSING_END
    )
  value = config.rl.missing_end_value
  if config.rl.missing_end == "penalty" and value < 0:
    raise errors.UserError(
      f"config.rl.missing_end_value={value}: a penalty is taken off the score,"
      " so below 0 it would reward responses without an end; give 0 or more"
    )


def check_horizon(config: ConfigDict, *, episodes: int, what: str) -> None:
  """UserError where one iteration of so many episodes (config's `what`) could
  turn the adaptive KL coefficient's sign."""
  most = rl.KL_ERROR * episodes
  if config.rl.kl_target and config.rl.kl_horizon <= most:
    raise errors.UserError(
      f"config.rl.kl_horizon={config.rl.kl_horizon}: must be above"
      f" {rl.KL_ERROR} x {what} = {most:g}, or one iteration"
      " could make the KL coefficient 0 or negative"
    )


def updates(config: ConfigDict) -> int:
  """An update a minibatch, of every inner epoch."""
  return config.rl.minibatches * config.rl.inner_epochs


def minibatch_rows(
  config: ConfigDict, rows: dict[str, int], *, what: str = "rows of prompts"
) -> dict[str, int]:
  """Every inner epoch sees all episodes; of the text it sees its share.

  `rows['prompts']` counts those that are learned from, which `what` names.
  """
  return {
    kind: arrays.exact_div(
      size,
      config.rl.minibatches if kind == "prompts" else updates(config),
      f"{what if kind == 'prompts' else f'rows of {kind}'} in a batch /"
      " minibatches of config.rl",
    )
    for kind, size in rows.items()
  }
