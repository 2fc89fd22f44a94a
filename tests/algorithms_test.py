"""SFT, RM, DPO and PPO against plain loops, and one golden step of each."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.algorithms import best_of_n, dpo, groups, ppo, rm, sft
from instruct_jax.base import errors
from instruct_jax.data.batch import loader, packing
from instruct_jax.models import forward
from instruct_jax.parallel import sharding
from instruct_jax.training import step as step_lib
from tests import toys

SFT_LOSS = toys.compiled(sft.loss)


@pytest.fixture(scope="module")
def sft_run():
  config = toys.config_of("sft")
  ctx = toys.make_context(config)
  return ctx, toys.checkpoints(ctx)["policy"]


@pytest.fixture(scope="module")
def rm_run():
  config = toys.config_of("rm")
  ctx = toys.make_context(config)
  return ctx, toys.checkpoints(ctx)["reward"]


@pytest.fixture(scope="module")
def ppo_run():
  return toys.make_context(toys.config_of("ppo"))


def test_sft_starts_from_the_policy_that_it_needs_or_from_a_fresh_one(sft_run):
  ctx, policy = sft_run
  assert sft.init(ctx, jax.random.key(3), {"policy": policy}) == (
    {"policy": policy},
    {},
    {},
  )
  init = toys.compiled(sft.init)
  params, frozen, extra = init(ctx, jax.random.key(3), {})
  chex.assert_trees_all_equal(
    params["policy"], toys.init_params(ctx.policy, jax.random.key(3))
  )
  assert (frozen, extra) == ({}, {})


def test_sft_counts_the_response_s_tokens_and_nothing_else(sft_run):
  ctx, policy = sft_run
  rows = toys.batch("sft", 0)["demonstrations"]
  terms, _ = SFT_LOSS(
    ctx, {"policy": policy}, {}, {"demonstrations": rows}, None
  )
  total, weight, coefficient = terms["demonstrations"]
  assert coefficient == ctx.config.loss.demonstrations
  assert weight == rows["is_response"].sum()
  logits = toys.response_logits(ctx.policy, policy, rows)
  logprobs = np.asarray(jax.nn.log_softmax(logits))
  plain = 0.0
  for b, r in zip(*np.nonzero(rows["is_response"])):
    plain -= logprobs[b, r, rows["response"][b, r]]
  np.testing.assert_allclose(total, plain, rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(sft_run):
  ctx, policy = sft_run
  rows = toys.batch("sft", 0)["demonstrations"]
  noise = np.random.default_rng(9).integers(3, toys.V, rows["response"].shape)
  other = rows | {
    "response": np.where(rows["is_response"], rows["response"], noise).astype(
      np.int32
    ),
    "prompt": np.where(rows["is_prompt"], rows["prompt"], 5).astype(np.int32),
  }
  losses = [
    float(
      SFT_LOSS(ctx, {"policy": policy}, {}, {"demonstrations": x}, None)[0][
        "demonstrations"
      ][0]
    )
    for x in (rows, other)
  ]
  np.testing.assert_allclose(*losses, rtol=1e-5)


def test_pretraining_counts_every_token_but_the_first(sft_run):
  ctx, policy = sft_run
  rows = toys.text(0)
  terms, _ = SFT_LOSS(ctx, {"policy": policy}, {}, {"pretraining": rows}, None)
  assert terms["pretraining"][1] == toys.B * (toys.T - 1)


@pytest.fixture(scope="module")
def packed_run():
  """A toy policy, and lengths of texts that are packed for it."""
  config = toys.config_of("sft")
  ctx = toys.make_context(config, positions="learned")
  rng = np.random.default_rng(4)
  lengths = rng.integers(2, toys.P + toys.R + 1, 20)
  stream = rng.integers(3, toys.V, lengths.sum())
  context = rng.integers(1, np.minimum(lengths, toys.P + 1))
  texts = (np.cumsum(lengths) - lengths, lengths, context)
  return ctx, toys.checkpoints(ctx)["policy"], stream, texts


def loss_and_gradient(ctx, policy, part, rows):
  def total(policy):
    return sft.PARTS[part](ctx, policy, rows, None)

  grad = jax.jit(jax.value_and_grad(total, has_aux=True))
  (value, weight), gradient = grad(policy)
  return value, weight, gradient


@pytest.mark.parametrize("part", ["demonstrations", "pretraining"])
def test_packed_and_unpacked_losses_are_equal(packed_run, part):
  ctx, policy, stream, (starts, lengths, context) = packed_run
  if part == "pretraining":
    context = np.ones_like(lengths)
  packed, _ = packing.pack([stream], [(starts, lengths, context)], 24, 0)
  rows = packed.take(slice(None))
  assert len(packed) < len(lengths) / 2
  alone = {"tokens": [], "is_token": []}
  pairs = {"prompt": [], "is_prompt": [], "response": [], "is_response": []}
  for start, length, free in zip(starts, lengths, context):
    text = np.zeros(toys.P + toys.R, np.int32)
    text[:length] = stream[start : start + length]
    alone["tokens"].append(text)
    alone["is_token"].append(np.arange(len(text)) < length)
    prompt, response = np.zeros(toys.P, np.int32), np.zeros(10, np.int32)
    prompt[toys.P - free :] = text[:free]
    response[: length - free] = text[free:length]
    pairs["prompt"].append(prompt)
    pairs["is_prompt"].append(np.arange(toys.P) >= toys.P - free)
    pairs["response"].append(response)
    pairs["is_response"].append(np.arange(10) < length - free)
  plain = pairs if part == "demonstrations" else alone
  plain = {name: np.stack(values) for name, values in plain.items()}
  one = loss_and_gradient(ctx, policy, part, rows)
  other = loss_and_gradient(ctx, policy, part, plain)
  assert one[1] == other[1] == (lengths - context).sum()
  np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
  largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(other[2]))
  for a, b in zip(jax.tree.leaves(one[2]), jax.tree.leaves(other[2])):
    np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def test_a_packed_document_changes_nothing_in_another(packed_run):
  ctx, policy, stream, texts = packed_run
  table, _ = packing.pack([stream], [texts], 24, 0)
  rows = table.take(slice(None))
  logits = jax.jit(
    lambda tokens: forward.token_logits(
      ctx.policy, policy, tokens, rows["is_token"], segments=rows["segments"]
    )
  )
  changed = rows["segments"] == 2
  other = np.where(changed, (rows["tokens"] + 7) % toys.V, rows["tokens"])
  one, two = logits(rows["tokens"]), logits(other.astype(np.int32))
  same = ~changed[:, :-1]
  np.testing.assert_array_equal(one[same], two[same])
  assert (np.asarray(one != two).any(-1) == changed[:, :-1]).all()


def test_rm_is_equation_1_with_each_prompt_computed_once(rm_run):
  ctx, reward = rm_run
  rows = toys.batch("rm", 0)["rankings"]
  terms, found = toys.compiled(rm.loss)(
    ctx, {"reward": reward}, {}, {"rankings": rows}, None
  )
  total, weight, _ = terms["rankings"]
  plain, right, pairs = 0.0, 0.0, 0
  for b in range(toys.B):
    # Every completion scored alone, beside its own copy of the prompt.
    alone = {
      "prompt": np.repeat(rows["prompt"][b : b + 1], toys.K, axis=0),
      "is_prompt": np.repeat(rows["is_prompt"][b : b + 1], toys.K, axis=0),
      "response": rows["response"][b],
      "is_response": rows["is_response"][b],
    }
    scores = np.asarray(toys.scores(ctx.scalar, reward, alone))
    count = int(rows["is_completion"][b].sum())
    ranks, here = rows["ranks"][b], 0.0
    for w in range(count):
      for l in range(count):
        if ranks[w] < ranks[l]:
          here += np.log1p(np.exp(-(scores[w] - scores[l])))
          right += scores[w] > scores[l]
          pairs += 1
    plain += here / (count * (count - 1) / 2)
  assert weight == toys.B
  np.testing.assert_allclose(total, plain, rtol=1e-4)
  accuracy = found["rankings/accuracy"]
  np.testing.assert_allclose(accuracy[0], right, atol=1e-4)
  assert accuracy[1] == pairs


class OneBatch:
  """Rows that fit into one batch."""

  def __init__(self, rows):
    self._rows = rows

  def __len__(self):
    return toys.B

  def in_order(self, size):
    yield self._rows


@pytest.mark.parametrize("gain", [False, True])
def test_after_finish_demonstrations_score_zero(rm_run, monkeypatch, gain):
  ctx, reward = rm_run
  config = ctx.config.copy_and_resolve_references().unlock()
  config.reward_gain = gain
  ctx = toys.make_context(config.lock())
  rows = toys.batch("sft", 3)["demonstrations"]
  monkeypatch.setattr(loader, "make", lambda *_, **__: OneBatch(rows))
  state = algorithms.State(
    step=jnp.int32(0),
    params={"reward": reward},
    optimizer={},
    ema={},
    frozen={},
    extra={},
    counters={},
  )
  before = toys.scores(ctx.scalar, reward, rows)
  after = toys.scores(ctx.scalar, rm.finish(ctx, state).params["reward"], rows)
  assert abs(float(before.mean())) > 1e-3
  np.testing.assert_allclose(after.mean(), 0, atol=1e-5)
  if gain:
    np.testing.assert_allclose(after.std(), 1, rtol=1e-4)
  else:
    np.testing.assert_allclose(after.std(), before.std(), rtol=1e-4)


def test_ppo_rewards_and_advantages_by_a_loop(ppo_run):
  ctx = ppo_run
  episodes = toys.recorded(0)
  beta, rl = 0.3, ctx.config.rl
  parts, _ = ppo.minibatches(
    ctx, episodes, jnp.float32(beta), {}, jax.random.key(0)
  )
  assert set(parts) == {"policy", "value"}
  # Undo the permutation by the responses, which are all different.
  rows = {
    k: np.asarray(v).reshape(toys.B, *v.shape[2:])
    for k, v in parts["policy"].items()
  }
  values = {
    k: np.asarray(v).reshape(toys.B, *v.shape[2:])
    for k, v in parts["value"].items()
  }
  expected = np.zeros(episodes.values.shape)
  for b in range(toys.B):
    count = int(episodes.is_response[b].sum())
    rewards = [
      -beta * (episodes.logprobs[b, t] - episodes.ref_logprobs[b, t])
      for t in range(count)
    ]
    # Detail 4: a response that never ended scores -1.
    rewards[-1] += episodes.scores[b] if episodes.ended[b] else -1.0
    following = advantage = 0.0
    for t in reversed(range(count)):
      delta = rewards[t] + rl.discount * following - episodes.values[b, t]
      advantage = delta + rl.discount * rl.gae_lambda * advantage
      expected[b, t] = advantage
      following = episodes.values[b, t]
  mask = np.asarray(episodes.is_response)
  mean, std = expected[mask].mean(), expected[mask].std()
  seen = set()
  for row in range(toys.B):
    source = next(
      b
      for b in range(toys.B)
      if np.array_equal(episodes.prompt[b], rows["prompt"][row])
      and np.array_equal(episodes.response[b], rows["response"][row])
    )
    seen.add(source)
    here = mask[source]
    np.testing.assert_allclose(
      rows["advantages"][row][here],
      (expected[source][here] - mean) / std,
      rtol=1e-3,
      atol=1e-4,
    )
    np.testing.assert_allclose(
      values["returns"][row][here],
      expected[source][here] + episodes.values[source][here],
      rtol=1e-4,
      atol=1e-5,
    )
    assert not rows["advantages"][row][~here].any()
  assert len(seen) == toys.B


def test_every_iteration_and_inner_epoch_has_an_order_of_its_own():
  ctx = toys.make_context(toys.config_of("ppo", rl={"inner_epochs": 2}))
  orders = []
  for seed in (0, 1):
    parts, _ = ppo.minibatches(
      ctx, toys.recorded(0), jnp.float32(0), {}, jax.random.key(seed)
    )
    scores = np.asarray(parts["policy"]["old_logprobs"]).sum(axis=-1)
    assert scores.shape == (4, toys.B // 2)
    first, second = scores[:2].ravel(), scores[2:].ravel()
    assert sorted(first) == sorted(second)
    assert not np.array_equal(first, second)
    orders.append(first)
  assert not np.array_equal(*orders)


def test_adaptive_kl_moves_towards_its_target():
  changes = {"kl_target": 1.0, "kl_horizon": 100.0}
  ctx = toys.make_context(toys.config_of("ppo", rl=changes))
  extra = {"kl_coef": jnp.float32(0.1)}
  high = ppo.adapt(ctx, extra, {"objective/kl": (jnp.float32(8.0), 2.0)})
  low = ppo.adapt(ctx, extra, {"objective/kl": (jnp.float32(0.2), 2.0)})
  assert float(high["kl_coef"]) > 0.1 > float(low["kl_coef"])


GOLDEN = {
  "sft": ("demonstrations/loss", "gradient/policy_total_norm"),
  "rm": ("rankings/loss", "gradient/reward_total_norm"),
  "ppo": ("policy/loss", "value/loss", "ptx/loss"),
  "best_of_n": ("demonstrations/loss", "gradient/policy_total_norm"),
  "dpo": ("rankings/loss", "rewards/margin", "gradient/policy_total_norm"),
  "rloo": ("policy/loss", "gradient/policy_total_norm"),
  "grpo": ("policy/loss", "kl/loss", "gradient/policy_total_norm"),
}
EXPECTED = {  # the metrics above, then the sum of all parameters' sizes
  "sft": (4.16223, 1.37819, 738.233),
  "rm": (0.548671, 8.18126, 740.773),
  "ppo": (0.00249952, 1.12124, 4.17128, 1475.17),
  "best_of_n": (4.11013, 3.60535, 738.235),
  "dpo": (0.481949, 0.514555, 0.366450, 738.227),
  "rloo": (0.0591, 1.60643, 738.233),
  "grpo": (0.0165879, 0.00612373, 1.0977, 738.234),
}
SAMPLE = {
  "ppo": ppo,
  "rloo": groups,
  "grpo": groups,
  "best_of_n": best_of_n,
}


@pytest.mark.parametrize("algorithm", GOLDEN)
def test_golden_step(algorithm):
  """The numbers of one update, as they were when this was written."""
  module = ({"sft": sft, "rm": rm, "dpo": dpo} | SAMPLE)[algorithm]
  ctx = toys.make_context(toys.config_of(algorithm))
  run, state = step_lib.setup(ctx, module.ALGORITHM, 3, toys.checkpoints(ctx))
  batch = sharding.global_batch(toys.batch(algorithm, 0), ctx.mesh)
  if algorithm in SAMPLE:
    text = {"ptx": batch["pretraining"]} if ctx.config.rl.ptx_coef else {}
    beta = (state.extra["kl_coef"],) if state.extra else ()
    collected = module.minibatches(
      ctx, toys.recorded(0), *beta, text, jax.random.key(0)
    )
  else:
    collected = module.ALGORITHM.collect(ctx, state, batch, None)
  step = jax.jit(lambda s, m, c, k: step_lib.update(run, s, m, c, k))
  state, found = step(state, *collected, jax.random.key(0))
  values = [float(found[n][0] / found[n][1]) for n in GOLDEN[algorithm]]
  moved = sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(state.params))
  np.testing.assert_allclose([*values, moved], EXPECTED[algorithm], rtol=1e-3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({}, ""),
    ({"validation": {}}, ""),  # without validation nothing is missing there
    ({"batch": {"prompts": 16}}, r"config\.batch\.pretraining is missing"),
    ({"batch": {"pretraining": 16}}, r"config\.batch\.prompts is missing"),
    ({"batch": {}}, r"config\.batch\.pretraining is missing"),
    (
      {"validation": {"prompts": 16}},
      r"config\.validation\.pretraining is missing: .*ptx_coef=1\.0",
    ),
    ({"rl.ptx_coef": 0.0, "batch": {"prompts": 16}, "validation": {}}, ""),
  ],
)
def test_ppo_names_the_data_that_it_lacks(changes, message):
  config = toys.config_of("ppo").unlock()
  for key, value in changes.items():
    if key == "rl.ptx_coef":
      config.rl.ptx_coef = value
    else:
      config[key] = ConfigDict(value)
  if not message:
    ppo.check(config)
    return
  with pytest.raises(errors.UserError, match=message):
    ppo.check(config)
