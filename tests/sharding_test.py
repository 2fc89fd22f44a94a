"""Meshes of eight devices, placement by rule, and equality with one device."""

import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors
from instruct_jax.inference import choice, generate
from instruct_jax.models import attention, decoder, heads
from instruct_jax.models import config as model_config
from instruct_jax.parallel import sharding

MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2)]
CONFIG = model_config.DecoderConfig(
  vocab_size=24,
  context_length=16,
  layers=2,
  width=16,
  heads=4,
  kv_heads=2,
  head_size=4,
  mlp_width=32,
)
MODEL = heads.LanguageModel(CONFIG)
ROWS, LENGTH = 8, 6


@functools.cache
def init(model=MODEL):
  token, one = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), token, attention.padded(one)
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes
  )["params"]


def tokens():
  rng = np.random.default_rng(1)
  return rng.integers(1, 24, (ROWS, LENGTH)).astype(np.int32)


def specs(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {sharding.path_name(path): x.spec for path, x in leaves}


def loss(params, tokens):
  is_token = jnp.ones(tokens.shape, bool)
  logits, _ = MODEL.apply(
    {"params": params},
    tokens,
    attention.padded(is_token),
  )
  picked = jnp.take_along_axis(
    jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], -1
  )
  return -picked.mean()


def test_a_mesh_takes_the_first_devices():
  mesh = sharding.make_mesh(1, 2, 2)
  assert mesh.axis_names == ("data", "fsdp", "tensor")
  assert mesh.devices.flatten().tolist() == jax.devices()[:4]
  for shape in MESHES:
    assert sharding.make_mesh(*shape).devices.shape == shape


@pytest.mark.parametrize("shape", [(3, 3, 1), (0, 1, 1), (16, 1, 1)])
def test_a_mesh_that_does_not_fit_is_an_error(shape):
  with pytest.raises(errors.UserError, match=r"config\.mesh"):
    sharding.make_mesh(*shape)


def test_parameters_are_placed_by_the_table():
  mesh = sharding.make_mesh(2, 2, 2)
  found = specs(sharding.place(init(), mesh, heads.RULES))
  block = "decoder/block_1"
  assert found[f"{block}/query/kernel"] == P("fsdp", "tensor")
  assert found[f"{block}/down/kernel"] == P("tensor", "fsdp")
  assert found[f"{block}/up/bias"] == P("tensor")
  assert found[f"{block}/mlp_norm/scale"] == P(None)
  table = found["decoder/token_embedding/embedding"]
  assert table == P(None, ("fsdp", "tensor"))


def test_stacked_layers_are_not_split_by_layer():
  mesh = sharding.make_mesh(2, 2, 2)
  stacked = decoder.stack_blocks(init()["decoder"], CONFIG)
  found = specs(sharding.place({"decoder": stacked}, mesh, heads.RULES))
  assert found["decoder/blocks/up/kernel"] == P(None, "fsdp", "tensor")
  assert found["decoder/blocks/attention_norm/scale"] == P(None, None)


def muon(params):
  numbers = jax.tree.map(
    lambda x: optax.contrib.MuonDimensionNumbers() if x.ndim == 2 else None,
    params,
  )
  return optax.contrib.muon(1e-2, muon_weight_dimension_numbers=numbers)


@pytest.mark.parametrize("optimizer", [lambda _: optax.adam(1e-2), muon])
def test_moments_lie_where_their_parameters_do(optimizer):
  mesh, params = sharding.make_mesh(2, 2, 2), init()
  optimizer = optimizer(params)
  state = {
    "params": {"policy": params},
    "optimizer": {"policy": jax.eval_shape(optimizer.init, params)},
  }
  found = specs(sharding.place(state, mesh, heads.RULES))
  parameters = specs(sharding.place(params, mesh, heads.RULES))
  moments = 0
  for path, spec in found.items():
    owners = [name for name in parameters if path.endswith(f"/{name}")]
    if owners:
      assert spec == parameters[owners[0]], path
      moments += path.startswith("optimizer")
    else:
      assert spec == P(), path
  assert moments >= len(parameters)
  alone = sharding.place(
    jax.eval_shape(optimizer.init, params), mesh, heads.RULES, strict=False
  )
  assert specs(alone) == {
    path.removeprefix("optimizer/policy/"): spec
    for path, spec in found.items()
    if path.startswith("optimizer")
  }


def test_an_array_without_a_rule_is_an_error():
  mesh = sharding.make_mesh(2, 2, 2)
  tree = {"params": {"decoder": {"surprise": {"kernel": np.zeros((8, 8))}}}}
  with pytest.raises(errors.UserError, match="decoder/surprise/kernel"):
    sharding.place(tree, mesh, heads.RULES)


def test_an_array_with_two_rules_is_an_error():
  mesh = sharding.make_mesh(2, 2, 2)
  rules = (("a/kernel", P("fsdp")), ("kernel", P("tensor")))
  tree = {"a": {"kernel": np.zeros((8, 8))}, "ba": {"kernel": np.zeros((8, 8))}}
  with pytest.raises(errors.UserError, match=r"a/kernel .* 2 sharding rules"):
    sharding.place(tree, mesh, rules)
  del tree["a"]  # 'ba' ends in 'a', but is another name.
  assert specs(sharding.place(tree, mesh, rules))["ba/kernel"] == P(
    None, "tensor"
  )


def test_a_dimension_that_does_not_divide_is_an_error():
  mesh = sharding.make_mesh(1, 8, 1)
  tree = {"up": {"kernel": np.zeros((12, 32))}}
  with pytest.raises(
    errors.UserError, match=r"up/kernel .* dimension 0 of size 12 .*fsdp = 8"
  ):
    sharding.place(tree, mesh, heads.RULES)


def test_batches_are_split_by_row():
  mesh = sharding.make_mesh(2, 2, 2)
  batch = sharding.global_batch({"prompts": {"prompt": tokens()}}, mesh)
  prompt = batch["prompts"]["prompt"]
  assert prompt.sharding == NamedSharding(mesh, P(("data", "fsdp")))
  assert prompt.addressable_shards[0].data.shape == (ROWS // 4, LENGTH)
  np.testing.assert_array_equal(prompt, tokens())
  with pytest.raises(errors.UserError, match="6 rows of 'prompt'"):
    sharding.global_batch({"prompt": tokens()[:6]}, mesh)


@functools.cache
def on_one_device():
  return jax.jit(jax.value_and_grad(loss))(init(), tokens())


@pytest.mark.parametrize(
  ("shape", "in_context"),
  [
    ((8, 1, 1), False),
    ((1, 8, 1), True),
    ((2, 2, 2), False),
    ((2, 2, 2), True),
  ],
)
def test_loss_and_gradients_are_those_of_one_device(shape, in_context):
  expected, expected_grads = on_one_device()
  mesh = sharding.make_mesh(*shape)
  placement = sharding.place(init(), mesh, heads.RULES)
  params = jax.device_put(init(), placement)
  batch = sharding.global_batch(tokens(), mesh)
  grad = jax.jit(jax.value_and_grad(loss), out_shardings=(None, placement))
  if in_context:
    with jax.set_mesh(mesh):
      actual, grads = grad(params, batch)
  else:
    actual, grads = grad(params, batch)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    grads,
    expected_grads,
  )


def test_a_gemma_in_stacked_layers_is_that_of_one_device():
  """Norms after, soft caps and windows by layer, recomputed going backward."""
  config = dataclasses.replace(
    CONFIG,
    norm="rmsnorm",
    norm_bias=False,
    norm_offset=1.0,
    post_norms=True,
    qk_norm=True,
    positions="rotary",
    mlp="geglu",
    window=3,
    window_pattern="sf",
    rotary_local_base=100.0,
    attention_cap=2.0,
    logit_cap=3.0,
    scan=True,
    remat="full",
  )
  model = heads.LanguageModel(config)
  params = init(model)

  def total(params, tokens):
    structure = attention.padded(jnp.ones(tokens.shape, bool))
    logits, _ = model.apply({"params": params}, tokens, structure)
    return (
      logits * jnp.sin(jnp.arange(logits.size)).reshape(logits.shape)
    ).sum()

  expected = jax.jit(jax.value_and_grad(total))(params, tokens())
  mesh = sharding.make_mesh(2, 2, 2)
  placement = sharding.place(params, mesh, heads.RULES)
  found = specs(placement)
  assert found["decoder/blocks/mlp_post_norm/scale"] == P(None, None)
  assert found["decoder/blocks/gate/kernel"] == P(None, "fsdp", "tensor")
  args = (
    jax.device_put(params, placement),
    sharding.global_batch(tokens(), mesh),
  )
  program = jax.jit(
    jax.value_and_grad(total), out_shardings=(None, placement)
  ).lower(*args)
  actual = program.compile()(*args)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-3),
    actual,
    expected,
  )


WARNED_OF = """
import jax
import jax.numpy as jnp
from instruct_jax.models import config, forward, heads
from instruct_jax.parallel import sharding

model = heads.LanguageModel(config.DecoderConfig(
  vocab_size=100, context_length=32, layers=1, width=16, heads=2, kv_heads=2,
  head_size=8, mlp_width=32))
shapes = jax.eval_shape(
  lambda key: forward.init_params(model, key), jax.random.key(0))
mesh = sharding.make_mesh(2, 2, 1)
places = sharding.place(shapes, mesh, heads.RULES)
params = jax.tree.map(
  lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
  shapes, places)
tokens = jax.ShapeDtypeStruct(
  (8, 16), jnp.int32, sharding=sharding.batch_sharding(mesh))

def total(params, tokens):
  is_token = jnp.ones(tokens.shape, bool)
  return forward.token_logprobs(model, params, tokens, is_token).sum()

with jax.set_mesh(mesh):
  gradient = jax.jit(jax.grad(total), out_shardings=places)
  gradient.lower(params, tokens).compile()
print("compiled")
"""


@pytest.mark.slow
def test_no_embedding_s_gradient_copies_all_rows_to_every_device():
  """XLA warns where it finds no way from one layout to another but that."""
  done = subprocess.run(
    [sys.executable, "-c", WARNED_OF],
    capture_output=True,
    text=True,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "4",
      "TF_CPP_MIN_LOG_LEVEL": "1",
      "XLA_FLAGS": "",
      "JAX_ENABLE_COMPILATION_CACHE": "0",
    },
  )
  assert done.stdout == "compiled\n", done.stderr
  assert "rematerialization" not in done.stderr


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_responses_are_those_of_one_device(temperature):
  sampling = choice.Sampling(
    max_tokens=4, stop_ids=(3,), pad_id=0, temperature=temperature, slots=8
  )

  def run(params, prompt):
    is_prompt = jnp.ones(prompt.shape, bool)
    episodes, key = jnp.arange(len(prompt)), jax.random.key(0)
    return generate.generate(
      MODEL, params, prompt, is_prompt, episodes, key, sampling
    )

  expected = run(init(), tokens())
  mesh = sharding.make_mesh(2, 2, 2)
  placement = sharding.place(init(), mesh, heads.RULES)
  actual = run(
    jax.device_put(init(), placement), sharding.global_batch(tokens(), mesh)
  )
  np.testing.assert_array_equal(actual.tokens, expected.tokens)


def test_constraints_change_nothing_without_a_mesh_or_a_fit():
  x = jnp.arange(6.0)
  np.testing.assert_array_equal(sharding.constrain(x, sharding.BATCH), x)
  with jax.set_mesh(sharding.make_mesh(8, 1, 1)):
    fit = jax.jit(lambda x: sharding.constrain(x, sharding.BATCH))
    np.testing.assert_array_equal(fit(x), x)
    assert len(fit(jnp.arange(8.0)).addressable_shards[0].data) == 1
