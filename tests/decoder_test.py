"""The decoder: causality, cache, padding, shared prompts, layouts, families."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.models import attention, decoder, rotary
from instruct_jax.models import config as model_config

GPT2 = model_config.DecoderConfig(
  vocab_size=32,
  context_length=32,
  layers=2,
  width=16,
  heads=4,
  kv_heads=4,
  head_size=4,
  mlp_width=32,
)
NEOX = dataclasses.replace(
  GPT2,
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  mlp="gelu_exact",
  tied=False,
)
QWEN = dataclasses.replace(
  GPT2,
  kv_heads=2,
  norm="rmsnorm",
  norm_bias=False,
  positions="rotary",
  mlp="swiglu",
  attention_bias=False,
  output_bias=False,
  mlp_bias=False,
  qk_norm=True,
)
MISTRAL = dataclasses.replace(QWEN, window=3, qk_norm=False)
GEMMA = dataclasses.replace(  # all that Gemma 2 and 3 have, in one
  QWEN,
  layers=3,
  mlp="geglu",
  norm_offset=1.0,
  post_norms=True,
  embedding_scale=4.0,
  window=3,
  window_pattern="sf",
  rotary_local_base=100.0,
  rotary_scaling="linear",
  rotary_factor=4.0,
  attention_cap=2.0,
  logit_cap=3.0,
  query_scalar=7.0,
)
FAMILIES = {"gpt2": GPT2, "neox": NEOX, "qwen": QWEN, "mistral": MISTRAL}
FAMILIES |= {"gemma": GEMMA}
each_family = pytest.mark.parametrize("name", ["gpt2", "neox", "qwen", "gemma"])


def whole(*shape):
  """The structure of rows without padding."""
  return attention.padded(jnp.ones(shape, bool))


@functools.cache
def init(config, seed=0):
  """Parameters large enough that every term of the network matters."""
  token = jnp.zeros((1, 1), jnp.int32)
  shapes = jax.eval_shape(
    decoder.Decoder(config).init, jax.random.key(0), token, whole(1, 1)
  )["params"]
  rng = np.random.default_rng(seed)

  def draw(path, x):
    offset = 1.0 if path[-1].key == "scale" else 0.0
    return jnp.asarray(offset + 0.3 * rng.normal(size=x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def apply_of(config, **static):
  model = decoder.Decoder(config)
  return jax.jit(
    lambda params, *args: model.apply({"params": params}, *args, **static)
  )


def forward(config, params, tokens, is_token, **static):
  structure = attention.padded(is_token)
  return apply_of(config, **static)(params, tokens, structure)[0]


def random_tokens(shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(1, 32, shape), jnp.int32)


@each_family
def test_no_gradient_flows_from_a_token_to_the_past(name):
  config = dataclasses.replace(FAMILIES[name], vocab_size=6)
  params, T = init(config), 6
  tokens = jnp.arange(T)[None]  # each has a row of the table to itself
  is_token = jnp.ones((1, T), bool)

  @jax.jit
  def flow(t):  # the gradient of position t's output for each token
    def output(table):
      changed = params | {"token_embedding": {"embedding": table}}
      hidden = forward(config, changed, tokens, is_token)
      # A plain sum would be constant after a layer norm.
      return hidden[0, t] @ jnp.arange(1.0, 17.0)

    return jax.grad(output)(params["token_embedding"]["embedding"])

  for t in (0, 2, 5):
    size = np.abs(flow(t)).sum(-1)
    assert (size[: t + 1] > 1e-6).all()
    assert (size[t + 1 :] == 0).all()


@pytest.mark.parametrize(
  ("name", "scan"),
  [
    ("gpt2", False),
    ("neox", False),
    ("qwen", False),
    ("qwen", True),
    ("mistral", False),
    ("gemma", False),
    ("gemma", True),
  ],
)
def test_cache_gives_the_full_forward(name, scan):
  config = dataclasses.replace(FAMILIES[name], scan=scan)
  params, (B, T, P) = init(config), (2, 7, 4)
  tokens = random_tokens((B, T))
  is_token = jnp.asarray([[True] * T, [False] * 2 + [True] * (T - 2)])
  expected = forward(config, params, tokens, is_token)
  positions = attention.positions_of(is_token)
  apply = apply_of(config)
  cache = attention.empty_cache(config, B, P)
  structure = attention.padded(is_token[:, :P])
  hidden, cache = apply(params, tokens[:, :P], structure, cache)
  cache = cache.rolled(T, 0)
  parts = [hidden]
  for t in range(P, T):
    one = slice(t, t + 1)
    structure = attention.following(is_token, positions[:, one], t)
    hidden, cache = apply(params, tokens[:, one], structure, cache)
    parts.append(hidden)
  actual = jnp.concatenate(parts, axis=1)
  np.testing.assert_allclose(
    np.where(is_token[..., None], actual - expected, 0), 0, atol=1e-5
  )


def test_a_window_hides_what_is_further_back():
  params, is_token = init(MISTRAL), jnp.ones((1, 7), bool)
  tokens = random_tokens((1, 7))
  near = forward(MISTRAL, params, tokens, is_token)
  everywhere = dataclasses.replace(MISTRAL, window=0)
  whole = forward(everywhere, params, tokens, is_token)
  np.testing.assert_allclose(near[:, :3], whole[:, :3], atol=1e-5)
  assert (np.abs(near - whole)[:, 3:].max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize(
  ("config", "pattern"),
  [(MISTRAL, "sf"), (GEMMA, "fs")],
  ids=["plain", "gemma"],
)
def test_a_window_reaches_as_far_back_as_it_says(config, pattern):
  """By gradients: layer by layer the reach grows by the window, less one."""
  config = dataclasses.replace(
    config, layers=2, window_pattern="", vocab_size=8
  )
  one = dataclasses.replace(config, layers=1)
  tokens, is_token = jnp.arange(8)[None], jnp.ones((1, 8), bool)

  def reach(config):
    params = init(config)

    def last(table):
      changed = params | {"token_embedding": {"embedding": table}}
      hidden = forward(config, changed, tokens, is_token)
      return hidden[0, 7] @ jnp.arange(1.0, 17.0)

    gradient = jax.jit(jax.grad(last))
    size = gradient(params["token_embedding"]["embedding"])
    return np.abs(size).sum(-1) > 0

  assert reach(one).tolist() == [False] * 5 + [True] * 3
  assert reach(config).tolist() == [False] * 3 + [True] * 5
  mixed = dataclasses.replace(config, window_pattern=pattern)
  assert reach(mixed).all()


def test_a_pattern_says_which_layers_slide():
  both = dataclasses.replace(GEMMA, layers=5, window_pattern="sf")
  assert both.slides == (True, False, True, False, True)
  assert dataclasses.replace(both, window_pattern="").slides == (True,) * 5
  assert QWEN.slides == (False, False)


def test_packed_texts_with_windows_are_computed_as_if_alone():
  params, lengths = init(GEMMA), (5, 1, 4)
  tokens = random_tokens((1, 12))
  segments = jnp.asarray([[1] * 5 + [2] + [3] * 4 + [0] * 2])
  together = apply_of(GEMMA)(params, tokens, attention.packed(segments))[0]
  starts = (0, 5, 6)
  texts = jnp.concatenate([tokens[:, at : at + 5] for at in starts])
  is_token = jnp.arange(5) < jnp.asarray(lengths)[:, None]
  alone = forward(GEMMA, params, texts, is_token)
  for row, (start, length) in enumerate(zip(starts, lengths)):
    actual = together[0, start : start + length]
    np.testing.assert_allclose(actual, alone[row, :length], atol=1e-5)


@each_family
def test_padding_on_either_side_changes_nothing(name):
  config = FAMILIES[name]
  params, T = init(config), 5
  tokens = random_tokens((1, T))
  plain = forward(config, params, tokens, jnp.ones((1, T), bool))
  for left in (3, 0, 2):
    pad = ((0, 0), (left, 3 - left))
    for filler in (0, 7):
      padded = jnp.pad(tokens, pad, constant_values=filler)
      is_token = jnp.pad(jnp.ones((1, T), bool), pad)
      hidden = forward(config, params, padded, is_token)
      np.testing.assert_allclose(hidden[:, left : left + T], plain, atol=1e-5)


@each_family
def test_a_shared_prompt_gives_what_each_completion_gives_alone(name):
  config = FAMILIES[name]
  params, (B, K, P, R) = init(config), (2, 3, 4, 3)
  prompt, response = random_tokens((B, P)), random_tokens((B, K, R), seed=1)
  is_prompt = jnp.arange(P) >= jnp.asarray([[0], [2]])
  is_response = jnp.arange(R) < jnp.asarray([[[1], [2], [3]], [[3], [3], [2]]])
  shared = jnp.concatenate([prompt, response.reshape(B, -1)], axis=1)
  hidden = apply_of(config)(
    params, shared, attention.shared_prompt(is_prompt, is_response)
  )[0][:, P:].reshape(B, K, R, -1)
  for k in range(K):
    alone = forward(
      config,
      params,
      jnp.concatenate([prompt, response[:, k]], axis=1),
      jnp.concatenate([is_prompt, is_response[:, k]], axis=1),
    )[:, P:]
    difference = (hidden[:, k] - alone) * is_response[:, k, :, None]
    np.testing.assert_allclose(difference, 0, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("at", [(3, -1), (-1, None)])
@pytest.mark.parametrize("name", ["neox", "qwen"])
def test_a_slice_of_time_is_that_slice_of_the_whole(name, scan, at):
  config = dataclasses.replace(FAMILIES[name], scan=scan)
  params = init(config)
  tokens, is_token = random_tokens((2, 6)), jnp.ones((2, 6), bool)
  whole = forward(config, params, tokens, is_token)
  part = forward(config, params, tokens, is_token, at=at)
  np.testing.assert_allclose(part, whole[:, slice(*at)], atol=1e-5)


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("neox", {}),
    ("gemma", {"remat": "full"}),
    ("qwen", {"scan": True}),
    ("qwen", {"remat": "dots"}),
  ],
)
def test_chosen_positions_are_those_of_the_whole(name, changes):
  """In any order, one of them twice; and so is what they learn."""
  config = dataclasses.replace(FAMILIES[name], **changes)
  params = init(config)
  tokens, is_token = random_tokens((2, 6)), jnp.arange(6) < jnp.c_[6, 4].T
  at = np.array([[5, 0, 2], [1, 3, 1]], np.int32)
  weight = jnp.arange(1.0, 7).reshape(2, 3, 1)

  def loss(params, is_whole):
    hidden, _ = decoder.Decoder(config).apply(
      {"params": params},
      tokens,
      attention.padded(is_token),
      at=None if is_whole else jnp.asarray(at),
    )
    if is_whole:
      hidden = hidden[np.arange(2)[:, None], at]
    return (weight * jnp.sin(hidden)).sum(), hidden

  learn = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
  (found, hidden), (expected, whole) = learn(params, False), learn(params, True)
  np.testing.assert_allclose(hidden, whole, atol=1e-5)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ("name", "remat"),
  [
    ("gpt2", "full"),
    ("neox", "dots"),
    ("qwen", "none"),
    ("gemma", "offload"),
    ("gemma", "full"),
  ],
)
def test_stacked_layers_give_the_same_outputs_and_gradients(name, remat):
  config = FAMILIES[name]
  stacked = dataclasses.replace(config, scan=True, remat=remat)
  params = init(config)
  tokens, is_token = random_tokens((2, 6)), jnp.ones((2, 6), bool)

  def value(params, config):
    hidden = decoder.Decoder(config).apply(
      {"params": params},
      tokens,
      attention.padded(is_token),
    )[0]
    return (
      hidden * jnp.sin(jnp.arange(hidden.size)).reshape(hidden.shape)
    ).sum()

  grad = jax.jit(jax.value_and_grad(value), static_argnums=1)
  expected, expected_grads = grad(params, config)
  actual, grads = grad(decoder.stack_blocks(params, config), stacked)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  grads = decoder.unstack_blocks(grads, config)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4),
    grads,
    expected_grads,
  )


@pytest.mark.parametrize("scan", [False, True])
def test_what_is_recomputed_is_not_kept(scan):
  """Going backward: no array of a layer, its products, or all there are."""

  def kept(remat):
    config = dataclasses.replace(GPT2, remat=remat, scan=scan, layers=3)
    model = decoder.Decoder(config)
    tokens, structure = random_tokens((2, 6)), whole(2, 6)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, structure)

    def loss(variables):
      return model.apply(variables, tokens, structure)[0].sum()

    _, backward = jax.eval_shape(lambda x: jax.vjp(loss, x), shapes)
    given = sum(x.size for x in jax.tree.leaves(shapes))
    return sum(x.size for x in jax.tree.leaves(backward)) - given

  full, dots, none = kept("full"), kept("dots"), kept("none")
  assert full < dots < none
  assert kept("offload") == dots


def test_layers_that_are_recomputed_one_by_one_take_a_cache():
  config = dataclasses.replace(GEMMA, remat="full")
  params, tokens = init(config), random_tokens((2, 5))
  cache = attention.empty_cache(config, 2, 5)
  structure = whole(2, 5)
  actual = apply_of(config)(params, tokens, structure, cache)[0]
  expected = forward(GEMMA, params, tokens, structure.is_key)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_norm_of_gemma_adds_one_to_its_scale():
  plain = dataclasses.replace(QWEN, width=3)
  offset = dataclasses.replace(plain, norm_offset=1.0)
  x, scale = jnp.asarray([[3.0, -4.0, 5.0]]), jnp.asarray([0.5, 0.0, -1.0])
  norm = decoder.Norm(offset)
  fresh = norm.init(jax.random.key(0), x)["params"]["scale"]
  assert not fresh.any()  # so that it starts as any other norm does
  actual = norm.apply({"params": {"scale": scale}}, x)
  rms = np.sqrt(50 / 3)
  np.testing.assert_allclose(actual, [[4.5 / rms, -4 / rms, 0]], rtol=1e-5)


def test_embeddings_are_scaled_as_coarsely_as_activations():
  """Gemma's bfloat16 rounds sqrt(3072) = 55.4256 to 55.5."""
  for dtype, scale in (("float32", 3072**0.5), ("bfloat16", 55.5)):
    config = dataclasses.replace(
      QWEN, embedding_scale=3072**0.5, dtype=dtype, layers=1
    )
    model = decoder.Decoder(config)
    table = jnp.full((32, 16), 1.0)
    x = model.apply(
      {"params": {"token_embedding": {"embedding": table}}},
      jnp.asarray([3]),
      jnp.asarray([0]),
      decoder.looked_up,
      method="_embed",
    )
    np.testing.assert_array_equal(x, jnp.full((1, 16), scale, dtype))


def test_layouts_convert_both_ways():
  params = init(QWEN)
  stacked = decoder.stack_blocks(params, QWEN)
  scanned = init(dataclasses.replace(QWEN, scan=True))
  assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, scanned)
  back = decoder.unstack_blocks(stacked, QWEN)
  jax.tree.map(np.testing.assert_array_equal, back, params)


def test_every_kernel_is_a_matrix():
  for config in FAMILIES.values():
    for path, x in jax.tree_util.tree_leaves_with_path(init(config)):
      if path[-1].key == "kernel":
        assert x.ndim == 2, path


def test_grouped_heads_are_heads_that_share_keys():
  grouped = dataclasses.replace(QWEN, kv_heads=2)
  full = dataclasses.replace(QWEN, kv_heads=4)
  params = init(grouped)

  def repeat(x):  # [D, G * E] -> [D, H * E]
    x = x.reshape(x.shape[0], 2, 4)
    return jnp.repeat(x, 2, axis=1).reshape(x.shape[0], 16)

  wide = dict(params)
  for name in ("block_0", "block_1"):
    wide[name] = dict(params[name])
    for part in ("key", "value"):
      wide[name][part] = {"kernel": repeat(params[name][part]["kernel"])}
  tokens, is_token = random_tokens((2, 6)), jnp.ones((2, 6), bool)
  np.testing.assert_allclose(
    forward(grouped, params, tokens, is_token),
    forward(full, wide, tokens, is_token),
    atol=1e-5,
  )


def test_rotation_is_by_position_and_keeps_the_rest():
  config = dataclasses.replace(NEOX, head_size=8)  # 4 of 8 numbers turn
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 8)), jnp.float32)
  angles = rotary.table(jnp.asarray([[0, 1, 5]]), 6, config)
  turned = rotary.rotate(x, angles)
  np.testing.assert_allclose(turned[0], x[0], atol=1e-6)  # position 0
  np.testing.assert_array_equal(turned[..., 4:], x[..., 4:])
  for row, position in ((1, 1), (2, 5)):
    for i, rate in ((0, 1.0), (1, 10_000**-0.5)):
      z = complex(x[row, 0, i], x[row, 0, i + 2]) * np.exp(1j * position * rate)
      np.testing.assert_allclose(turned[row, 0, i], z.real, atol=1e-5)
      np.testing.assert_allclose(turned[row, 0, i + 2], z.imag, atol=1e-5)


def test_rotary_attention_depends_on_distance_alone():
  config = dataclasses.replace(QWEN, context_length=64)
  params, T = init(config), 5
  tokens, is_key = random_tokens((1, T)), jnp.ones((1, 24), bool)
  cache = attention.empty_cache(config, 1, 24)
  outputs = [
    apply_of(config)(
      params,
      tokens,
      attention.following(is_key, jnp.arange(T)[None] + shift, 0),
      cache,
    )[0]
    for shift in (0, 17)
  ]
  np.testing.assert_allclose(*outputs, atol=1e-5)


@pytest.mark.parametrize("config", [GPT2, QWEN], ids=["learned", "rotary"])
def test_a_position_past_the_table_is_loud(config):
  tokens = random_tokens((1, 4))
  structure = whole(1, 4).replace(positions=jnp.asarray([[0, 1, 2, 99]]))
  hidden = apply_of(config)(init(config), tokens, structure)[0]
  assert np.isnan(hidden).any()


@each_family
def test_bfloat16_stays_close_with_float32_parameters(name):
  config = FAMILIES[name]
  half = dataclasses.replace(config, dtype="bfloat16")
  params = init(config)
  tokens, is_token = random_tokens((2, 6)), jnp.ones((2, 6), bool)
  expected = forward(config, params, tokens, is_token)
  actual = forward(half, params, tokens, is_token)
  assert actual.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(init(half))} == {
    np.dtype(paper.PARAM_DTYPE)
  }
  error = np.abs(actual.astype(jnp.float32) - expected).mean()
  assert error < 0.05 * np.abs(expected).mean()
  assert attention.empty_cache(half, 1, 2).keys[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("scan", [False, True])
def test_dropout_needs_both_a_key_and_the_switch(scan):
  config = dataclasses.replace(GPT2, dropout=0.5, scan=scan)
  params, model = init(config), decoder.Decoder(config)
  tokens, is_token = random_tokens((2, 6)), jnp.ones((2, 6), bool)
  inputs = (tokens, attention.padded(is_token))

  @functools.partial(jax.jit, static_argnums=1)
  def hidden(key, deterministic):
    return model.apply(
      {"params": params},
      *inputs,
      deterministic=deterministic,
      rngs={"dropout": key},
    )[0]

  one, two = jax.random.key(1), jax.random.key(2)
  np.testing.assert_array_equal(hidden(one, False), hidden(one, False))
  assert (hidden(one, False) != hidden(two, False)).any()
  np.testing.assert_array_equal(hidden(one, True), hidden(two, True))
  still = dataclasses.replace(config, dropout=0.0)
  np.testing.assert_allclose(
    hidden(one, True), forward(still, params, tokens, is_token), atol=1e-5
  )


def test_initial_weights_are_gpt2s():
  deep = dataclasses.replace(GPT2, layers=8, scan=True)
  model, token = decoder.Decoder(deep), jnp.zeros((1, 1), jnp.int32)
  params = jax.jit(model.init)(jax.random.key(0), token, whole(1, 1))["params"]
  blocks = params["blocks"]
  np.testing.assert_allclose(blocks["query"]["kernel"].std(), 0.02, rtol=0.1)
  np.testing.assert_allclose(
    blocks["output"]["kernel"].std(), 0.02 / 4, rtol=0.1
  )
  assert not blocks["query"]["bias"].any()
  assert (blocks["mlp_norm"]["scale"] == 1).all()


@pytest.mark.parametrize(
  ("change", "key"),
  [
    ({"kv_heads": 3}, "model.kv_heads"),
    ({"layers": 0}, "model.layers"),
    ({"width": 16.0}, "model.width"),
    ({"norm": "layernrom"}, "layernorm"),
    ({"mlp": "relu"}, "model.mlp"),
    ({"dtype": "float16"}, "model.dtype"),
    ({"dropout": 1.0}, "model.dropout"),
    ({"norm": "rmsnorm"}, "model.norm_bias"),
    ({"positions": "rotary", "head_size": 5}, "model.rotary_fraction"),
    ({"positions": "rotary", "rotary_fraction": 1.5}, "rotary_fraction"),
    ({"window": 4, "window_pattern": "sx"}, "model.window_pattern = 'sx'"),
    ({"window": 4, "window_pattern": "ssf"}, "no more than model.layers = 2"),
    ({"window": 4, "window_pattern": "f"}, "a layer that does"),
    ({"window_pattern": "s"}, "model.window above 0"),
    ({"rotary_local_base": 100.0}, "model.rotary_local_base = 100.0 is of"),
    ({"attention_cap": -1.0}, "model.attention_cap = -1.0 must not be"),
  ],
)
def test_bad_shapes_name_their_key(change, key):
  with pytest.raises(errors.UserError, match=key):
    dataclasses.replace(GPT2, **change)
