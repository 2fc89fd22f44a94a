"""Who shares a row with whom: every item once, no row too full, none wasted."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax.parallel import packing, sharding

W, ASKED = 12, 4


@functools.cache
def planned(items, rows, most):
  shape = packing.Shape(width=W, rows=rows, items=most, groups=1, asked=ASKED)

  @jax.jit
  def run(lengths, asked):
    return packing.plan(lengths, shape, asked)

  return run


def by_loop(lengths, asked, most):
  """Rows of item numbers: the longest first, each where it fits best."""
  rows = []
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    if not lengths[i]:
      continue
    left = [W - sum(lengths[j] for j in row) for row in rows]
    unasked = [ASKED - sum(asked[j] for j in row) for row in rows]
    fitting = [
      (left[r], r)
      for r, row in enumerate(rows)
      if left[r] >= lengths[i] and unasked[r] >= asked[i] and len(row) < most
    ]
    if fitting:
      rows[min(fitting)[1]].append(i)
    else:
      rows.append([i])
  return rows


@hypothesis.settings(max_examples=60)
@hypothesis.given(
  st.lists(st.sampled_from([0, 1, 2, 3, 5, 7, 11, W]), min_size=7, max_size=7),
  st.lists(st.integers(0, ASKED), min_size=7, max_size=7),
  st.sampled_from([(1, 2), (3, 16), (7, 1)]),
)
def test_the_longest_come_first_and_go_where_they_fit_best(
  lengths, asked, shape
):
  rows, most = shape
  given = (jnp.asarray(x, jnp.int32) for x in (lengths, asked))
  found = planned(7, rows, most)(*given)
  expected = by_loop(lengths, asked, most)
  items = np.asarray(found.items)[0]
  assert [[i for i in row if i < 7] for row in items.tolist()] == expected + [
    [] for _ in range(len(items) - len(expected))
  ]
  assert found.steps == -(-len(expected) // rows)
  assert found.slots == found.steps * rows * W
  for i, place in enumerate(np.asarray(found.places)[0]):
    if lengths[i]:
      assert items.reshape(-1)[place] == i
    else:
      assert place >= items.size


def test_what_is_taken_is_there_and_nothing_else():
  """Three items of six tokens in rows of twelve, a row at a time."""
  shape = packing.Shape(width=W, rows=1, items=2, groups=1, asked=W)
  plan = packing.plan(jnp.asarray([6, 6, 6]), shape)
  x = {"number": jnp.asarray([3.0, 4.0, 5.0]), "is": jnp.ones((3, 2), bool)}
  first, is_first = plan.taken(x, 0)
  second, is_second = plan.taken(x, 1)
  np.testing.assert_array_equal(first["number"], [3, 4])
  np.testing.assert_array_equal(second["number"], [5, 0])
  np.testing.assert_array_equal(second["is"], [[True] * 2, [False] * 2])
  np.testing.assert_array_equal(is_first, [True, True])
  np.testing.assert_array_equal(is_second, [True, False])


@pytest.mark.parametrize("lengths", [[0, 0, 0], [W, 0, 1], [12, 12, 12], [1]])
def test_everything_is_computed_once(lengths):
  """Also of items without a token: nothing."""
  computed = []

  def function(items, is_item):
    jax.debug.callback(lambda x: computed.append(x.tolist()), items["x"])
    return {"double": items["x"] * 2, "is": is_item}

  shape = packing.Shape(width=W, rows=1, items=2, groups=1, asked=W)
  x = jnp.arange(1.0, len(lengths) + 1)
  plan = packing.plan(jnp.asarray(lengths, jnp.int32), shape)
  found = packing.mapped(function, {"x": x}, plan)
  jax.effects_barrier()
  is_there = np.asarray(lengths) > 0
  np.testing.assert_array_equal(found["double"], 2 * x * is_there)
  np.testing.assert_array_equal(found["is"], is_there)
  each = sorted(x for row in computed for x in row if x)
  assert each == (np.arange(1, len(lengths) + 1)[is_there]).tolist()
  assert len(computed) == plan.steps


def test_devices_pack_their_own_items():
  """On 4 devices with two items each; the fullest says how many steps."""
  lengths = np.asarray([6, 6, 12, 12, 1, 1, 0, 0], np.int32)
  x = np.arange(8, dtype=np.float32)
  mesh = sharding.make_mesh(2, 2, 1)
  with jax.set_mesh(mesh):
    shape = packing.shape_of(8, width=W, slots=W, parts=1)
    assert shape == packing.Shape(width=W, rows=1, items=2, groups=4, asked=W)

    @jax.jit
    def run(x, lengths):
      plan = packing.plan(lengths, shape)
      found = packing.mapped(lambda x, is_item: x + is_item, x, plan)
      return plan.items, plan.steps, found

    placed = sharding.global_batch((x, lengths), mesh)
    items, steps, found = run(*placed)
    program = run.lower(*placed).compile().as_text()
  np.testing.assert_array_equal(items[0], [[0, 1], [2, 2]])
  np.testing.assert_array_equal(items[1], [[0, 2], [1, 2]])
  np.testing.assert_array_equal(items[3], [[2, 2], [2, 2]])
  assert steps == 2
  np.testing.assert_array_equal(found, [1, 2, 3, 4, 5, 6, 0, 0])
  for moved in ("all-gather", "all-to-all", "collective-permute"):
    assert f" {moved}(" not in program


@pytest.mark.parametrize(
  ("items", "slots", "parts", "rows"),
  [
    (8, 24, 1, 2),
    (8, 1, 1, 1),
    (8, 1000, 1, 8),
    (8, 1000, 4, 2),
    (8, 24, 8, 1),
  ],
)
def test_no_more_rows_at_a_time_than_a_part_has_items(
  items, slots, parts, rows
):
  shape = packing.shape_of(items, width=W, slots=slots, parts=parts)
  assert shape.rows == rows
