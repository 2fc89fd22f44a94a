"""Language and scalar heads, and the table that places their parameters."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.models import attention, decoder, heads
from instruct_jax.models import config as model_config

TIED = model_config.DecoderConfig(
  vocab_size=32,
  context_length=16,
  layers=2,
  width=16,
  heads=4,
  kv_heads=2,
  head_size=4,
  mlp_width=32,
  mlp="swiglu",
  qk_norm=True,
  norm="rmsnorm",
  norm_bias=False,
)
UNTIED = dataclasses.replace(TIED, tied=False)
TOKENS = jnp.asarray([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])
IS_TOKEN = jnp.ones(TOKENS.shape, bool)
INPUTS = (TOKENS, attention.padded(IS_TOKEN))


@functools.cache
def init(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0), *INPUTS)["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes
  )


@functools.partial(jax.jit, static_argnums=0, static_argnames="at")
def outputs(model, params, at=None):
  return model.apply({"params": params}, *INPUTS, at=at)[0]


def test_both_heads_keep_the_same_trunk():
  trees = [
    init(model)["decoder"]
    for model in (heads.LanguageModel(TIED), heads.ScalarModel(TIED))
  ]
  assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])
  assert set(init(heads.LanguageModel(TIED))) == {"decoder"}
  assert set(init(heads.LanguageModel(UNTIED))) == {"decoder", "unembedding"}
  assert set(init(heads.ScalarModel(UNTIED))) == {"decoder", "head"}


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_logits_are_the_hidden_states_by_the_unembedding(config):
  model = heads.LanguageModel(config)
  params = init(model)
  trunk = jax.jit(decoder.Decoder(config).apply)
  hidden, _ = trunk({"params": params["decoder"]}, *INPUTS)
  if config.tied:
    kernel = params["decoder"]["token_embedding"]["embedding"].T
  else:
    kernel = params["unembedding"]["kernel"]
  np.testing.assert_allclose(outputs(model, params), hidden @ kernel, atol=1e-5)


@pytest.mark.parametrize("kind", [heads.LanguageModel, heads.ScalarModel])
def test_at_is_a_slice_of_time(kind):
  model = kind(UNTIED)
  params = init(model)
  whole = outputs(model, params)
  for at in ((2, -1), (-1, None)):
    np.testing.assert_allclose(
      outputs(model, params, at=at), whole[:, slice(*at)], atol=1e-5
    )


@pytest.mark.parametrize("kind", [heads.LanguageModel, heads.ScalarModel])
def test_outputs_are_float32_under_bfloat16(kind):
  model = kind(dataclasses.replace(TIED, dtype="bfloat16"))
  assert outputs(model, init(model)).dtype == jnp.float32


def test_a_tied_table_learns_from_both_its_uses():
  model = heads.LanguageModel(TIED)

  def loss(params):
    return jax.nn.logsumexp(outputs(model, params), axis=-1).sum()

  grads = jax.jit(jax.grad(loss))(init(model))
  rows = np.abs(grads["decoder"]["token_embedding"]["embedding"]).sum(-1)
  assert (rows > 0).all()  # Also of words that are not in the text.


@functools.partial(jax.jit, static_argnums=0)
def drawn(model):
  """Fresh parameters from 400 keys at once."""
  keys = jax.random.split(jax.random.key(0), 400)
  return jax.vmap(lambda key: model.init(key, *INPUTS)["params"])(keys)


def test_the_scalar_head_starts_as_in_the_reference_code():
  head = drawn(heads.ScalarModel(dataclasses.replace(TIED, layers=1)))["head"]
  assert head["kernel"].shape == (400, 16, 1)
  assert head["bias"].shape == (400, 1)
  assert not head["bias"].any()
  np.testing.assert_allclose(head["kernel"].std(), 17**-0.5, rtol=0.02)


def test_an_unembedding_of_its_own_starts_as_gpt2_s():
  model = heads.LanguageModel(dataclasses.replace(UNTIED, layers=1))
  kernel = drawn(model)["unembedding"]["kernel"]
  assert kernel.shape == (400, 16, 32)
  np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.02)


@pytest.mark.parametrize("kind", [heads.LanguageModel, heads.ScalarModel])
def test_dropout_is_off_unless_asked_for(kind):
  params = init(kind(TIED))
  model = kind(dataclasses.replace(TIED, dropout=0.5))
  off = outputs(model, params)
  np.testing.assert_array_equal(off, outputs(kind(TIED), params))
  on = jax.jit(functools.partial(model.apply, deterministic=False))(
    {"params": params}, *INPUTS, rngs={"dropout": jax.random.key(0)}
  )[0]
  assert not np.allclose(on, off, atol=1e-3)


def spec_of(path):
  (spec,) = [s for rule, s in heads.RULES if re.search(f"(^|/){rule}$", path)]
  return tuple(spec)


def test_what_one_matrix_splits_over_tensor_the_next_one_sums_over():
  """Columns first, rows next: one sum over the devices a block (Megatron)."""
  for first in ("query", "key", "value", "up", "gate"):
    assert spec_of(f"mlp/{first}/kernel") == ("fsdp", "tensor")
    assert spec_of(f"mlp/{first}/bias") == ("tensor",)
  for second in ("output", "down"):
    assert spec_of(f"mlp/{second}/kernel") == ("tensor", "fsdp")
    assert spec_of(f"mlp/{second}/bias") == (None,)
  assert spec_of("token_embedding/embedding") == (None, ("fsdp", "tensor"))
  assert spec_of("unembedding/kernel") == (("fsdp", "tensor"), None)
  assert spec_of("head/kernel") == ("fsdp", None)


@pytest.mark.parametrize(
  "model",
  [
    heads.LanguageModel(UNTIED),
    heads.ScalarModel(
      dataclasses.replace(
        TIED, norm="layernorm", norm_bias=True, qk_norm=False, scan=True
      )
    ),
  ],
  ids=["language", "scalar"],
)
def test_exactly_one_rule_matches_every_parameter(model):
  for path, x in jax.tree_util.tree_leaves_with_path(init(model)):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    specs = [s for rule, s in heads.RULES if re.search(f"(^|/){rule}$", name)]
    assert len(specs) == 1, name
    assert len(specs[0]) <= x.ndim, name
