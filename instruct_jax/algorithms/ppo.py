"""PPO and PPO-ptx (section 3.5, equation 2; appendices C.3 and C.4).

The minibatch has a part for each network's objective: 'policy' and 'value'
read the episodes, 'ptx', which is there where `config.rl.ptx_coef` is not 0,
reads pretraining text. B episodes, R response; M minibatches.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, sft
from instruct_jax.base import errors
from instruct_jax.inference import context, rewards
from instruct_jax.maths import arrays, rl
from instruct_jax.models import forward


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy starts from SFT, the value network from the reward model.

  Where the reward has no model in it, the value network is the policy with a
  fresh head.
  """
  policy = checkpoints["policy"]
  extra = {"kl_coef": jnp.float32(ctx.config.rl.kl_coef)}
  if not rewards.needs_model(ctx.config.reward):
    fresh = forward.init_params(ctx.scalar, key)
    value = fresh | {"decoder": policy["decoder"]}
    return {"policy": policy, "value": value}, {"reference": policy}, extra
  reward = checkpoints["reward"]
  frozen = {"reference": policy, "reward": reward}
  return {"policy": policy, "value": reward}, frozen, extra


def collect(
  ctx: context.Context, state: algorithms.State, batch: dict, key: jax.Array
) -> tuple[dict, dict]:
  """Samples, scores and splits an iteration's episodes into minibatches."""
  k_sample, k_permute = jax.random.split(key)
  generation = episodes.sample(
    ctx, state.params["policy"], batch["prompts"], k_sample
  )
  scored = episodes.score(
    ctx, state.params, state.frozen, batch["prompts"], generation
  )
  text = {"ptx": batch["pretraining"]} if ctx.config.rl.ptx_coef else {}
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

  `text` may hold the rows of the part 'ptx', which are split as they come.
  Advantages are whitened over the iteration's whole batch.
  DEPARTS: the 2019 code whitens inside the loss, a minibatch and rank at a
  time, which makes the update depend on how the batch was split.
  """
  config, is_response = ctx.config.rl, scored.is_response
  shaped = rl.shape_scores(
    scored.scores,
    scored.ended,
    mode=config.missing_end,
    value=config.missing_end_value,
  )
  token_rewards = rl.rewards(
    shaped,
    scored.logprobs,
    scored.ref_logprobs,
    is_response,
    kl_coef=kl_coef,
  )
  if config.whiten_rewards:
    token_rewards = arrays.whiten(token_rewards, is_response, shift_mean=False)
  advantages = rl.gae(
    token_rewards,
    scored.values,
    is_response,
    discount=config.discount,
    gae_lambda=config.gae_lambda,
  )
  returns = advantages + scored.values
  parts = {
    "policy": scored.sequences
    | {
      "old_logprobs": scored.logprobs,
      "advantages": arrays.whiten(advantages, is_response),
    },
    "value": scored.sequences
    | {"old_values": scored.values, "returns": returns},
  }
  explained = rl.explained_variance(scored.values, returns, is_response)
  metrics = _metrics(scored, token_rewards) | {
    "objective/kl_coef": (kl_coef, 1.0),
    "value/explained_variance": (explained, 1.0),
  }
  return _permuted(parts, key, config) | _split(
    text, updates(ctx.config)
  ), metrics


def _metrics(scored, token_rewards):
  """What the episodes are like: a mean over them, or over their tokens."""
  is_response = scored.is_response
  is_episode = is_response.any(axis=1)  # Not what fills a batch up.
  kl = jnp.where(is_response, scored.logprobs - scored.ref_logprobs, 0.0)
  tokens = is_response.sum(axis=1)
  of_episodes = {
    "objective/kl": kl.sum(axis=1),
    "objective/score": scored.scores,
    "objective/return": token_rewards.sum(axis=1),
    "response/length": tokens,
    "response/end_rate": scored.ended,
  } | {f"reward/{name}": scores for name, scores in scored.terms.items()}
  metrics = {
    name: arrays.sum_and_weight(x, is_episode)
    for name, x in of_episodes.items()
  }
  return metrics | {
    "objective/kl_per_token": arrays.sum_and_weight(kl, is_response),
    "count/tokens": (tokens.sum(dtype=jnp.float32), 1.0),
  }


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """One term a part: clipped policy loss, clipped value loss, γ x ptx."""
  del frozen, key  # No dropout in RL (README, detail 1).
  terms, metrics = {}, {}
  for part, rows in minibatch.items():
    terms[part], of_part = PARTS[part](ctx, params, rows)
    metrics |= of_part
  return terms, metrics


def adapt(ctx: context.Context, extra: dict, metrics: dict) -> dict:
  """Adaptive KL coefficient, if a target is set (README, detail 12)."""
  config = ctx.config.rl
  if not config.kl_target:
    return extra
  total, weight = metrics["objective/kl"]
  kl_coef = rl.next_kl_coef(
    extra["kl_coef"],
    total / weight,
    target=config.kl_target,
    horizon=config.kl_horizon,
    episodes=ctx.config.batch.prompts,
  )
  return extra | {"kl_coef": kl_coef}


def check(config: ConfigDict) -> None:
  """UserError where the data of a batch are not those that PPO learns from."""
  kinds = {"prompts"} | ({"pretraining"} if config.rl.ptx_coef else set())
  for section in ("batch", "validation"):
    missing = sorted(kinds - set(config[section]))
    if missing and (config[section] or section == "batch"):
      raise errors.UserError(
        f"config.{section}.{missing[0]} is missing: PPO learns from"
        f" {' and '.join(sorted(kinds))} with"
        f" config.rl.ptx_coef={config.rl.ptx_coef}"
      )
  algorithms.require(config, needs=["policy"], optimizer=["policy", "value"])
  algorithms.require_no_dropout(config)
  if not rewards.needs_model(config.reward):
    algorithms.require_one_decoder(config)
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
  most = rl.KL_ERROR * config.batch.prompts
  if config.rl.kl_target and config.rl.kl_horizon <= most:
    raise errors.UserError(
      f"config.rl.kl_horizon={config.rl.kl_horizon}: must be above"
      f" {rl.KL_ERROR} x config.batch.prompts = {most:g}, or one iteration"
      " could make the KL coefficient 0 or negative"
    )


def updates(config: ConfigDict) -> int:
  """An update a minibatch, of every inner epoch."""
  return config.rl.minibatches * config.rl.inner_epochs


def minibatch_rows(config: ConfigDict, rows: dict[str, int]) -> dict[str, int]:
  """Every inner epoch sees all episodes; of the text it sees its share."""
  return {
    kind: arrays.exact_div(
      size,
      config.rl.minibatches if kind == "prompts" else updates(config),
      f"rows of {kind} in a batch / minibatches of config.rl",
    )
    for kind, size in rows.items()
  }


def _policy(ctx, params, rows):
  config, is_response = ctx.config.rl, rows["is_response"]
  logits = forward.response_logits(ctx.policy, params["policy"], rows)
  (total, weight), metrics = rl.policy_loss(
    rl.logprobs(logits, rows["response"], temperature=config.temperature),
    rows["old_logprobs"],
    rows["advantages"],
    is_response,
    clip=config.clip,
  )
  entropy = rl.entropy(logits, temperature=config.temperature)
  ratio = metrics.pop("policy/ratio")
  metrics |= {
    "policy/ratio_first_minibatch": ratio,
    "policy/entropy": arrays.sum_and_weight(entropy, is_response),
  }
  return (total, weight, 1.0), metrics


def _value(ctx, params, rows):
  config = ctx.config.rl
  values = forward.response_values(ctx.scalar, params["value"], rows)
  (total, weight), metrics = rl.value_loss(
    values,
    rows["old_values"],
    rows["returns"],
    rows["is_response"],
    clip=config.value_clip,
  )
  return (total, weight, config.value_coef), metrics


def _ptx(ctx, params, rows):
  # γ multiplies the mean over tokens (README, detail 15).
  total, weight = sft.PARTS["pretraining"](ctx, params["policy"], rows, None)
  return (total, weight, ctx.config.rl.ptx_coef), {}


PARTS = {"policy": _policy, "value": _value, "ptx": _ptx}


def _permuted(parts, key, config):
  """A new random order for every inner epoch, split into minibatches."""
  count = len(parts["policy"]["is_response"])
  orders = [
    jax.random.permutation(k, count)
    for k in jax.random.split(key, config.inner_epochs)
  ]
  order = jnp.concatenate(orders)
  M = config.minibatches * config.inner_epochs
  return _split(jax.tree.map(lambda x: x[order], parts), M)


def _split(tree, minibatches):
  def split(x):
    size = arrays.exact_div(
      len(x), minibatches, "rows of an iteration / minibatches"
    )
    return x.reshape(minibatches, size, *x.shape[1:])

  return jax.tree.map(split, tree)


ALGORITHM = algorithms.Algorithm(
  init=init,
  collect=collect,
  loss=loss,
  adapt=adapt,
  check=check,
  updates=updates,
  minibatch_rows=minibatch_rows,
  speaker="policy",
  is_rewarded=True,
)
