"""Rows in slices: the same results, whatever the slices and the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.parallel import sharding, slices


@pytest.mark.parametrize("rows", [1, 4, 7, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_every_row_is_computed_once(rows, count):
  """Also where slices do not divide the rows, or are more than they."""
  x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
  sizes = []

  nothing = np.zeros((rows, 0), np.float32)

  def function(given):
    assert given["nothing"].shape == (len(given["x"]), 0)
    sizes.append(len(given["x"]))
    return {"sum": given["x"].sum(axis=1), "x": given["x"] * 2}

  found = slices.mapped(function, {"x": x, "nothing": nothing}, count=count)
  np.testing.assert_array_equal(found["sum"], x.sum(axis=1))
  np.testing.assert_array_equal(found["x"], x * 2)
  assert sizes[0] == -(-rows // min(count, rows))


@pytest.mark.parametrize(
  ("rows", "count", "devices", "expected"),
  [(8, 4, 1, 4), (8, 3, 1, 2), (7, 4, 1, 1), (8, 4, 4, 2), (12, 5, 2, 3)],
)
def test_as_many_slices_as_divide_the_rows(rows, count, devices, expected):
  with jax.set_mesh(sharding.make_mesh(devices, 1, 1)):
    assert slices.most(rows, count) == expected


def test_a_slice_has_rows_of_every_device():
  """Of 8 rows on 4 devices, two each: slices of four rows, one of each."""
  mesh = sharding.make_mesh(4, 1, 1)
  x = sharding.global_batch(np.arange(8.0, dtype=np.float32), mesh)
  seen = []

  def note(slice_):
    seen.append(np.asarray(slice_).tolist())

  def function(x):
    jax.debug.callback(note, x, ordered=False)
    return x + 1

  with jax.set_mesh(mesh):
    found = jax.jit(lambda x: slices.mapped(function, x, count=4))(x)
    jax.block_until_ready(found)
  jax.effects_barrier()
  np.testing.assert_array_equal(found, np.arange(8) + 1)
  assert sorted(seen) == [[0, 2, 4, 6], [1, 3, 5, 7]]
  program = jax.jit(lambda x: slices.split(x, 2)).lower(x).compile()
  np.testing.assert_array_equal(
    program(x), jnp.array([[0, 2, 4, 6], [1, 3, 5, 7]])
  )
