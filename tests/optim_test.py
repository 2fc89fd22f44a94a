import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from instruct_jax.base import errors
from instruct_jax.training import optim


@pytest.fixture
def strict():
  """Not for what goes through optax, which itself relies on promotion."""
  with jax.numpy_dtype_promotion("strict"):
    yield


def _section(**changes):
  section = ml_collections.ConfigDict(
    {
      "name": "adam",
      "learning_rate": 0.1,
      "b1": 0.9,
      "b2": 0.95,
      "eps": 1e-8,
      "weight_decay": 0.0,
      "clip_norm": 0.0,
      "schedule": "constant",
      "warmup_steps": 0,
      "warmup_from": 0.0,
      "final_fraction": 0.1,
    }
  )
  section.update(changes)
  return section.lock()


def _steps(section, params, grads, count=3, **options):
  """The parameters after each of `count` updates, each with its gradient."""
  optimizer = optim.make(section, **({"total_steps": 10} | options))
  state, out = optimizer.init(params), []
  update = jax.jit(optimizer.update)
  for i in range(count):
    scaled = jax.tree.map(lambda g, i=i: g * np.float32(1 + i), grads)
    updates, state = update(scaled, state, params)
    params = optax.apply_updates(params, updates)
    out.append(params)
  return out


def _tree(seed, layers=3):
  """The same model twice: stacked, and as separate blocks."""
  rng = np.random.default_rng(seed)
  new = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
  blocks = {
    "query": {"kernel": new(layers, 4, 6), "bias": new(layers, 6)},
    "down": {"kernel": new(layers, 8, 4)},
    "mlp_norm": {"scale": new(layers, 4)},
  }
  rest = {
    "token_embedding": {"embedding": new(7, 4)},
    "final_norm": {"scale": new(4)},
  }
  head = {"kernel": new(4, 1), "bias": new(1)}
  single = {
    f"block_{i}": jax.tree.map(lambda x, i=i: x[i], blocks)
    for i in range(layers)
  }
  return (
    {"decoder": {"blocks": blocks, **rest}, "head": head},
    {"decoder": {**single, **rest}, "head": head},
  )


@pytest.mark.usefixtures("strict")
class TestLearningRate:
  def test_cosine_by_hand(self):
    """Appendix C.1: to a tenth of the peak, no warm-up."""
    rate = optim.learning_rate(_section(schedule="cosine"), total_steps=8)
    expected = [
      0.1 * (0.1 + 0.9 * (1 + math.cos(math.pi * t / 8)) / 2) for t in range(9)
    ]
    np.testing.assert_allclose([rate(t) for t in range(9)], expected, rtol=1e-6)
    np.testing.assert_allclose(rate(8), 0.01, rtol=1e-6)
    np.testing.assert_allclose(rate(100), 0.01, rtol=1e-6)

  def test_warm_up_then_constant(self):
    """Appendix C.4: from a tenth of the peak over the first ten iterations."""
    section = _section(warmup_steps=10, warmup_from=0.1)
    rate = optim.learning_rate(section, total_steps=500)
    np.testing.assert_allclose(
      [rate(0), rate(5), rate(10), rate(499)],
      [0.01, 0.055, 0.1, 0.1],
      rtol=1e-6,
    )

  def test_warm_up_then_cosine(self):
    section = _section(schedule="cosine", warmup_steps=2)
    rate = optim.learning_rate(section, total_steps=6)
    np.testing.assert_allclose(
      [rate(t) for t in (0, 1, 2, 4, 6)],
      [0, 0.05, 0.1, 0.055, 0.01],
      rtol=1e-6,
    )

  def test_by_iteration_not_by_update(self):
    """Detail 15: the minibatches of an iteration share their learning rate."""
    section = _section(warmup_steps=10, warmup_from=0.1)
    by_step = optim.learning_rate(section, total_steps=20)
    by_update = optim.learning_rate(section, total_steps=20, updates_per_step=8)
    for count in range(0, 120, 5):
      assert by_update(count) == by_step(count // 8)

  def test_traced_float32(self):
    rate = jax.jit(optim.learning_rate(_section(), total_steps=3))
    assert rate(jnp.int32(1)).dtype == jnp.float32

  def test_warm_up_longer_than_the_run(self):
    section = _section(schedule="cosine", warmup_steps=10)
    rate = optim.learning_rate(section, total_steps=5)
    np.testing.assert_allclose([rate(4), rate(5)], [0.04, 0.05])


class TestMake:
  def test_adam_by_hand(self):
    """The paper's b1 and b2; a loop in numpy."""
    section = _section(learning_rate=0.01, eps=1e-5)
    grad = np.array([1.0, -2.0, 1e-4], np.float32)
    found = _steps(section, {"x": np.zeros(3, np.float32)}, {"x": grad})
    x = m = v = np.zeros(3)
    for i in range(3):
      g = grad * (1 + i)
      m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
      step = (m / (1 - 0.9 ** (i + 1))) / (
        np.sqrt(v / (1 - 0.95 ** (i + 1))) + 1e-5
      )
      x = x - 0.01 * step
      np.testing.assert_allclose(found[i]["x"], x, rtol=1e-4)

  def test_schedule_is_followed_per_step(self):
    """With Adam and one gradient, steps are as long as the learning rate."""
    section = _section(warmup_steps=2, warmup_from=0.5, eps=0.0)
    optimizer = optim.make(section, total_steps=10, updates_per_step=2)
    params = {"x": jnp.zeros(1)}
    state, seen = optimizer.init(params), []
    for _ in range(6):
      updates, state = optimizer.update({"x": jnp.ones(1)}, state, params)
      seen.append(-float(updates["x"][0]))
    np.testing.assert_allclose(
      seen, [0.05, 0.05, 0.075, 0.075, 0.1, 0.1], rtol=1e-4
    )

  def test_clip_by_global_norm(self):
    """Over all arrays of the role; below the norm nothing happens."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    # A large eps makes Adam's first step nearly proportional to the gradient.
    rate = {"learning_rate": 1.0, "eps": 1e4}
    free = _steps(_section(**rate), params, grads, 1)[0]
    for norm, factor in ((1.0, 0.2), (100.0, 1.0)):
      clipped = _steps(_section(clip_norm=norm, **rate), params, grads, 1)[0]
      for name in params:
        np.testing.assert_allclose(
          clipped[name], factor * free[name], rtol=1e-3
        )

  def test_clip_is_per_role(self):
    """Detail 15: a role's huge gradient leaves the other's update alone."""
    section = _section(clip_norm=1.0, eps=1.0)
    params, grad = {"x": jnp.zeros(2)}, {"x": jnp.array([0.3, 0.4])}
    alone = _steps(section, params, grad, 1)[0]
    roles = {role: optim.make(section, total_steps=10) for role in "pv"}
    grads = {"p": grad, "v": {"x": jnp.array([1e6, 1e6])}}
    updates = {
      role: tx.update(grads[role], tx.init(params), params)[0]
      for role, tx in roles.items()
    }
    np.testing.assert_array_equal(updates["p"]["x"], alone["x"])
    # Accumulated first, then clipped: a term of opposite sign still counts.
    total = jax.tree.map(lambda a, b: a - b, grads["v"], grads["v"])
    cancelled, _ = roles["p"].update(total, roles["p"].init(params), params)
    assert not np.asarray(cancelled["x"]).any()

  def test_weight_decay_is_for_matrices(self):
    stacked, single = _tree(0)
    for params in (stacked, single):
      zeros = jax.tree.map(np.zeros_like, params)
      section = _section(name="adamw", weight_decay=0.5)
      (decayed,) = _steps(section, params, zeros, 1)
      for path, x in jax.tree_util.tree_leaves_with_path(decayed):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        old = params
        for key in path:
          old = old[key.key]
        decays = name.endswith(("kernel", "embedding"))
        np.testing.assert_allclose(x, old * (0.95 if decays else 1), rtol=1e-6)

  @pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
  def test_stacked_layers_are_updated_one_by_one(self, name):
    decay = 0.0 if name == "adam" else 0.1
    section = _section(name=name, weight_decay=decay, clip_norm=1.0)
    (stacked, single), (stacked_grads, grads) = _tree(1), _tree(2)
    together = _steps(section, stacked, stacked_grads)[-1]
    apart = _steps(section, single, grads)[-1]
    for i in range(3):
      jax.tree.map(
        lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5),
        together["decoder"]["blocks"],
        apart["decoder"][f"block_{i}"],
      )
    np.testing.assert_allclose(
      together["head"]["kernel"], apart["head"]["kernel"], rtol=1e-5
    )

  def test_muon_is_for_the_blocks_kernels(self):
    """Their updates are near orthogonal; Adam's first step is a sign."""
    params, grads = _tree(3)[0], _tree(4)[0]
    section = _section(name="muon", learning_rate=1.0)
    (after,) = _steps(section, params, grads, 1)
    step = jax.tree.map(lambda a, b: np.asarray(a - b), after, params)
    blocks = step["decoder"].pop("blocks")
    for name in ("query", "down"):
      for kernel in blocks[name].pop("kernel"):
        values = np.linalg.svd(kernel, compute_uv=False)
        scale = math.sqrt(max(1, kernel.shape[1] / kernel.shape[0]))
        assert (values > 0.5 * scale).all()
        assert (values < 1.4 * scale).all()
    rest = [step, blocks]
    length = float(abs(step["head"]["bias"][0]))
    del grads["decoder"]["blocks"]["query"]["kernel"]
    del grads["decoder"]["blocks"]["down"]["kernel"]
    signs = [grads | {"decoder": dict(grads["decoder"])}]
    signs.append(signs[0]["decoder"].pop("blocks"))
    jax.tree.map(
      lambda a, g: np.testing.assert_allclose(
        a, -length * np.sign(g), rtol=1e-4
      ),
      rest,
      signs,
    )

  def test_bad_sections(self):
    for changes, message in (
      ({"name": "adamww"}, r"here\.name 'adamww'\. Did you mean 'adamw'"),
      ({"schedule": "cosin"}, r"here\.schedule .* Did you mean 'cosine'"),
      ({"weight_decay": 0.1}, r"here\.weight_decay=0\.1"),
    ):
      with pytest.raises(errors.UserError, match=message):
        optim.check(_section(**changes), "here")
    optim.check(_section(), "here")


def test_the_clock_of_every_optimizer():
  params, _ = _tree(0)
  grads = jax.tree.map(jnp.ones_like, params)
  for name in optim.OPTIMIZERS:
    optimizer = optim.make(_section(name=name), total_steps=10)
    state = optimizer.init(params)
    assert int(optim.clock(state)) == 0
    for _ in range(2):
      _, state = optimizer.update(grads, state, params)
    assert int(optim.clock(state)) == 2
