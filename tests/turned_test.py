"""Turned kernels: the same numbers, laid out once, where they are faster."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.inference import choice, generate
from instruct_jax.models import attention, heads, lora, turned
from instruct_jax.parallel import sharding
from tests import decoder_test, generate_test

TOKENS = jnp.asarray([[3, 1, 4], [2, 7, 1]])
INPUTS = (TOKENS, attention.padded(jnp.ones(TOKENS.shape, bool)))


@pytest.mark.parametrize(("rows", "K", "N"), [(1, 3, 5), (4, 8, 2), (7, 5, 9)])
def test_a_turned_product_is_the_product(rows, K, N):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, K)).astype(np.float32)
  kernel = rng.normal(size=(K, N)).astype(np.float32)
  out = turned.product(jnp.asarray(x), jnp.asarray(kernel.T))
  np.testing.assert_allclose(out, x.astype(float) @ kernel, atol=1e-5)
  x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel.T, jnp.bfloat16)
  out = turned.product(x, kernel, jnp.float32)
  assert out.dtype == jnp.float32  # and not rounded on the way
  exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64).T
  np.testing.assert_allclose(out, exact, atol=1e-5)


def both(config, adapters=False):
  """Logits by kernels as they are and turned."""
  model = heads.LanguageModel(config)
  params = drawn(model)
  if adapters:
    targets = "|".join(lora.LAYERS)
    settings = lora.Settings(2, alpha=4.0, targets=targets, dropout=0.0)
    params = lora.attach(params, settings, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.1, params)
  apply = jax.jit(model.apply)
  trees = params, turned.layers(params)
  return [apply({"params": tree}, *INPUTS)[0] for tree in trees], trees


def drawn(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0), *INPUTS)["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes
  )


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "neox", "gemma"])
def test_turned_layers_give_the_same_logits(name, scan):
  config = dataclasses.replace(decoder_test.FAMILIES[name], scan=scan)
  (expected, actual), (plain, tree) = both(config, adapters=name == "neox")
  assert np.abs(expected).max() > 0.5
  np.testing.assert_allclose(actual, expected, atol=1e-4)
  names = {
    path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  }
  assert "kernel" not in names
  assert turned.TURNED in names
  assert "kernel" in str(jax.tree.structure(plain))  # stays as it was


def test_where_they_help(monkeypatch):
  small = dataclasses.replace(decoder_test.GPT2, width=turned.WIDTH)
  assert turned.helps_layers(small, turned.ROWS)
  assert not turned.helps_layers(small, turned.ROWS + 1)
  assert not turned.helps_layers(decoder_test.GPT2, 1)
  monkeypatch.setattr(sharding, "platform", lambda: "tpu")
  assert not turned.helps_layers(small, 1)


def whiles(jaxpr):
  """The bodies of the loops of a program."""
  for eqn in jaxpr.eqns:
    for name, value in eqn.params.items():
      inner = getattr(value, "jaxpr", None)
      if inner is not None:
        if name == "body_jaxpr":
          yield inner
        yield from whiles(inner)


def turns(jaxpr, shape):
  """How often arrays of a shape are transposed in it, loops and all."""
  count = 0
  for eqn in jaxpr.eqns:
    is_one = eqn.primitive.name == "transpose"
    count += is_one and eqn.invars[0].aval.shape == shape
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", None)
      count += turns(inner, shape) if inner is not None else 0
  return count


def test_a_batch_is_decoded_by_kernels_turned_once(monkeypatch):
  """Before the loop, for the steps alone; and it says the same."""
  model, params = generate_test.MODEL, generate_test.params()
  sampling = dataclasses.replace(
    generate_test.SAMPLING, stop_ids=(), max_tokens=7, slots=2
  )
  prompt = generate_test.PROMPT
  asked = (prompt, prompt > 0, jnp.arange(3), None)

  def program(sampling):
    return jax.make_jaxpr(generate._generate, static_argnums=(0, 1, 2))(
      *(model, sampling, None, params, jax.random.key(1), 1.0, asked)
    ).jaxpr

  def say(sampling):
    return generate.generate(
      *(model, params, *asked[:3], jax.random.key(1), sampling)
    ).tokens

  shape = (16, 32)  # of the kernels `up`
  assert turns(program(sampling), shape) == 0
  expected = say(sampling)
  monkeypatch.setattr(turned, "WIDTH", 1)
  again = dataclasses.replace(sampling, top_k=model.config.vocab_size)
  whole = program(again)  # another program than the one that is kept
  assert turns(whole, shape) == model.config.layers
  assert not any(turns(body, shape) for body in whiles(whole))
  np.testing.assert_array_equal(say(again), expected)


def test_what_is_chosen_from_few_rows_is_a_choice_of_each_alone():
  """A turned vocabulary mixes no rows."""
  config = dataclasses.replace(generate_test.CONFIG, tied=True)
  model = heads.LanguageModel(config)
  params = generate_test.params(model)
  hidden = jnp.asarray(np.random.default_rng(0).normal(size=(5, 16)))

  def logits(rows):
    return model.apply({"params": params}, rows, method="logits")

  whole = logits(hidden)
  for i in range(5):
    np.testing.assert_allclose(
      logits(hidden[i : i + 1])[0], whole[i], atol=1e-5
    )
  many = logits(jnp.tile(hidden, (turned.ROWS, 1)))[:5]  # not turned
  np.testing.assert_allclose(many, whole, atol=1e-5)
  draws = jnp.asarray([0.1, 0.3, 0.5, 0.7, 0.9])
  one = generate_test.SAMPLING
  np.testing.assert_array_equal(
    choice.choose(whole, draws, one, temperature=1.0),
    choice.choose(many, draws, one, temperature=1.0),
  )
