"""Means as sums and weights, divided once."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.base import means


def test_means_divide_once_and_pass_numbers():
  got = means.divide(
    {
      "policy/loss": (jnp.float32(3.0), jnp.float32(4.0)),
      "gradient/norm": jnp.float32(0.1),
      "time/seconds": 2,
      "ptx/loss": (0.0, 0),
    }
  )
  assert got["policy/loss"] == 0.75
  assert got["gradient/norm"] == float(np.float32(0.1))
  assert got["time/seconds"] == 2.0
  assert math.isnan(got["ptx/loss"])


def test_add_is_the_mean_of_the_whole():
  whole = means.add({"a": (1.0, 2.0), "b": (1, 1)}, {"a": (5.0, 1.0)})
  assert whole == {"a": (6.0, 3.0), "b": (1, 1)}
  with pytest.raises(TypeError, match="'a'"):
    means.add({"a": 1.0}, {"a": (5.0, 1.0)})
