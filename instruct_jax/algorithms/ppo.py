"""PPO and PPO-ptx (section 3.5, equation 2; appendices C.3 and C.4).

The minibatch has a part for each network's objective: 'policy' and 'value'
read the episodes, 'ptx' reads pretraining text and is there when the batch
holds any. B episodes, R response; M minibatches.
"""

import jax
import jax.numpy as jnp

from instruct_jax.algorithms import rollout, sft
from instruct_jax.inference import context
from instruct_jax.maths import arrays, rl
from instruct_jax.models import forward


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy starts from SFT, the value network from the reward model.

  Where a rule takes the reward model's place, the value network is the policy
  with a fresh head.
  """
  policy, reward = checkpoints["policy"], checkpoints["reward"]
  value = reward or forward.init_params(ctx.scalar, key) | {
    "decoder": policy["decoder"]
  }
  params = {"policy": policy, "value": value}
  frozen = {"reference": policy, "reward": reward}
  return params, frozen, {"kl_coef": jnp.float32(ctx.config.rl.kl_coef)}


def collect(
  ctx: context.Context, state, batch: dict, key: jax.Array
) -> dict[str, dict]:
  """Samples, scores and splits an iteration's episodes into minibatches."""
  k_sample, k_permute = jax.random.split(key)
  generation = rollout.sample(
    ctx, state.params["policy"], batch["prompts"], k_sample
  )
  episodes = rollout.score(
    ctx, state.params, state.frozen, batch["prompts"], generation
  )
  return minibatches(
    ctx, episodes, state.extra["kl_coef"], batch.get("pretraining"), k_permute
  )


def minibatches(
  ctx: context.Context,
  episodes: rollout.Episodes,
  kl_coef: jax.Array,
  pretraining: dict | None,
  key: jax.Array,
) -> dict[str, dict]:
  """Rewards, advantages, and M x inner_epochs random minibatches.

  Advantages are whitened over the iteration's whole batch.
  DEPARTS: the 2019 code whitens inside the loss, a minibatch and rank at a
  time, which makes the update depend on how the batch was split.
  """
  config, is_response = ctx.config.rl, episodes.is_response
  shaped = rl.shape_scores(
    episodes.scores,
    episodes.ended,
    mode=config.missing_end,
    value=config.missing_end_value,
  )
  rewards = rl.rewards(
    shaped,
    episodes.logprobs,
    episodes.ref_logprobs,
    is_response,
    kl_coef=kl_coef,
  )
  if config.whiten_rewards:
    rewards = arrays.whiten(rewards, is_response, shift_mean=False)
  advantages = rl.gae(
    rewards,
    episodes.values,
    is_response,
    discount=config.discount,
    gae_lambda=config.gae_lambda,
  )
  returns = advantages + episodes.values
  kl = jnp.where(is_response, episodes.logprobs - episodes.ref_logprobs, 0.0)
  sequences = episodes.sequences
  parts = {
    "policy": sequences
    | {
      "old_logprobs": episodes.logprobs,
      "advantages": arrays.whiten(advantages, is_response),
      "kl": kl.sum(axis=1),
      "score": episodes.scores,
      "reward": rewards.sum(axis=1),
      "ended": episodes.ended,
      "kl_coef": jnp.broadcast_to(kl_coef, kl.shape[:1]),
    },
    "value": sequences
    | {
      "old_values": episodes.values,
      "returns": returns,
      "explained": jnp.broadcast_to(
        rl.explained_variance(episodes.values, returns, is_response),
        kl.shape[:1],
      ),
    },
  }
  parts = _permuted(parts, key, config)
  M = config.minibatches * config.inner_epochs
  count = parts["policy"]["kl"].shape[1]
  parts["policy"]["is_first"] = jnp.broadcast_to(
    (jnp.arange(M) == 0)[:, None], (M, count)
  )
  if pretraining is not None:
    parts["ptx"] = _split(pretraining, M)
  return parts


def loss(
  ctx: context.Context, params: dict, minibatch: dict, key: jax.Array | None
) -> tuple[dict, dict]:
  """One term a part: clipped policy loss, clipped value loss, γ x ptx."""
  del key  # No dropout in RL (README, detail 1).
  terms, metrics = {}, {}
  for part, rows in minibatch.items():
    terms[part], found = PARTS[part](ctx, params, rows)
    metrics |= found
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
  count = jnp.float32(len(rows["kl"]))
  tokens = is_response.sum(dtype=jnp.float32)
  first = rows["is_first"].astype(jnp.float32).max()
  ratio, ratio_weight = metrics.pop("policy/ratio")
  metrics |= {
    "policy/ratio_first_minibatch": (ratio * first, ratio_weight * first),
    "policy/entropy": arrays.sum_and_weight(entropy, is_response),
    "objective/kl": (rows["kl"].sum(), count),
    "objective/kl_per_token": (rows["kl"].sum(), tokens),
    "objective/kl_coef": (rows["kl_coef"].sum(), count),
    "objective/score": (rows["score"].sum(), count),
    "objective/return": (rows["reward"].sum(), count),
    "response/length": (tokens, count),
    "response/end_rate": (rows["ended"].sum(dtype=jnp.float32), count),
    "count/tokens": (tokens, 1.0),
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
  explained = rows["explained"]
  metrics["value/explained_variance"] = (
    explained.sum(),
    jnp.float32(len(explained)),
  )
  return (total, weight, config.value_coef), metrics


def _ptx(ctx, params, rows):
  # γ multiplies the mean over tokens (README, detail 15).
  total, weight = sft.PARTS["pretraining"](ctx, params["policy"], rows, None)
  return (total, weight, ctx.config.rl.ptx_coef), {}


PARTS = {"policy": _policy, "value": _value, "ptx": _ptx}


def _permuted(parts, key, config):
  """A new random order for every inner epoch, split into minibatches."""
  count = len(parts["policy"]["kl"])
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
