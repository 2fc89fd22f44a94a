"""Direct preference optimisation, from K-wise rankings (Rafailov et al. 2023).

The policy's own reward is β (log π - log π_ref), the log-probabilities of whole
responses, and is fitted to the rankings as the reward model's score is: all
C(K, 2) pairs of a prompt are one element of the batch, ties are dropped, each
completion is computed once and each prompt once for all its completions. As
C(K, 2) counts the ties, too, the loss starts below log 2 where there are any;
`rankings/log_loss`, a pair's mean, starts at log 2. The
reference is the policy that the run starts from. What it says of the data is
computed before the first step, so that it takes no memory in training.

B prompts, K completions, R response. There is no dropout: at the start every
log-ratio is 0.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import sft
from instruct_jax.base import errors
from instruct_jax.data.batch import loader
from instruct_jax.inference import batching, context
from instruct_jax.maths import preferences
from instruct_jax.models import forward, packed


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy that the run starts from; its reference are columns."""
  del ctx, key
  return {"policy": checkpoints["policy"]}, {}, {}


def columns(
  ctx: context.Context, checkpoints: dict, rows: dict[str, loader.Rows]
) -> algorithms.Columns:
  """log π_ref [N, K] of all completions, in nats.

  Raises UserError where not one response is preferred to another.
  """
  if "rankings" not in rows:
    return {}
  found = batching.of_rows(
    functools.partial(_reference, ctx, checkpoints["policy"]),
    rows["rankings"],
    ctx.mesh,
    rows=max(1, ctx.config.batch.rankings // ctx.config.microbatches),
    note="reference",
  )
  if not found["pairs"].any():
    raise errors.UserError(
      f"data.rankings: not one of {len(rows['rankings'])} rankings prefers a"
      " response to another, so there is nothing to learn from"
    )
  return {"rankings": {"ref_logprobs": found["logprobs"]}}


@functools.partial(jax.jit, static_argnums=0)
def _reference(ctx, policy, rows):
  function = functools.partial(completion_logprobs, ctx, policy)
  logprobs, _ = packed.mapped(function, rows)
  return {"logprobs": logprobs, "pairs": rows["beats"].any(axis=(1, 2))}


def completion_logprobs(
  ctx: context.Context, policy: dict, rows: dict[str, jax.Array]
) -> jax.Array:
  """log π(response | prompt) [B, K] of rankings, in nats; 0 of padding."""
  by_token = forward.completion_logprobs(ctx.policy, policy, rows)
  return by_token.sum(axis=2)


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """`config.dpo.loss` of the rankings' pairs, and γ x ptx if it is there."""
  del frozen, key
  terms, metrics = {}, {}
  for part, rows in minibatch.items():
    terms[part], of_part = PARTS[part](ctx, params["policy"], rows)
    metrics |= of_part
  return terms, metrics


def _rankings(ctx, policy, rows):
  config = ctx.config.dpo
  logprobs = completion_logprobs(ctx, policy, rows)
  log_ratios = jnp.where(  # of what fills a batch up the reference is a row's
    rows["is_completion"], logprobs - rows["ref_logprobs"], 0.0
  )
  lengths = rows["is_response"].sum(axis=2, dtype=jnp.float32)
  means = log_ratios / jnp.maximum(lengths, 1.0)
  ranked = (rows["beats"], rows["is_completion"])
  h = means if config.per_token else log_ratios
  total, weight = LOSSES[config.loss](config, h, *ranked)
  metrics = _metrics(config.beta * h, logprobs, ranked)
  drift = 0.0 - log_ratios.sum()
  tokens = lengths.sum()
  read = tokens + rows["is_prompt"].sum(dtype=jnp.float32)
  completions = rows["is_completion"].sum(dtype=jnp.float32)
  return (total, weight, 1.0), metrics | {
    # Of the data's responses: KL(π_ref, π) in so far as the reference said
    # them. The KL of the policy's own is measured in the evaluation.
    "policy/forward_kl": (drift, completions),
    "policy/forward_kl_per_token": (drift, tokens),
    "count/tokens": (read, 1.0),
  }


def _metrics(rewards, logprobs, ranked):
  """What TRL's users look at: means over pairs of winners and losers."""
  won, lost, pairs = preferences.of_pairs(rewards, *ranked)
  likely, unlikely, _ = preferences.of_pairs(logprobs, *ranked)
  return {
    "rankings/log_loss": preferences.ranking_log_loss(rewards, *ranked),
    "rewards/accuracy": preferences.ranking_accuracy(rewards, *ranked),
    "rewards/chosen": (won, pairs),
    "rewards/rejected": (lost, pairs),
    "rewards/margin": (won - lost, pairs),
    "logprobs/chosen": (likely, pairs),
    "logprobs/rejected": (unlikely, pairs),
  }


def _text(ctx, policy, rows):
  # γ multiplies the mean over tokens, as in PPO-ptx (README, detail 15).
  total, weight = sft.PARTS["pretraining"](ctx, policy, rows, None)
  return (total, weight, ctx.config.dpo.ptx_coef), {}


def _sigmoid(config, log_ratios, beats, is_completion):
  return preferences.dpo_loss(
    *(log_ratios, beats, is_completion),
    beta=config.beta,
    label_smoothing=config.label_smoothing,
  )


def _ipo(config, log_ratios, beats, is_completion):
  return preferences.ipo_loss(
    log_ratios, beats, is_completion, beta=config.beta
  )


PARTS = {"rankings": _rankings, "pretraining": _text}
LOSSES = {"sigmoid": _sigmoid, "ipo": _ipo}


def check(config: ConfigDict) -> None:
  """UserError for data, or a loss, that it does not learn from."""
  algorithms.require(
    config, batch=["rankings"], needs=["policy"], optimizer=["policy"]
  )
  algorithms.require_no_dropout(config)
  section = config.dpo
  for name in ("batch", "validation"):
    for kind in algorithms.rows_of(config[name]):
      if kind not in PARTS:
        raise errors.unknown(f"config.{name} of dpo:", kind, PARTS)
  if bool(section.ptx_coef) != (
    "pretraining" in algorithms.rows_of(config.batch)
  ):
    raise errors.UserError(
      f"config.dpo.ptx_coef={section.ptx_coef}: text is mixed in where this is"
      " above 0 and config.batch.pretraining says how many rows; give both, or"
      " neither"
    )
  if section.loss not in LOSSES:
    raise errors.unknown("config.dpo.loss", section.loss, LOSSES)
  if section.loss == "ipo" and section.label_smoothing:
    raise errors.UserError(
      f"config.dpo.label_smoothing={section.label_smoothing}: the loss 'ipo'"
      " has none; give 0, or config.dpo.loss=sigmoid"
    )


ALGORITHM = algorithms.Algorithm(
  init=init,
  loss=loss,
  columns=columns,
  check=check,
  ignores=("reward", "reward_model"),
  speaker="policy",
)
