"""RLOO and GRPO: the other responses to a prompt in place of a value network.

G responses to each prompt of a batch are a group (`config.rl.group_size`), and
the advantage of a response is its return over what the group's others have.
One algorithm, a few settings:

             rl.baseline    rl.aggregation  rl.kl_in  source
  RLOO       leave_one_out  sequence        reward    Ahmadian et al. 2024
  GRPO       standardised   response        loss      Shao et al. 2024
  Dr. GRPO   centred        length          loss      Liu et al. 2025
  DAPO's     standardised   token           loss      Yu et al. 2025, 3.3

The update is PPO's: minibatches and a clipped ratio, of whole responses where
`rl.aggregation` is 'sequence', of tokens otherwise. The part 'policy' has the
terms 'policy' and, with the KL in the loss, 'kl'; 'ptx' is as in `ppo`. B = N x
G episodes, the G of a prompt one after the other; R response; M minibatches.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, iteration
from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.maths import arrays, groups
from instruct_jax.models import forward

KL_IN = ("reward", "loss")


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy starts from SFT, its reference; there is no value network."""
  del key
  params, frozen = iteration.start(ctx, checkpoints)
  extra = {"kl_coef": jnp.float32(ctx.config.rl.kl_coef)}
  return params, frozen, extra


def collect(
  ctx: context.Context, state: algorithms.State, batch: dict, key: jax.Array
) -> tuple[dict, dict]:
  """Samples a group for each prompt, scores it and splits all episodes."""
  k_sample, k_permute = jax.random.split(key)
  prompts = episodes.repeated(batch["prompts"], ctx.config.rl.group_size)
  scored = iteration.played(ctx, state, prompts, k_sample)
  text = iteration.text_of(ctx, batch)
  return minibatches(ctx, scored, state.extra["kl_coef"], text, k_permute)


@functools.partial(jax.jit, static_argnums=0)
def minibatches(
  ctx: context.Context,
  scored: episodes.Episodes,
  kl_coef: jax.Array,
  text: dict,
  key: jax.Array,
) -> tuple[dict, dict]:
  """M x inner_epochs random minibatches with advantages, and the metrics.

  Advantages are of the whole iteration before it is split, so how groups fall
  into minibatches changes none.
  """
  config, is_response = ctx.config.rl, scored.is_response
  is_episode = is_response.any(axis=1)  # Not what fills a batch up.
  log_ratio = scored.logprobs - scored.ref_logprobs
  kl = jnp.where(is_response, log_ratio, 0.0).sum(axis=1)
  returns = scores = iteration.shaped_scores(ctx, scored)
  if config.kl_in == "reward":  # k1 of the whole response
    returns = returns - kl_coef * kl
  of_groups = returns.reshape(-1, config.group_size)
  advantages = groups.advantages(of_groups, baseline=config.baseline).reshape(
    -1
  )
  if config.whiten_advantages:
    advantages = arrays.whiten(advantages, is_episode)
  rows = scored.sequences | {
    "old_logprobs": scored.logprobs,
    "advantages": jnp.where(is_episode, advantages, 0.0),
  }
  if config.kl_in == "loss":
    rows |= {
      "ref_logprobs": scored.ref_logprobs,
      "kl_coef": jnp.broadcast_to(kl_coef, is_episode.shape),
    }
  metrics = iteration.metrics(scored, returns) | {
    "objective/kl_coef": (kl_coef, 1.0),
    "objective/kl_k3": arrays.sum_and_weight(
      groups.kl_k3(scored.logprobs, scored.ref_logprobs, is_response).sum(
        axis=1
      ),
      is_episode,
    ),
  }
  metrics |= iteration.group_metrics(of_groups, is_episode) | {
    "groups/equal_scores": iteration.equal_share(
      scores.reshape(of_groups.shape), is_episode
    )
  }
  parts = iteration.permuted({"policy": rows}, key, ctx.config)
  return parts | iteration.split(text, updates(ctx.config)), metrics


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """The clipped policy loss, β x KL where it stands in the loss, γ x ptx."""
  del frozen, key  # No dropout in RL (README, detail 1).
  terms, metrics = {}, {}
  for part, rows in minibatch.items():
    of_part, more = PARTS[part](ctx, params["policy"], rows)
    terms |= of_part
    metrics |= more
  return terms, metrics


def _policy(ctx, policy, rows):
  config, is_response = ctx.config.rl, rows["is_response"]
  logprobs, entropies = forward.response_logprobs_and_entropies(
    ctx.policy, policy, rows, temperature=config.temperature
  )
  (total, weight), metrics = groups.policy_loss(
    logprobs,
    rows["old_logprobs"],
    rows["advantages"],
    is_response,
    clip=config.clip,
    aggregation=config.aggregation,
  )
  terms = {"policy": (total, weight, 1.0)}
  ratio = metrics.pop("policy/ratio")
  metrics |= {
    "policy/ratio_first_minibatch": ratio,
    "policy/entropy": arrays.sum_and_weight(entropies, is_response),
  }
  if config.kl_in == "loss":
    kl = groups.kl_k3(logprobs, rows["ref_logprobs"], is_response)
    metrics["policy/kl_k3"] = arrays.sum_and_weight(kl, is_response)
    # β is a column, since it may adapt: all rows have the same.
    total, weight = groups.aggregate(
      rows["kl_coef"][:, None] * kl, is_response, aggregation=config.aggregation
    )
    terms["kl"] = (total, weight, 1.0)
  return terms, metrics


def _ptx(ctx, policy, rows):
  return {"ptx": iteration.ptx(ctx, policy, rows)}, {}


PARTS = {"policy": _policy, "ptx": _ptx}


def adapt(ctx: context.Context, extra: dict, metrics: dict) -> dict:
  """Adaptive KL coefficient, if a target is set (README, detail 12)."""
  return iteration.adapted(ctx, extra, metrics, episodes=_episodes(ctx.config))


def check(config: ConfigDict) -> None:
  """UserError where a group has no baseline, or nothing to be learned from."""
  iteration.check(config, roles=("policy",))
  algorithms.require_no_dropout(config)
  section = config.rl
  for name, known in {
    "baseline": groups.BASELINES,
    "aggregation": groups.AGGREGATIONS,
    "kl_in": KL_IN,
  }.items():
    if section[name] not in known:
      raise errors.unknown(f"config.rl.{name}", section[name], known)
  if section.group_size < 2:
    why = {
      "leave_one_out": "there is no other response whose mean to compare with",
      "standardised": "the standard deviation of one return is not defined",
      "centred": "the mean is its own return, so every advantage is 0",
    }
    raise errors.UserError(
      f"config.rl.group_size={section.group_size} with config.rl.baseline="
      f"{section.baseline}: {why[section.baseline]}; give 2 or more"
    )
  iteration.check_prompts(config)
  iteration.check_horizon(
    config,
    episodes=_episodes(config),
    what="config.batch.prompts x config.rl.group_size",
  )


def _episodes(config):
  return config.batch.prompts * config.rl.group_size


updates = iteration.updates


def minibatch_rows(config: ConfigDict, rows: dict[str, int]) -> dict[str, int]:
  """As PPO's, of group_size episodes a prompt."""
  rows = dict(rows)
  if "prompts" in rows:
    rows["prompts"] *= config.rl.group_size
  return iteration.minibatch_rows(
    config, rows, what="prompts x config.rl.group_size"
  )


ALGORITHM = algorithms.Algorithm(
  init=init,
  collect=collect,
  loss=loss,
  adapt=adapt,
  check=check,
  # Of scores: a KL in the reward makes returns differ that teach nothing else.
  warning=functools.partial(
    iteration.warning_of_equals, name="groups/equal_scores"
  ),
  updates=updates,
  minibatch_rows=minibatch_rows,
  speaker="policy",
  is_rewarded=True,
)
