"""Sampling: with a fake network that adds one, and with a real one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_jax.base import errors, memory
from instruct_jax.inference import choice, generate, slots
from instruct_jax.models import attention, decoder, heads
from instruct_jax.models import config as model_config
from instruct_jax.parallel import sharding
from tests import tiers

V, PAD, STOP, OTHER_STOP = 16, 0, 9, 12
CONFIG = model_config.DecoderConfig(
  vocab_size=V,
  context_length=32,
  layers=2,
  width=16,
  heads=2,
  kv_heads=2,
  head_size=8,
  mlp_width=32,
  positions="rotary",
)
MODEL = heads.LanguageModel(CONFIG)
SAMPLING = choice.Sampling(max_tokens=6, stop_ids=(STOP,), pad_id=PAD)
PROMPT = jnp.asarray([[0, 0, 3, 4], [5, 6, 7, 8], [0, 2, 2, 2]])
IS_PROMPT = PROMPT > 0


@pytest.fixture(autouse=True)
def _chunks(monkeypatch):
  """Prompts are read in several chunks, though they are short."""
  monkeypatch.setattr(generate, "CHUNK", 3)


@functools.cache
def params(model=MODEL):
  token, one = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), token, attention.padded(one)
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), shapes
  )["params"]


def sample(
  seed=0,
  prompt=PROMPT,
  is_prompt=IS_PROMPT,
  episodes=None,
  limits=None,
  **changes,
):
  return generate.generate(
    MODEL,
    params(),
    prompt,
    is_prompt,
    jnp.arange(len(prompt)) if episodes is None else jnp.asarray(episodes),
    jax.random.key(seed),
    dataclasses.replace(SAMPLING, **changes),
    limits=None if limits is None else jnp.asarray(limits),
  )


# A network whose next token is the previous one plus one, wrapping at V.


def count_up(last, *, max_tokens=6, stop_ids=(STOP,), temperature=0.0):
  """Goes on from the tokens `last`; also returns the number of steps."""
  sampling = choice.Sampling(
    max_tokens=max_tokens,
    stop_ids=stop_ids,
    pad_id=PAD,
    temperature=temperature,
  )

  def logits_of(tokens):
    return 50.0 * jax.nn.one_hot((tokens + 1) % V, V)

  network = slots.Network(
    empty=lambda: jnp.int32(0),
    read=lambda prompt, is_prompt: (logits_of(prompt[:, -1]), None),
    placed=lambda cache, read, time, put: cache,
    step=lambda tokens, positions, time, cache: (logits_of(tokens), cache + 1),
  )

  @jax.jit
  def run(last):
    prompt = last[:, None]
    queue = slots.Queue(
      prompt,
      jnp.ones(prompt.shape, bool),
      jnp.arange(len(last)),
      jnp.full(len(last), max_tokens),
    )
    shape = slots.shape_of(len(last), 0, max_tokens)
    state = slots.advance(
      network,
      queue,
      slots.begin(network, queue, shape),
      shape,
      sampling,
      jax.random.key(0),
      temperature=jnp.float32(temperature),
    )
    return generate.said(state, sampling, None), state.cache

  return run(jnp.asarray(last))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_counting_stops_at_the_stop_token(temperature):
  out, steps = count_up([6, 1, 8, 3], temperature=temperature)
  np.testing.assert_array_equal(
    out.tokens,
    [
      [7, 8, 9, 0, 0, 0],
      [2, 3, 4, 5, 6, 7],
      [9, 0, 0, 0, 0, 0],
      [4, 5, 6, 7, 8, 9],
    ],
  )
  np.testing.assert_array_equal(out.is_response, np.asarray(out.tokens) > 0)
  np.testing.assert_array_equal(out.ended, [True, False, True, True])
  assert steps == 5  # The first token comes from the prompt's logits.
  assert out.tokens.dtype == jnp.int32


def test_decoding_ends_when_every_row_has():
  out, steps = count_up([8, 7], max_tokens=50)
  np.testing.assert_array_equal(out.ended, [True, True])
  assert steps == 1
  _, steps = count_up([8, 8], max_tokens=50)
  assert steps == 0


def test_any_of_several_stop_tokens_ends_a_row():
  out, _ = count_up([7, 10], stop_ids=(STOP, OTHER_STOP))
  np.testing.assert_array_equal(
    out.tokens, [[8, 9, 0, 0, 0, 0], [11, 12, 0, 0, 0, 0]]
  )
  np.testing.assert_array_equal(
    out.judged, [[8, 9, 0, 0, 0, 0], [11, 9, 0, 0, 0, 0]]
  )


def test_the_pad_token_is_never_chosen():
  out, _ = count_up([14], stop_ids=())  # 15, then 0 would follow
  assert out.tokens[0, 0] == 15
  assert (out.tokens[0] != PAD).all()
  assert out.is_response.all()
  assert not out.ended.any()


# A real network.


def full_logits(out, prompt=PROMPT, is_prompt=IS_PROMPT, model=MODEL):
  tokens = jnp.concatenate([prompt, out.tokens], axis=1)
  is_token = jnp.concatenate([is_prompt, out.is_response], axis=1)
  logits, _ = jax.jit(model.apply, static_argnames="at")(
    {"params": params(model)},
    tokens,
    attention.padded(is_token),
    at=(prompt.shape[1] - 1, tokens.shape[1] - 1),
  )
  return logits.at[..., PAD].set(-jnp.inf)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_what_was_sampled_is_what_the_full_forward_gives(
  positions, temperature
):
  """Replays each token: the likeliest, or where the draw meets the CDF."""
  model = heads.LanguageModel(
    dataclasses.replace(CONFIG, positions=positions, tied=False)
  )
  key, episodes = jax.random.key(2), jnp.asarray([4, 0, 7])
  sampling = dataclasses.replace(
    SAMPLING, temperature=temperature, max_tokens=14, stop_ids=(), slots=2
  )
  out = generate.generate(
    model, params(model), PROMPT, IS_PROMPT, episodes, key, sampling
  )
  logits = np.asarray(full_logits(out, model=model), np.float64)
  for i in range(14):
    expected = logits[:, i].argmax(axis=-1)
    if temperature:
      weights = np.exp(logits[:, i] / temperature)
      total = np.cumsum(weights, axis=-1) / weights.sum(-1, keepdims=True)
      draws = np.asarray(choice.draws(key, episodes, i))
      expected = (total > draws[:, None]).argmax(axis=-1)
    np.testing.assert_array_equal(out.tokens[:, i], expected)


# Windows of which a part lies behind the columns' turn, mixed and not.
FAMILIES = {
  "scan": {"scan": True},
  "window": {"window": 3},
  "mixed": {"window": 3, "window_pattern": "sf", "rotary_local_base": 99.0},
  "learned": {"positions": "learned", "kv_heads": 1},
}


@pytest.mark.parametrize("family", tiers.often(FAMILIES, "mixed", "learned"))
def test_slots_that_are_filled_anew_say_what_is_said_alone(family):
  """Prompts in chunks, of any length, in slots whose columns go round."""
  model = heads.LanguageModel(dataclasses.replace(CONFIG, **FAMILIES[family]))
  rng = np.random.default_rng(1)
  is_prompt = np.arange(8) >= 8 - np.arange(9)[:, None]
  prompt = np.where(is_prompt, rng.integers(1, V, is_prompt.shape), PAD)
  limits = np.asarray([6, 1, 6, 3, 0, 6, 2, 6, 6])
  key, said = jax.random.key(2), {}
  for name, slots_ in (("few", 3), ("all", 0)):
    out = generate.generate(
      *(model, params(model), prompt, is_prompt, jnp.arange(9), key),
      dataclasses.replace(SAMPLING, stop_ids=(), slots=slots_),
      limits=limits,
    )
    np.testing.assert_array_equal(out.is_response.sum(axis=1), limits)
    said[name] = out.tokens
  np.testing.assert_array_equal(said["few"], said["all"])
  logits = full_logits(out, prompt, is_prompt, model=model)
  for i in range(6):
    draws = choice.draws(key, jnp.arange(9), i)
    again = choice.choose(logits[:, i], draws, SAMPLING, temperature=1.0)
    here = np.asarray(out.is_response[:, i])
    np.testing.assert_array_equal(out.tokens[here, i], again[here])


@pytest.mark.parametrize("scan", [False, True])
def test_logits_from_the_cache_are_the_full_forwards(scan):
  model = heads.LanguageModel(dataclasses.replace(CONFIG, scan=scan))
  tree = params()
  if scan:
    stacked = decoder.stack_blocks(tree["decoder"], CONFIG)
    tree = tree | {"decoder": stacked}
  out = sample()
  expected = full_logits(out)
  prefill = functools.partial(
    jax.jit(generate.prefill, static_argnums=0), model
  )
  logits, cache = prefill(tree, PROMPT, IS_PROMPT)
  cache = cache.rolled(4 + 6, 0)
  is_token = jnp.concatenate([IS_PROMPT, out.is_response], axis=1)
  positions = attention.positions_of(is_token)
  apply = jax.jit(model.apply)
  for i in range(6):
    difference = jax.nn.log_softmax(logits.at[:, PAD].set(-jnp.inf))
    difference -= jax.nn.log_softmax(expected[:, i])
    difference = np.where(out.is_response[:, i, None], difference, 0)[:, 1:]
    np.testing.assert_allclose(difference, 0, atol=1e-4)
    structure = attention.following(
      is_token, positions[:, 4 + i :][:, :1], 4 + i
    )
    logits, cache = apply(
      {"params": tree}, out.tokens[:, i : i + 1], structure, cache
    )
    logits = logits[:, 0]


def test_a_sample_depends_on_its_own_prompt_key_and_episode_only():
  out = sample(seed=3)
  np.testing.assert_array_equal(out.tokens, sample(seed=3).tokens)
  assert (out.tokens != sample(seed=4).tokens).any()
  others = PROMPT.at[1:].set(jnp.asarray([[1, 1, 1, 1], [7, 3, 7, 3]]))
  np.testing.assert_array_equal(
    out.tokens[0], sample(seed=3, prompt=others).tokens[0]
  )
  alone = sample(seed=3, prompt=PROMPT[:1], is_prompt=IS_PROMPT[:1])
  np.testing.assert_array_equal(out.tokens[0], alone.tokens[0])
  same = jnp.tile(PROMPT[1:2], (8, 1))
  rows = sample(seed=3, prompt=same, is_prompt=same > 0).tokens
  assert len(np.unique(rows, axis=0)) > 1
  one = sample(seed=3, prompt=same, is_prompt=same > 0, episodes=[5] * 8)
  assert len(np.unique(one.tokens, axis=0)) == 1


def test_rows_may_stand_in_any_order_and_in_any_batch():
  order = np.asarray([2, 0, 1])
  whole = sample(seed=3)
  moved = sample(
    seed=3, prompt=PROMPT[order], is_prompt=IS_PROMPT[order], episodes=order
  )
  np.testing.assert_array_equal(moved.tokens, whole.tokens[order])
  for rows in (slice(0, 1), slice(1, 3)):
    part = sample(
      seed=3,
      prompt=PROMPT[rows],
      is_prompt=IS_PROMPT[rows],
      episodes=np.arange(3)[rows],
    )
    np.testing.assert_array_equal(part.tokens, whole.tokens[rows])


def test_more_tokens_go_on_from_fewer():
  short, long = sample(seed=3), sample(seed=3, max_tokens=9)
  np.testing.assert_array_equal(long.tokens[:, :6], short.tokens)
  assert (long.is_response.sum(axis=1) > 6).any()


def test_draws_are_those_of_key_episode_and_position():
  key, episodes = jax.random.key(7), jnp.asarray([4, 0, 1 << 20])
  for position in (0, 3):
    found = choice.draws(key, episodes, position)
    for draw, episode in zip(found, episodes):
      own = jax.random.fold_in(jax.random.fold_in(key, episode), position)
      assert draw == jax.random.uniform(own)
  table = np.stack(
    [choice.draws(key, jnp.arange(64), position) for position in range(64)]
  )
  assert len(np.unique(table)) > 4090  # of 2^23 numbers, a few meet
  assert abs(table.mean() - 0.5) < 0.02


def test_left_padding_changes_no_sample():
  pad = ((0, 0), (3, 0))
  padded = sample(
    seed=5,
    prompt=jnp.pad(PROMPT, pad, constant_values=7),
    is_prompt=jnp.pad(IS_PROMPT, pad),
  )
  np.testing.assert_array_equal(sample(seed=5).tokens, padded.tokens)


@pytest.mark.parametrize("slots", [1, 2])
def test_the_number_of_slots_changes_no_sample(slots):
  whole, parts = sample(seed=6), sample(seed=6, slots=slots)
  jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_temperatures_and_limits_share_a_program():
  sample(temperature=0.7, limits=[6, 6, 6])
  before = generate._generate._cache_size()
  sample(temperature=1.3, limits=[6, 6, 6])
  sample(temperature=0.0, limits=[6, 2, 6])
  sample(temperature=0.7, limits=[1, 6, 0])
  assert generate._generate._cache_size() == before


# Choosing a token.

LOGITS = jnp.log(jnp.asarray([[0.5, 0.1, 0.2, 0.05, 0.15]]))  # 0 is the pad


def frequencies(n=4000, temperature=1.0, **changes):
  sampling = dataclasses.replace(SAMPLING, **changes)
  uniforms = (jnp.arange(n) + 0.5) / n
  tokens = choice.choose(
    jnp.tile(LOGITS, (n, 1)), uniforms, sampling, temperature=temperature
  )
  return np.bincount(tokens, minlength=5) / n


def test_choices_follow_the_probabilities_without_the_pad():
  expected = np.asarray([0, 0.1, 0.2, 0.05, 0.15]) * 2
  np.testing.assert_allclose(frequencies(), expected, atol=1e-3)
  hot = np.asarray([0, *np.sqrt(expected[1:])])
  np.testing.assert_allclose(
    frequencies(temperature=2.0), hot / hot.sum(), atol=1e-3
  )


def test_top_k_and_top_p_keep_the_likeliest():
  np.testing.assert_allclose(
    frequencies(top_k=2), np.asarray([0, 0, 20, 0, 15]) / 35, atol=1e-3
  )
  np.testing.assert_allclose(frequencies(top_k=1), [0, 0, 1, 0, 0])
  np.testing.assert_allclose(frequencies(top_k=99), frequencies())
  np.testing.assert_allclose(
    frequencies(top_p=0.6), np.asarray([0, 0, 20, 0, 15]) / 35, atol=1e-3
  )
  np.testing.assert_allclose(frequencies(top_p=0.3), [0, 0, 1, 0, 0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 50]))
def test_inverting_the_distribution_is_numpys(seed, size):
  rng = np.random.default_rng(seed)
  weights = rng.random((64, size)).astype(np.float32) ** 4
  weights[:, rng.random(size) < 0.3] = 0
  weights[:, rng.integers(size)] = 1
  uniforms = rng.random(64).astype(np.float32)
  uniforms[:2] = 0, 1 - 2**-24
  actual = np.asarray(jax.jit(choice.invert_cdf)(weights, uniforms))
  assert (weights[np.arange(64), actual] > 0).all()
  exact = np.cumsum(weights.astype(np.float64), axis=1)
  target = uniforms * exact[:, -1]
  after, before = exact[np.arange(64), actual], exact - weights
  assert (before[np.arange(64), actual] <= target + 1e-4).all()
  assert (after >= target - 1e-4).all()


@pytest.mark.parametrize(
  ("change", "what"),
  [
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": -1.0}, "temperature"),
    ({"top_k": -1}, "top_k"),
    ({"top_p": 0.0}, "top_p"),
    ({"stop_ids": (PAD,)}, "pad_id"),
  ],
)
def test_bad_sampling_is_named(change, what):
  with pytest.raises(errors.UserError, match=what):
    dataclasses.replace(SAMPLING, **change)


def test_slots_fill_a_quarter_of_the_memory_or_a_fifth_of_a_gpu_s():
  """Each of keys and values of 2 layers, in 32 bits, on one of two devices."""
  mesh = sharding.make_mesh(2, 1, 1, devices=jax.devices()[:2])
  slot = 4 * 2 * 2 * CONFIG.kv_heads * CONFIG.head_size * 10
  fitting = functools.partial(generate.fitting_slots, CONFIG, 10, mesh)
  with memory.standing_in(100 * slot):
    assert fitting() == 2 * 25
    assert fitting(besides=40 * slot) == 2 * 15
    with sharding.standing_in("gpu"):
      assert fitting() == 2 * 20
      assert fitting(besides=50 * slot) == 2 * 10
      assert fitting(besides=200 * slot) == 2
  with memory.standing_in(10**9 * slot):
    assert fitting() == 2 * generate.DEVICE_SLOTS
