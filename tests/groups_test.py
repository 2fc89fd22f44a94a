"""RLOO and GRPO: the maths by loops and laws, and how an iteration is wired."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from experiments import grpo, ppo, rloo
from instruct_jax import algorithms
from instruct_jax.algorithms import episodes, groups
from instruct_jax.base import errors, journal, phases
from instruct_jax.maths import groups as maths
from instruct_jax.maths import rl
from instruct_jax.parallel import sharding
from instruct_jax.training import log
from instruct_jax.training import step as step_lib
from tests import toys

G = 4
RNG = np.random.default_rng(0)


def returns_of(seed, prompts=5, group=G):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(prompts, group)).astype(np.float32)


def by_loop(returns, baseline):
  """The advantages, from the papers' sentences."""
  out = np.zeros(returns.shape)
  for n, group in enumerate(np.asarray(returns, np.float64)):
    if len(set(group)) == 1:
      continue
    mean = sum(group) / len(group)
    spread = (sum((r - mean) ** 2 for r in group) / (len(group) - 1)) ** 0.5
    for i, r in enumerate(group):
      others = [x for j, x in enumerate(group) if j != i]
      out[n, i] = {
        "leave_one_out": r - sum(others) / len(others),
        "standardised": (r - mean) / (spread + 1e-4),
        "centred": r - mean,
      }[baseline]
  return out


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("baseline", maths.BASELINES)
@pytest.mark.parametrize("group", [2, 3, 8])
def test_advantages_by_a_loop(group, baseline, jit):
  returns = returns_of(group, group=group)
  returns[1] = 0.1  # three of it add up to 0.3 and a rounding
  function = functools.partial(maths.advantages, baseline=baseline)
  with jax.numpy_dtype_promotion("strict"):
    out = (jax.jit(function) if jit else function)(jnp.asarray(returns))
  np.testing.assert_allclose(
    out, by_loop(returns, baseline), rtol=1e-4, atol=1e-5
  )
  assert out.dtype == jnp.float32
  assert (np.asarray(out[1]) == 0).all()
  np.testing.assert_array_equal(
    maths.is_flat(returns), np.arange(len(returns)) == 1
  )


def test_of_two_the_other_is_the_baseline():
  returns = returns_of(1, group=2)
  difference = returns[:, 0] - returns[:, 1]
  one_out = maths.advantages(returns, baseline="leave_one_out")
  np.testing.assert_allclose(one_out[:, 0], difference, rtol=1e-5)
  np.testing.assert_allclose(one_out[:, 1], -difference, rtol=1e-5)
  centred = maths.advantages(returns, baseline="centred")
  np.testing.assert_allclose(centred[:, 0], difference / 2, rtol=1e-5)
  signs = maths.advantages(returns, baseline="standardised")
  np.testing.assert_allclose(
    signs[:, 0], np.sign(difference) / 2**0.5, rtol=1e-2
  )


@pytest.mark.parametrize(
  ("baseline", "share"), [("leave_one_out", 1.0), ("centred", 0.5)]
)
def test_the_expected_gradient_is_that_of_the_expected_return(baseline, share):
  """Exactly, over all pairs of three actions: leave-one-out has no bias, the
  centred one is (G - 1) / G of it."""
  logits, worth = np.asarray([0.3, -1.0, 0.5]), np.asarray([1.0, 4.0, -2.0])
  probs = np.exp(logits) / np.exp(logits).sum()
  exact = probs * (worth - probs @ worth)  # d E[worth] / d logits
  total = np.zeros(3)
  for pair in itertools.product(range(3), repeat=2):
    returns = np.asarray([[worth[a] for a in pair]], np.float32)
    advantages = np.asarray(maths.advantages(returns, baseline=baseline))[0]
    score = [np.eye(3)[a] - probs for a in pair]  # d log π(a) / d logits
    gradient = sum(a * s for a, s in zip(advantages, score)) / 2
    total += np.prod([probs[a] for a in pair]) * gradient
  np.testing.assert_allclose(total, share * exact, rtol=1e-5)


@pytest.mark.parametrize("baseline", maths.BASELINES)
def test_a_group_of_one_has_no_baseline(baseline):
  with pytest.raises(errors.UserError, match="at least 2"):
    maths.advantages(np.zeros((3, 1), np.float32), baseline=baseline)
  with pytest.raises(errors.UserError, match="leave_one_out"):
    maths.advantages(np.zeros((3, 2), np.float32), baseline="leave_two_out")


def test_k3_is_the_kl_on_average_and_never_below_zero():
  p, q = np.asarray([0.5, 0.3, 0.2]), np.asarray([0.1, 0.3, 0.6])
  logp, logq = (np.log(x)[None].astype(np.float32) for x in (p, q))
  mask = np.ones((1, 3), bool)
  k3 = np.asarray(maths.kl_k3(logp, logq, mask))[0]
  expected = [b / a - np.log(b / a) - 1 for a, b in zip(p, q)]
  np.testing.assert_allclose(k3, expected, rtol=1e-5, atol=1e-7)
  assert (k3 >= 0).all()
  assert k3[1] == 0
  np.testing.assert_allclose(p @ k3, p @ np.log(p / q), rtol=1e-5)


def test_what_stands_in_the_padding_reaches_no_kl_and_no_gradient():
  mask = np.asarray([[True, False]])
  logprobs = jnp.asarray([[-1.0, -1e9]])

  def total(x):
    return maths.kl_k3(x, jnp.asarray([[-2.0, 1e9]]), mask).sum()

  value, gradient = jax.value_and_grad(total)(logprobs)
  np.testing.assert_allclose(value, np.exp(-1.0) + 1.0 - 1.0, rtol=1e-6)
  np.testing.assert_allclose(gradient, [[1 - np.exp(-1.0), 0.0]], rtol=1e-6)


def ragged(seed, rows=6):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, toys.R + 1, rows)
  lengths[2] = 0  # as what fills a batch up
  mask = np.arange(toys.R) < lengths[:, None]
  values = rng.normal(size=mask.shape).astype(np.float32)
  return values, mask


def aggregated(losses, mask, aggregation):
  """(sum, weight), response by response."""
  rows = [x[m].astype(np.float64) for x, m in zip(losses, mask) if m.any()]
  if aggregation == "token":
    return sum(x.sum() for x in rows), sum(map(len, rows))
  one = {
    "sequence": lambda x: x.sum(),
    "response": lambda x: x.mean(),
    "length": lambda x: x.sum() / mask.shape[1],
  }[aggregation]
  return sum(map(one, rows)), len(rows)


@pytest.mark.parametrize("aggregation", maths.AGGREGATIONS)
def test_what_a_loss_is_a_mean_over(aggregation):
  losses, mask = ragged(0)
  dirty = np.where(mask, losses, np.nan)
  with jax.numpy_dtype_promotion("strict"):
    found = maths.aggregate(dirty, mask, aggregation=aggregation)
  expected = aggregated(losses, mask, aggregation)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  with pytest.raises(errors.UserError, match="Did you mean 'token'"):
    maths.aggregate(losses, mask, aggregation="tokens")


@pytest.mark.parametrize("aggregation", maths.AGGREGATIONS)
def test_the_policy_loss_by_a_loop(aggregation):
  old, mask = ragged(1, rows=24)
  new = old + 0.3 * ragged(2, rows=24)[0]
  gains, clip = RNG.normal(size=len(old)).astype(np.float32), 0.2
  (total, weight), metrics = maths.policy_loss(
    *(new, old, gains, mask), clip=clip, aggregation=aggregation
  )

  def loss(gain, log_ratio):
    ratio = np.exp(log_ratio)
    return max(-gain * ratio, -gain * np.clip(ratio, 1 - clip, 1 + clip))

  if aggregation == "sequence":
    rows = [
      loss(gain, (n - o)[m].sum())
      for n, o, m, gain in zip(new, old, mask, gains)
      if m.any()
    ]
    expected, count = (sum(rows), len(rows)), len(rows)
  else:
    losses = np.vectorize(loss)(gains[:, None], new - old)
    expected = aggregated(losses, mask, aggregation)
    count = mask.sum()
  np.testing.assert_allclose((total, weight), expected, rtol=1e-4)
  assert {float(w) for _, w in metrics.values()} == {count}
  assert 0 < float(metrics["policy/clip_fraction"][0]) < count


def test_a_whole_response_is_one_action_of_reinforce():
  """At ratio 1 the gradient by a token's logprob is - A, wherever it stands;
  of single tokens in GRPO's mean it is - A / |y|."""
  old, mask = ragged(3)
  gains = np.arange(1.0, len(old) + 1, dtype=np.float32)

  def total(new, aggregation):
    return maths.policy_loss(
      *(new, old, gains, mask), clip=0.2, aggregation=aggregation
    )[0][0]

  grad = jax.grad(total)
  whole = np.where(mask, -gains[:, None], 0)
  np.testing.assert_allclose(grad(old, "sequence"), whole, rtol=1e-5)
  lengths = np.maximum(mask.sum(axis=1, keepdims=True), 1)
  np.testing.assert_allclose(grad(old, "response"), whole / lengths, rtol=1e-5)


def context_of(experiment, **rl_changes):
  return toys.make_context(toys.config_of(experiment, rl=rl_changes))


def sources_of(recorded, rows):
  """Which recorded episode each row is, told by its tokens."""
  known = {
    (np.asarray(p).tobytes(), np.asarray(r).tobytes()): b
    for b, (p, r) in enumerate(zip(recorded.prompt, recorded.response))
  }
  return [
    known[np.asarray(p).tobytes(), np.asarray(r).tobytes()]
    for p, r in zip(rows["prompt"], rows["response"])
  ]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("experiment", ["rloo", "grpo"])
def test_an_iteration_by_a_loop(experiment, whiten):
  ctx = context_of(experiment, group_size=G, whiten_advantages=whiten)
  recorded, beta = toys.recorded(0), 0.3
  parts, metrics = groups.minibatches(
    ctx, recorded, jnp.float32(beta), {}, jax.random.key(0)
  )
  assert set(parts) == {"policy"}
  returns, k3 = np.zeros(toys.B), np.zeros(toys.B)
  for b in range(toys.B):
    returns[b] = recorded.scores[b] if recorded.ended[b] else -1.0
    for t in range(int(recorded.is_response[b].sum())):
      log_ratio = recorded.logprobs[b, t] - recorded.ref_logprobs[b, t]
      k3[b] += np.exp(-log_ratio) + log_ratio - 1
      if experiment == "rloo":
        returns[b] -= beta * log_ratio
  table = returns.reshape(-1, G)
  expected = by_loop(table, ctx.config.rl.baseline).reshape(-1)
  if whiten:
    expected = (expected - expected.mean()) / expected.std()
  rows = {
    k: np.asarray(v).reshape(toys.B, *v.shape[2:])
    for k, v in parts["policy"].items()
  }
  found = sources_of(recorded, rows)
  assert sorted(found) == list(range(toys.B)) != found
  np.testing.assert_allclose(
    rows["advantages"], expected[found], rtol=1e-3, atol=1e-4
  )
  np.testing.assert_allclose(
    rows["old_logprobs"], recorded.logprobs[np.asarray(found)], rtol=1e-6
  )
  if experiment == "grpo":
    np.testing.assert_allclose(
      *(rows["ref_logprobs"], recorded.ref_logprobs[np.asarray(found)]),
      rtol=1e-6,
    )
    np.testing.assert_allclose(rows["kl_coef"], beta, rtol=1e-6)
  else:
    assert "kl_coef" not in rows
  for name, value in {
    "objective/return": returns.mean(),
    "objective/kl_k3": k3.mean(),
    "groups/reward_std": table.std(axis=1, ddof=1).mean(),
    "groups/zero_std": 0.0,
    "count/episodes": toys.B,
  }.items():
    total, weight = metrics[name]
    np.testing.assert_allclose(total / weight, value, rtol=1e-4, err_msg=name)


def test_groups_of_one_return_are_counted_and_teach_nothing():
  ctx = context_of("grpo", group_size=G)
  recorded = toys.recorded(0)
  scores = np.array(recorded.scores)
  scores[:G] = 0.1
  recorded = recorded.replace(scores=scores, ended=np.ones(toys.B, bool))
  parts, metrics = groups.minibatches(
    ctx, recorded, jnp.float32(0.1), {}, jax.random.key(0)
  )
  total, weight = metrics["groups/zero_std"]
  assert (float(total), float(weight)) == (1.0, toys.B / G)
  assert int((parts["policy"]["advantages"] == 0).sum()) == G


def test_where_no_score_is_above_another_the_user_is_told():
  """Also where the KL in the reward makes the returns differ."""
  ctx = context_of("rloo", group_size=G)
  recorded = toys.recorded(0).replace(ended=np.ones(toys.B, bool))

  def shares(scores):
    _, metrics = groups.minibatches(
      *(ctx, recorded.replace(scores=scores), jnp.float32(0.1), {}),
      jax.random.key(0),
    )
    names = ("groups/zero_std", "groups/equal_scores")
    return {n: float(metrics[n][0] / metrics[n][1]) for n in names}

  scores = np.repeat(np.arange(toys.B // G, dtype=np.float32), G)
  equal = shares(scores)
  assert equal == {"groups/zero_std": 0.0, "groups/equal_scores": 1.0}
  said = groups.ALGORITHM.warning(ctx.config, equal)
  assert f"config.rl.group_size={G}" in said
  scores[1] += 0.5
  one_differs = shares(scores)
  assert one_differs["groups/equal_scores"] == 1 - G / toys.B
  nothing = {"groups/equal_scores": float("nan")}
  for values in (one_differs, nothing, {}):
    assert groups.ALGORITHM.warning(ctx.config, values) == ""


def test_a_warning_is_logged_once(run, tmp_path, caplog):
  run, state = run
  book = journal.Log(epath.Path(tmp_path))
  with phases.Watch() as watch:
    logger = log.Logger(run, book, 0, lambda: [], watch=watch)
    for number, equal in enumerate([1.0, 2.0, 2.0], start=1):
      metrics = {
        "groups/equal_scores": (equal, 2.0),
        "count/skipped_in_a_row": (0.0, 1.0),
      }
      logger(step_lib.Done(number, state, metrics, is_last=False))
      logger.flush()
    logger.close()
  said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
  assert len(said) == 1
  assert said[0].startswith("warning: grpo, step 2: in every group")


def test_what_fills_a_batch_up_is_no_group():
  ctx = context_of("grpo", group_size=G, whiten_advantages=True)
  recorded = toys.recorded(0)
  half = np.arange(toys.B)[:, None] < toys.B // 2
  filled = recorded.replace(is_response=recorded.is_response & half)
  parts, metrics = groups.minibatches(
    ctx, filled, jnp.float32(0.1), {}, jax.random.key(0)
  )
  for name in ("groups/zero_std", "groups/reward_std"):
    assert float(metrics[name][1]) == toys.B // 2 // G
  assert float(metrics["objective/kl_k3"][1]) == toys.B // 2
  gains = np.asarray(parts["policy"]["advantages"])
  assert (gains[~np.asarray(parts["policy"]["is_response"]).any(-1)] == 0).all()
  kept = gains[np.asarray(parts["policy"]["is_response"]).any(-1)]
  np.testing.assert_allclose([kept.mean(), kept.std()], [0, 1], atol=1e-4)


@pytest.fixture(scope="module")
def run():
  """A run of GRPO whose policy has moved away from its reference."""
  ctx = context_of("grpo", group_size=G, temperature=0.7)
  run, state = step_lib.setup(
    ctx, groups.ALGORITHM, 3, toys.checkpoints(ctx, seed=0)
  )
  moved = toys.checkpoints(ctx, seed=1)["policy"]
  return run, state.replace(params={"policy": moved})


@pytest.fixture(scope="module")
def collected(run):
  run, state = run
  prompts = toys.batch("grpo", 0)["prompts"]
  state = state.replace(extra={"kl_coef": jnp.float32(0.25)})
  return run.algorithm.collect(
    run.ctx, state, {"prompts": prompts}, jax.random.key(1)
  )


def test_there_is_no_value_network(run):
  _, state = run
  assert set(state.params) == set(state.optimizer) == {"policy"}
  assert set(state.frozen) == {"reference", "reward"}


def test_every_prompt_is_answered_g_times_with_draws_of_their_own(collected):
  prompts = toys.batch("grpo", 0)["prompts"]
  minibatches, metrics = collected
  assert float(metrics["count/episodes"][0]) == G * toys.B
  rows = {
    k: np.concatenate(np.asarray(v)) for k, v in minibatches["policy"].items()
  }
  said = {}
  for prompt, mask, response in zip(
    rows["prompt"], rows["is_prompt"], rows["response"]
  ):
    said.setdefault(prompt[mask].tobytes(), []).append(response.tobytes())
  asked = [
    p[m].tobytes() for p, m in zip(prompts["prompt"], prompts["is_prompt"])
  ]
  assert sorted(said) == sorted(set(asked))
  assert sum(map(len, said.values())) == G * toys.B
  assert all(len(set(texts)) > 1 for texts in said.values())
  # The others of a group follow each other: ids are rows of all episodes.
  repeated = episodes.repeated(prompts, G)
  for name, x in repeated.items():
    np.testing.assert_array_equal(x, np.repeat(prompts[name], G, axis=0))


def test_the_loss_is_policy_and_beta_times_the_kl_at_the_temperature(
  run, collected
):
  run, state = run
  minibatches, _ = collected
  first = {"policy": jax.tree.map(lambda x: x[0], minibatches["policy"])}
  loss = toys.compiled(run.algorithm.loss)
  terms, metrics = loss(run.ctx, state.params, {}, first, None)
  assert set(terms) == {"policy", "kl"}
  rows = first["policy"]
  mask = np.asarray(rows["is_response"])

  def logprobs(policy):
    logits = toys.response_logits(run.ctx.policy, policy, rows)
    table = np.asarray(jax.nn.log_softmax(logits / 0.7))
    return np.take_along_axis(
      table, np.asarray(rows["response"])[..., None], axis=-1
    )[..., 0]

  log_ratio = logprobs(state.frozen["reference"]) - logprobs(
    state.params["policy"]
  )
  k3 = np.exp(log_ratio) - log_ratio - 1
  expected = aggregated(k3, mask, "response")
  total, weight, coefficient = terms["kl"]
  assert float(total) > 0
  assert coefficient == 1.0
  np.testing.assert_allclose(total, 0.25 * expected[0], rtol=1e-3)
  assert float(weight) == expected[1]
  np.testing.assert_allclose(
    metrics["policy/kl_k3"][0], k3[mask].sum(), rtol=1e-3
  )
  ratio, count = metrics["policy/ratio_first_minibatch"]
  np.testing.assert_allclose(ratio / count, 1.0, atol=1e-5)
  expected = -aggregated(
    np.broadcast_to(np.asarray(rows["advantages"])[:, None], mask.shape),
    *(mask, "response"),
  )[0]
  np.testing.assert_allclose(terms["policy"][0], expected, rtol=1e-3, atol=1e-4)


def test_a_device_s_prompts_are_repeated_where_they_are():
  mesh = sharding.make_mesh(data=8, fsdp=1, tensor=1)
  prompts = toys.batch("rloo", 0)["prompts"]
  batch = sharding.global_batch(prompts, mesh)
  with jax.set_mesh(mesh):
    repeated = episodes.repeated(batch, G)["prompt"]
  share = toys.B // 8
  for shard in repeated.addressable_shards:
    start = (shard.index[0].start or 0) // G
    mine = prompts["prompt"][start : start + share]
    np.testing.assert_array_equal(shard.data, np.repeat(mine, G, axis=0))


@pytest.mark.slow
def test_devices_sample_and_judge_the_same_groups():
  """Eight devices, two rows of prompts each, against one."""
  found = []
  for devices in (1, 8):
    config = toys.config_of(
      *("rloo",),
      mesh={"data": devices, "fsdp": 1, "tensor": 1},
      rl={"group_size": G, "kl_coef": 0.3},
    )
    ctx = toys.make_context(config)
    start = toys.checkpoints(ctx, seed=0)
    params, frozen, extra = groups.init(ctx, jax.random.key(0), start)
    state = algorithms.State(*(jnp.int32(0), params, {}, {}, frozen, extra, {}))
    batch = sharding.global_batch(
      {"prompts": toys.batch("rloo", 0)["prompts"]}, ctx.mesh
    )
    with jax.set_mesh(ctx.mesh):
      minibatches, metrics = groups.collect(
        ctx, state, batch, jax.random.key(2)
      )
    del metrics["padding/scoring"]  # how full each device's own rows are
    found.append(jax.device_get((minibatches, metrics)))
  one, eight = found
  np.testing.assert_array_equal(
    one[0]["policy"]["response"], eight[0]["policy"]["response"]
  )
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight)):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


ADAPTS = {"group_size": G, "kl_target": 1e-4, "kl_horizon": 1000.0}


def test_what_adapts_counts_episodes():
  ctx = context_of("grpo", **ADAPTS)
  moved = groups.adapt(
    ctx, {"kl_coef": jnp.float32(0.1)}, {"objective/kl": (jnp.float32(8), 2.0)}
  )
  factor = 1 + 0.2 * ctx.config.batch.prompts * G / 1000
  np.testing.assert_allclose(moved["kl_coef"], 0.1 * factor, rtol=1e-6)


@pytest.mark.slow
def test_a_restarted_run_goes_on_bit_for_bit():
  ctx = context_of("grpo", **ADAPTS)
  run, state = step_lib.setup(ctx, groups.ALGORITHM, 3, toys.checkpoints(ctx))
  update = jax.jit(functools.partial(step_lib.update, run))

  def stepped(state, n):
    collected = groups.minibatches(
      ctx, toys.recorded(n), state.extra["kl_coef"], {}, jax.random.key(n)
    )
    return update(state, *collected, jax.random.key(n))

  first, _ = stepped(state, 0)
  assert float(first.extra["kl_coef"]) != float(state.extra["kl_coef"])
  items = jax.device_get(step_lib.items_of(run, first))
  again = step_lib.with_items(state, items)
  left, right = stepped(first, 1), stepped(again, 1)
  jax.tree.map(np.testing.assert_array_equal, left, right)


REFUSED = [
  ({"rl.group_size": 1}, "rloo", r"group_size=1 .*no other response"),
  ({"rl.group_size": 1}, "grpo", r"group_size=1 .*standard deviation"),
  ({"rl.baseline": "loo"}, "rloo", "config.rl.baseline 'loo'"),
  ({"rl.aggregation": "tokens"}, "grpo", "Did you mean 'token'"),
  ({"rl.kl_in": "rewards"}, "grpo", "Did you mean 'reward'"),
  ({"rl.missing_end": "fix"}, "rloo", "Did you mean 'fixed'"),
  ({"rl.ptx_coef": 0.3}, "rloo", r"config\.batch\.pretraining=0: .* give both"),
  ({"mesh.data": 3}, "rloo", "config.batch.prompts / "),
  (
    {"rl.kl_target": 1.0, "rl.kl_horizon": 6.0},
    "rloo",
    "batch.prompts x config.rl.group_size = 6.4",
  ),
]


@pytest.mark.parametrize(("changes", "experiment", "message"), REFUSED)
def test_what_cannot_be_learned_from_is_refused(changes, experiment, message):
  config = toys.EXPERIMENTS[experiment].get_config("test").unlock()
  groups.check(config)
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=message):
    groups.check(config)


def test_minibatches_divide_the_episodes():
  config = toys.EXPERIMENTS["rloo"].get_config("test").unlock()
  rows = {"prompts": config.batch.prompts, "pretraining": 16}
  assert groups.minibatch_rows(config, rows) == {"prompts": 8, "pretraining": 4}
  assert rows["prompts"] == config.batch.prompts
  config.rl.group_size = 3
  config.rl.minibatches = 5
  with pytest.raises(errors.UserError, match="prompts x config"):
    groups.minibatch_rows(config, rows)


def test_pretraining_text_is_mixed_in_as_ppo_does():
  config = toys.config_of("rloo", rl={"group_size": G, "ptx_coef": 0.5})
  ctx = toys.make_context(config)
  policy = toys.checkpoints(ctx)["policy"]
  text = toys.text(0)
  terms, _ = toys.compiled(groups.loss)(
    ctx, {"policy": policy}, {}, {"ptx": text}, None
  )
  logits = toys.token_logits(
    ctx.policy, policy, text["tokens"], text["is_token"]
  )
  logprobs = rl.logprobs(logits, text["tokens"][:, 1:])
  expected = rl.cross_entropy(logprobs, text["is_token"][:, 1:])
  np.testing.assert_allclose(terms["ptx"], (*expected, 0.5), rtol=1e-5)


def test_as_many_episodes_as_ppo():
  for variant in ppo.VARIANTS:
    config = ppo.get_config(variant)
    for other in (rloo, grpo):
      mine = other.get_config(variant)
      for section in ("batch", "validation"):
        each = mine[section].prompts * mine.rl.group_size
        assert each == config[section].prompts
      assert mine.steps == config.steps
      assert algorithms.named(mine.algorithm) is groups.ALGORITHM
