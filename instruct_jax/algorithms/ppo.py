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
from instruct_jax.algorithms import episodes, iteration
from instruct_jax.inference import context, rewards
from instruct_jax.maths import arrays, rl
from instruct_jax.models import forward


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy starts from SFT, the value network from the reward model (of
  several that judge together the first).

  Where the reward has no model in it, the value network is the policy with a
  fresh head.
  """
  policy = checkpoints["policy"]
  extra = {"kl_coef": jnp.float32(ctx.config.rl.kl_coef)}
  if not rewards.needs_model(ctx.config.reward):
    fresh = forward.init_params(ctx.scalar, key)
    value = fresh | {"decoder": policy["decoder"]}
    return {"policy": policy, "value": value}, {"reference": policy}, extra
  frozen = {"reference": policy, "reward": rewards.together(checkpoints)}
  return {"policy": policy, "value": checkpoints["reward"]}, frozen, extra


def collect(
  ctx: context.Context, state: algorithms.State, batch: dict, key: jax.Array
) -> tuple[dict, dict]:
  """Samples, scores and splits an iteration's episodes into minibatches."""
  k_sample, k_permute = jax.random.split(key)
  scored = iteration.played(ctx, state, batch["prompts"], k_sample)
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

  `text` may hold the rows of the part 'ptx', which are split as they come.
  Advantages are whitened over the iteration's whole batch.
  DEPARTS: the 2019 code whitens inside the loss, a minibatch and rank at a
  time, which makes the update depend on how the batch was split.
  """
  config, is_response = ctx.config.rl, scored.is_response
  assert scored.values is not None  # `init` makes a value network
  shaped = iteration.shaped_scores(ctx, scored)
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
  metrics = iteration.metrics(scored, token_rewards.sum(axis=1)) | {
    "objective/kl_coef": (kl_coef, 1.0),
    "value/explained_variance": (explained, 1.0),
  }
  parts = iteration.permuted(parts, key, ctx.config)
  return parts | iteration.split(text, updates(ctx.config)), metrics


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
  return iteration.adapted(
    ctx, extra, metrics, episodes=ctx.config.batch.prompts
  )


def check(config: ConfigDict) -> None:
  """UserError where the data of a batch are not those that PPO learns from."""
  iteration.check(config, roles=("policy", "value"))
  algorithms.require_no_dropout(config)
  if not rewards.needs_model(config.reward):
    algorithms.require_one_decoder(config)
  iteration.check_horizon(
    config, episodes=config.batch.prompts, what="config.batch.prompts"
  )


updates = iteration.updates
minibatch_rows = iteration.minibatch_rows


def _policy(ctx, params, rows):
  config, is_response = ctx.config.rl, rows["is_response"]
  logprobs, entropies = forward.response_logprobs_and_entropies(
    ctx.policy, params["policy"], rows, temperature=config.temperature
  )
  (total, weight), metrics = rl.policy_loss(
    logprobs,
    rows["old_logprobs"],
    rows["advantages"],
    is_response,
    clip=config.clip,
  )
  ratio = metrics.pop("policy/ratio")
  metrics |= {
    "policy/ratio_first_minibatch": ratio,
    "policy/entropy": arrays.sum_and_weight(entropies, is_response),
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
  return iteration.ptx(ctx, params["policy"], rows), {}


PARTS = {"policy": _policy, "value": _value, "ptx": _ptx}


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
