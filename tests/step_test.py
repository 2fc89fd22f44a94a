"""The contract: microbatches change no update; bad ones are skipped.

Golden steps, one for each algorithm, stand in algorithms_test, and on meshes in
golden_test.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from instruct_jax import algorithms
from instruct_jax.algorithms import groups, ppo
from instruct_jax.parallel import sharding
from instruct_jax.training import gradient, optim
from instruct_jax.training import step as step_lib
from tests import tiers, toys


def run_of(algorithm, mesh=(1, 1, 1), *, steps=3, model=None, **changes):
  sizes = dict(zip(("data", "fsdp", "tensor"), mesh))
  config = toys.config_of(algorithm, mesh=sizes, **changes)
  ctx = toys.make_context(config, **(model or {"layers": 1}))
  return step_lib.setup(
    ctx, algorithms.named(config.algorithm), steps, toys.checkpoints(ctx)
  )


@functools.cache
def plain_run(algorithm):
  """A run as it is configured, and its first state: compiled once for all."""
  return run_of(algorithm)


COMPILED = {}  # by identity: (run, its update)


def step_of(run):
  """One step of a run, as the loop has it compiled."""
  if id(run) not in COMPILED:
    step = jax.jit(functools.partial(step_lib.update, run))
    COMPILED[id(run)] = run, step
  return COMPILED[id(run)][1]


def collected_of(run, state, algorithm, seed):
  """What `collect` returns; of those that sample, from recorded episodes."""
  key = jax.random.key(seed)
  batch = sharding.global_batch(toys.batch(algorithm, seed), run.ctx.mesh)
  modules = {"ppo": ppo, "rloo": groups, "grpo": groups}
  if algorithm not in modules:
    return run.algorithm.collect(run.ctx, state, batch, key)
  episodes = sharding.global_batch(toys.recorded(seed), run.ctx.mesh)
  text = {"ptx": batch["pretraining"]} if run.ctx.config.rl.ptx_coef else {}
  return modules[algorithm].minibatches(
    run.ctx, episodes, state.extra["kl_coef"], text, key
  )


def update(run, state, collected, key):
  """One jitted step, as the loop runs it."""
  with jax.set_mesh(run.ctx.mesh):
    return step_of(run)(state, *collected, key)


def gradients(run, *arguments):
  of_minibatch = functools.partial(
    gradient.of_minibatch, run.ctx, run.algorithm
  )
  return jax.jit(of_minibatch)(*arguments)


def trained(algorithm, steps, **kwargs):
  run, state = run_of(algorithm, **kwargs) if kwargs else plain_run(algorithm)
  found = {}
  for step in range(steps):
    collected = collected_of(run, state, algorithm, step)
    state, found = update(run, state, collected, jax.random.key(step))
  return jax.device_get((state.params, state.ema)), jax.device_get(found)


STEPS = {"sft": 3, "rm": 3, "ppo": 1, "rloo": 1, "grpo": 1}


@pytest.fixture(scope="module")
def reference():
  return functools.cache(lambda name: trained(name, STEPS[name]))


# Four have some between the first and the last: once is enough.
SPLITS = tiers.often(
  tuple(itertools.product(STEPS, (2, 4))),
  *(("sft", 4), ("rm", 2), ("ppo", 2), ("grpo", 2)),
)


@pytest.mark.parametrize(("algorithm", "count"), SPLITS)
def test_microbatches_change_no_update(reference, algorithm, count):
  found = trained(algorithm, STEPS[algorithm], microbatches=count)
  _assert_same(reference(algorithm), found)


def test_mesh_and_microbatches_and_stacked_layers_together(reference):
  stacked = {"scan": True, "remat": "full"}
  left = trained("rm", 2, model=stacked)
  right = trained("rm", 2, model=stacked, mesh=(2, 2, 2), microbatches=2)
  _assert_same(left, right)


ROLES = {"policy": "fsdp", "reference": "copied", "value": "tensor"}


def test_rules_of_each_role_change_no_update(reference):
  mesh = (2, 2, 2)
  found = trained("ppo", STEPS["ppo"], mesh=mesh, layout=ROLES)
  _assert_same(reference("ppo"), found)


def test_every_role_lies_as_its_rules_say():
  run, state = run_of("ppo", mesh=(2, 2, 2), layout=ROLES)
  collected = collected_of(run, state, "ppo", 0)
  with jax.set_mesh(run.ctx.mesh):
    new, _ = step_lib.compiled(run)(state, *collected, jax.random.key(0))
  lies = {
    "policy": P(("fsdp", "tensor"), None),
    "reference": P(None, None),
    "value": P(None, "tensor"),
    "reward": P("fsdp", "tensor"),
  }
  kernels = {
    sharding.path_name(path): x.sharding
    for path, x in jax.tree_util.tree_leaves_with_path(new)
    if sharding.path_name(path).endswith("block_0/up/kernel")
  }
  for path, place in kernels.items():
    (role,) = [role for role in lies if f"/{role}/" in path]
    wanted = jax.sharding.NamedSharding(run.ctx.mesh, lies[role])
    assert place.is_equivalent_to(wanted, 2), path
  # Parameters and moments of two, an average, two frozen ones.
  assert len(kernels) == 2 * 3 + 1 + 2


def _assert_same(left, right):
  # Adam divides by the root of tiny second moments: rounding in a gradient
  # may move a parameter by a fraction of the learning rate, so parameters are
  # compared at a hundredth of it.
  for a, b in zip(jax.tree.leaves(left[0]), jax.tree.leaves(right[0])):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
  assert left[1].keys() == right[1].keys()
  for name, (total, weight) in left[1].items():
    if name.startswith("count/tokens"):
      np.testing.assert_allclose(total, right[1][name][0])
      continue
    if name.startswith("padding/"):  # of rows that are fewer at a time
      continue
    mean = total / max(weight, 1)
    other = right[1][name][0] / max(right[1][name][1], 1)
    np.testing.assert_allclose(mean, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_first_minibatch_of_an_iteration_has_ratio_one():
  run, state = plain_run("ppo")
  batch = sharding.global_batch(toys.batch("ppo", 0), run.ctx.mesh)
  collected = run.algorithm.collect(run.ctx, state, batch, jax.random.key(1))
  minibatches, _ = collected
  _, found = update(run, state, collected, jax.random.key(2))
  total, weight = found["policy/ratio_first_minibatch"]
  np.testing.assert_allclose(total / weight, 1.0, atol=1e-5)
  first = jax.tree.map(lambda x: x[0], minibatches)
  _, clipped = toys.compiled(run.algorithm.loss)(
    run.ctx, state.params, {}, {"policy": first["policy"]}, None
  )
  assert float(clipped["policy/clip_fraction"][0]) == 0


def test_a_step_leaves_every_array_where_it_was():
  """Else programs that read parameters are compiled again after it."""
  run, state = run_of("sft")
  before = jax.tree.map(lambda x: x.sharding, state)
  specs = {str(x.spec) for x in jax.tree.leaves(before)}
  assert len(specs) > 3  # or it would say little
  with jax.set_mesh(run.ctx.mesh):
    collected = collected_of(run, state, "sft", 0)
    state, _ = step_lib.compiled(run)(state, *collected, jax.random.key(0))
  assert jax.tree.map(lambda x: x.sharding, state) == before


def test_a_bad_update_is_skipped_and_counted():
  run, state = plain_run("sft")
  batch = sharding.global_batch(toys.batch("sft", 0), run.ctx.mesh)
  collected = run.algorithm.collect(run.ctx, state, batch, None)
  broken = state.replace(
    params=jax.tree.map(
      lambda x: x.at[(0,) * x.ndim].set(jnp.nan), state.params
    )
  )
  after, found = update(run, broken, collected, jax.random.key(0))
  assert int(after.counters["skipped"]) == 1
  assert int(after.counters["skipped_in_a_row"]) == 1
  assert not np.isfinite(found["demonstrations/loss"][0])
  same = jax.tree.map(
    lambda a, b: np.array_equal(a, b, equal_nan=True),
    broken.params,
    jax.device_get(after.params),
  )
  assert all(jax.tree.leaves(same))
  # Adam has seen no gradient, but the clock of the rate has gone on.
  before = jax.device_get(broken.optimizer["policy"])
  skipped = jax.device_get(after.optimizer["policy"])
  assert int(optim.clock(skipped)) == 1 == int(optim.clock(before)) + 1
  moments = optim.with_clocks_of(skipped, before)
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, moments, before)))
  again = state.replace(
    counters=after.counters, step=after.step, optimizer=after.optimizer
  )
  good, found = update(run, again, collected, jax.random.key(0))
  # The rate that is logged is the one applied: that of the second step.
  rate = found["optimizer/policy_learning_rate"]
  assert float(rate[0]) == float(run.schedules["policy"](1)) * float(rate[1])
  assert float(run.schedules["policy"](1)) > float(run.schedules["policy"](0))
  assert int(good.counters["skipped_in_a_row"]) == 0
  assert int(good.counters["skipped"]) == 1


def test_ptx_adds_gamma_times_its_gradient_to_the_same_update():
  run, state = plain_run("ppo")
  minibatches, _ = collected_of(run, state, "ppo", 0)
  first = jax.tree.map(lambda x: x[0], minibatches)
  key = jax.random.key(0)
  both, _ = gradients(run, state.params, {}, first, key)
  rl = {k: first[k] for k in ("policy", "value")}
  alone, _ = gradients(run, state.params, {}, rl, key)
  text = {"ptx": first["ptx"]}
  ptx, found = gradients(run, state.params, {}, text, key)
  total = jax.tree.map(jnp.add, alone["policy"], ptx["policy"])
  for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(both["policy"])):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert float(found["gradient/ptx_norm"][0]) > 0
  loss, weight = found["ptx/loss"]
  gamma = run.ctx.config.rl.ptx_coef
  scaled = jax.jit(
    jax.grad(lambda p: gamma * _cross_entropy(run, p, first["ptx"]))
  )(state.params["policy"])
  for a, b in zip(jax.tree.leaves(scaled), jax.tree.leaves(ptx["policy"])):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    loss / weight,
    _cross_entropy(run, state.params["policy"], first["ptx"]),
    rtol=1e-5,
  )


def _cross_entropy(run, policy, rows):
  """The mean over tokens, written plainly."""
  logits = toys.token_logits(
    run.ctx.policy, policy, rows["tokens"], rows["is_token"]
  )
  logprobs = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(logprobs, rows["tokens"][:, 1:, None], axis=-1)
  return -picked.mean()


def test_dropout_is_on_in_training_only():
  run, state = run_of("sft", model={"dropout": 0.5})
  batch = toys.batch("sft", 0)
  losses = [
    toys.compiled(run.algorithm.loss)(run.ctx, state.params, {}, batch, key)[0]
    for key in (None, None, jax.random.key(0), jax.random.key(1))
  ]
  sums = [float(terms["demonstrations"][0]) for terms in losses]
  assert sums[0] == sums[1]
  assert len({*sums}) == 3


def test_every_update_moves_the_average():
  run, state = plain_run("ppo")
  minibatches, metrics = collected_of(run, state, "ppo", 0)
  after, _ = update(run, state, (minibatches, metrics), jax.random.key(0))
  decay = run.ctx.config.ema.policy
  average = state.params["policy"]
  params = state
  for i in range(run.ctx.config.rl.minibatches):
    one = jax.tree.map(lambda x, i=i: x[i : i + 1], minibatches)
    # Only step counts differ, and the schedule counts updates by itself.
    params, _ = update(run, params, (one, metrics), jax.random.key(0))
    average = jax.tree.map(
      lambda e, p: decay * e + (1 - decay) * p,
      average,
      params.params["policy"],
    )
  for a, b in zip(
    jax.tree.leaves(average), jax.tree.leaves(after.ema["policy"])
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_steps_and_learning_rates_are_counted():
  """The schedule counts updates: two a step here."""
  run, state = plain_run("ppo")
  minibatches = collected_of(run, state, "ppo", 0)
  for step in range(2):
    state, found = update(run, state, minibatches, jax.random.key(step))
    for role, schedule in run.schedules.items():
      total, weight = found[f"optimizer/{role}_learning_rate"]
      np.testing.assert_allclose(total / weight, schedule(2 * step), rtol=1e-6)
  assert int(state.step) == 2
  rates = [float(run.schedules["policy"](n)) for n in (0, 2, 4)]
  assert len(set(rates)) > 1


def test_an_average_of_what_stands_still_stands_still():
  """To one rounding (appendix C.4: decay 0.992), and in float32."""
  x = np.random.default_rng(0).normal(size=100).astype(np.float32)
  params = {"policy": {"head": {"kernel": jnp.asarray(x)[:, None]}}}
  toy = algorithms.Algorithm(
    init=lambda ctx, key, checkpoints: (checkpoints, {}, {}),
    loss=lambda ctx, params, frozen, rows, key: (
      {"x": (0.0 * params["policy"]["head"]["kernel"].sum(), 1.0, 1.0)},
      {},
    ),
  )
  config = toys.config_of("sft", ema={"policy": 0.992})
  run, state = step_lib.setup(toys.make_context(config), toy, 3, params)
  collected = {"x": {"rows": jnp.ones((1, 4))}}, {}
  after, _ = update(run, state, collected, jax.random.key(0))
  average = after.ema["policy"]["head"]["kernel"][:, 0]
  now = after.params["policy"]["head"]["kernel"][:, 0]
  np.testing.assert_allclose(average, 0.992 * x + 0.008 * now, rtol=3e-7)
  assert average.dtype == jnp.float32


def test_items_of_a_state_are_its_whole_inverse():
  run, state = plain_run("ppo")
  again = step_lib.with_items(state, step_lib.items_of(run, state))
  assert jax.tree.structure(again) == jax.tree.structure(state)
  assert "frozen" not in "".join(step_lib.items_of(run, state))


def test_what_adapts_is_finite_whatever_the_metrics():
  changes = {"kl_target": 1.0, "kl_horizon": 16.0}
  run, state = run_of("ppo", rl=changes)
  minibatches, metrics = collected_of(run, state, "ppo", 0)
  for kl, moves in ((jnp.nan, False), (jnp.inf, False), (1e3, True)):
    total = metrics | {"objective/kl": (jnp.float32(kl), jnp.float32(1))}
    after, found = update(run, state, (minibatches, total), jax.random.key(0))
    same = float(after.extra["kl_coef"]) == float(state.extra["kl_coef"])
    assert same != moves, kl
    assert np.isfinite(after.extra["kl_coef"])
    assert int(found["count/skipped"][0]) == 0  # The update itself was good.


def test_a_loss_may_read_frozen_networks_and_they_outlive_the_step():
  def init(ctx, key, checkpoints):
    del ctx, key
    return (
      {"policy": {"head": {"bias": jnp.zeros(2)}}},
      {"target": checkpoints},
      {},
    )

  def loss(ctx, params, frozen, minibatch, key):
    del ctx, key
    error = params["policy"]["head"]["bias"] - frozen["target"]["head"]["bias"]
    weight = jnp.float32(len(minibatch["demonstrations"]["x"]))
    return {
      "demonstrations": (jnp.square(error).sum() * weight, weight, 1.0)
    }, {"toy/first_minibatch": (jnp.float32(1), jnp.float32(1))}

  ctx = toys.make_context(toys.config_of("sft", ema={"policy": 0.5}))
  toy = algorithms.Algorithm(init=init, loss=loss)
  target = {"head": {"bias": jnp.asarray([1.0, -1.0])}}
  run, state = step_lib.setup(ctx, toy, 50, target)
  update_state = step_lib.compiled(run)
  collected = toy.collect(
    ctx, state, {"demonstrations": {"x": jnp.ones(4)}}, None
  )
  distances = []
  for step in range(3):
    state, found = update_state(state, *collected, jax.random.key(step))
    total, weight = found["demonstrations/loss"]
    distances.append(float(total / weight))
    np.testing.assert_array_equal(
      state.frozen["target"]["head"]["bias"], [1, -1]
    )
  assert distances[0] > distances[1] > distances[2]
