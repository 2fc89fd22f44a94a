"""Best-of-n: learn what the reward likes best of n responses to a prompt.

Each iteration n responses to every prompt of a batch are sampled
(`config.rl.group_size`), the best by `config.reward` is kept, and the policy is
fine-tuned on it as on a demonstration. `config.rl.sampler` says who answers:

  policy  the current policy: expert iteration (Anthony et al. 2017), known for
          language models as RAFT (Dong et al. 2023) and ReST (Gulcehre et al.
          2023)
  start   the policy that the run began with: best-of-n, as Stiennon et al. 2020
          and WebGPT (Nakano et al. 2021) use it at inference, distilled

Best-of-n is at most log n - (n - 1) / n nats from whom it samples (Stiennon et
al. 2020, appendix G.3; Beirami et al. 2024): `objective/kl_bound`, of one
iteration. The part 'demonstrations' is what was kept, 'ptx' is as in `ppo`.
B = N x n episodes, the n of a prompt one after the other; M minibatches.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, iteration, sft
from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.maths import arrays, best_of

SAMPLERS = ("policy", "start")


def init(
  ctx: context.Context, key: jax.Array, checkpoints: dict
) -> tuple[dict, dict, dict]:
  """The policy starts from SFT, which is kept beside it."""
  del key
  return *iteration.start(ctx, checkpoints), {}


def collect(
  ctx: context.Context, state: algorithms.State, batch: dict, key: jax.Array
) -> tuple[dict, dict]:
  """Samples n responses to each prompt and keeps the best of them."""
  k_sample, k_permute = jax.random.split(key)
  prompts = episodes.repeated(batch["prompts"], ctx.config.rl.group_size)
  samplers = {
    "policy": state.params["policy"],
    "start": state.frozen["reference"],
  }
  sampler = samplers[ctx.config.rl.sampler]
  scored = iteration.played(ctx, state, prompts, k_sample, sampler=sampler)
  text = iteration.text_of(ctx, batch)
  return minibatches(ctx, scored, text, k_permute)


@functools.partial(jax.jit, static_argnums=0)
def minibatches(
  ctx: context.Context, scored: episodes.Episodes, text: dict, key: jax.Array
) -> tuple[dict, dict]:
  """M x inner_epochs random minibatches of what is kept, and the metrics.

  Of equal scores the first is kept. Metrics are of all episodes; "best/..." of
  those that are kept. What is chosen by, and so is never less of those, is the
  return: the score as `rl.missing_end` shapes it.
  """
  n, is_response = ctx.config.rl.group_size, scored.is_response
  is_episode = is_response.any(axis=1)  # Not what fills a batch up.
  shaped = iteration.shaped_scores(ctx, scored)
  of_groups = shaped.reshape(-1, n)
  first = jnp.arange(len(of_groups), dtype=jnp.int32) * n
  kept = first + of_groups.argmax(axis=1).astype(jnp.int32)
  rows = {name: x[kept] for name, x in scored.sequences.items()}
  metrics = iteration.metrics(scored, shaped)
  if ctx.config.rl.sampler == "start":  # log π / π_ref of what π_ref sampled
    total, weight = metrics.pop("objective/kl")
    del metrics["objective/kl_per_token"]
    metrics["objective/kl_reverse"] = -total, weight
  metrics |= iteration.group_metrics(of_groups, is_episode) | {
    "objective/kl_bound": (jnp.float32(best_of.kl(n)), 1.0)
  }
  for name, x in {
    "best/return": shaped,  # which is what they are chosen by
    "best/score": scored.scores,
    "best/length": is_response.sum(axis=1),
    "best/end_rate": scored.ended,
  }.items():
    metrics[name] = arrays.sum_and_weight(x[kept], is_episode[kept])
  parts = iteration.permuted({"demonstrations": rows}, key, ctx.config)
  return parts | iteration.split(text, updates(ctx.config)), metrics


def loss(
  ctx: context.Context,
  params: dict,
  frozen: dict,
  minibatch: dict,
  key: jax.Array | None,
) -> tuple[dict, dict]:
  """Cross-entropy a token of what was kept, as in `sft`; γ x ptx."""
  del frozen
  terms = {}
  for part, rows in minibatch.items():
    if part == "ptx":
      terms[part] = iteration.ptx(ctx, params["policy"], rows)
    else:
      terms[part] = (*sft.PARTS[part](ctx, params["policy"], rows, key), 1.0)
  return terms, {}


def check(config: ConfigDict) -> None:
  """UserError where there is nothing to choose from."""
  iteration.check(config, roles=("policy",))
  if config.rl.sampler not in SAMPLERS:
    raise errors.unknown("config.rl.sampler", config.rl.sampler, SAMPLERS)
  if config.rl.group_size < 2:
    raise errors.UserError(
      f"config.rl.group_size={config.rl.group_size}: the best of one response"
      " is that response, whatever its reward, so nothing would be learned of"
      " it; give 2 or more"
    )
  iteration.check_prompts(config)


updates = iteration.updates


ALGORITHM = algorithms.Algorithm(
  init=init,
  collect=collect,
  loss=loss,
  check=check,
  warning=functools.partial(
    iteration.warning_of_equals, name="groups/zero_std"
  ),
  updates=updates,
  minibatch_rows=iteration.minibatch_rows,
  speaker="policy",
  is_rewarded=True,
)
