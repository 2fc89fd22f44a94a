"""The vocabulary read in blocks: values, gradients, and what is never made."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.models import vocabulary
from instruct_jax.parallel import sharding

B, D, V = 4, 24, 13
PLAIN = {"tied": False, "cap": 0.0, "temperature": 1.0}


@pytest.fixture
def small_blocks(monkeypatch):
  """Of five rows or more, none of which are kept."""
  monkeypatch.setattr(vocabulary, "BLOCK_BYTES", 0)
  monkeypatch.setattr(vocabulary, "BLOCK_ROWS", 5)
  monkeypatch.setattr(vocabulary, "KEPT_BYTES", 0)


def given(T, *, rows=B, size=V, seed=0, tied=False):
  """Hidden states, a kernel, tokens, and a weight for each position."""
  rng = np.random.default_rng(seed)
  kernel = rng.normal(size=(size, D) if tied else (D, size))
  return (
    rng.normal(size=(rows, T, D)).astype(np.float32),
    (kernel / 4).astype(np.float32),
    rng.integers(0, size, (rows, T)).astype(np.int32),
    rng.normal(size=(rows, T)).astype(np.float32),
  )


def by_loop(hidden, kernel, tokens, weights, *, tied, cap, temperature):
  """Logprobs, entropies, and the gradients of Σ weight x logprob: float64, a
  position at a time."""
  matrix = (kernel.T if tied else kernel).astype(np.float64)
  logprobs, entropies = np.zeros(tokens.shape), np.zeros(tokens.shape)
  d_hidden, d_matrix = np.zeros(hidden.shape), np.zeros(matrix.shape)
  for b, t in np.ndindex(*tokens.shape):
    raw = hidden[b, t].astype(np.float64) @ matrix
    bent = cap * np.tanh(raw / cap) if cap else raw
    slope = 1 - np.tanh(raw / cap) ** 2 if cap else np.ones_like(raw)
    probs = np.exp(bent / temperature)
    probs /= probs.sum()
    logprobs[b, t] = np.log(probs[tokens[b, t]])
    entropies[b, t] = -(probs * np.log(probs)).sum()
    d = -probs
    d[tokens[b, t]] += 1
    d *= weights[b, t] * slope / temperature
    d_hidden[b, t] = matrix @ d
    d_matrix += np.outer(hidden[b, t], d)
  return logprobs, entropies, d_hidden, d_matrix.T if tied else d_matrix


def ours(hidden, kernel, tokens, weights, **how):
  """The same by `vocabulary`."""

  def total(hidden, kernel):
    said = vocabulary.logprobs_and_entropies(
      hidden, tokens, kernel=kernel, **how
    )
    return (said[0] * weights).sum() + said[1].sum(), said

  grads, said = jax.grad(total, (0, 1), has_aux=True)(hidden, kernel)
  return *said, *grads


def assert_same(found, expected, **tolerance):
  tolerance = {"rtol": 2e-5, "atol": 4e-6} | tolerance
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == jnp.float32
    np.testing.assert_allclose(one, other, **tolerance)


HOW = [
  {},
  {"temperature": 0.7},
  {"cap": 1.5},
  {"tied": True, "cap": 1.5, "temperature": 0.7},
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("blocks", [False, True])
def test_values_and_gradients_are_those_of_a_loop(how, blocks, request):
  """In blocks of two positions, of which the last has one, and in one."""
  if blocks:
    request.getfixturevalue("small_blocks")
  how = PLAIN | how
  arrays = given(7, rows=2, tied=how["tied"])
  assert_same(ours(*arrays, **how), by_loop(*arrays, **how))


@pytest.mark.parametrize("T", [0, 1, 3, 4])
def test_any_number_of_positions(T, small_blocks):
  """None, one, and what two blocks hold or do not."""
  arrays = given(T, rows=3)
  assert_same(ours(*arrays, **PLAIN), by_loop(*arrays, **PLAIN))


@functools.cache
def in_blocks_of(rows):
  """A program of given(5)'s shapes whose blocks have so many rows."""
  return jax.jit(functools.partial(ours, **PLAIN))


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(st.integers(0, 10**6), st.sampled_from([1, 8, 13, 16]))
def test_blocks_change_nothing(seed, block):
  """Of 1, 2, 3 and 4 of five positions; what has weight 0 has no loss."""
  hidden, kernel, tokens, weights = given(5, seed=seed)
  lengths = np.random.default_rng(seed).integers(0, 6, B)
  weights *= np.arange(5) < lengths[:, None]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(vocabulary, "BLOCK_BYTES", 0)
    patch.setattr(vocabulary, "BLOCK_ROWS", block)
    patch.setattr(vocabulary, "KEPT_BYTES", 0)
    found = in_blocks_of(block)(hidden, kernel, tokens, weights)
  assert_same(found, by_loop(hidden, kernel, tokens, weights, **PLAIN))


@pytest.mark.parametrize("blocks", [False, True])
def test_high_logits_round_nothing_away(blocks, request):
  """Logits of 1e4 and 1e30: the sum's log is not added to the highest."""
  if blocks:
    request.getfixturevalue("small_blocks")
  hidden = np.array([[[1.0, 0.0], [1e26, 0.0]]], np.float32)
  kernel = np.array([[1e4, 1e4, -1e4], [0, 0, 0]], np.float32)
  tokens = np.array([[1, 0]], np.int32)
  found = ours(hidden, kernel, tokens, np.ones((1, 2), np.float32), **PLAIN)
  np.testing.assert_allclose(found[0], np.full((1, 2), -np.log(2)), rtol=1e-6)
  np.testing.assert_allclose(found[1], np.full((1, 2), np.log(2)), rtol=1e-6)
  assert all(np.isfinite(x).all() for x in found)


def test_sixteen_bits_are_summed_in_32(small_blocks):
  """Hidden states in bfloat16; the kernel's gradient in its own float32."""
  hidden, kernel, tokens, weights = given(7)
  rounded = hidden.astype(jnp.bfloat16)
  whole = [np.asarray(x, np.float32) for x in (rounded, kernel)]
  whole[1] = np.asarray(whole[1].astype(jnp.bfloat16), np.float32)
  expected = by_loop(*whole, tokens, weights, **PLAIN)
  found = ours(rounded, kernel, tokens, weights, **PLAIN)
  assert [x.dtype for x in found] == [*["float32"] * 2, "bfloat16", "float32"]
  for one, other in zip(found[:2], expected[:2]):
    np.testing.assert_allclose(one, other, rtol=1e-5)
  for one, other in zip(found[2:], expected[2:]):
    one = np.asarray(one, np.float32)
    np.testing.assert_allclose(one, other, rtol=2e-2, atol=4e-2)


def test_shapes_are_checked():
  hidden, kernel, tokens, _ = given(3)
  for wrong in (
    {"kernel": kernel.T},
    {"kernel": kernel, "tied": True},
    {"kernel": kernel, "tokens": tokens[:, 1:]},
  ):
    how = {"tokens": tokens, "tied": False} | wrong
    with pytest.raises(AssertionError):
      vocabulary.logprobs(hidden, **how)


# A mesh.

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all")


def dims_of(line):
  """The shapes of an HLO instruction's results."""
  result = line.split(" = ", 1)[1].split("(", 1)[0]
  shapes = [x.split("]")[0] for x in result.split("[")[1:]]
  return [{int(n) for n in x.split(",") if n} for x in shapes]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [V, 14])
@pytest.mark.parametrize("kept", [False, True])
def test_a_split_vocabulary(tied, size, kept, request):
  """On 2 x 2 x 2 devices, also where its parts are not equal.

  The same as a loop; no device ever has another's logits.
  """
  if not kept:
    request.getfixturevalue("small_blocks")
  mesh = sharding.make_mesh(2, 2, 2)
  arrays = given(6, rows=8, size=size, tied=tied)
  how = {"tied": tied, "cap": 1.5, "temperature": 0.7}
  split = ("fsdp", "tensor")
  of_kernel = P(None, split) if tied else P(split, None)
  places = sharding.BATCH, of_kernel, sharding.BATCH, sharding.BATCH
  placed = [
    jax.device_put(x, NamedSharding(mesh, place))
    for x, place in zip(arrays, places)
  ]
  with jax.set_mesh(mesh):
    program = jax.jit(functools.partial(ours, **how)).lower(*placed).compile()
  assert_same(program(*placed), by_loop(*arrays, **how))
  of_vocabulary, of_width = {V, 14, 7}, {D, D // 2, D // 4}
  moved = [
    dims
    for line in program.as_text().splitlines()
    if any(
      f" {name}(" in line or f" {name}-start(" in line for name in COLLECTIVES
    )
    for dims in dims_of(line)
  ]
  assert moved
  for dims in moved:
    assert not (dims & of_vocabulary) or dims & of_width, dims
