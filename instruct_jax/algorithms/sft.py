"""Supervised fine-tuning (section 3.5, appendix C.1), and pretraining.

Two kinds of rows, each a part of the minibatch: demonstrations, where only the
response's tokens count (of a conversation its answers, `is_target`), and
pretraining text, where all do. Pretraining is SFT
on text alone; the initialisation for RL mixes the two (appendix C.3).

Either may be packed: several texts a row, told apart by `segments`, with
`is_target` for the tokens that count. The loss is that of the texts alone.
"""

import jax
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.maths import rl
from instruct_jax.models import forward


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy that the run starts from; a fresh one if it needs none."""
  policy = checkpoints.get("policy")
  if policy is None:
    policy = forward.init_params(ctx.policy, key)
  return {"policy": policy}, {}, {}


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """Cross-entropy a token; each part weighs what `config.loss` says."""
  del frozen
  terms, metrics = {}, {}
  for part, rows in minibatch.items():
    total, weight = PARTS[part](ctx, params["policy"], rows, key)
    terms[part] = (total, weight, ctx.config.loss[part])
    metrics["count/tokens"] = (weight, 1.0)
  return terms, metrics


def _demonstrations(ctx, policy, rows, key):
  if "segments" in rows:
    return _packed(ctx, policy, rows, key)
  counts = rows["is_target" if "is_target" in rows else "is_response"]
  logprobs = forward.response_logprobs(
    ctx.policy, policy, rows, where=counts, key=key
  )
  return rl.cross_entropy(logprobs, counts)


def _pretraining(ctx, policy, rows, key):
  if "segments" in rows:
    return _packed(ctx, policy, rows, key)
  tokens, is_token = rows["tokens"], rows["is_token"]
  logprobs = forward.token_logprobs(
    ctx.policy, policy, tokens, is_token, key=key
  )
  return rl.cross_entropy(logprobs, is_token[:, 1:])


def _packed(ctx, policy, rows, key):
  logprobs = forward.token_logprobs(
    *(ctx.policy, policy, rows["tokens"], rows["is_token"]),
    where=rows["is_target"],
    segments=rows["segments"],
    key=key,
  )
  return rl.cross_entropy(logprobs, rows["is_target"][:, 1:])


def check(config: ConfigDict) -> None:
  """UserError where the data of a batch have no loss."""
  for section in ("batch", "validation"):
    for kind in algorithms.rows_of(config[section]):
      if kind not in PARTS:
        raise errors.unknown(f"config.{section} of sft:", kind, PARTS)
      algorithms.require(config, loss=[kind])
  algorithms.require(config, optimizer=["policy"])
  if not any(config.loss[kind] for kind in algorithms.rows_of(config.batch)):
    raise errors.UserError(
      "config.loss: every coefficient is 0, so nothing would be learned"
    )


PARTS = {"demonstrations": _demonstrations, "pretraining": _pretraining}

ALGORITHM = algorithms.Algorithm(
  init=init,
  loss=loss,
  check=check,
  ignores=("reward", "reward_model"),
  speaker="policy",
)
