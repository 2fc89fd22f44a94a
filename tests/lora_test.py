"""Adapters: the layer's arithmetic, what is trained, and what is held once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import keystr, tree_flatten_with_path

from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.models import config as model_config
from instruct_jax.models import decoder, forward, heads, lora
from instruct_jax.parallel import sharding
from instruct_jax.training import loop, partition
from instruct_jax.training import step as step_lib
from tests import toys

ADAPTED = {"rank": 4, "alpha": 8.0, "targets": "query|value|down"}
SCALE = 2.0


def settings(**changes):
  given = {"dropout": 0.0, **ADAPTED, **changes}
  return lora.Settings(**given)


def model_of(head=heads.LanguageModel, **changes):
  counted = {"adapters": model_config.Adapters(scale=SCALE)}
  return head(toys.decoder_config(**counted, **changes))


def paths(tree):
  leaves, _ = tree_flatten_with_path(tree)
  return {keystr(p, simple=True, separator="/"): x for p, x in leaves}


def pointers(tree):
  return {n: x.unsafe_buffer_pointer() for n, x in paths(tree).items()}


def logits(model, params, key=None):
  prompt = toys.prompts(0, 4)
  rows = {k: jnp.asarray(prompt[k]) for k in ("prompt", "is_prompt")}
  rows |= jax.tree.map(jnp.asarray, toys.responses(1, 4))
  return jax.jit(lambda p, k: forward.response_logits(model, p, rows, key=k))(
    params, key
  )


@pytest.fixture(scope="module")
def plain():
  return toys.init_params(model_of(), jax.random.key(0))


def moved(params, seed=1):
  """The same with numbers in the place of B's zeros."""
  rng = np.random.default_rng(seed)
  leaves, structure = tree_flatten_with_path(params)
  changed = [
    rng.normal(size=x.shape).astype(np.float32) * 0.1
    if keystr(path, simple=True, separator="/").endswith("lora_b")
    else x
    for path, x in leaves
  ]
  return jax.tree.unflatten(structure, changed)


def test_a_layer_adds_scale_times_x_a_b():
  rng = np.random.default_rng(0)
  x, w, a, b, bias = (
    rng.normal(size=shape).astype(np.float32)
    for shape in ((3, 6), (6, 4), (6, 2), (2, 4), (4,))
  )
  layer = decoder.Dense(
    4,
    True,
    "float32",
    jax.nn.initializers.zeros,
    model_config.Adapters(scale=0.5),
  )
  params = {"kernel": w, "bias": bias, "lora_a": a, "lora_b": b}
  found = layer.apply({"params": params}, x)
  np.testing.assert_allclose(
    found, x @ w + 0.5 * (x @ a) @ b + bias, rtol=1e-5, atol=1e-5
  )
  base = {"kernel": w, "bias": bias}
  np.testing.assert_allclose(
    layer.apply({"params": base}, x), x @ w + bias, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scan", [False, True])
def test_fresh_adapters_change_no_bit(dtype, scan, plain):
  """B is 0: the KL to the base model is 0 before the first update."""
  model = model_of(dtype=dtype, scan=scan)
  base = dict(plain)
  if scan:
    base["decoder"] = decoder.stack_blocks(plain["decoder"], model.config)
  adapted = lora.attach(base, settings(), jax.random.key(1))
  assert np.array_equal(logits(model, base), logits(model, adapted))
  other = moved(adapted)
  assert not np.array_equal(logits(model, base), logits(model, other))


def test_a_starts_as_peft_has_it_and_b_at_zero(plain):
  adapted = paths(lora.attach(plain, settings(), jax.random.key(1)))
  new = {n: x for n, x in adapted.items() if n not in paths(plain)}
  assert set(new) == {
    f"decoder/block_{i}/{layer}/lora_{ab}"
    for i in range(2)
    for layer in ("query", "value", "down")
    for ab in "ab"
  }
  for name, x in new.items():
    if name.endswith("lora_b"):
      assert not x.any()
      continue
    bound = x.shape[0] ** -0.5  # kaiming_uniform with a = sqrt(5)
    assert 0.8 * bound < np.abs(x).max() <= bound
    np.testing.assert_allclose(np.std(x), bound / 3**0.5, rtol=0.25)
  assert len({float(x.ravel()[0]) for n, x in new.items() if "_a" in n}) == 6


def test_stacked_layers_have_the_numbers_of_single_ones(plain):
  config = toys.decoder_config()
  key = jax.random.key(3)
  single = lora.attach(plain, settings(), key)["decoder"]
  stacked = decoder.stack_blocks(plain["decoder"], config)
  stacked = lora.attach({"decoder": stacked}, settings(), key)["decoder"]
  expected = paths(decoder.stack_blocks(single, config))
  found = paths(stacked)
  assert found.keys() == expected.keys()
  for name, x in found.items():
    assert np.array_equal(x, expected[name]), name


@pytest.mark.parametrize("changes", [{}, {"scan": True, "remat": "full"}])
def test_merged_is_the_same_model_without_adapters(changes, plain):
  model = model_of(**changes)
  params = dict(plain)
  if changes:
    params["decoder"] = decoder.stack_blocks(plain["decoder"], model.config)
  adapted = moved(lora.attach(params, settings(), jax.random.key(1)))
  whole = lora.merged(adapted, SCALE)
  assert paths(whole).keys() == paths(params).keys()
  np.testing.assert_allclose(
    logits(model, whole), logits(model, adapted), rtol=1e-4, atol=1e-5
  )
  layer = adapted["decoder"]["blocks" if changes else "block_0"]["query"]
  merged = whole["decoder"]["blocks" if changes else "block_0"]["query"]
  np.testing.assert_allclose(
    merged["kernel"],
    layer["kernel"] + 2.0 * layer["lora_a"] @ layer["lora_b"],
    rtol=1e-5,
    atol=1e-6,
  )


def test_dropout_of_adapters_is_there_with_a_key_only(plain):
  counted = model_config.Adapters(scale=SCALE, dropout=0.5)
  model = heads.LanguageModel(toys.decoder_config(adapters=counted))
  adapted = moved(lora.attach(plain, settings(), jax.random.key(1)))
  still = logits(model_of(), adapted)
  assert np.array_equal(logits(model, adapted), still)
  dropped = logits(model, adapted, jax.random.key(0))
  assert not np.array_equal(dropped, still)
  # The base model's own path has none.
  assert np.array_equal(
    logits(model, plain, jax.random.key(0)), logits(model, plain)
  )
  model = model_of()  # Without dropout a key changes nothing.
  assert np.array_equal(logits(model, adapted, jax.random.key(0)), still)


def run_of(algorithm, *, model=None, mesh=(1, 1, 1), **changes):
  config = toys.config_of(
    algorithm, mesh=dict(zip(sharding.AXES, mesh)), **changes
  )
  counted = {}
  if config.lora.rank:
    counted = {"adapters": lora.settings(config.lora).counted}
  ctx = toys.make_context(config, **counted, **(model or {}))
  given = toys.checkpoints(ctx)
  run, state = step_lib.setup(ctx, algorithms.named(algorithm), 3, given)
  return run, state, given


def stepped(run, state, algorithm, steps=1):
  """The state after compiled steps, and the last metrics."""
  step, metrics = step_lib.compiled(run), {}
  with jax.set_mesh(run.ctx.mesh):
    for i in range(steps):
      batch = sharding.global_batch(toys.batch(algorithm, i), run.ctx.mesh)
      key = jax.random.key(i)
      collected = run.algorithm.collect(run.ctx, state, batch, key)
      state, metrics = step(state, *collected, key)
  return state, metrics


@pytest.fixture(scope="module")
def ppo():
  """(run, first state, what was given, state after a step, its metrics)."""
  run, state, given = run_of("ppo", lora=ADAPTED)
  first = jax.device_get((state.params, state.ema, state.frozen))
  where = pointers((state.params, state.ema, state.frozen))
  after, metrics = stepped(run, state, "ppo")
  return {
    "run": run,
    "given": given,
    "before": paths(first),
    "pointers": where,
    "after": after,
    "metrics": metrics,
  }


def is_trained(path):
  return "lora_" in path or path.startswith("0/value/head")


def test_one_copy_of_the_weights_serves_policy_reference_and_average(ppo):
  given = pointers(ppo["given"])
  after = ppo["after"]
  now = pointers((after.params, after.ema, after.frozen))
  count = 0
  for name, pointer in ppo["pointers"].items():
    place, role, path = name.split("/", 2)
    if is_trained(name):
      assert pointer not in given.values(), name
      continue
    source = "policy" if role in ("policy", "reference") else "reward"
    assert pointer == given[f"{source}/{path}"], name
    assert now[name] == pointer, name  # No step copies or frees it.
    count += place == "0"
  assert count == len(paths(ppo["given"])) - 2  # All but the value's head.


def test_a_step_moves_adapters_and_the_head_alone(ppo):
  after = ppo["after"]
  found = paths(jax.device_get((after.params, after.ema, after.frozen)))
  for name, x in found.items():
    same = np.array_equal(x, ppo["before"][name])
    first_b = name.endswith("lora_a")  # its gradient is 0 while B is
    assert same != is_trained(name) or first_b, name
  learned = {n for n in found if is_trained(n) and n.startswith("0/")}
  state_of = paths(after.optimizer)
  assert len([n for n in state_of if "/mu/" in n]) == len(learned)
  items = step_lib.items_of(ppo["run"], after)
  stored = {
    f"{role.partition('.')[2]}/{name}"
    for role, tree in items.items()
    if role.startswith("params.")
    for name in paths(tree)
  }
  assert stored == {name[2:] for name in learned}
  again = step_lib.with_items(after, items)
  assert jax.tree.structure(again) == jax.tree.structure(after)


def test_kl_is_0_and_the_first_ratio_1_with_fresh_adapters(ppo):
  total, _ = ppo["metrics"]["objective/kl"]
  assert float(total) == 0.0
  total, weight = ppo["metrics"]["policy/ratio_first_minibatch"]
  assert float(total) == float(weight)


def test_who_holds_the_rest_is_known(ppo):
  assert ppo["run"].bases == {"policy": "policy", "value": "reward"}


def test_frozen_networks_are_the_checkpoints_themselves():
  """Without adapters too: what is trained is a copy, the rest is none."""
  _, state, given = run_of("ppo")
  there = pointers(given)
  for name, pointer in pointers(state.frozen).items():
    role, path = name.split("/", 1)
    source = "policy" if role == "reference" else "reward"
    assert pointer == there[f"{source}/{path}"]
  trained = pointers((state.params, state.ema))
  assert not set(trained.values()) & set(there.values())
  assert len(set(trained.values())) == len(trained)


def test_what_is_frozen_by_pattern_stands_still():
  pattern = r"embedding|block_0/"
  run, state, given = run_of("sft", freeze=pattern)
  after, _ = stepped(run, state, "sft")
  for name, x in paths(after.params["policy"]).items():
    before = given["policy"]
    for part in name.split("/"):
      before = before[part]
    is_frozen = "embedding/" in name or "block_0" in name
    if is_frozen:
      assert x.unsafe_buffer_pointer() == before.unsafe_buffer_pointer()
    elif "key/bias" not in name:  # which shifts no softmax
      assert not np.array_equal(x, before), name
  kept = paths(step_lib.items_of(run, after)["params.policy"])
  assert not any("embedding/" in n or "block_0" in n for n in kept)
  assert any("block_1" in name for name in kept)


def test_roles_choose_who_is_adapted():
  config = toys.config_of("ppo", lora={**ADAPTED, "roles": ("policy",)})
  ctx = toys.make_context(config)
  given = toys.checkpoints(ctx)
  run, state = step_lib.setup(ctx, algorithms.named("ppo"), 3, given)
  assert run.trained["value"] is None
  assert not [n for n in paths(state.params["value"]) if "lora" in n]
  assert [n for n in paths(state.params["policy"]) if "lora" in n]


def test_a_mesh_changes_no_update_of_adapters():
  kinds = {"scan": True, "remat": "full"}
  found = []
  for mesh, parts in (((1, 1, 1), 1), ((2, 2, 2), 2)):
    run, state, _ = run_of(
      "rm", mesh=mesh, model=kinds, lora=ADAPTED, microbatches=parts
    )
    after, _ = stepped(run, state, "rm", steps=2)
    found.append(paths(jax.device_get(after.params)))
  for name, x in found[0].items():
    np.testing.assert_allclose(
      x, found[1][name], rtol=2e-4, atol=2e-5, err_msg=name
    )
  adapters = [x for name, x in found[0].items() if name.endswith("lora_b")]
  assert adapters
  assert all(np.abs(x).max() > 1e-6 for x in adapters)


def refusal(algorithm, **changes):
  config = toys.config_of(algorithm).unlock()
  for key, value in changes.items():
    section, name = key.split("__") if "__" in key else ("", key)
    (config[section] if section else config)[name] = value
  with pytest.raises(errors.UserError) as found:
    loop.check(config.lock())
  return str(found.value)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"lora__targets": "qeury"}, "fits no layer"),
    ({"lora__targets": "query|("}, "no regular expression"),
    ({"lora__targets": "query|token_embedding"}, "has no adapters here"),
    ({"lora__targets": ".*"}, "has no adapters here"),
    ({"lora__rank": 1000}, "is more than decoder/block_0/down can have"),
    ({"lora__roles": ("polizy",)}, "Did you mean 'policy'"),
    ({"lora__rank": 0, "freeze": "no_such"}, "fits no parameter"),
    ({"lora__rank": 0, "freeze": "("}, "no regular expression"),
    ({"lora__rank": 0, "freeze": "policy/"}, "all that policy could learn"),
    ({"freeze": "block_0"}, "leave its layer out of config.lora.targets"),
    ({"needs": {"data": "x"}}, "starts from no model"),
  ],
)
def test_impossible_adapters_are_refused_before_anything_is_built(
  changes, words
):
  assert words in refusal("sft", **({"lora__rank": 4} | changes))


def test_dropout_of_adapters_is_refused_in_rl():
  changes = {"lora__rank": 4, "lora__dropout": 0.1}
  assert "no dropout with config.algorithm=ppo" in refusal("ppo", **changes)


def test_what_starts_afresh_must_be_trained():
  """Who reads the run could not have the reward model's head."""
  with pytest.raises(errors.UserError, match=r"reward/head/.* starts afresh"):
    run_of("rm", freeze="head/")


def test_trees_in_two_parts_are_whole_again(plain):
  names = frozenset(n for n in paths(plain) if "block_1" in n)
  part, rest = partition.split(plain, names)
  assert set(paths(part)) == names
  assert set(paths(rest)) == set(paths(plain)) - names
  assert paths(partition.joined(rest, part)) == paths(plain)
