"""All kernels of a shape at once say what optax says of each alone."""

import jax
import numpy as np
import pytest
from optax import contrib

from instruct_jax.training import muon, optim
from tests import optim_test


def _kernels(seed):
  """Two of a shape, the same lying down, a square and stacked ones."""
  rng = np.random.default_rng(seed)
  shapes = {"a": (4, 6), "b": (4, 6), "tall": (6, 4), "c": (5, 5)}
  shapes |= {"stacked": (3, 4, 6), "stacked_tall": (2, 7, 3)}
  return {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def test_five_steps_by_a_loop_in_numpy():
  """Singular values go through the polynomial, singular vectors stay."""
  coefficients = np.array([3.4445, -4.7750, 2.0315])
  kernels = _kernels(0)
  names = sorted(kernels)
  found = muon.orthogonalized(
    [kernels[name] for name in names], jax.numpy.asarray(coefficients), 1e-8
  )
  for name, x in zip(names, found):
    layers = kernels[name].reshape(-1, *kernels[name].shape[-2:])
    for layer, out in zip(layers, np.asarray(x).reshape(layers.shape)):
      u, s, v = np.linalg.svd(layer.astype(np.float64), full_matrices=False)
      s = s / np.sqrt((s**2).sum())
      for _ in range(muon.STEPS):
        s = s * (coefficients @ [np.ones_like(s), s**2, s**4])
      np.testing.assert_allclose(out, u * s @ v, atol=2e-5, err_msg=name)


def test_as_optax_one_kernel_at_a_time():
  def dimensions(tree):
    axes = {"stacked": 1, "stacked_tall": 1}
    return {
      name: contrib.MuonDimensionNumbers(
        axes.get(name, 0), axes.get(name, 0) + 1
      )
      for name in tree
    }

  params = _kernels(1)
  ours = muon.scale_by_muon(1e-8)
  theirs = contrib.scale_by_muon(eps=1e-8, weight_dimension_numbers=dimensions)
  states = ours.init(params), theirs.init(params)
  for seed in range(2, 5):
    grads = _kernels(seed)
    mine, state = jax.jit(ours.update)(grads, states[0])
    his, other = jax.jit(theirs.update)(grads, states[1])
    states = state, other
    for name, x in his.items():
      scale = np.sqrt(max(1, x.shape[-1] / x.shape[-2]))
      np.testing.assert_allclose(mine[name], scale * x, atol=3e-5)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *states
    )


@pytest.mark.parametrize("stacked", [0, 1])
def test_a_state_is_the_one_of_optax(stacked):
  """A checkpoint of before goes on."""
  params = optim_test._tree(0)[1 - stacked]
  section = optim_test._section(name="muon", weight_decay=0.1, clip_norm=1.0)
  labels = optim._muon_labels(params)
  theirs = contrib.muon(
    lambda count: 0.1,
    muon_weight_dimension_numbers=jax.tree.map(
      lambda label, x: (
        contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)
        if label == "muon"
        else None
      ),
      labels,
      params,
    ),
  )
  mine = optim.make(section, total_steps=10).init(params)[1]
  names = [
    [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    for state in (mine, theirs.init(params))
  ]
  assert names[0] == names[1]
