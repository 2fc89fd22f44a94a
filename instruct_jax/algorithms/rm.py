"""The reward model from K-wise rankings (section 3.5, equation 1)."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.inference import batching, context, rewards
from instruct_jax.maths import preferences
from instruct_jax.models import forward, packed


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The SFT model with its unembedding replaced by a scalar head."""
  fresh = forward.init_params(ctx.scalar, key)
  decoder = checkpoints["policy"]["decoder"]
  return {"reward": fresh | {"decoder": decoder}}, {}, {}


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """Equation 1: all C(K, 2) pairs of a prompt are one element of the batch.

  Where labelers gave single pairs and no ranking, those pairs.
  """
  del frozen
  rows = minibatch["rankings"]
  scores = forward.completion_scores(
    ctx.scalar, params["reward"], rows, key=key
  )
  ranked = (scores, rows["beats"], rows["is_completion"])
  total, weight = preferences.ranking_loss(*ranked)
  is_completion = rows["is_completion"].astype(jnp.float32)
  tokens = rows["is_response"].sum(dtype=jnp.float32)
  metrics = {
    "rankings/accuracy": preferences.ranking_accuracy(*ranked),
    "rankings/log_loss": preferences.ranking_log_loss(*ranked),
    "rankings/score": ((scores * is_completion).sum(), is_completion.sum()),
    "count/tokens": (tokens + rows["is_prompt"].sum(dtype=jnp.float32), 1.0),
  }
  return {"rankings": (total, weight, 1.0)}, metrics


def finish(ctx: context.Context, state: algorithms.State) -> algorithms.State:
  """Shifts the bias so that demonstrations score 0 on average (section 3.5).

  With `config.reward_gain` the head is also scaled so that their scores have
  standard deviation 1, as the 2019 code did (README, detail 11).
  """
  rows = ctx.rows("demonstrations", "train")
  reward = state.params["reward"]

  # No more at a time than rankings of an update, in the evaluations' program.
  at_a_time = max(1, ctx.config.batch.rankings // ctx.config.microbatches)
  slices = -(-rewards.TOGETHER // at_a_time)

  def score(rows):
    sequences = {name: rows[name] for name in packed.TOKENS}
    return rewards.model_scores(ctx, reward, sequences, slices=slices)

  demonstrations = batching.of_rows(
    score, rows, ctx.mesh, rows=rewards.TOGETHER, note="bias"
  )
  head = dict(reward["head"])
  demonstrations = jnp.asarray(demonstrations)
  mean = np.asarray(demonstrations.mean())  # for processes: no device's own
  if ctx.config.reward_gain:
    gain = 1.0 / np.maximum(np.asarray(demonstrations.std()), 1e-6)
    head["kernel"] = head["kernel"] * gain
    head["bias"] = (head["bias"] - mean) * gain
  else:
    head["bias"] = head["bias"] - mean
  return state.replace(params={"reward": reward | {"head": head}})


def check(config: ConfigDict) -> None:
  """UserError where there are no rankings, or no model to start from."""
  algorithms.require(
    config, batch=["rankings"], needs=["policy"], optimizer=["reward"]
  )
  algorithms.require_one_decoder(config)


ALGORITHM = algorithms.Algorithm(
  init=init,
  loss=loss,
  finish=finish,
  check=check,
  also_reads=("demonstrations",),
  ignores=("reward",),
)
