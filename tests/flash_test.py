"""Attention on a TPU: kernels, run here by Pallas' interpreter at toy sizes."""

import dataclasses
import functools
import importlib.util
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType

from instruct_jax.models import attention, decoder, flash, visible
from instruct_jax.parallel import sharding
from instruct_jax.planning import topology
from tests import decoder_test


@pytest.fixture(autouse=True)
def _tpu(monkeypatch):
  """What a TPU computes, in blocks of 8."""
  monkeypatch.setattr(flash, "INTERPRET", True)
  monkeypatch.setattr(flash, "BLOCK", 8)
  monkeypatch.setattr(flash, "LANES", 8)


def arrays(*shapes, dtype="float32", seed=0):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.normal(size=s) * 2, dtype) for s in shapes]


def heads(B, G, M, T, S=None, E=4, **how):
  keys = (B, G, S or T, E)
  return arrays((B, G, M, T, E), keys, keys, **how)


def on(platform, monkeypatch, function, *args):
  """function(*args), traced anew as for a platform."""
  monkeypatch.setattr(sharding, "platform", lambda: platform)
  return jax.jit(lambda *given: function(*given))(*args)


def attended(structure, settings, at, q, k, v):
  """Attention and its gradients, of a loss that tells positions apart."""
  settings = dict(settings)
  window = settings.pop("of_layer", None)
  plan = attention.plan(structure, **settings)
  if window is not None:
    plan = plan.within(window)

  def f(q, k, v):
    out = attention.attend(q, k, v, plan.sliced(at))
    slope = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    return (out.astype(jnp.float32) * slope).sum(), out

  return jax.value_and_grad(f, (0, 1, 2), has_aux=True)(q, k, v)


def rankings_in_a_row():
  """Two rankings of one row: a prompt, then branches that see it; and pads."""
  lengths = [(1, 0, 5), (1, 1, 3), (1, 2, 4), (2, 0, 2), (2, 1, 3), (2, 2, 2)]
  segments, branches = (
    np.concatenate([[one[i]] * one[2] for one in lengths] + [[0] * 2])
    for i in (0, 1)
  )
  positions = [*range(5), 5, 6, 7, 5, 6, 7, 8, 0, 1, 2, 3, 4, 2, 3, 0, 0]
  segments, branches, positions = (
    jnp.asarray(x, jnp.int32)[None] for x in (segments, branches, positions)
  )
  return attention.Structure(
    positions, segments > 0, segments=segments, branches=branches
  )


def padded():
  is_token = np.random.default_rng(1).random((2, 21)) < 0.7
  return attention.padded(jnp.asarray(is_token))


def packed():
  segments = [[1] * 9 + [2] * 1 + [3] * 10, [1] * 4 + [2] * 12 + [0] * 4]
  return attention.packed(jnp.asarray(segments, jnp.int32))


def shared_prompt():
  is_prompt = np.arange(6) >= np.asarray([[0], [4]])
  lengths = np.asarray([[3, 5, 0], [1, 5, 2]])[..., None]
  return attention.shared_prompt(is_prompt, np.arange(5) < lengths)


def following():
  """Ten tokens from slot 7 of a cache of 19."""
  is_key = jnp.arange(19) >= jnp.asarray([[0], [3]])
  positions = attention.positions_of(is_key)[:, 7:17]
  return attention.following(is_key & (jnp.arange(19) < 17), positions, 7)


CASES = {
  "padded": (padded, (2, 1, 2), {}),
  "padded, window": (padded, (2, 2, 1), {"window": 4, "scalar": 7.0}),
  "packed": (packed, (2, 1, 2), {"cap": 2.5}),
  "packed, mixed": (packed, (2, 1, 1), {"mixed": True, "of_layer": 3}),
  "shared prompt": (shared_prompt, (2, 2, 2), {}),
  "shared, window": (shared_prompt, (2, 1, 1), {"window": 5, "cap": 3.0}),
  "rankings in a row": (rankings_in_a_row, (1, 2, 2), {}),
  "following": (following, (2, 1, 2), {"window": 6}),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_all_scores(name, monkeypatch):
  make, (B, G, M), settings = CASES[name]
  structure = make()
  T, S = structure.positions.shape[1], structure.is_key.shape[1]
  at = (3, None) if name == "packed" else (None, None)
  given = heads(B, G, M, len(range(T)[slice(*at)]), S)
  f = functools.partial(attended, structure, settings, at)
  actual = on("tpu", monkeypatch, f, *given)
  expected = on("cpu", monkeypatch, f, *given)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-5),
    actual,
    expected,
  )


def test_of_16_bits_it_is_as_near_as_what_holds_all_scores(monkeypatch):
  structure = packed()
  given = heads(2, 1, 2, 20, E=8)
  f = functools.partial(attended, structure, {}, (None, None))
  exact = on("cpu", monkeypatch, f, *given)
  coarse = [x.astype(jnp.bfloat16) for x in given]
  actual = on("tpu", monkeypatch, f, *coarse)
  other = on("cpu", monkeypatch, f, *coarse)

  def distance(tree):
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(exact))
    return sum(float(np.abs(np.float32(a) - b).sum()) for a, b in leaves)

  assert actual[0][1].dtype == jnp.bfloat16
  assert 0 < distance(actual) < 1.5 * distance(other)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.integers(0, 10**6))
def test_what_is_left_out_sees_nothing(seed):
  """And of one text alone, exactly what is after a query or too far back."""
  rng = np.random.default_rng(seed)
  window = [None, 1, 5][seed % 3]
  segments = np.sort(rng.integers(0, 4, (2, 16)), axis=1)
  branches = np.sort(rng.integers(0, 3, (2, 16)), axis=1)
  is_key = (segments > 0) & (rng.random((2, 16)) < 0.8)
  given = attention.Structure(
    attention.segment_positions(jnp.asarray(segments)),
    jnp.asarray(is_key),
    segments=jnp.asarray(segments),
    branches=jnp.asarray(branches),
  )
  marks = attention._marks(given, has_places=window is not None)
  mask = np.asarray(visible.mask(*marks, window=window))
  seen = np.asarray(visible.tiles(*marks, window=window, sizes=(4, 2)))
  assert seen.shape == (2, 4, 8)
  inside = mask.reshape(2, 4, 4, 8, 2).any(axis=(2, 4))
  assert not (inside & ~seen).any()
  whole = attention._marks(
    attention.padded(jnp.ones((1, 16), bool)), has_places=True
  )
  inside = np.asarray(visible.mask(*whole, window=window))
  inside = inside.reshape(1, 4, 4, 8, 2).any(axis=(2, 4))
  np.testing.assert_array_equal(
    visible.tiles(*whole, window=window, sizes=(4, 2)), inside
  )


def test_blocks_of_other_texts_and_branches_are_left_out():
  segments = jnp.asarray([[1] * 8 + [2] * 8])
  marks = attention._marks(attention.packed(segments), has_places=False)
  seen = visible.tiles(*marks, window=None, sizes=(4, 4))[0].astype(int)
  assert seen.tolist() == [
    [1, 0, 0, 0],
    [1, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 1, 1],
  ]
  ones = np.ones((1, 3, 4), bool)
  shared = attention.shared_prompt(ones[:, 0], ones)
  marks = attention._marks(shared, has_places=False)
  seen = visible.tiles(*marks, window=None, sizes=(4, 4))[0].astype(int)
  assert seen.tolist() == [
    [1, 0, 0, 0],
    [1, 1, 0, 0],
    [1, 0, 1, 0],
    [1, 0, 0, 1],
  ]


def test_nothing_is_fetched_for_what_is_left_out():
  seen = jnp.asarray([[0, 0, 1, 0, 1, 0], [1, 1, 0, 0, 0, 0], [0] * 6], bool)
  assert flash._fetched(seen).tolist() == [
    [2, 2, 2, 2, 4, 4],
    [0, 1, 1, 1, 1, 1],
    [0, 0, 0, 0, 0, 0],
  ]


@pytest.mark.parametrize(("rows", "groups"), [(4, 2), (3, 1)])
def test_on_a_mesh_as_on_one_device(rows, groups, monkeypatch):
  """Rows and heads divided, or (three rows, one head) computed everywhere."""
  segments = np.sort(np.random.default_rng(0).integers(0, 3, (rows, 12)), 1)
  structure = attention.packed(jnp.asarray(segments, jnp.int32))
  given = heads(rows, groups, 2, 12)
  f = functools.partial(attended, structure, {"window": 6}, (None, None))
  expected = on("cpu", monkeypatch, f, *given)
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    actual = on("tpu", monkeypatch, f, *given)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-5),
    actual,
    expected,
  )
  if rows == 4:
    shape = actual[0][1].sharding.shard_shape(actual[0][1].shape)
    assert shape == (1, 1, 2, 12, 4), actual[0][1].sharding


@pytest.mark.parametrize(
  "scan", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_a_decoder_with_mixed_windows_and_caps(scan, monkeypatch):
  config = dataclasses.replace(
    decoder_test.GEMMA, scan=scan, remat="dots" if scan else "none"
  )
  params = decoder_test.init(config)
  tokens = decoder_test.random_tokens((2, 19))
  structure = attention.padded(jnp.arange(19) >= jnp.asarray([[0], [6]]))

  def both(params):
    def f(params):
      model = decoder.Decoder(config)
      at = (4, None)
      out, _ = model.apply({"params": params}, tokens, structure, at=at)
      return (out * jnp.cos(jnp.arange(16.0))).sum(), out

    return jax.value_and_grad(f, has_aux=True)(params)

  actual = on("tpu", monkeypatch, both, params)
  expected = on("cpu", monkeypatch, both, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3),
    actual,
    expected,
  )


def compiled_shapes(text):
  """The shapes of a program's arrays, of StableHLO's text."""
  for found in re.findall(r"tensor<([\dx]+)x\w+>", text):
    yield tuple(int(n) for n in found.split("x"))


@pytest.mark.parametrize("kind", ["padded", "shared prompt"])
def test_no_program_for_a_tpu_has_scores(kind, monkeypatch):
  """Lowered for a TPU: three kernels, and no array of queries by keys."""
  monkeypatch.undo()
  monkeypatch.setattr(flash, "BLOCK", 128)
  monkeypatch.setattr(sharding, "platform", lambda: "tpu")
  B, T = 2, 300
  ones = jnp.ones((B, 3, 100), bool)
  structure = attention.padded(ones.reshape(B, T))
  if kind != "padded":
    structure = attention.shared_prompt(ones[:, 0], ones[:, 1:])
  given = heads(B, 2, 1, T, E=16, dtype="bfloat16")
  f = functools.partial(attended, structure, {}, (None, None))
  text = jax.jit(f).trace(*given).lower(lowering_platforms=("tpu",)).as_text()
  assert text.count("tpu_custom_call") == 3
  assert not [s for s in compiled_shapes(text) if sum(n >= 256 for n in s) > 1]


def test_few_queries_need_no_kernel(monkeypatch):
  """A token that follows a cache: its scores are a row."""
  monkeypatch.setattr(flash, "attend", None)
  is_key = jnp.arange(9) < 6
  structure = attention.following(is_key[None], jnp.asarray([[5]]), 5)
  f = functools.partial(attended, structure, {}, (None, None))
  given = heads(1, 1, 1, 1, 9)
  actual = on("tpu", monkeypatch, f, *given)
  expected = on("cpu", monkeypatch, f, *given)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_the_platform_is_that_of_the_mesh_in_use():
  assert sharding.platform() == "cpu"
  device = jax.sharding.AbstractDevice(
    device_kind="TPU v5p", num_cores=1, platform="tpu"
  )
  mesh = jax.sharding.AbstractMesh(
    (1, 1, 1),
    sharding.AXES,
    axis_types=(AxisType.Auto,) * 3,
    abstract_device=device,
  )
  with jax.sharding.use_abstract_mesh(mesh):
    assert sharding.platform() == "tpu"


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="no libtpu"
)
@pytest.mark.parametrize("name", ["v5p:2x2x1", "v5e:2x2"])
def test_compiles_for_a_tpu_that_is_not_here(name, monkeypatch):
  """Gradients on four chips, of everything that a structure can have."""
  monkeypatch.undo()
  for variable, value in topology.QUIET.items():
    monkeypatch.setenv(variable, value)
  devices = topology.devices_of(topology.named(name))
  grid = np.array(devices).reshape(2, 1, 2)
  types = (AxisType.Auto,) * 3
  mesh = jax.sharding.Mesh(grid, sharding.AXES, axis_types=types)
  B, G, M, T, E = 4, 4, 2, 1100, 64

  def f(segments, branches, *given):
    structure = attention.Structure(
      segments, segments > 0, segments=segments, branches=branches
    )
    settings = {"window": 700, "cap": 50.0}
    return attended(structure, settings, (None, None), *given)

  place = jax.sharding.NamedSharding(mesh, sharding.BATCH)
  ints = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=place)
  q, k, v = (
    jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=place)
    for s in ((B, G, M, T, E), (B, G, T, E), (B, G, T, E))
  )
  with jax.set_mesh(mesh):
    compiled = jax.jit(f).lower(ints, ints, q, k, v).compile()
  needs = compiled.memory_analysis().temp_size_in_bytes
  assert needs < B * G * M * T * T * 4 // 4  # a chip's scores
